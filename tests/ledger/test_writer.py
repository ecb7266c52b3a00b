"""The writing thread: faults of SQLite hold entries up, and lose none."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger.ledger_kit import eventually, journals, kept_ids, named, open_store
from trivet.errors import LedgerError
from trivet.ledger.sqlite import MAX_BEHIND
from trivet.ledger.tables import FILE
from trivet.testing.store_suite import a_request


class Fault:
    """A database that can be told to fail, at the beginning of a transaction or at its commit."""

    def __init__(self) -> None:
        self.at = ""
        self.failures = 0
        fault = self

        class Faulty(sqlite3.Connection):
            def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
                if fault.at and sql.startswith(fault.at):
                    fault.failures += 1
                    raise sqlite3.OperationalError("database or disk is full")
                return super().execute(sql, *parameters)  # type: ignore[arg-type]  # whatever came

        self._kind = Faulty

    def connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=self._kind)


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO entries"])
def test_entries_wait_while_sqlite_fails_and_none_is_lost_or_doubled(tmp_path: Path, at: str) -> None:
    fault, told = Fault(), list[str]()
    store = open_store(tmp_path, tell=told.append, connect=fault.connect)
    fault.at = at
    for i in range(700):
        store.reserve(a_request(f"e{i}"))  # admitted all the while: the journal keeps the promise
        assert store.settle(None, named(f"e{i}")) is None
    eventually(lambda: fault.failures >= 2)
    assert kept_ids(tmp_path) == []
    fault.at = ""
    eventually(lambda: len(kept_ids(tmp_path)) == 700)
    store.close()
    assert kept_ids(tmp_path) == [f"e{i}" for i in range(700)]
    assert journals(tmp_path) == []
    assert len(told) == 2
    assert "cannot be written (database or disk is full)" in told[0]
    assert "is written again" in told[1]


def test_what_sqlite_never_took_is_in_the_journal_for_the_next_start(tmp_path: Path) -> None:
    fault, told = Fault(), list[str]()
    store = open_store(tmp_path, tell=told.append, connect=fault.connect)
    fault.at = "BEGIN"
    store.settle(None, named("e1"))
    store.close()
    assert len(journals(tmp_path)) == 1
    assert "1 entries wait" in told[-1]
    open_store(tmp_path).close()
    assert kept_ids(tmp_path) == ["e1"]
    assert journals(tmp_path) == []


def test_journals_that_were_full_stay_until_sqlite_has_what_is_in_them(tmp_path: Path) -> None:
    fault = Fault()
    store = open_store(tmp_path, tell=lambda line: None, connect=fault.connect)
    fault.at = "BEGIN"
    for i in range(14_000):  # about ten megabytes: three journals
        store.settle(None, named(f"e{i}"))
    store.close()
    assert kept_ids(tmp_path) == []
    assert len(journals(tmp_path)) == 3
    open_store(tmp_path).close()
    assert sorted(kept_ids(tmp_path)) == sorted(f"e{i}" for i in range(14_000))
    assert journals(tmp_path) == []


@pytest.mark.slow
def test_too_many_waiting_entries_stop_admission_until_they_are_written(tmp_path: Path) -> None:
    fault = Fault()
    store = open_store(tmp_path, tell=lambda line: None, connect=fault.connect)
    fault.at = "BEGIN"
    for i in range(MAX_BEHIND):
        store.settle(None, named(f"e{i}"))
    with pytest.raises(LedgerError, match=f"{MAX_BEHIND} entries wait"):
        store.reserve(a_request("r"))
    fault.at = ""
    eventually(lambda: _admitted(store.reserve))
    store.close()
    assert len(kept_ids(tmp_path)) == MAX_BEHIND


def test_who_waits_for_the_disk_is_told_that_it_fails_and_the_entry_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        fault = Fault()
        store = open_store(tmp_path, durability="power", tell=lambda line: None, connect=fault.connect)
        fault.at = "BEGIN"
        waiting = store.settle(None, named("e1"))
        assert waiting is not None
        with pytest.raises(LedgerError, match="in the journal, but the disk has not confirmed"):
            await waiting
        with pytest.raises(LedgerError, match="cannot be written"):
            store.reserve(a_request("r"))
        fault.at = ""
        await asyncio.to_thread(eventually, lambda: _admitted(store.reserve))
        await store.aclose()

    asyncio.run(main())
    assert kept_ids(tmp_path) == ["e1"]


def test_a_database_that_another_process_locks_is_waited_for(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.settle(None, named("e1"))
    threading.Event().wait(0.5)  # ten times what the writer waits before it tries
    other.execute("COMMIT")
    other.close()
    store.close()
    assert kept_ids(tmp_path) == ["e1"]


def test_a_loop_that_is_gone_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A caller's event loop may end before the disk answers; entries behind it are written all the same."""
    fault = Fault()
    store = open_store(tmp_path, durability="power", tell=lambda line: None, connect=fault.connect)
    fault.at = "BEGIN"

    async def settle(entry_id: str) -> None:
        store.settle(None, named(entry_id))

    asyncio.run(settle("e1"))
    asyncio.run(settle("e2"))
    fault.at = ""
    store.close()
    assert kept_ids(tmp_path) == ["e1", "e2"]


def _admitted(reserve: Callable[..., object]) -> bool:
    try:
        reserve(a_request("r"))
    except LedgerError:
        return False
    return True
