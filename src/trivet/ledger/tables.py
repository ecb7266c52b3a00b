"""The ledger in SQLite: its tables, how entries become rows, and the only place that writes them.

Not here: when rows are written (`writer.py`), and questions about them (`report.py`).
Invariants: a commit is on the disk when it returns (WAL with synchronous=FULL: NORMAL lost acknowledged entries in
53 % of power-cut images); an entry is written once, however often it is given; migrations are only ever appended.
The row is for questions; the truth is the last column, the whole Entry as msgpack.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from trivet.errors import LedgerError
from trivet.types import Entry

FILE: Final = "ledger.db"

Connect = Callable[[Path], sqlite3.Connection]
"""Opens a database in autocommit mode; passed in so that faults can be injected."""

# Nothing but the id is insisted on: an odd entry must not stand in the way of those behind it.
_MIGRATIONS: Final = (
    """CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        at_ns INTEGER,
        tenant TEXT,
        key_id TEXT,
        policy TEXT,
        model TEXT,
        target TEXT,
        decision TEXT,
        cache TEXT,
        status TEXT,
        http_status INTEGER,
        stream INTEGER,
        feature TEXT,
        agent TEXT,
        customer TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cached_tokens INTEGER,
        cost_nanos INTEGER,
        cost_unknown INTEGER,
        baseline_nanos INTEGER,
        saved_nanos INTEGER,
        ttft_ns INTEGER,
        total_ns INTEGER,
        entry BLOB NOT NULL
    )""",
    "CREATE INDEX entries_at ON entries (at_ns)",
)
"""By number, from 1."""

_TOO_LARGE: Final = 2**63
_COLUMNS: Final = 25
_INSERT: Final = (
    "INSERT INTO entries (id, at_ns, tenant, key_id, policy, model, target, decision, cache, status, http_status,"
    " stream, feature, agent, customer, input_tokens, output_tokens, cached_tokens, cost_nanos,"
    " cost_unknown, baseline_nanos, saved_nanos, ttft_ns, total_ns, entry) VALUES "
)
_VALUES: Final = f"({', '.join('?' * _COLUMNS)})"
# Many rows in one statement: SQLite is entered, and the interpreter's lock let go and taken again, once and not fifty
# times; and fifty rows are made in well under a millisecond, so the event loop does not wait long for its turn.
_INSERTS: Final = tuple(
    (rows, _INSERT + ", ".join([_VALUES] * rows) + " ON CONFLICT (id) DO NOTHING") for rows in (50, 7, 1)
)


class Settled(Struct, frozen=True, gc=False):
    """An entry, and the bytes that stand for it."""

    entry: Entry
    blob: bytes


def connect(path: Path) -> sqlite3.Connection:
    """Open with the standard library: the default `Connect`."""
    return sqlite3.connect(path, isolation_level=None)


def found(path: Path, entry_id: str) -> Entry | None:
    """Read one entry of the database at `path`. Raises sqlite3.Error, OSError."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA busy_timeout = 5000")
        row = db.execute("SELECT entry FROM entries WHERE id = ?", (entry_id,)).fetchone()
    return None if row is None else msgspec.msgpack.decode(row[0], type=Entry)


def open_tables(path: Path, connect: Connect) -> sqlite3.Connection:
    """Open the database, made or brought up to date if need be.

    Raises sqlite3.Error, and `LedgerError` if a newer Trivet made it.
    """
    db = connect(path)
    try:
        db.execute("PRAGMA busy_timeout = 5000")
        _use_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -512")  # kB: entries are appended, so a few pages are all that is touched again
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def flush_anew(db: sqlite3.Connection, path: Path) -> None:
    """Write what is in the WAL once more, and flush it: for a connection that was opened after a failure.

    After a flush that failed, Linux calls pages clean that are not on the disk: SQLite reads them back as committed and
    builds on them, and later flushes succeed without writing them. Raises sqlite3.Error, OSError.
    """
    db.execute("BEGIN IMMEDIATE")  # only its holder writes to the WAL
    with db, suppress(FileNotFoundError):
        wal = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)  # SQLite's locks are on other files
        try:
            at = 0
            while data := os.pread(wal, 65_536, at):
                at += os.pwrite(wal, data, at)
            os.fsync(wal)
        finally:
            os.close(wal)


def _use_wal(db: sqlite3.Connection) -> None:
    # Two processes that make the same ledger at once: SQLite does not wait for this lock, so we come again.
    for _ in range(50):
        with suppress(sqlite3.OperationalError):
            if db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
                return
        db.execute("BEGIN IMMEDIATE")  # this lock, it waits for
        db.execute("COMMIT")
    raise sqlite3.OperationalError("the database cannot be put into WAL mode")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    with db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )
        (last,) = db.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
        if last > len(_MIGRATIONS):
            raise LedgerError(f"{path} was made by a newer Trivet (tables {last}, this one knows {len(_MIGRATIONS)}).")
        for number, sql in enumerate(_MIGRATIONS, start=1):
            if number > last:
                db.execute(sql)
                db.execute("INSERT INTO migrations (number) VALUES (?)", (number,))


def insert(db: sqlite3.Connection, settled: Sequence[Settled]) -> None:
    """Write entries in one transaction, skipping those that are there already.

    Raises sqlite3.Error, and then none was written.
    """
    db.execute("BEGIN IMMEDIATE")
    with db:
        at = 0
        for rows, sql in _INSERTS:
            while len(settled) - at >= rows:
                _insert_some(db, sql, settled[at : at + rows])
                at += rows


def _insert_some(db: sqlite3.Connection, sql: str, some: Sequence[Settled]) -> None:
    values = [value for one in some for value in _row(one.entry, one.blob)]
    try:
        db.execute(sql, values)
    except OverflowError:
        # A number over 64 bits, from an upstream that counts nonsense: not known to questions, kept in the blob.
        db.execute(sql, [None if isinstance(v, int) and not -_TOO_LARGE <= v < _TOO_LARGE else v for v in values])


def _row(entry: Entry, blob: bytes) -> tuple[Any, ...]:
    outcome, usage, baseline = entry.outcome, entry.outcome.usage, entry.baseline
    cost_nanos = outcome.cost_nanos if (outcome.cost_nanos or 0) < _TOO_LARGE else None
    baseline_nanos = baseline.cost_nanos if baseline else None
    compared = cost_nanos is not None and baseline_nanos is not None
    return (
        entry.id,
        entry.at_ns,
        entry.tenant,
        entry.key_id,
        entry.policy,
        entry.model,
        outcome.target,
        entry.decision,
        entry.cache,
        outcome.status,
        outcome.http_status,
        entry.stream,
        entry.labels.feature,
        entry.labels.agent,
        entry.labels.customer,
        usage.input_tokens if usage else None,
        usage.output_tokens if usage else None,
        usage.cached_tokens if usage else None,
        cost_nanos,
        bool(outcome.cost_unknown) or cost_nanos is not outcome.cost_nanos,
        baseline_nanos,
        sum(entry.saved.values()) if compared else None,
        outcome.timing.ttft_ns or None,
        outcome.timing.total_ns,
        blob,
    )
