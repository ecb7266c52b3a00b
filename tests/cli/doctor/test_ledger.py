"""How the ledger is: whole, damaged, behind, with journals left by the dead."""

import os
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.ledger_kit import journals, named, open_store
from trivet.cli.doctor.check import Check
from trivet.cli.doctor.ledger import ledger_checks
from trivet.config import Settings
from trivet.ledger.report import entries
from trivet.ledger.tables import FILE


def checks() -> Mapping[str, Check]:
    return {check.what: check for check in ledger_checks(Settings(), os.environ)}


@pytest.fixture
def folder(home: Path) -> Path:
    """A ledger with three entries, closed."""
    store = open_store(home / "ledger")
    for i in range(3):
        store.settle(None, named(f"e-{i}"))
    store.close()
    return home / "ledger"


def kept(folder: Path) -> int:
    return len(entries(folder, since_ns=0, until_ns=2**62, limit=100, tell=print))


def test_none_yet_is_well_and_none_is_made(home: Path) -> None:
    assert checks()["ledger"].words.startswith("none yet")
    assert not home.exists()


def test_a_ledger_that_is_whole_is_counted(folder: Path) -> None:
    found = checks()
    assert found["ledger"].words == f"{folder / FILE}, 3 entries, whole (quick_check)"
    assert found["journal"].words == "nothing left behind; 0 entries on their way"


def test_one_that_is_no_database_is_a_cross_with_a_way_out(home: Path) -> None:
    (home / "ledger").mkdir(parents=True)
    (home / "ledger" / FILE).write_bytes(b"no database, " * 1000)
    check = checks()["ledger"]
    assert (check.state, check.whose) == ("bad", "operator")
    assert ".recover" in check.fix


def test_one_with_a_page_that_is_torn_is_a_cross(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entries_at'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with (folder / FILE).open("r+b") as file:
        file.seek((page - 1) * size + 8)
        file.write(b"\xff" * 200)
    check = checks()["ledger"]
    assert check.state == "bad"
    assert str(folder / FILE) in check.words


def test_what_a_dead_process_left_is_told_and_left_and_caught_up_by_the_fix(folder: Path) -> None:
    store = open_store(folder)
    store.settle(None, named("left-1"))
    (name,) = journals(folder)
    journal = folder / "journal" / name
    copy = journal.with_name("1-0000000000000000.log")
    shutil.copyfile(journal, copy)
    store.close()
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("DELETE FROM entries WHERE id = 'left-1'")
    check = checks()["journal"]
    assert (check.state, check.fix) == ("warn", "trivet usage --since 1h")
    assert check.words.startswith("1 entries of processes that died")
    assert copy.exists()
    assert kept(folder) == 4
    assert checks()["journal"].state == "ok"


def test_a_gateway_that_runs_is_not_taken_for_a_dead_one(folder: Path) -> None:
    store = open_store(folder)
    try:
        store.settle(None, named("on-its-way"))
        check = checks()["journal"]
        assert check.state == "ok"
        assert "nothing left behind" in check.words
        assert len(journals(folder)) == 1
    finally:
        store.close()
    assert kept(folder) == 4


def test_damage_is_told_before_and_after_it_is_put_aside(folder: Path) -> None:
    bad = folder / "journal" / "1-0000000000000000.log"
    bad.write_bytes(b"this is no journal at all")
    assert "is damaged" in checks()["journal"].words
    kept(folder)
    assert checks()["journal"].fix.endswith(f"rm {bad.with_suffix('.bad')}")


def test_a_ledger_whose_entries_are_of_the_future_is_a_warning(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("UPDATE entries SET at_ns = ?", (time.time_ns() + 10**15,))
    assert "in the future" in checks()["ledger"].words


def test_what_is_promised_is_said(home: Path) -> None:
    assert checks()["durability"].words.startswith("process: ")
