"""The journal: where an entry is safe from the death of this process, before SQLite has it.

Each process appends to a file of its own, `<pid>-<random>.log`, and holds its lock (flock) for as long as it lives;
the lock of a dead owner can be had, which is how the living know what to take over. A record is a mark, its length,
its CRC-32 and its bytes, in one write. Not here: what the bytes mean, and SQLite (`sqlite.py`).

Invariants: after `append` returns, the record survives kill -9; after it raises, the file ends where it ended before.
A record is lost only if its write did not finish, so a torn end is dropped in silence; anything else is damage, told.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from trivet.seams import Random

_MARK = b"\xabTJ1"
_HEAD = struct.Struct("<4sII")
_PROBE = bytes(65_536)
"""Room for some sixty entries: less could fit into the last page of a full disk. Zeros are no record (see `_torn`)."""


class Journal:
    """The journal of this process, open for appending. Used by one thread."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size = 0
        self._fd = fd
        self._dirty = False

    @classmethod
    def create(cls, folder: Path, random: Random) -> "Journal":
        """Begin a new file. Raises OSError."""
        while True:
            path = folder / f"{os.getpid()}-{random.getrandbits(64):016x}.log"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:  # process ids come again, the more so in containers
                continue
            # Between open and lock, somebody may have taken it for a dead one's, and removed it.
            if _lock(fd) and _is(fd, path):
                return cls(path, fd)
            os.close(fd)

    def append(self, payload: bytes) -> None:
        """Add one record. Raises OSError (disk full, ...), and then nothing was added."""
        record = _HEAD.pack(_MARK, len(payload), crc32(payload)) + payload
        self._write(record)
        self.size += len(record)

    def has_room(self) -> bool:
        """Try whether appending works, with more than one entry needs, and leave no trace."""
        try:
            self._write(_PROBE)
            self._cut()
        except OSError:
            return False
        return True

    def in_place(self) -> bool:
        """Say whether the file is still where the next process will look for it."""
        return _is(self._fd, self.path)

    def retire(self) -> None:
        """Remove the file: everything in it is durable elsewhere."""
        with suppress(OSError):  # a file that stays is caught up again, which changes nothing
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; what is in it is for the next to take over."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, record: bytes) -> None:
        if self._dirty:
            self._cut()
        self._dirty = True
        try:
            written = os.write(self._fd, record)
            if written != len(record):
                raise OSError(errno.ENOSPC, f"only {written} of {len(record)} bytes could be written")
        except OSError:
            with suppress(OSError):  # then it stays dirty, and is cut before the next write
                self._cut()
            raise
        self._dirty = False

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._dirty = False


class Contents(NamedTuple):
    """What could be read of a journal."""

    payloads: list[bytes]
    damaged_at: list[int]
    """Byte offsets at which there should have been a record."""


@contextmanager
def take_over(path: Path) -> Iterator[Contents | None]:
    """Hold the journal of a dead process and give its contents; None if its owner lives, or somebody else has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        if _lock(fd) and _is(fd, path):
            with open(fd, "rb", closefd=False) as file:
                yield parse(file.read())
        else:
            yield None
    finally:
        os.close(fd)


def parse(data: bytes) -> Contents:
    """Find all records; where one is damaged, go on with the next that is whole."""
    payloads: list[bytes] = []
    damaged_at: list[int] = []
    at = 0
    while at < len(data):
        payload = _record(data, at)
        if payload is not None:
            payloads.append(payload)
            at += _HEAD.size + len(payload)
            continue
        further = _next(data, at + 1)
        if further is not None or not _torn(data, at):
            damaged_at.append(at)
        if further is None:
            break
        at = further
    return Contents(payloads, damaged_at)


def _record(data: bytes, at: int) -> bytes | None:
    if len(data) - at < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(data, at)
    payload = data[at + _HEAD.size : at + _HEAD.size + length]
    return payload if mark == _MARK and len(payload) == length and crc32(payload) == crc else None


def _next(data: bytes, at: int) -> int | None:
    while (at := data.find(_MARK, at)) >= 0:
        if _record(data, at) is not None:
            return at
        at += 1
    return None


def _torn(data: bytes, at: int) -> bool:
    """Say whether the rest is a write that did not finish: the beginning of a record, or of a probe."""
    rest = data[at:]
    if len(rest) < _HEAD.size:
        return rest[:4] == _MARK[: len(rest)] or not rest.strip(b"\0")
    mark, length, _ = _HEAD.unpack_from(rest)
    return (mark == _MARK and len(rest) < _HEAD.size + length) or not rest.strip(b"\0")


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(fd: int, path: Path) -> bool:
    """Say whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
