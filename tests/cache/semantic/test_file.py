"""What was kept is there after a restart, other processes hear of it, and no trouble of the disk is ours."""

import asyncio
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cache.semantic.test_shelf import answer, axis
from trivet.build import SystemClock
from trivet.cache.semantic.file import EVERY_S, File, Loaded, Row
from trivet.cache.semantic.graphs import Drawn
from trivet.cache.semantic.shelf import Answer

pytestmark = pytest.mark.anyio

LATE = 1 << 62


class Side:
    """A process that shares a file, as far as a file can tell."""

    def __init__(self, path: Path, *, embedder: str = "e1") -> None:
        self.told: list[str] = []
        self.answers: dict[int, Answer] = {}
        self.vectors: dict[int, Any] = {}
        self.graphs: list[Drawn] = []
        self.in_graph = 0
        self.behind: set[int] = set()
        self.file = File(path, clock=SystemClock(), tell=self.told.append)
        self.file.open(embedder, self)

    def drawn(self, drawn: Drawn) -> None:
        self.graphs.append(drawn)

    def loaded(self, rows: Iterable[Loaded]) -> None:
        for one, vector, in_graph, behind in rows:
            self.answers[one.number], self.vectors[one.number] = one, vector
            self.in_graph += in_graph
            (self.behind.add if behind else self.behind.discard)(one.number)

    def gone(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.answers.pop(number, None)

    async def close(self) -> None:
        await asyncio.to_thread(self.file.close)


async def until(seen: Callable[[], object], *, within_s: float = 120.0) -> None:
    """Wait until something is so; `within_s` only ends a test that would wait for ever."""
    async with asyncio.timeout(within_s):
        while not seen():  # noqa: ASYNC110  # a thread of the file's does it
            await asyncio.sleep(EVERY_S / 5)


def row(number: int, **more: Any) -> Row:
    return Row.of(answer(number, expires_ns=LATE, **more), axis(number))


async def test_a_restart_begins_with_what_was_kept(tmp_path: Path) -> None:
    first = Side(tmp_path / "c.sqlite3")
    for number in range(700):
        first.file.put(row(number, tags=("x",)))
    changed = answer(3, expires_ns=LATE).kept
    changed.right, changed.residual = 5, 0.25
    first.file.update(3, changed)
    first.file.remove(4)
    first.file.learn("p", "verified", lambda: b"what it knows")
    first.file.save()
    await first.close()

    again = Side(tmp_path / "c.sqlite3")
    assert again.file.learned("p", "verified") == b"what it knows"
    assert again.file.learned("p", "vcache") is None
    await until(lambda: len(again.answers) == 699)
    assert 4 not in again.answers
    assert again.answers[5] == answer(5, expires_ns=LATE, tags=("x",))
    assert (again.answers[3].kept.right, again.answers[3].kept.residual) == (5, 0.25)
    assert np.allclose(again.vectors[5], axis(5), atol=1e-3)
    await again.close()


async def test_two_processes_hear_of_each_other(tmp_path: Path) -> None:
    one, other = Side(tmp_path / "c.sqlite3"), Side(tmp_path / "c.sqlite3")
    one.file.put(row(1))
    other.file.put(row(2))
    await until(lambda: 1 in other.answers and 2 in one.answers)
    one.file.remove(1)
    await until(lambda: 1 not in other.answers)
    await one.close()
    await other.close()


async def test_the_same_number_twice_is_there_once(tmp_path: Path) -> None:
    one, other = Side(tmp_path / "c.sqlite3"), Side(tmp_path / "c.sqlite3")
    for side in (one, other):
        side.file.put(row(7))
    for side in (one, other):
        await side.close()
    with sqlite3.connect(tmp_path / "c.sqlite3") as db:
        assert db.execute("SELECT COUNT(*) FROM answers").fetchone() == (1,)


async def test_of_another_embedder_answers_are_read_and_no_vectors_nor_what_was_learned(tmp_path: Path) -> None:
    old = Side(tmp_path / "c.sqlite3", embedder="e1")
    old.file.put(row(1))
    old.file.learn("p", "verified", lambda: b"of e1")
    old.file.save()
    await old.close()
    new = Side(tmp_path / "c.sqlite3", embedder="e2")
    new.file.put(row(2))
    assert new.file.learned("p", "verified") is None
    await until(lambda: 1 in new.answers)
    assert (new.vectors[1], new.behind) == (None, {1})
    await new.close()
    back = Side(tmp_path / "c.sqlite3", embedder="e1")
    await until(lambda: 2 in back.answers)
    assert (back.vectors[1] is None, back.vectors[2], back.behind) == (False, None, {2})
    assert back.file.learned("p", "verified") == b"of e1"
    await back.close()


async def test_a_vector_is_moved_into_the_place_of_another_embedders_and_others_hear_of_it(tmp_path: Path) -> None:
    old = Side(tmp_path / "c.sqlite3", embedder="e1")
    for number in (1, 2, 3):
        old.file.put(row(number))
    await old.close()
    one, other = (Side(tmp_path / "c.sqlite3", embedder="e2") for _ in range(2))
    await until(lambda: len(one.answers) == len(other.answers) == 3)
    one.file.move(row(1))
    one.file.move(Row.of(answer(2, expires_ns=LATE), None))  # it was tried, and has none
    other.file.remove(3)
    await until(lambda: other.behind == {3} and 3 not in one.answers)
    one.file.move(row(3))  # too late
    await one.close()
    await other.close()
    assert (other.vectors[1] is None, other.vectors[2]) == (False, None)
    again = Side(tmp_path / "c.sqlite3", embedder="e2")
    await until(lambda: len(again.answers) == 2)
    assert (sorted(again.answers), again.behind) == ([1, 2], set())
    await again.close()


async def test_answers_are_there_before_the_embedder_is_known_and_then_their_vectors(tmp_path: Path) -> None:
    old = Side(tmp_path / "c.sqlite3", embedder="e1")
    old.file.put(row(1))
    old.file.put(Row.of(answer(2, expires_ns=LATE), None, tried=False))
    old.file.learn("p", "verified", lambda: b"of e1")
    old.file.save()
    await old.close()
    side = Side(tmp_path / "c.sqlite3", embedder="")
    await until(lambda: len(side.answers) == 2)
    assert (side.vectors, side.behind, side.file.learned("p", "verified")) == ({1: None, 2: None}, {1, 2}, None)
    side.file.put(Row.of(answer(3, expires_ns=LATE), None, tried=False))
    side.file.know("e1")
    await until(lambda: side.vectors[1] is not None)
    await until(lambda: 3 in side.answers)
    assert (side.behind, side.file.learned("p", "verified")) == ({2, 3}, b"of e1")
    await side.close()


async def test_what_is_late_goes_when_the_file_is_opened(tmp_path: Path) -> None:
    side = Side(tmp_path / "c.sqlite3")
    side.file.put(Row.of(answer(1, expires_ns=1), axis(1)))
    side.file.put(row(2))
    await side.close()
    again = Side(tmp_path / "c.sqlite3")
    await until(lambda: 2 in again.answers)
    assert 1 not in again.answers
    await again.close()


@pytest.mark.parametrize("damage", ["garbage", "torn", "version"])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.sqlite3"
    side = Side(path)
    for number in range(300):
        side.file.put(row(number))
    await side.close()
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "torn":
        whole = path.read_bytes()
        path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    again = Side(path)
    again.file.put(row(1000))
    await until(lambda: bool(again.told))
    await again.close()
    assert "set aside as c.damaged" in "".join(again.told) or "cannot be written" in "".join(again.told)
    fresh = Side(path)
    await until(lambda: 1000 in fresh.answers)
    assert fresh.told == []
    assert (tmp_path / "c.damaged").exists()
    await fresh.close()


async def test_a_folder_that_cannot_be_written_is_told_once_and_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    side = Side(tmp_path / "taken" / "c.sqlite3")
    for number in range(10):
        side.file.put(row(number))
    await until(lambda: bool(side.file.trouble))
    await side.close()
    assert len(side.told) == 1
    assert "It works on, in memory." in side.told[0]


async def test_prompts_are_for_their_owner_alone(tmp_path: Path) -> None:
    side = Side(tmp_path / "cache" / "c.sqlite3")
    side.file.put(row(1))
    await side.close()
    assert (tmp_path / "cache" / "c.sqlite3").stat().st_mode & 0o077 == 0
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


async def test_a_disk_that_is_full_costs_nothing_but_its_own_time(tmp_path: Path) -> None:
    side = Side(tmp_path / "c.sqlite3")
    side.file.put(row(1))
    await until(lambda: (tmp_path / "c.sqlite3-wal").exists())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # cuts a write short, as a full disk does
    try:
        for number in range(2, 600):
            side.file.put(row(number))
        await until(lambda: bool(side.file.trouble))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await until(lambda: not side.file.trouble)
    assert ["It works on, in memory." in side.told[0], "is written again" in side.told[-1]] == [True, True]
    await side.close()
    again = Side(tmp_path / "c.sqlite3")
    await until(lambda: len(again.answers) == 599)
    await again.close()


WRITING = """
import asyncio, sys
from pathlib import Path
from tests.cache.semantic.test_file import Side, row

async def main():
    side = Side(Path(sys.argv[1]))
    for number in range(1, 100_000):
        side.file.put(row(number))
        if number % 50 == 0:
            print(number, flush=True)
            await asyncio.sleep(0.002)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_process_that_is_killed_in_the_middle_of_writing_leaves_a_file_that_goes_on(tmp_path: Path) -> None:
    for turn in range(1, 6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITING, str(tmp_path / "c.sqlite3"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(20 * turn):
            await process.stdout.readline()
        process.kill()
        await process.wait()
        after = Side(tmp_path / "c.sqlite3")
        await until(after.answers.__len__)
        await after.close()
        assert after.told == []
        numbers = sorted(after.answers)
        assert numbers == list(range(1, numbers[-1] + 1))  # what was written is the beginning of what was kept
    assert not (tmp_path / "c.damaged").exists()
