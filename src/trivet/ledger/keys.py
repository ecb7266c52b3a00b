"""Virtual keys: made, listed, revoked, and checked at the door.

A key is shown once, when it is made; what is kept of it is its SHA-256 and its last four characters. (It is 192 random
bits, so a slow hash would protect nothing.) Not here: how a key arrives in a request (`server/`).
Invariants: the key itself never reaches SQL, a log or an error; a revoked key stops working at the next `refresh`;
a ring that cannot be read keeps what it knew, so that losing the file opens no door.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from trivet.config import Secret
from trivet.errors import ConfigError, LedgerError
from trivet.seams import Clock
from trivet.types import Permit

FILE: Final = "keys.db"
PREFIX: Final = "sk-trivet-"
_RANDOM_BYTES: Final = 24
"""192 bits: 32 characters."""

_SCHEMA: Final = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    last4 TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    revoked_ns INTEGER
) STRICT"""
_PERMITS: Final = (
    "ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE keys ADD COLUMN targets TEXT NOT NULL DEFAULT '[]'",
)
"""What files from before there were permissions lack: JSON lists of names, empty for everything."""
_IS_MADE: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'keys'"
_ALL: Final = (
    "SELECT id, name, tenant, last4, created_ns, revoked_ns, digest, models, targets FROM keys ORDER BY created_ns, id"
)
_ALL_BEFORE: Final = (  # a file that nobody has written to since: a gateway reads it as it is
    "SELECT id, name, tenant, last4, created_ns, revoked_ns, digest, '[]', '[]' FROM keys ORDER BY created_ns, id"
)

_read_names = msgspec.json.Decoder(tuple[str, ...]).decode


class Key(Struct, frozen=True, kw_only=True):
    """A virtual key, without the key."""

    id: str
    name: str
    tenant: str
    last4: str
    created_ns: int
    revoked_ns: int | None = None
    permit: Permit = Permit()
    """What it may ask for, and who may be called for it."""


_ANYTHING: Final = Permit()


class Made(NamedTuple):
    """A new key, and the only sight of it."""

    key: Key
    secret: Secret


def create(path: Path, *, name: str, tenant: str, clock: Clock, permit: Permit = _ANYTHING) -> Made:
    """Make a key in the file `path`. Raises `ConfigError`: a key of that name is in use."""
    raw = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    key = Key(
        id=f"key_{secrets.token_hex(6)}",
        name=name,
        tenant=tenant,
        last4=raw[-4:],
        created_ns=clock.now_ns(),
        permit=permit,
    )
    names = [msgspec.json.encode(column).decode() for column in (permit.models, permit.targets)]
    with _writing(path) as db:
        if db.execute("SELECT 1 FROM keys WHERE name = ? AND revoked_ns IS NULL", (name,)).fetchone():
            raise ConfigError(f"A key called {name!r} is in use. Choose another name, or revoke that one first.")
        db.execute(
            "INSERT INTO keys (id, name, tenant, digest, last4, created_ns, models, targets) VALUES (?,?,?,?,?,?,?,?)",
            (key.id, name, tenant, _digest(raw), key.last4, key.created_ns, *names),
        )
    return Made(key, Secret(raw))


def listing(path: Path) -> list[Key]:
    """Give all keys, the revoked ones too, oldest first."""
    if not path.exists():
        return []
    with _writing(path) as db:
        return [key for key, _ in _read(db)]


def revoke(path: Path, name_or_id: str, *, clock: Clock) -> Key:
    """End a key. Raises `ConfigError`: no key in use is called that."""
    if path.exists():
        with _writing(path) as db:
            for key, _ in _read(db):
                if key.revoked_ns is None and name_or_id in (key.name, key.id):
                    ended = replace(key, revoked_ns=clock.now_ns())
                    db.execute("UPDATE keys SET revoked_ns = ? WHERE id = ?", (ended.revoked_ns, key.id))
                    return ended
    in_use = ", ".join(key.name for key in listing(path) if key.revoked_ns is None)
    raise ConfigError(f"No key in use is called {name_or_id!r}. In use: {in_use or 'none'}.")


class KeyRing:
    """The keys in use, in memory, kept up to date by `refresh`."""

    def __init__(self, path: Path) -> None:
        """Read the file `path`, which may not exist yet. Raises `LedgerError`: it cannot be read."""
        self._path = path
        self._keys: dict[bytes, Key] = {}
        self._db: sqlite3.Connection | None = None
        self._seen: tuple[int, ...] = ()
        self.any = False
        """Whether there is any key, revoked ones too: who revokes the last one does not mean to open the door."""
        self.refresh()

    def check(self, bearer: bytes) -> Key | None:
        """Find the key in use that a client shows, as it came."""
        # Found by digest: what the time of the look-up tells is about a digest that nobody can choose.
        return self._keys.get(sha256(bearer).digest())

    def refresh(self) -> None:
        """Take in what other processes changed: some microseconds when nothing did. Raises `LedgerError`."""
        try:
            found = self._path.stat()
            file = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            return
        try:
            if self._db is None or self._seen[:2] != file:
                self.close()
                # Used by one thread at a time, though maybe not by the one that built it.
                self._db = sqlite3.connect(self._path, timeout=0, check_same_thread=False, isolation_level=None)
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if self._seen != (*file, version) and self._db.execute(_IS_MADE).fetchone():
                every = _read(self._db)
                self._keys = {bytes.fromhex(digest): key for key, digest in every if key.revoked_ns is None}
                self.any = bool(every)
                self._seen = (*file, version)
        except sqlite3.OperationalError as error:
            if not _is_busy(error):  # somebody is writing: next time
                raise LedgerError(f"The keys in {self._path} cannot be read: {error}.") from error
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise LedgerError(f"The keys in {self._path} cannot be read: {error}.") from error

    def close(self) -> None:
        """Let go of the file; what is known stays."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _digest(raw: str) -> str:
    return sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()


def _read(db: sqlite3.Connection) -> list[tuple[Key, str]]:
    every = _ALL if _has_permits(db) else _ALL_BEFORE
    found = []
    for i, name, tenant, last4, created, revoked, digest, models, targets in db.execute(every):
        permit = Permit(models=_read_names(models), targets=_read_names(targets))
        key = Key(id=i, name=name, tenant=tenant, last4=last4, created_ns=created, revoked_ns=revoked, permit=permit)
        found.append((key, digest))
    return found


def _has_permits(db: sqlite3.Connection) -> bool:
    return any(name == "models" for _, name, *_ in db.execute("PRAGMA table_info(keys)"))


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file, readable by its owner alone, in one transaction."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            with db:
                db.execute(_SCHEMA)
                if not _has_permits(db):
                    for change in _PERMITS:
                        db.execute(change)
                yield db
    except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
        raise LedgerError(f"The keys in {path} cannot be used: {error}.") from error


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
