"""Versions of a router: what was put in force when, and the way back.

Beside `router.trv` is `router.trv.versions/`: every file that was in force, by digest, and `history.jsonl` with a line
for each change. A running gateway sees the file change and takes the new one, or says why it cannot and keeps the old.

Not here: whether a router can hold what policies ask for (`routing/triangle/`).
Invariants: the file is replaced in one step and is always a whole router; nothing is put in force that cannot be
loaded; what was in force before can be put back.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

from trivet.errors import ConfigError
from trivet.routing.learned import learned
from trivet.routing.learned.file import put

MOST = 20
"""Versions that are kept beside the one in force; the oldest go."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the history."""

    at: str
    """UTC, ISO 8601."""
    digest: str
    what: Literal["found", "use", "rollback"]
    source: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A router that was in force, or is."""

    digest: str
    at: str
    """When it was put in force, the last time; "": by hand."""
    in_force: bool
    kept: bool
    """Whether it can still be put back."""
    trained: str = ""
    models: int = 0
    prompts: int = 0


def use(new: Path, path: Path, *, at: str) -> str:
    """Put a router in force at `path`; gives its digest.

    Raises:
        ConfigError: it cannot be loaded, or not be written there.
    """
    digest = learned.load(new).digest
    return _put(new.read_bytes(), digest, path, at=at, what="use", source=str(new))


def rollback(path: Path, *, at: str) -> str:
    """Put back what was in force before; gives its digest.

    Raises:
        ConfigError: nothing was, or it is not kept any more.
    """
    now = learned.load(path).digest if path.exists() else ""
    for change in reversed(_undone(_history(path))):
        file = _file(path, change.digest)
        if change.digest != now and file.exists():
            learned.load(file)
            return _put(file.read_bytes(), change.digest, path, at=at, what="rollback", source=str(file))
    raise ConfigError(f"Nothing was in force at {path} before, as far as {_folder(path)} knows.")


def versions(path: Path) -> list[Version]:
    """List what was in force, newest first; what is in force is there also if it was put there by hand."""
    now = learned.load(path).digest if path.exists() else ""
    latest: dict[str, Change] = {}
    for change in _history(path):
        latest.pop(change.digest, None)
        latest[change.digest] = change
    if now and now not in latest:
        latest[now] = Change(at="", digest=now, what="found")
    return [_version(path, change, now) for change in reversed(latest.values())]


def _undone(history: list[Change]) -> list[Change]:
    """Give the changes that a rollback has not taken back: each takes back the last one that is left."""
    left: list[Change] = []
    for change in history:
        if change.what != "rollback":
            left.append(change)
        else:
            while left and left[-1].digest != change.digest:
                left.pop()
    return left


def _version(path: Path, change: Change, now: str) -> Version:
    file, in_force = _file(path, change.digest), change.digest == now
    told = Version(digest=change.digest, at=change.at, in_force=in_force, kept=file.exists())
    try:
        about = learned.load(path if in_force else file).about
    except ConfigError:
        return told
    more = {"trained": about.date, "models": len(about.models), "prompts": about.prompts}
    return msgspec.structs.replace(told, **more)


def _put(data: bytes, digest: str, path: Path, *, at: str, what: Literal["use", "rollback"], source: str) -> str:
    try:
        _folder(path).mkdir(exist_ok=True)
        if path.exists():  # what is there now, also where it was put there by hand
            before = learned.load(path).digest
            if not _file(path, before).exists():
                put(_file(path, before), path.read_bytes())
            if not any(change.digest == before for change in _history(path)):
                _note(path, Change(at=at, digest=before, what="found"))
        put(_file(path, digest), data)
        put(path, data)
        _note(path, Change(at=at, digest=digest, what=what, source=source))
        _forget(path, digest)
    except OSError as error:
        raise ConfigError(f"Cannot put a router in force at {path}: {error.strerror or error}.") from error
    return digest


def _history(path: Path) -> list[Change]:
    try:
        lines = (_folder(path) / "history.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"Cannot read the history of {path}: {error.strerror or error}.") from error
    changes = []
    for line in lines:
        try:
            changes.append(msgspec.json.decode(line, type=Change))
        except msgspec.MsgspecError:  # half a line, of a process that was killed
            continue
    return changes


def _note(path: Path, change: Change) -> None:
    with (_folder(path) / "history.jsonl").open("ab") as file:
        file.write(b"\n" * (file.tell() > 0) + msgspec.json.encode(change))
        file.flush()
        os.fsync(file.fileno())


def _forget(path: Path, now: str) -> None:
    order = list(dict.fromkeys(change.digest for change in reversed(_history(path))))
    for digest in order[MOST:]:
        if digest != now:
            _file(path, digest).unlink(missing_ok=True)


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.versions")


def _file(path: Path, digest: str) -> Path:
    return _folder(path) / f"{digest[:16]}.trv"
