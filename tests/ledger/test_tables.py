"""The tables: made once however many come at once, entries written once, odd ones too."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from trivet.errors import LedgerError
from trivet.ledger.tables import FILE, Settled, connect, insert, open_tables
from trivet.testing.store_suite import an_entry
from trivet.types import Entry, Nanos, Outcome, Usage


def settled(entry: Entry) -> Settled:
    return Settled(entry, msgspec.msgpack.encode(entry))


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """synchronous=NORMAL lost acknowledged entries in half of the power-cut images (notes: trust, section 3)."""
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_that_make_the_same_ledger_at_once_all_get_it(tmp_path: Path) -> None:
    for round_ in range(5):
        path = tmp_path / f"{round_}.db"
        failed: list[Exception] = []
        together = threading.Barrier(6)

        def make(path: Path = path, failed: list[Exception] = failed, together: threading.Barrier = together) -> None:
            together.wait(30)
            try:
                open_tables(path, connect).close()
            except (sqlite3.Error, LedgerError) as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []


def test_a_ledger_of_a_newer_trivet_is_left_alone(tmp_path: Path) -> None:
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        db.execute("INSERT INTO migrations (number) VALUES (99)")
    with pytest.raises(LedgerError, match=r"newer Trivet \(tables 99"):
        open_tables(tmp_path / FILE, connect)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 49, 50, 51, 500, 563])
def test_groups_of_every_size_are_written_whole_and_in_order(tmp_path: Path, count: int) -> None:
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        insert(db, [settled(an_entry(f"e{i}")) for i in range(count)])
        assert [i for (i,) in db.execute("SELECT id FROM entries ORDER BY seq")] == [f"e{i}" for i in range(count)]


def test_a_row_says_what_its_entry_says(tmp_path: Path) -> None:
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        insert(db, [settled(an_entry("e1"))])
        cursor = db.execute("SELECT * FROM entries")
        row = dict(zip([c[0] for c in cursor.description], cursor.fetchone(), strict=True))
    assert msgspec.msgpack.decode(row.pop("entry"), type=Entry) == an_entry("e1")
    assert row == {
        "seq": 1,
        "id": "e1",
        "at_ns": 1_795_000_000_000_000_000,
        "tenant": "acme",
        "key_id": "key_1",
        "policy": "support",
        "model": "support",
        "target": "small",
        "decision": "call",
        "cache": "miss",
        "status": "ok",
        "http_status": 200,
        "stream": 1,
        "feature": "chat",
        "agent": "",
        "customer": "café",
        "input_tokens": 1200,
        "output_tokens": 80,
        "cached_tokens": 1024,
        "cost_nanos": 151_200,
        "cost_unknown": 0,
        "baseline_nanos": 2_000_000,
        "saved_nanos": 1_848_800,
        "ttft_ns": 80_000_000,
        "total_ns": 900_000_000,
    }


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    entry = Entry(id="e1", at_ns=1, tenant="t", outcome=Outcome(status="ok", http_status=200, cost_unknown="no price"))
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        insert(db, [settled(entry)])
        asked = "SELECT cost_nanos, cost_unknown, baseline_nanos, saved_nanos, input_tokens, ttft_ns FROM entries"
        assert db.execute(asked).fetchone() == (None, 1, None, None, None, None)


def test_a_number_over_64_bits_is_unknown_and_stops_nobody(tmp_path: Path) -> None:
    """An upstream that counts nonsense must not stand in the way of the entries behind it."""
    odd = Outcome(
        status="ok",
        http_status=200,
        usage=Usage(input_tokens=2**63, output_tokens=5),
        cost_nanos=Nanos(2**63),
    )
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        insert(db, [settled(Entry(id="e1", at_ns=1, tenant="t", outcome=odd)), settled(an_entry("e2"))])
        asked = "SELECT id, input_tokens, cost_nanos, cost_unknown FROM entries ORDER BY seq"
        assert db.execute(asked).fetchall() == [("e1", None, None, 1), ("e2", 1200, 151_200, 0)]


def test_a_group_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with closing(open_tables(tmp_path / FILE, connect)) as db:
        db.execute(
            "CREATE TRIGGER no BEFORE INSERT ON entries WHEN new.id = 'e55' BEGIN SELECT raise(ABORT, 'no'); END"
        )
        with pytest.raises(sqlite3.IntegrityError):
            insert(db, [settled(an_entry(f"e{i}")) for i in range(60)])
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (0,)
