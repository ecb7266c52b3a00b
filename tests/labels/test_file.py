"""What is known of answers is on the disk, bounded, for its owner alone; no trouble of the disk is a request's; and a
day's budget is spent once, however many spend it."""

import asyncio
import resource
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from trivet.errors import LabelsError
from trivet.labels.file import MAX_WAITING, Asked, File, Hold, Label, Said, Spend, connect
from trivet.testing.cache_suite import Hands

pytestmark = pytest.mark.anyio
LATE = 1 << 62
DAY = Hands().ns // 86_400_000_000_000


class Side:
    """A process that shares a file, as far as a file can tell."""

    def __init__(self, path: Path, *, most: int = 10_000, clock: Hands | None = None) -> None:
        self.told: list[str] = []
        self.file = File(path, clock=clock or Hands(), tell=self.told.append)
        self.file.bound({"p": most})
        self.file.open()

    async def close(self) -> None:
        await asyncio.to_thread(self.file.close)


def asked(number: int, **more: Any) -> Asked:
    usual: dict[str, Any] = {
        "id": f"req_{number}", "tenant": "acme", "policy": "p", "prompt": f"prompt {number}", "domain": "",
        "target": "small", "probability": 1.0, "router": "", "cost_nanos": 5, "at_ns": number, "expires_ns": LATE,
    }  # fmt: skip
    return Asked(**{**usual, **more})


def label(number: int, **more: Any) -> Label:
    usual: dict[str, Any] = {
        "id": f"req_{number}", "target": "small", "source": "shadow", "score": 1.0, "propensity": 0.5,
        "likeness": None, "reference": False, "cost_nanos": 5, "at_ns": number,
    }  # fmt: skip
    return Label(**{**usual, **more})


def read(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def written(path: Path) -> bytes:
    """Give all that is on the disk."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def until(seen: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not seen():  # noqa: ASYNC110  # a thread of the file's does it
            await asyncio.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


async def test_what_was_put_is_there_and_a_label_has_the_last_word_of_its_source(path: Path) -> None:
    side = Side(path)
    side.file.put(asked(1))
    side.file.put(asked(1, prompt="again"))  # the first one stays
    side.file.put(label(1))
    side.file.put(label(1, score=0.0))
    side.file.put(label(1, source="judge", likeness=0.5))
    side.file.put(label(2))  # nothing is kept of that one
    await side.close()
    assert read(path, "SELECT id, tenant, prompt, target, cost_nanos FROM asked") == [
        ("req_1", "acme", "prompt 1", "small", 5)
    ]
    found = read(path, "SELECT source, score, likeness FROM labels ORDER BY source")
    assert found == [("judge", 1.0, 0.5), ("shadow", 0.0, None)]


async def test_feedback_is_for_what_its_own_tenant_asked(path: Path) -> None:
    side = Side(path)
    side.file.put(asked(1, probability=0.25))
    assert [
        await side.file.ask(Said("req_1", tenant, score, 9))
        for tenant, score in (("acme", 0.0), ("globex", 1.0), ("acme", 0.5))
    ] == [True, False, True]
    assert not await side.file.ask(Said("req_2", "acme", 1.0, 9))
    await side.close()
    assert read(path, "SELECT id, target, source, score, propensity, reference FROM labels") == [
        ("req_1", "small", "feedback", 0.5, 0.25, 0)
    ]


async def test_a_policy_has_no_more_than_it_may_and_the_oldest_go_with_their_labels(path: Path) -> None:
    side, other = Side(path, most=50), Side(path, most=50)
    for number in range(200):
        here = (side, other)[number % 2]
        here.file.put(asked(number))
        here.file.put(label(number))
        if number % 20 == 19:
            await asyncio.sleep(0.01)
    side.file.put(asked(1000, policy="q"))
    await side.close()
    await other.close()
    assert read(path, "SELECT policy, count(*) FROM asked GROUP BY policy") == [("p", 50), ("q", 1)]
    assert read(path, "SELECT count(*) FROM labels WHERE id NOT IN (SELECT id FROM asked)") == [(0,)]
    assert read(path, "SELECT count(*) FROM labels") == [(50,)]


async def test_what_others_take_off_is_not_counted_against_the_bound(path: Path) -> None:
    side = Side(path, most=10)
    for number in range(10):
        side.file.put(asked(number))
    await side.file.ask(Said("none", "acme", 1.0, 9))  # so all of that is written
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM asked WHERE at_ns < 8")
    for number in range(20, 25):
        side.file.put(asked(number))
    await side.close()
    assert [at for (at,) in read(path, "SELECT at_ns FROM asked ORDER BY seq")] == [8, 9, 20, 21, 22, 23, 24]


async def test_what_is_too_old_goes_and_its_text_is_overwritten(path: Path) -> None:
    clock = Hands()
    side = Side(path, clock=clock)
    side.file.put(asked(1, prompt="a secret of somebody's", expires_ns=clock.ns + 10))
    side.file.put(asked(2))
    await side.close()
    assert b"a secret of somebody's" in written(path)
    clock.ns += 10
    again = Side(path, clock=clock)
    await again.close()
    assert read(path, "SELECT at_ns FROM asked") == [(2,)]
    assert b"a secret of somebody's" not in written(path)


def test_prompts_are_for_their_owner_alone(path: Path) -> None:
    path.touch(0o644)
    asyncio.run(_prompts_are_for_their_owner_alone(path))


async def _prompts_are_for_their_owner_alone(path: Path) -> None:
    side = Side(path)
    side.file.put(asked(1))
    await side.file.ask(Said("req_1", "acme", 1.0, 9))
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    await side.close()


async def test_an_odd_one_does_not_stand_in_the_way_of_those_behind_it(path: Path) -> None:
    side = Side(path)
    side.file.put(asked(1, prompt="half a character: \ud800"))
    side.file.put(asked(2, cost_nanos=1 << 70))
    side.file.put(asked(3))
    await side.close()
    assert (read(path, "SELECT at_ns FROM asked"), side.file.troubles["dropped"]) == ([(3,)], 2)


# The budget.


async def test_a_day_s_budget_is_spent_once_by_any_number_of_tasks_and_processes(path: Path) -> None:
    sides = [Side(path) for _ in range(4)]
    holds = [side.file.ask(Hold("p", DAY, 3, 100)) for side in sides for _ in range(50)]
    granted = await asyncio.gather(*holds)
    assert granted.count(True) == 33
    assert not await sides[0].file.ask(Hold("p", DAY, 2, 100))
    assert await sides[1].file.ask(Hold("p", DAY + 1, 2, 100))  # another day
    assert await sides[2].file.ask(Hold("q", DAY, 2, 100))  # another policy
    sides[3].file.put(Spend("p", DAY, held=3, nanos=1))  # it cost less
    assert await sides[3].file.ask(Hold("p", DAY, 2, 100))
    for side in sides:
        await side.close()
    spent = read(path, "SELECT policy, day, nanos FROM spent ORDER BY 1, 2")
    assert spent == [("p", DAY, 99), ("p", DAY + 1, 2), ("q", DAY, 2)]


async def test_a_restart_remembers_what_was_spent(path: Path) -> None:
    for left, may in ((True, True), (True, True), (False, False)):
        side = Side(path)
        assert await side.file.ask(Hold("p", DAY, 50, 100)) == left == may
        await side.close()


# Trouble.


def harm(path: Path, damage: str) -> None:
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "torn":
        whole = path.read_bytes()
        path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("damage", ["garbage", "torn", "version"])
async def test_a_damaged_file_is_set_aside_and_nothing_more_is_spent_that_day(path: Path, damage: str) -> None:
    side = Side(path)
    for number in range(300):
        side.file.put(asked(number))
    await side.close()
    harm(path, damage)
    again = Side(path)
    again.file.put(asked(1000))
    await until(lambda: len(again.told) >= 3)
    assert not await again.file.ask(Hold("p", DAY, 1, 100))
    assert await again.file.ask(Hold("p", DAY + 1, 1, 100))
    await again.close()
    first, second, third = again.told
    assert "cannot be written" in first
    assert "set aside as labels.damaged, with the prompts that are in it" in second
    assert "are written again" in third
    assert again.file.troubles == {"disk": 1, "dropped": 0}
    assert read(path, "SELECT at_ns FROM asked") == [(1000,)]
    assert (path.parent / "labels.damaged").exists()


@contextmanager
def full(most: int) -> Iterator[None]:
    """Cut writes short, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_is_full_is_told_once_and_what_waited_is_written_when_there_is_room(path: Path) -> None:
    side = Side(path)
    side.file.put(asked(0))
    await side.file.ask(Said("req_0", "acme", 1.0, 9))
    with full(200_000):
        for number in range(1, 1000):
            side.file.put(asked(number, prompt="x" * 1000))
        await until(lambda: side.file.trouble)
        with pytest.raises(LabelsError, match="cannot be kept at the moment"):
            await side.file.ask(Said("req_0", "acme", 0.0, 9))
        with pytest.raises(LabelsError):  # nor may anything be spent that could not be written down
            await side.file.ask(Hold("p", DAY, 1, 100))
    await until(lambda: not side.file.trouble)
    await side.close()
    assert ["Requests go on" in side.told[0], "are written again" in side.told[-1], len(side.told)] == [True, True, 2]
    assert side.file.troubles["disk"] > 0
    assert read(path, "SELECT count(*) FROM asked") == [(1000,)]
    assert read(path, "SELECT score FROM labels") == [(1.0,)]
    assert read(path, "SELECT count(*) FROM spent") == [(0,)]


async def test_what_waits_for_a_disk_is_bounded_and_what_is_lost_is_counted_and_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    side = Side(tmp_path / "taken" / "labels.db")
    await until(lambda: side.file.trouble)
    for number in range(MAX_WAITING * 2):
        side.file.put(asked(number))
    assert side.file.troubles["dropped"] >= MAX_WAITING - 600  # a group of them may have been taken
    await side.close()
    assert side.file.troubles["dropped"] >= MAX_WAITING
    assert "could not be written" in side.told[-1]


WRITING = """
import asyncio, sys
from pathlib import Path
from tests.labels.test_file import DAY, Hold, Side, asked, label

async def main():
    side, turn = Side(Path(sys.argv[1]), most=10**6), int(sys.argv[2])
    for number in range(100_000):
        one = turn * 1_000_000 + number
        side.file.put(asked(one))
        side.file.put(label(one))
        if number % 50 == 0 and await side.file.ask(Hold("p", DAY, 3, 10**9)):
            print(number, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_in_the_middle_of_writing_loses_neither_the_file_nor_what_it_spent(
    path: Path,
) -> None:
    held = 0
    for turn in range(1, 5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITING, str(path), str(turn), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(7 * turn):
            held += bool(await process.stdout.readline())
        process.kill()
        await process.wait()
        side = Side(path, most=10**6)
        assert await side.file.ask(Hold("p", DAY, 0, 10**9))
        await side.close()
        assert side.told == []
        with closing(connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            first, last, count = db.execute(
                "SELECT min(at_ns), max(at_ns), count(*) FROM asked WHERE at_ns >= ?", (turn * 1_000_000,)
            ).fetchone()
            assert (first, last) == (turn * 1_000_000, turn * 1_000_000 + count - 1)  # the beginning of what was put
            assert count >= 50 * (7 * turn - 1)
            (spent,) = db.execute("SELECT nanos FROM spent WHERE policy = 'p'").fetchone()
            assert spent >= 3 * held  # what was granted is spent, whoever died
    assert not (path.parent / "labels.damaged").exists()
