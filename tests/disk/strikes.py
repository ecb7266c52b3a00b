"""Settling entries while the disk strikes at one call after the other: for kills and for faults. Run as a module.

    python -m tests.disk.strikes kill|fault FOLDER --durability process ...

Each strike has a process of its own, forked off this one, on a ledger of its own. It says of each entry what it was
promised. Then, on a sound disk, the ledger is opened as at the next start, and what is in it is held against that.
Prints a line of JSON for each strike.
"""

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import sys
import time
import traceback
from errno import EIO, ENOSPC, EROFS
from pathlib import Path
from typing import Any, Literal

from tests.disk import disk
from tests.disk.disk import FAIL, FOR_GOOD, KILL_AFTER, KILL_BEFORE, KILL_MID, SAID, Faults
from tests.disk.promise import connect_with
from tests.ledger.ledger_kit import journals, kept_ids, named, open_store
from trivet.errors import LedgerError
from trivet.ledger.sqlite import SqliteStore
from trivet.testing.store_suite import a_request

ENTRIES = 6
ERRORS = {"EIO": EIO, "ENOSPC": ENOSPC, "EROFS": EROFS}
KILLS = {"before": KILL_BEFORE, "after": KILL_AFTER, "mid": KILL_MID}
LONGEST_S = 30.0


class Life:
    """One process that has a ledger, from its start to its end."""

    def __init__(self, folder: Path, faults: Faults, durability: Literal["process", "power"]) -> None:
        kind = connect_with("FULL", 4)
        self._folder, self._faults, self._durability = folder, faults, durability
        self._connect = lambda path: sqlite3.connect(path, isolation_level=None, factory=kind)
        self._said = os.open(folder / SAID, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def open(self) -> SqliteStore:
        return open_store(
            self._folder / "ledger", durability=self._durability, tell=lambda line: None, connect=self._connect
        )

    def live(self) -> None:
        """Open, settle, close: until it is killed."""
        self.say("begun")
        store = self.open()
        asyncio.run(self._settle(store, until_healed=False))
        store.close()
        self.say("closed")

    def endure(self) -> None:
        """Open, settle as long as the disk is bad and once it is well again, close."""
        try:
            store = self.open()
        except LedgerError:
            self._faults.stop()
            store = self.open()
        asyncio.run(self._settle(store, until_healed=True))
        store.close()
        self.say("closed")

    async def _settle(self, store: SqliteStore, *, until_healed: bool) -> None:
        for number in range(ENTRIES):
            if number == ENTRIES // 2:
                store._rotate_at = 0  # so that this one begins a new journal
            await self._one(store, f"e{number}")
        if until_healed:
            self._faults.stop()
            before_s = time.monotonic()
            while not await self._one(store, "healed"):
                assert time.monotonic() < before_s + LONGEST_S, "it does not go on by itself"
                await asyncio.sleep(0.01)

    async def _one(self, store: SqliteStore, id_: str) -> bool:
        try:
            store.reserve(a_request(id_))
        except LedgerError:
            return False
        self.say(f"try {id_}")
        try:
            waiting = store.settle(None, named(id_))
        except LedgerError as error:
            if "cannot be written" not in str(error):
                raise
            self.say(f"refused {id_}")
            return False
        try:
            if waiting is not None:
                await waiting
        except LedgerError as error:
            if "in the journal, but the disk has not confirmed it" not in str(error):
                raise
            self.say(f"journal {id_}")
            return True
        self.say(f"kept {id_}")
        return True

    def say(self, word: str) -> None:
        os.write(self._said, f"{word}\n".encode())


def in_a_process(do: Any) -> int:
    """Run something in a fork; gives its exit code, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        do()
    except BaseException:  # noqa: BLE001  # the end of the process: its parent sees the code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def found(folder: Path, faults: Faults, code: int) -> dict[str, Any]:
    """Open the ledger as at the next start, and say what was promised and what is there."""
    said = (folder / SAID).read_text().split("\n")[:-1]
    words: dict[str, list[str]] = {"try": [], "kept": [], "journal": [], "refused": []}
    for verb, _, id_ in (line.partition(" ") for line in said):
        words.setdefault(verb, []).append(id_)
    told: list[str] = []
    ledger = folder / "ledger"
    open_store(ledger, tell=told.append).close()
    ids = kept_ids(ledger)
    with sqlite3.connect(ledger / "ledger.db") as db:
        sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    return {
        "code": code, "struck": faults.struck, "times": faults.shared.struck, "ids": ids, "told": told,
        "sound": sound, "journals": journals(ledger), **words,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("kill", "fault"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--durability", choices=("process", "power"), default="process")
    parser.add_argument("--how", choices=(*KILLS, *ERRORS), required=True)
    parser.add_argument("--calls", type=int, default=1, help="how many in a row are struck; 0: all until healed")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--leftover", type=Path, help="a ledger to begin with")
    args = parser.parse_args()
    faults = Faults(Path(os.environ["DISK_CONTROL"]))
    at, missed = args.first, 0
    while missed < 2:  # how often the writer commits is not the same in each run
        folder = args.folder / f"{args.how}-{at}"
        shutil.copytree(args.leftover, folder) if args.leftover else folder.mkdir()
        life = Life(folder, faults, args.durability)
        mask = disk.CHANGES | disk.JOURNAL | disk.DATABASE
        if args.what == "kill":
            faults.strike(KILLS[args.how], at=at, mask=disk.WRITE | 768 if args.how == "mid" else mask)
        else:
            until = at + args.calls - 1 if args.calls else FOR_GOOD
            faults.strike(FAIL, at=at, until=until, mask=mask, error=ERRORS[args.how])
        code = in_a_process(life.live if args.what == "kill" else life.endure)
        faults.stop()
        missed += faults.shared.struck == 0
        print(json.dumps({"at": at, "how": args.how, **found(folder, faults, code)}))
        shutil.rmtree(folder)
        at += args.step


if __name__ == "__main__":
    main()
