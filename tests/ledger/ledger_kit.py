"""What the ledger's tests share: real clocks, a store opened on a folder, and the entries that are in it."""

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from trivet.ledger.sqlite import SqliteStore
from trivet.ledger.tables import FILE, Connect, connect
from trivet.testing.store_suite import an_entry
from trivet.types import Entry, Nanos, Outcome


class WallClock:
    """Real time."""

    def now_ns(self) -> int:
        return time.time_ns()

    def mono_ns(self) -> int:
        return time.monotonic_ns()


def open_store(
    path: Path,
    *,
    durability: Literal["process", "power"] = "process",
    tell: Callable[[str], None] = print,
    connect: Connect = connect,
) -> SqliteStore:
    """Open a ledger as a gateway would."""
    return SqliteStore(
        path, durability=durability, clock=WallClock(), random=random.SystemRandom(), tell=tell, connect=connect
    )


def small(id: str) -> Entry:  # noqa: A002  # the field's name
    """Make an entry of few bytes."""
    return Entry(id=id, at_ns=1, tenant="t", outcome=Outcome(status="ok", http_status=200, cost_nanos=Nanos(7)))


def named(id: str) -> Entry:  # noqa: A002  # the field's name
    """Make an entry of the usual size."""
    return msgspec.structs.replace(an_entry(id), at_ns=time.time_ns())


def kept_ids(path: Path) -> list[str]:
    """Read the ids that SQLite has, in the order they were written; journals are not looked at."""
    with closing(sqlite3.connect(path / FILE)) as db:
        return [i for (i,) in db.execute("SELECT id FROM entries ORDER BY seq")]


def journals(path: Path) -> list[str]:
    """List the files of the journal."""
    return sorted(p.name for p in (path / "journal").iterdir())


def eventually(what: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
