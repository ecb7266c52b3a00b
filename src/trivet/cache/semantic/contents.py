"""What is in the file of kept answers, for people: counted, and taken off, also while gateways are running on it.

Not here: the file's own rules (`file.py`). A running gateway hears of what is taken off within a tenth of a second.
Invariant: reading changes nothing; what is taken off is taken off for all who share the file.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from trivet.cache.semantic import watch
from trivet.cache.semantic.file import VERSION
from trivet.cache.semantic.shelf import Answer
from trivet.errors import TrivetError

_decode = msgspec.msgpack.Decoder(Answer).decode


class CacheFileError(TrivetError):
    """The file of kept answers cannot be read or written."""

    code, whose = "cache_unreadable", "operator"


class Held(msgspec.Struct, kw_only=True):
    """What is kept for one policy."""

    policy: str
    answers: int = 0
    groups: int = 0
    """Of answers that say the same."""
    bytes: int = 0
    """On the disk."""
    right: int = 0
    wrong: int = 0
    """Verdicts on hits that were, or would have been, served."""
    oldest_ns: int = 0


def held(path: Path, *, now_ns: int) -> list[Held]:
    """Count what is fresh, by policy, most first. Raises CacheFileError."""
    found: dict[str, Held] = {}
    groups: dict[str, set[int]] = {}
    with _opened(path, write=False) as db:
        rows = db.execute("SELECT answer, coalesce(length(vector), 0) FROM answers WHERE expires_ns > ?", (now_ns,))
        for blob, width in rows:
            answer = _decode(blob)
            one = found.setdefault(answer.policy, Held(policy=answer.policy, oldest_ns=answer.kept_ns))
            one.answers += 1
            one.bytes += len(blob) + width
            one.right += answer.kept.right
            one.wrong += answer.kept.wrong
            one.oldest_ns = min(one.oldest_ns, answer.kept_ns)
            groups.setdefault(answer.policy, set()).add(answer.kept.group)
    for policy, numbers in groups.items():
        found[policy].groups = len(numbers)
    return sorted(found.values(), key=lambda one: -one.answers)


def watched(path: Path) -> dict[str, watch.State]:
    """Give what gateways last saw of their policies' looks: the error that was measured, and where likeness is off.

    Of several embedders, that of the newest. Raises CacheFileError.
    """
    found: dict[str, watch.State] = {}
    with _opened(path, write=False) as db:
        for policy, saved in db.execute("SELECT policy, state FROM learned WHERE decider = ?", (watch.NAME,)):
            try:
                state = watch.read(saved)
            except msgspec.MsgspecError:  # of another version: the next gateway writes its own
                continue
            if policy not in found or found[policy].at_ns < state.at_ns:
                found[policy] = state
    return found


def forget(path: Path, *, wanted: Callable[[Answer], bool], dry_run: bool) -> list[Answer]:
    """Take off what is wanted off, and give what it was. Raises CacheFileError."""
    with _opened(path, write=not dry_run) as db:
        if not dry_run:
            db.execute("BEGIN IMMEDIATE")
        rows = db.execute("SELECT number, answer FROM answers").fetchall()
        chosen = [(number, answer) for number, answer in ((n, _decode(blob)) for n, blob in rows) if wanted(answer)]
        if not dry_run:
            db.executemany("DELETE FROM answers WHERE number = ?", [(number,) for number, _ in chosen])
            db.executemany("INSERT INTO gone (number) VALUES (?)", [(number,) for number, _ in chosen])
            db.execute("COMMIT")
    return [answer for _, answer in chosen]


@contextmanager
def _opened(path: Path, *, write: bool) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}", uri=True, isolation_level=None
            )
        ) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise CacheFileError(f"{path} is of version {version}, and this Trivet reads {VERSION}.")
            yield db
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise CacheFileError(f"{path} cannot be read: {error}.") from error
