"""How each target did lately, read from the ledger: times to the first token, costs, lengths of answers.

Not here: what follows from it (`routing/triangle/`). Invariant: only answers that a target gave count, and only streams
have a time to the first token: of an answer in one piece it is the time to the last.
"""

import asyncio
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import fmean

from trivet.errors import LedgerError
from trivet.ledger.tables import FILE
from trivet.seams import Profile

LATEST = 20_000
"""Entries that are looked at, of all targets together: 20 ms."""

MOST = 1000
"""Answers of one target that count."""


class Recorded:
    """A ledger that is only read, while a gateway may write to it."""

    def __init__(self, folder: Path) -> None:
        """Take the ledger's folder."""
        self._path = folder / FILE

    async def profiles(self) -> Mapping[str, Profile]:
        """Say how each target did lately. Raises `LedgerError`."""
        return await asyncio.to_thread(profiles, self._path)


def profiles(path: Path) -> dict[str, Profile]:
    """Read them from the database at `path`. Raises `LedgerError`."""
    if not path.exists():
        return {}
    try:
        rows = _read(path)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error
    of: dict[str, list[tuple[int | None, int | None, int | None]]] = {}
    for target, ttft_ns, cost_nanos, tokens in rows:
        of.setdefault(target, []).append((ttft_ns, cost_nanos, tokens))
    return {target: _profile(answers[:MOST]) for target, answers in of.items()}


def _read(path: Path) -> list[tuple[str, int | None, int | None, int | None]]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA busy_timeout = 5000")
        return db.execute(
            """SELECT target, iif(stream, ttft_ns, NULL), iif(cost_unknown, NULL, cost_nanos), output_tokens
            FROM entries
            WHERE seq > (SELECT max(seq) FROM entries) - ? AND status = 'ok' AND decision = 'call' AND target <> ''
            ORDER BY seq DESC""",
            (LATEST,),
        ).fetchall()


def _profile(answers: list[tuple[int | None, int | None, int | None]]) -> Profile:
    ttfts, costs, tokens = ([n for n in column if n is not None] for column in zip(*answers, strict=True))
    return Profile(
        ttfts_s=tuple(ttft / 1e9 for ttft in ttfts if ttft),
        cost_usd=fmean(costs) / 1e9 if costs else math.nan,
        output_tokens=fmean(tokens) if tokens else math.nan,
    )
