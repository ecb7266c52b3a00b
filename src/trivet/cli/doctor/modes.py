"""Who else can read or change what is ours: the home, the ledger, the file of settings, the files of keys.

Not here: whether they can be used. Each check reads modes (stat), and changes none.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from trivet.cli.doctor.check import Check, ok, warn
from trivet.config import Settings, home
from trivet.ledger import keys, sqlite, tables

_MAY_BE_A_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|AIza[A-Za-z0-9_-]{30,}|gsk_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,})"
)
"""How the keys of OpenAI, Anthropic and OpenRouter (sk-), Google, Groq and the Hub begin."""


def mode_checks(settings: Settings | None, env: Mapping[str, str], *, config: Path | None) -> Iterator[Check]:
    """Look at everything that only its owner should read, or change."""
    yield from _home(home(env))
    if settings is not None:
        yield from _ledger(sqlite.folder(settings.ledger, home(env)), home(env))
        yield from _key_files(settings)
    if config is not None and config.expanduser().is_file():
        yield from _file(config.expanduser())


def _home(folder: Path) -> Iterator[Check]:
    if not folder.is_dir():
        yield ok("file modes", f"{folder} is made for you alone")
        return
    if folder.stat().st_uid != os.geteuid():
        fix = f"Run as the one it belongs to, or: sudo chown -R $(id -u) {folder}"
        yield warn("file modes", f"{folder} belongs to another user (id {folder.stat().st_uid})", fix)
        return
    # Below a folder that only its owner can enter, the modes of the files do not matter.
    if not _mode(folder) & 0o077:
        yield ok("file modes", f"only you can enter {folder}")
        return
    yield warn("file modes", f"other users can enter {folder}", f"chmod 700 {folder}")
    path = folder / keys.FILE
    if path.exists() and _mode(path) & 0o077:
        yield warn("file modes", f"other users can read {path}: names of keys, and of tenants", f"chmod 600 {path}")


def _ledger(folder: Path, home: Path) -> Iterator[Check]:
    """Look at the ledger where the home does not protect it."""
    inside = folder.resolve().is_relative_to(home.resolve()) and home.is_dir() and not _mode(home) & 0o077
    if inside or not folder.is_dir() or not _mode(folder) & 0o077:
        return
    if any(path.exists() and _mode(path) & 0o077 for path in (folder / tables.FILE, folder)):
        yield warn("file modes", f"other users can read who asked for what in {folder}", f"chmod 700 {folder}")


def _key_files(settings: Settings) -> Iterator[Check]:
    """See that nobody else can read the files that hold keys; those that cannot be read are told of elsewhere."""
    for name, target in settings.targets.items():
        path = Path(target.api_key.removeprefix("file:")).expanduser()
        if target.api_key.startswith("file:") and path.exists() and _mode(path) & 0o077:
            yield warn(f"key of {name}", f"other users can read {path}", f"chmod 600 {path}")


def _file(path: Path) -> Iterator[Check]:
    """Whoever can write the file can have keys sent elsewhere; whoever can read it sees what is in it."""
    found = path.stat()
    # A group that is our own is, on many systems, ours alone: files are group-writable there from the start.
    writers = 0o002 | (0o020 if found.st_gid != os.getegid() else 0)
    if found.st_mode & writers:
        words = f"other users can write {path}, and so have your keys sent to an address of theirs"
        yield warn("config file", words, f"chmod go-w {path}")
    text = path.read_text(encoding="utf-8", errors="replace") if os.access(path, os.R_OK) else ""
    numbers = [n for n, line in enumerate(text.splitlines(), start=1) if _MAY_BE_A_KEY.search(line)]
    if numbers:
        who = "and other users can read it" if found.st_mode & 0o044 else "which copies and backups keep"
        words = f"what looks like a key is written in {path}, line {', '.join(map(str, numbers))}, {who}"
        fix = f'Write where it is instead: "env:NAME" or "file:PATH". Make a new key.\nchmod 600 {path}'
        yield warn("config file", words, fix)
    if not (found.st_mode & writers or numbers):
        yield ok("config file", f"no key is in {path}, and only you can change it")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
