"""A process under watch that settles entries, and says of each that it is kept. Run by the tests as a module.

python -m tests.disk.promise LEDGER SAID --durability power --count 40 ...
"""

import argparse
import asyncio
import os
import sqlite3
from pathlib import Path

from tests.ledger.ledger_kit import named, open_store
from trivet.errors import LedgerError
from trivet.ledger.sqlite import SqliteStore
from trivet.testing.store_suite import a_request


def connect_with(synchronous: str, checkpoint_pages: int) -> type[sqlite3.Connection]:
    """Make a connection that flushes less than it is told to, where that is asked for, and checkpoints often."""

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql == "PRAGMA synchronous = FULL":
                super().execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
                sql = f"PRAGMA synchronous = {synchronous}"
            return super().execute(sql, *parameters)  # type: ignore[arg-type]  # whatever came

    return Careless


async def settle(store: SqliteStore, name: str, said: int, *, count: int, at_once: int, rotate_every: int) -> None:
    """Settle `count` entries, some at once, and say of each that it is kept when it is."""

    async def one(id_: str) -> None:
        for _ in range(1000):
            try:
                store.reserve(a_request(id_))
                waiting = store.settle(None, named(id_))
                if waiting is not None:
                    await waiting
            except LedgerError as error:
                print(error, flush=True)
                await asyncio.sleep(0.01)
                continue
            os.write(said, f"{id_}\n".encode())
            return

    for at in range(0, count, at_once):
        if rotate_every and at % rotate_every < at_once:
            store._rotate_at = 0  # else it takes 4 MB
        await asyncio.gather(*(one(f"{name}-{i}") for i in range(at, min(count, at + at_once))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=Path)
    parser.add_argument("said", type=Path)
    parser.add_argument("--name", default="e")
    parser.add_argument("--durability", choices=("process", "power"), default="power")
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--checkpoint-pages", type=int, default=1000)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--rotate-every", type=int, default=0)
    parser.add_argument("--die", action="store_true", help="end without closing")
    args = parser.parse_args()
    kind = connect_with(args.synchronous, args.checkpoint_pages)
    store = open_store(
        args.ledger,
        durability=args.durability,
        tell=lambda line: print(line, flush=True),
        connect=lambda path: sqlite3.connect(path, isolation_level=None, factory=kind),
    )
    said = os.open(args.said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(settle(store, args.name, said, count=args.count, at_once=args.at_once, rotate_every=args.rotate_every))
    if args.die:
        os._exit(0)
    store.close()


if __name__ == "__main__":
    main()
