"""The one thread that writes entries to SQLite, in groups, off the request path.

Not here: the journal that makes waiting harmless (`journal.py`), and SQL (`tables.py`).
Invariants: what was put is written in the order it came, or stays in a journal that is not removed; while SQLite
fails (locked, full, read-only) entries wait here and in the journal, and are tried again until it works.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec import Struct

from trivet.errors import LedgerError
from trivet.ledger.journal import Journal
from trivet.ledger.tables import Connect, Settled, flush_anew, insert, open_tables

GROUP = 500
"""Entries of one commit: a group this large already spreads the flush (0.3 ms) to under 1 us an entry."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_LAST_TRIES = 3
"""When closing: more would only hold up the end, and the journal keeps what is left."""


class Put(Struct, frozen=True):
    """An entry to be written, and who waits for that."""

    settled: Settled
    waiter: "asyncio.Future[None] | None"


class Writer:
    """Takes entries from one thread and writes them in another."""

    def __init__(self, path: Path, *, connect: Connect, tell: Callable[[str], None], linger_s: float) -> None:
        """`linger_s`: how long the first entry of a group waits for others."""
        self._path, self._connect, self._tell, self._linger_s = path, connect, tell, linger_s
        self._queue: SimpleQueue[Put | Journal | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._db: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._gave_up = False
        self.put_count = 0
        self.written_count = 0
        self.trouble = ""
        """Why SQLite does not take entries at the moment; "" when it does."""
        # A daemon: a process that ends without closing must not hang; the journal has what is left.
        self._thread = threading.Thread(target=self._run, name="trivet-ledger", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> int:
        """How many entries wait to be written."""
        return self.put_count - self.written_count

    def put(self, settled: Settled, waiter: "asyncio.Future[None] | None") -> None:
        """Have an entry written; `waiter` is resolved once it is on the disk, or fails while SQLite does."""
        self.put_count += 1
        self._queue.put(Put(settled, waiter))

    def retire(self, journal: Journal) -> None:
        """Have a journal removed once all that was put before is on the disk."""
        self._queue.put(journal)

    def close(self) -> bool:
        """Write out what waits, and say whether all of it could be written."""
        self._hurry.set()
        self._queue.put(None)
        self._thread.join()
        return self.behind == 0

    def _run(self) -> None:
        more = True
        while more:
            first = self._queue.get()
            if self._queue.qsize() < GROUP:
                self._hurry.wait(self._linger_s)
            group = [first, *self._waiting(GROUP - 1)]
            self._write([item for item in group if isinstance(item, Put)])
            for item in group:
                if isinstance(item, Journal):
                    (item.close if self._gave_up else item.retire)()
            more = None not in group
        if self._db is not None:
            self._db.close()

    def _waiting(self, most: int) -> Iterable[Put | Journal | None]:
        try:
            for _ in range(most):
                yield self._queue.get_nowait()
        except Empty:
            return

    def _write(self, puts: list[Put]) -> None:
        pause_s, last_tries = _FIRST_PAUSE_S, _LAST_TRIES
        while puts and last_tries and not self._gave_up:
            try:
                db = self._opened()
                insert(db, [put.settled for put in puts])
                self._check_place()
            except (sqlite3.Error, LedgerError, OSError) as error:
                self._failed(puts, error)
            else:
                self.written_count += len(puts)
                self._worked()
                _tell_waiters(puts, None)
                return
            if self._hurry.wait(pause_s):  # closing
                last_tries -= 1
                time.sleep(_FIRST_PAUSE_S)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if puts:
            self._gave_up = True
            self._failed(puts, LedgerError("The ledger was closed before SQLite took the entry."))

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = open_tables(self._path, self._connect)
            self._file = self._path.stat()
            if self.trouble:
                flush_anew(self._db, self._path)
        return self._db

    def _check_place(self) -> None:
        """See that what was committed is where it will be looked for: SQLite writes on in a file that was removed."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if self._file is not None and os.path.samestat(self._file, self._path.stat()):
                return
        raise LedgerError(f"{self._path} was removed or replaced while it was open.")

    def _failed(self, puts: list[Put], error: Exception) -> None:
        if not self.trouble:
            self._tell(
                f"The ledger cannot be written ({error}): {self._path}. Entries wait in its journal; none is lost."
            )
        self.trouble = str(error)
        # Nobody waits for an outage to end: the entry is kept by the journal, but that is not what they wait for.
        _tell_waiters(puts, f"The entry is in the journal, but the disk has not confirmed it: {error}")
        if self._db is not None:  # the file may have been moved or replaced: begin anew
            self._db.close()
            self._db = None

    def _worked(self) -> None:
        if self.trouble:
            self._tell(f"The ledger is written again: {self._path}; {self.behind} entries still wait.")
            self.trouble = ""


def _tell_waiters(puts: list[Put], trouble: str | None) -> None:
    waiters = [put.waiter for put in puts if put.waiter is not None]
    for loop in {waiter.get_loop() for waiter in waiters}:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(_resolve, [w for w in waiters if w.get_loop() is loop], trouble)


def _resolve(waiters: "list[asyncio.Future[None]]", trouble: str | None) -> None:
    for waiter in waiters:
        if waiter.done():  # cancelled, or told before
            continue
        if trouble is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(LedgerError(trouble))
