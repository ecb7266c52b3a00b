"""The SQLite store: what it promises of kill -9, full disks, torn journals and many processes."""

import asyncio
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.ledger.ledger_kit import WallClock, eventually, journals, kept_ids, named, open_store, small
from trivet.config import LedgerSettings
from trivet.errors import LedgerError
from trivet.ledger.journal import Journal
from trivet.ledger.report import entries, usage
from trivet.ledger.sqlite import SqliteStore, build, catch_up, folder
from trivet.ledger.tables import FILE
from trivet.seams import Desk, Kit, Store, Turns, load
from trivet.testing.store_suite import StoreSuite, a_request
from trivet.types import Entry

ALL = {"since_ns": 0, "until_ns": 2**62}

SETTLE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.ledger.ledger_kit import named, open_store

store = open_store(Path(sys.argv[2]))
print("open", flush=True)
for i in range(int(sys.argv[4])):
    store.settle(None, named(f"{sys.argv[3]}-{i}"))
    os.write(1, f"{sys.argv[3]}-{i}\\n".encode())
store.close()
"""
"""A process that settles, and says of each entry that it is settled."""


class TestProcess(StoreSuite):
    """durability = "process"."""

    def open(self, home: Path) -> Store:
        return open_store(home / "ledger")

    def kept(self, store: Store, home: Path) -> list[Entry]:
        return read(home / "ledger")


class TestPower(TestProcess):
    """durability = "power"."""

    def open(self, home: Path) -> Store:
        return open_store(home / "ledger", durability="power")


def read(path: Path) -> list[Entry]:
    return entries(path, limit=10**6, tell=print, **ALL)


def settling(path: Path, name: str, count: int = 10**6) -> "subprocess.Popen[bytes]":
    here = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", SETTLE, here, str(path), name, str(count)], stdout=subprocess.PIPE)


# ---- kill -9 -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_entry_that_was_settled_is_there_after_each_of_twenty_kills(tmp_path: Path) -> None:
    chance, promised = random.Random(), list[str]()
    for round_ in range(20):
        with settling(tmp_path, f"r{round_}") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"  # so it has caught up on the round before
            for _ in range(chance.randrange(1, 400)):
                promised.append(process.stdout.readline().decode().strip())
            time.sleep(chance.random() / 10)
            process.send_signal(signal.SIGKILL)
            # What was in the pipe was said before the kill, except a last line that was cut.
            promised += [line.decode() for line in process.stdout.read().split(b"\n")[:-1]]
    assert len(promised) > 20 * 100
    ids = [entry.id for entry in read(tmp_path)]
    assert set(promised) <= set(ids)
    assert len(ids) == len(set(ids))
    assert len(ids) <= len(promised) + 2 * 20  # settled, and killed (or cut off) before it could say so
    assert journals(tmp_path) == []


def test_a_reader_sees_what_a_killed_process_left(tmp_path: Path) -> None:
    with settling(tmp_path, "a") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10)]
        process.kill()
    assert lines[0] == b"open\n"
    report = usage(tmp_path, by="policy", tell=print, **ALL)
    assert report.total.requests >= 9


def test_what_is_settled_with_power_durability_is_in_the_database_when_the_wait_ends(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(tmp_path, durability="power")
        for i in range(20):
            waiting = store.settle(None, named(f"e{i}"))
            assert waiting is not None
            await waiting
            assert kept_ids(tmp_path)[-1] == f"e{i}"
        await store.aclose()

    asyncio.run(main())


# ---- torn and damaged journals --------------------------------------------------------------------------------------


def test_a_journal_torn_at_any_byte_of_its_last_record_loses_only_that(tmp_path: Path) -> None:
    """A record whose write did not finish was never promised."""
    whole = left_behind(tmp_path, "e1", "e2")
    start = len(left_behind(tmp_path, "e1"))
    for end in range(start, len(whole) + 1):
        ledger, told = tmp_path / str(end), list[str]()
        (ledger / "journal").mkdir(parents=True)
        (ledger / "journal" / "1-a.log").write_bytes(whole[:end])
        catch_up(ledger, tell=told.append)
        assert kept_ids(ledger) == (["e1", "e2"] if end == len(whole) else ["e1"])
        assert (told, journals(ledger)) == ([], [])
        shutil.rmtree(ledger)


def test_a_damaged_middle_is_told_and_kept_aside_and_the_rest_is_saved(tmp_path: Path) -> None:
    whole = bytearray(left_behind(tmp_path, "e1", "e2", "e3"))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1-a.log").write_bytes(whole)
    told = list[str]()
    store = open_store(tmp_path, tell=told.append)
    store.close()
    assert kept_ids(tmp_path) == ["e1", "e3"]
    assert journals(tmp_path) == ["1-a.bad"]
    assert len(told) == 1
    assert "2 entries were saved" in told[0]


def test_a_record_that_is_no_entry_is_damage_too(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal = Journal.create(tmp_path / "journal", random.SystemRandom())
    for payload in (msgspec.msgpack.encode(small("e1")), b"\xc1not msgpack", msgspec.msgpack.encode(small("e2"))):
        journal.append(payload)
    journal.close()
    told = list[str]()
    assert catch_up(tmp_path, tell=told.append) == 2
    assert kept_ids(tmp_path) == ["e1", "e2"]
    assert journals(tmp_path) == [journal.path.with_suffix(".bad").name]
    assert len(told) == 1


def test_catching_up_on_what_sqlite_has_already_changes_nothing(tmp_path: Path) -> None:
    """The process died after the commit and before its journal was removed."""
    whole = left_behind(tmp_path, "e1", "e2")
    for _ in range(3):
        (tmp_path / "journal").mkdir(exist_ok=True)
        (tmp_path / "journal" / "1-a.log").write_bytes(whole)
        catch_up(tmp_path, tell=print)
    assert kept_ids(tmp_path) == ["e1", "e2"]


def left_behind(tmp_path: Path, *ids: str) -> bytes:
    """Give the bytes of a journal with these entries."""
    journal = Journal.create(tmp_path, random.SystemRandom())
    for id_ in ids:
        journal.append(msgspec.msgpack.encode(small(id_)))
    data = journal.path.read_bytes()
    journal.retire()
    return data


# ---- full disks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only; the limit on file sizes is tested below")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_refuses_loudly_and_heals_by_itself_when_there_is_room(small_disk: Path) -> None:
    store = open_store(small_disk / "ledger", tell=lambda line: None)
    accepted = settle_until_refused(store, lambda: fill(small_disk))
    with pytest.raises(LedgerError, match="Is the disk full"):
        store.reserve(a_request("r"))
    (small_disk / "ballast").unlink()
    eventually(lambda: admitted(store))
    store.settle(None, named("after"))
    store.close()
    assert sorted(kept_ids(small_disk / "ledger")) == sorted([*accepted, "after"])
    assert journals(small_disk / "ledger") == []


def test_a_limit_on_file_sizes_refuses_and_heals_in_the_same_way(tmp_path: Path) -> None:
    store = open_store(tmp_path, tell=lambda line: None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        accepted = settle_until_refused(store, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1])))
        with pytest.raises(LedgerError, match="cannot be written"):
            store.reserve(a_request("r"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    eventually(lambda: admitted(store))
    store.settle(None, named("after"))
    store.close()
    assert sorted(kept_ids(tmp_path)) == sorted([*accepted, "after"])


def settle_until_refused(store: SqliteStore, fill: Callable[[], None]) -> list[str]:
    """Settle some, make the disk full, settle on until it is refused; give what was accepted."""
    accepted = list[str]()
    for i in range(100_000):
        if i == 100:
            fill()
        try:
            store.settle(None, named(f"e{i}"))
        except LedgerError:
            assert i > 100
            return accepted
        accepted.append(f"e{i}")
    raise AssertionError("the disk never got full")


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def admitted(store: SqliteStore) -> bool:
    try:
        store.reserve(a_request("r"))
    except LedgerError:
        return False
    return True


# ---- removed while it runs -------------------------------------------------------------------------------------------


def test_a_ledger_that_is_removed_is_refused_and_what_was_accepted_since_is_in_the_next(tmp_path: Path) -> None:
    path, told = tmp_path / "ledger", list[str]()
    store = open_store(path, tell=told.append)
    store.settle(None, named("before"))
    eventually(lambda: kept_ids(path) == ["before"])
    shutil.rmtree(path)
    accepted = settle_what_was_admitted_before(store)
    with pytest.raises(LedgerError, match="it was removed"):
        store.reserve(a_request("r"))
    assert not path.exists()  # what was mounted there may be gone: a new ledger in its place would hide that
    path.mkdir()
    eventually(lambda: admitted(store))
    store.settle(None, named("after"))
    store.close()
    assert kept_ids(path) == [*accepted, "after"]
    assert journals(path) == []
    assert any("removed" in line for line in told)


def test_a_ledger_that_is_moved_away_and_back_goes_on_with_all_that_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    store = open_store(path, tell=lambda line: None)
    store.settle(None, named("before"))
    eventually(lambda: kept_ids(path) == ["before"])
    path.rename(tmp_path / "elsewhere")
    accepted = settle_what_was_admitted_before(store)
    (tmp_path / "elsewhere").rename(path)
    eventually(lambda: admitted(store))
    store.settle(None, named("after"))
    store.close()
    assert kept_ids(path) == ["before", *accepted, "after"]
    assert journals(path) == []


def test_nobody_is_told_that_the_disk_has_what_went_into_a_database_that_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    async def main() -> None:
        store = open_store(path, durability="power", tell=lambda line: None)
        first = store.settle(None, named("before"))
        assert first is not None
        await first
        shutil.rmtree(path)
        waiting = store.settle(None, named("e1"))
        assert waiting is not None
        with pytest.raises(LedgerError, match=r"has not confirmed it: .* was removed or replaced"):
            await waiting
        path.mkdir()
        await asyncio.to_thread(eventually, lambda: admitted(store))
        await store.aclose()

    asyncio.run(main())
    assert kept_ids(path) == ["e1"]


def test_a_journal_that_is_removed_is_begun_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path, tell=lambda line: None)
    shutil.rmtree(tmp_path / "journal")
    eventually(lambda: admitted(store) and (tmp_path / "journal").exists())
    store.settle(None, named("e1"))
    assert sum(file.stat().st_size for file in (tmp_path / "journal").iterdir()) > 0
    store.close()
    assert (kept_ids(tmp_path), journals(tmp_path)) == (["e1"], [])


def test_entries_that_nobody_can_keep_any_more_are_told_at_the_end(tmp_path: Path) -> None:
    told = list[str]()
    store = open_store(tmp_path / "ledger", tell=told.append)
    shutil.rmtree(tmp_path / "ledger")
    store.settle(None, named("e1"))
    store.close()
    assert "1 entries are lost" in told[-1]


def settle_what_was_admitted_before(store: SqliteStore) -> list[str]:
    """Settle requests that were under way when the ledger went, and see that no further one is admitted."""
    for i in range(3):
        store.settle(None, named(f"e{i}"))
    eventually(lambda: not admitted(store))
    return [f"e{i}" for i in range(3)]


# ---- many at once ---------------------------------------------------------------------------------------------------


def test_several_processes_write_one_ledger_while_others_read_it(tmp_path: Path) -> None:
    with settling(tmp_path, "a", 1500) as one, settling(tmp_path, "b", 1500) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        assert one.stdout.readline() == two.stdout.readline() == b"open\n"
        counts = [usage(tmp_path, by="policy", tell=print, **ALL).total.requests for _ in range(20)]
        one.stdout.read()
        two.stdout.read()
    assert (one.returncode, two.returncode) == (0, 0)
    assert counts == sorted(counts)
    ids = kept_ids(tmp_path)
    assert sorted(ids) == sorted(f"{name}-{i}" for name in "ab" for i in range(1500))
    assert [i for i in ids if i.startswith("a")] == [f"a-{i}" for i in range(1500)]
    assert journals(tmp_path) == []


def test_a_living_process_keeps_its_journal_while_others_catch_up(tmp_path: Path) -> None:
    one = open_store(tmp_path)
    one.settle(None, named("e1"))
    two = open_store(tmp_path)
    assert len(journals(tmp_path)) == 2
    two.settle(None, named("e2"))
    two.close()
    one.settle(None, named("e3"))
    one.close()
    assert sorted(kept_ids(tmp_path)) == ["e1", "e2", "e3"]


def test_a_journal_does_not_grow_without_end(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for i in range(14_000):  # about ten megabytes
        store.settle(None, named(f"e{i}"))
    eventually(lambda: len(journals(tmp_path)) == 1)
    assert sum(f.stat().st_size for f in (tmp_path / "journal").iterdir()) < 4_300_000
    store.close()
    assert len(kept_ids(tmp_path)) == 14_000
    assert journals(tmp_path) == []


# ---- opening and closing --------------------------------------------------------------------------------------------


def test_the_builder_opens_the_ledger_that_the_settings_name(tmp_path: Path) -> None:
    async def no_dial(*_: object, **__: object) -> object:
        raise OSError("no way out")

    kit = Kit(
        clock=WallClock(),
        random=random.SystemRandom(),
        dial=no_dial,  # type: ignore[arg-type]  # a ledger calls nobody
        home=tmp_path,
        models=tmp_path,
        tell=print,
        turns=Turns(),
        desk=Desk(),
    )
    build(LedgerSettings(), kit).close()
    assert (tmp_path / "ledger" / FILE).exists()
    elsewhere = LedgerSettings(path=str(tmp_path / "elsewhere"), durability="power")
    built = load("trivet.store", "sqlite")(elsewhere, kit)
    built.close()
    assert (folder(elsewhere, tmp_path) / FILE).exists()


def test_a_ledger_that_cannot_be_opened_is_said_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LedgerError, match="cannot be opened"):
        open_store(tmp_path / "file")
    (tmp_path / FILE).write_bytes(b"not a database, but longer than a header" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        open_store(tmp_path)


def test_a_clean_close_leaves_one_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.settle(None, named("e1"))
    store.close()
    store.close()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [FILE]


def test_an_entry_that_cannot_be_written_down_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(LedgerError, match="cannot be encoded"):
        store.settle(None, msgspec.structs.replace(small("e1"), at_ns=2**70))
    with pytest.raises(LedgerError, match="cannot be encoded"):
        store.settle(None, msgspec.structs.replace(small("e1"), tenant="\ud800"))
    store.settle(None, small("e2"))
    store.close()
    assert kept_ids(tmp_path) == ["e2"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    before = sorted(fd.name for fd in fds.iterdir())
    store = open_store(tmp_path)
    store.settle(None, named("e1"))
    store.close()
    read(tmp_path)
    assert sorted(fd.name for fd in fds.iterdir()) == before


def test_the_database_is_sound_after_all_that(tmp_path: Path) -> None:
    with settling(tmp_path, "a") as process:
        assert process.stdout is not None
        for _ in range(500):
            process.stdout.readline()
        process.kill()
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
