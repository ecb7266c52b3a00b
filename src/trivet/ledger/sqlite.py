"""The store over SQLite: entries go to the journal at once, and to the database in groups.

Top to bottom: the builder, the store, and the catching up on what dead processes left. Many processes may use one
ledger at the same time: each has a journal of its own, and SQLite is locked for the moment of a commit.

Not here: the journal's bytes (`journal.py`), the writing thread (`writer.py`), tables (`tables.py`).
Invariants: when `settle` returns, the entry survives kill -9; with durability "power", what it returns is done when
the entry survives a power cut too. Nothing is ever repaired by hand: whoever opens the ledger next catches up. A ledger
that is removed under a running gateway is noticed within 0.1 s: what was accepted since is in memory, and no more is.
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from trivet.config import LedgerSettings
from trivet.errors import LedgerError
from trivet.ledger.journal import Contents, Journal, take_over
from trivet.ledger.profiles import profiles
from trivet.ledger.tables import FILE, Connect, Settled, connect, found, insert, open_tables
from trivet.ledger.writer import Writer
from trivet.seams import Clock, Kit, Profile, Random
from trivet.types import Entry, Hold, Request

MAX_BEHIND = 50_000
"""Entries that may wait for SQLite: what a start catches up in about two seconds (measured: 40 us an entry)."""
_MAX_JOURNAL = 4_194_304
"""Bytes: about five thousand entries, a fifth of a second to catch up."""
_LOOK_EVERY_NS = 100_000_000
"""How often it is looked whether the journal is in its place and, on a full disk, whether there is room (1.5 us)."""
_BATCH = 2000
"""Entries of one commit when catching up: decoding all of a journal first took twice as long (garbage collection)."""
_LINGER_S = 0.05
"""How long entries gather before they are written; they are safe meanwhile."""
_FIND_TRIES = 100
"""Times the above: past that SQLite is in trouble, and what it has is what there is."""


def folder(settings: LedgerSettings, home: Path) -> Path:
    """Say where the ledger is."""
    return Path(settings.path).expanduser() if settings.path else home / "ledger"


def build(settings: LedgerSettings, kit: Kit) -> "SqliteStore":
    """Open the ledger that the settings name: the `trivet.store` entry point. Raises `LedgerError`."""
    return SqliteStore(
        folder(settings, kit.home),
        durability=settings.durability,
        clock=kit.clock,
        random=kit.random,
        tell=kit.tell,
    )


class SqliteStore:
    """One process's access to a ledger. `reserve` and `settle` are called from one thread."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["process", "power"],
        clock: Clock,
        random: Random,
        tell: Callable[[str], None],
        connect: Connect = connect,
    ) -> None:
        """Open the ledger in the folder `path`, made if need be, and catch up. Raises `LedgerError`."""
        self._path, self._clock, self._random, self._tell = path, clock, random, tell
        self._power = durability == "power"
        self._encode = msgspec.msgpack.Encoder().encode
        self._broken = ""
        """Why the journal could not be written, the last time it was tried; "" if it could."""
        self._rotate_at = _MAX_JOURNAL
        self._look_ns = 0
        self._closed = False
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _journals(path).mkdir(mode=0o700, exist_ok=True)
            if self._power:
                _flush_names(path)
            catch_up(path, tell=tell, connect=connect)
            self._journal = Journal.create(_journals(path), random)
        except OSError as error:
            raise LedgerError(f"The ledger {path} cannot be opened: {error}.") from error
        # Who waits for the disk does not wait for a group to gather; those that come meanwhile are the next group.
        linger_s = 0.0 if self._power else _LINGER_S
        self._writer = Writer(path / FILE, connect=connect, tell=tell, linger_s=linger_s)

    def reserve(self, request: Request) -> Hold:
        """Promise room for one entry. Raises `LedgerError`: the disk is full or gone, or SQLite is too far behind."""
        if self._closed:
            raise LedgerError(f"The ledger {self._path} is closed.")
        now_ns = self._clock.mono_ns()
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + _LOOK_EVERY_NS
            self._look()
        if self._broken:
            raise LedgerError(f"The journal {self._journal.path} cannot be written: {self._broken}")
        if self._writer.behind >= MAX_BEHIND:
            raise LedgerError(f"{self._writer.behind} entries wait for {self._path / FILE}: {self._writer.trouble}.")
        if self._power and self._writer.trouble:
            raise LedgerError(f"{self._path / FILE} cannot be written: {self._writer.trouble}.")
        return Hold(request_id=request.id)

    def settle(self, hold: Hold | None, entry: Entry) -> Awaitable[None] | None:
        """Keep an entry: in the journal when this returns. Raises `LedgerError`: it is not kept."""
        if self._closed:
            raise LedgerError(f"The ledger {self._path} is closed.")
        waiter = asyncio.get_running_loop().create_future() if self._power else None
        try:
            blob = self._encode(entry)
            self._journal.append(blob)
        except OSError as error:
            self._broken = f"{error}. Is the disk full?"
            raise LedgerError(f"The journal {self._journal.path} cannot be written: {self._broken}") from error
        except (OverflowError, TypeError, UnicodeError) as error:
            raise LedgerError(f"Entry {entry.id!r} cannot be encoded: {error}.") from error
        self._broken = ""
        self._writer.put(Settled(entry, blob), waiter)
        if self._journal.size >= self._rotate_at:
            self._rotate()
        return waiter

    async def find(self, entry_id: str) -> Entry | None:
        """Look an entry up; one that was settled a moment ago is waited for. Raises `LedgerError`."""
        put = self._writer.put_count
        for _ in range(_FIND_TRIES):
            if self._writer.written_count >= put:
                break
            await asyncio.sleep(_LINGER_S)
        try:
            return await asyncio.to_thread(found, self._path / FILE, entry_id)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"The ledger {self._path} cannot be read: {error}.") from error

    async def profiles(self) -> Mapping[str, Profile]:
        """Say how each target did lately. Raises `LedgerError`."""
        return await asyncio.to_thread(profiles, self._path / FILE)

    async def aclose(self) -> None:
        """Write out what is waiting. May be called twice."""
        try:
            await asyncio.to_thread(self.close)
        except RuntimeError:  # the interpreter is ending and starts no threads any more (`trivet.openai()` at exit)
            self.close()

    def close(self) -> None:
        """Do as `aclose`, for those without an event loop. Nobody may be settling meanwhile."""
        if self._closed:
            return
        self._closed = True
        if self._writer.close():
            self._journal.retire()
        elif self._journal.in_place():
            self._journal.close()
            self._tell(
                f"{self._writer.behind} entries wait in {_journals(self._path)} and are written at the next start."
            )
        else:
            self._journal.close()
            self._tell(f"{self._writer.behind} entries are lost: {self._journal.path} was removed while it was open.")

    def _look(self) -> None:
        """See whether the journal can be written, and is where the next start looks for it."""
        if not self._journal.in_place():
            self._renew()
        elif self._broken and self._journal.has_room():
            self._broken = ""

    def _renew(self) -> None:
        """Begin another journal in the place of one that was removed, if the ledger's folder is there.

        The folder itself is not made: what was mounted there may come back, and a new ledger would hide its absence.
        """
        lost = self._journal.path
        try:
            _journals(self._path).mkdir(mode=0o700, exist_ok=True)
            fresh = Journal.create(_journals(self._path), self._random)
        except OSError as error:
            self._broken = f"it was removed, and another cannot be made ({error}). Put {self._path} back."
            return
        self._writer.retire(self._journal)
        self._journal, self._rotate_at, self._broken = fresh, _MAX_JOURNAL, ""
        self._tell(f"The journal {lost} was removed while it was open: {fresh.path} is in its place.")

    def _rotate(self) -> None:
        """Begin a new journal; the old one goes once the writer is past it."""
        try:
            fresh = Journal.create(_journals(self._path), self._random)
        except OSError:  # the old one is still good: try again after another 4 MB
            self._rotate_at += _MAX_JOURNAL
            return
        self._writer.retire(self._journal)
        self._journal, self._rotate_at = fresh, _MAX_JOURNAL


def catch_up(path: Path, *, tell: Callable[[str], None], connect: Connect = connect) -> int:
    """Write what dead processes left in their journals, and say how many entries that were.

    Entries that SQLite has already are skipped, so it does not matter at which moment they died. A journal with
    damage is kept as `.bad` and told of; what can be read of it is written. Raises `LedgerError`, OSError.
    """
    count = 0
    try:
        with closing(open_tables(path / FILE, connect)) as db:
            for file in sorted(_journals(path).glob("*.log")):
                with take_over(file) as contents:
                    if contents is not None:
                        count += _write_left(db, file, contents, tell)
    except sqlite3.Error as error:
        raise LedgerError(f"The ledger {path / FILE} cannot be opened: {error}.") from error
    return count


def _write_left(db: sqlite3.Connection, file: Path, contents: Contents, tell: Callable[[str], None]) -> int:
    decode = msgspec.msgpack.Decoder(Entry).decode
    damage = [f"no record at byte {at}" for at in contents.damaged_at]
    count = 0
    for at in range(0, len(contents.payloads), _BATCH):
        settled = []
        for payload in contents.payloads[at : at + _BATCH]:
            try:
                settled.append(Settled(decode(payload), payload))
            except msgspec.DecodeError as error:
                damage.append(str(error))
        insert(db, settled)
        count += len(settled)
    if damage:
        bad = file.rename(file.with_suffix(".bad"))
        tell(f"A journal was damaged ({'; '.join(damage[:3])}): {count} entries were saved, the file is {bad}.")
    else:
        file.unlink()
    return count


def _flush_names(path: Path) -> None:
    """Have the disk keep the name of the folder, and of those above: a new one may be gone after a power cut.

    SQLite does the same for the names of its files, in the folder itself. Raises OSError.
    """
    for folder in path.absolute().parents:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:  # not made by us, then
            continue
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no flush for folders
                raise
        finally:
            os.close(fd)


def _journals(path: Path) -> Path:
    return path / "journal"
