"""Is the ledger well: can it be opened, is it whole, what waits to be written, what was left behind.

Not here: room on its disk (`disk.py`), who can read it (`modes.py`). Nothing is repaired here: whoever opens the ledger
next catches up by itself (`ledger/sqlite.py`); journals are looked at and left.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from trivet.cli.doctor.check import Check, bad, ok, warn
from trivet.config import Settings, home
from trivet.errors import TrivetError
from trivet.ledger import journal, sqlite, tables

_WORDS = {
    "process": "what a client saw finished survives kill -9, and not a power cut (`ledger.durability`)",
    "power": "what a client saw finished survives a power cut; each answer waits for the disk",
}
_PATIENCE_S = 10.0  # quick_check reads every page: about 1 GB on a slow disk
_STEPS = 100_000  # of SQLite's machine between two looks at the time: some milliseconds
_MANY = 5_000  # entries waiting: a group is 500, so a gateway that keeps up has far fewer
_SKEW_NS = 60_000_000_000


class _Id(msgspec.Struct):
    """Of an entry, the one member that is needed to see whether it is there."""

    id: str


def ledger_checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Open the ledger, and say what is promised of it and how it is."""
    yield ok("durability", f"{settings.ledger.durability}: {_WORDS[settings.ledger.durability]}")
    if settings.ledger.store != "sqlite":
        return
    folder = sqlite.folder(settings.ledger, home(env))
    path = folder / tables.FILE
    try:
        if not path.exists() and not list(_logs(folder)):
            yield ok("ledger", f"none yet; it will be {path}")
        else:
            with closing(tables.open_tables(path, tables.connect)) as db:
                yield from _tables(db, path)
                yield from _journals(db, folder)
    except (TrivetError, OSError, sqlite3.Error) as error:
        yield bad("ledger", f"{path} cannot be opened: {error}", _rescue(path))


def _rescue(path: Path) -> str:
    return (
        f"See what is wrong: sqlite3 {path} 'PRAGMA integrity_check'\n"
        f"Save what can be read: sqlite3 {path} .recover | sqlite3 {path.with_name('saved.db')}\n"
        f"Or begin anew: mv {path} {path}.old"
    )


def _tables(db: sqlite3.Connection, path: Path) -> Iterator[Check]:
    entries, newest_ns = db.execute("SELECT count(*), coalesce(max(at_ns), 0) FROM entries").fetchone()
    until = time.monotonic() + _PATIENCE_S
    db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        told = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        told = []
    finally:
        db.set_progress_handler(None, 0)
    if told not in ([], ["ok"]):
        yield bad("ledger", f"{path} is damaged: {'; '.join(told)}", _rescue(path))
    else:
        how = "whole (quick_check)" if told else f"not read to its end in {_PATIENCE_S:.0f} s"
        yield ok("ledger", f"{path}, {entries} entries, {how}")
    if newest_ns > time.time_ns() + _SKEW_NS:
        yield warn("ledger", "its newest entry is in the future: the clock was or is wrong", "timedatectl")


def _journals(db: sqlite3.Connection, folder: Path) -> Iterator[Check]:
    """Look at what waits in journals: of gateways that run, of processes that died, and those that are damaged."""
    left, behind, damage = 0, 0, False
    for file in _logs(folder):
        with journal.take_over(file) as contents:
            alive = contents is None
            # The end of one that is being written may be half a record, which is no damage.
            found = contents or journal.parse(_bytes(file))
        waiting = _not_in(db, found.payloads)
        behind, left = behind + waiting * alive, left + waiting * (not alive)
        damage = damage or (not alive and bool(found.damaged_at))
    if damage:
        words = (
            f"a journal in {folder / 'journal'} is damaged; the next start saves what can be read, and keeps it as .bad"
        )
        yield warn("journal", words, "trivet usage --since 1h", "trivet")
    if left:
        words = f"{left} entries of processes that died wait to be written; the next start or report does it"
        yield warn("journal", words, "trivet usage --since 1h", "trivet")
    if behind >= sqlite.MAX_BEHIND:
        yield bad("journal", f"SQLite is {behind} entries behind, and requests are refused", _free_it(folder))
    elif behind >= _MANY:
        yield warn("journal", f"SQLite is {behind} entries behind", _free_it(folder))
    elif not left and not damage:
        yield ok("journal", f"nothing left behind; {behind} entries on their way")
    for bad_file in sorted((folder / "journal").glob("*.bad")):
        words = f"{bad_file} was damaged; what could be read of it is in the ledger"
        yield warn("journal", words, f"Look whether the disk is failing. Then: rm {bad_file}")


def _logs(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.log"))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:  # its gateway has just begun another
        return b""


def _free_it(folder: Path) -> str:
    return f"Who holds it: lsof {folder / tables.FILE}; is there room: df -h {folder}"


def _not_in(db: sqlite3.Connection, payloads: list[bytes]) -> int:
    """Count the entries of a journal that SQLite does not have yet."""
    decode, ids = msgspec.msgpack.Decoder(_Id).decode, []
    for payload in payloads:
        try:
            ids.append(decode(payload).id)
        except msgspec.DecodeError:
            continue  # told of as damage when it is caught up
    wanted = msgspec.json.encode(ids).decode()
    (there,) = db.execute(
        "SELECT count(*) FROM entries WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
    ).fetchone()
    return len(set(ids)) - int(there)
