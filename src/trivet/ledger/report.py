"""Questions to the ledger: the one query layer, so that page, command line and API cannot disagree.

Not here: how answers are shown. Times are nanoseconds UTC, `since_ns <= at_ns < until_ns`.
What processes that died left behind is caught up first. What living processes settled in the last moments (about
50 ms) may not be in yet: ask again, or close them, to see it.
Invariants: the total is the sum of the rows, to the nano-dollar; what is not known is counted, never added as 0.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from trivet.errors import LedgerError
from trivet.ledger.sqlite import catch_up
from trivet.ledger.tables import FILE, connect, open_tables
from trivet.types import Entry, Nanos

By = Literal["policy", "target", "model", "tenant", "key", "feature", "agent", "customer", "status", "cache"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """All requests of one policy, target, ..."""

    name: str
    requests: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nanos: Nanos | None = Nanos(0)
    """Of those whose cost is known; None where none is, though money was spent."""
    unknown_costs: int = 0
    """Requests that cost something, and nobody knows how much."""
    baseline_nanos: Nanos | None = None
    """Of those that have a known one; None where none has."""
    saved_nanos: Nanos | None = None
    """Baseline minus cost, over the requests where both are known."""
    ttft_p50_ns: int | None = None
    ttft_p95_ns: int | None = None
    total_p50_ns: int | None = None
    """Of the requests that were answered."""


class Report(NamedTuple):
    """The rows, dearest first, and their sum."""

    rows: list[Row]
    total: Row


# The requests of the time, with the name of their group: read once, asked six times. The name is chosen by a
# parameter: no SQL is ever put together from values.
_CHOOSE = """
    CREATE TEMP TABLE chosen AS
    SELECT CASE :by
            WHEN 'policy' THEN policy WHEN 'target' THEN target WHEN 'model' THEN model WHEN 'tenant' THEN tenant
            WHEN 'key' THEN key_id WHEN 'feature' THEN feature WHEN 'agent' THEN agent WHEN 'customer' THEN customer
            WHEN 'status' THEN status WHEN 'cache' THEN cache ELSE '' END AS name,
        status, decision, input_tokens, output_tokens, cached_tokens, cost_nanos, cost_unknown, baseline_nanos,
        saved_nanos, ttft_ns, total_ns
    FROM entries WHERE at_ns >= :since_ns AND at_ns < :until_ns
"""
_SUMS = """
    SELECT iif(:total, '', name) AS name, count(*) AS requests,
        sum(status = 'ok') AS ok, sum(status = 'refused') AS refused,
        sum(status = 'failed') AS failed, sum(status = 'cancelled') AS cancelled,
        sum(decision = 'serve') AS hits,
        coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
        coalesce(sum(cached_tokens), 0) AS cached_tokens,
        CASE WHEN sum(cost_nanos) IS NULL AND sum(cost_unknown) = 0 THEN 0 ELSE sum(cost_nanos) END AS cost_nanos,
        sum(cost_unknown) AS unknown_costs,
        sum(baseline_nanos) AS baseline_nanos, sum(saved_nanos) AS saved_nanos
    FROM chosen GROUP BY 1 ORDER BY cost_nanos DESC, requests DESC, 1
"""
# Nearest rank: the smallest value that at least that share of the values do not exceed.
_RANKED = """
    WITH measured AS (
        SELECT iif(:total, '', name) AS name,
            CASE WHEN :what = 'ttft' THEN ttft_ns WHEN status = 'ok' THEN total_ns END AS value
        FROM chosen
    ),
    counted AS (SELECT name, count(value) AS n FROM measured GROUP BY name),
    ranked AS (
        SELECT name, value, row_number() OVER (PARTITION BY name ORDER BY value) AS nth
        FROM measured WHERE value IS NOT NULL
    )
    SELECT name, max(value) FILTER (WHERE nth = (n * 50 + 99) / 100) AS p50,
        max(value) FILTER (WHERE nth = (n * 95 + 99) / 100) AS p95
    FROM ranked JOIN counted USING (name) GROUP BY name
"""


def usage(path: Path, *, since_ns: int, until_ns: int, by: By, tell: Callable[[str], None]) -> Report:
    """Add up the requests of a time, grouped.

    Raises `LedgerError`: there is no ledger at `path`, or it cannot be read.
    """
    with _opened(path, tell) as db:
        db.execute(_CHOOSE, {"by": by, "since_ns": since_ns, "until_ns": until_ns})
        rows, total = _rows(db, total=False), _rows(db, total=True)
    return Report(rows, total[0] if total else Row(name=""))


def entries(path: Path, *, since_ns: int, until_ns: int, limit: int, tell: Callable[[str], None]) -> list[Entry]:
    """Give the newest entries of a time, newest first. Raises `LedgerError` as `usage` does."""
    with _opened(path, tell) as db:
        found = db.execute(
            "SELECT entry FROM entries WHERE at_ns >= ? AND at_ns < ? ORDER BY at_ns DESC, seq DESC LIMIT ?",
            (since_ns, until_ns, limit),
        ).fetchall()
    decode = msgspec.msgpack.Decoder(Entry).decode
    return [decode(blob) for (blob,) in found]


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """How much the cache of one policy was used."""

    policy: str
    requests: int
    """All but audits, and what was asked of judges and embedders."""
    exact: int
    semantic: int
    audits: int
    judged: int
    """Requests to a model that compares answers: two for a comparison."""
    embeds: int
    """Requests to a target that makes vectors of questions."""
    embed_nanos: int
    """What they cost, as far as it is known."""
    saved_nanos: int | None
    """By the cache, less what audits, judges and vectors cost; None: no baseline is known."""


def cache_use(path: Path, *, since_ns: int, until_ns: int, tell: Callable[[str], None]) -> list[CacheUse]:
    """Count hits of the policies that have a cache, most requests first. Raises `LedgerError` as `usage` does."""
    with _opened(path, tell) as db:
        found = db.execute(
            """SELECT policy, sum(NOT (audit OR judge OR embed)), sum(cache = 'exact'), sum(cache = 'semantic'),
                sum(audit), sum(judge), sum(embed), coalesce(sum(cost_nanos) FILTER (WHERE embed), 0),
                sum(saved_nanos) FILTER (WHERE cache IN ('exact', 'semantic') OR audit OR judge OR embed)
            FROM (
                SELECT *, id LIKE '%-audit' AS audit, id LIKE '%-judge-_' AS judge, id LIKE '%-embed-%' AS embed
                FROM entries WHERE at_ns >= ? AND at_ns < ? AND policy <> ''
            )
            WHERE cache NOT IN ('', 'off') OR judge OR (embed AND saved_nanos IS NOT NULL)
            GROUP BY policy ORDER BY 2 DESC, 1""",
            (since_ns, until_ns),
        ).fetchall()
    names = ("policy", "requests", "exact", "semantic", "audits", "judged", "embeds", "embed_nanos", "saved_nanos")
    return [CacheUse(**dict(zip(names, row, strict=True))) for row in found]


@contextmanager
def _opened(path: Path, tell: Callable[[str], None]) -> Iterator[sqlite3.Connection]:
    if not path.is_dir():
        raise LedgerError(f"There is no ledger at {path}: nothing has been recorded there.")
    try:
        catch_up(path, tell=tell)
        with closing(open_tables(path / FILE, connect)) as db:
            yield db
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error


def _rows(db: sqlite3.Connection, *, total: bool) -> list[Row]:
    sums = db.execute(_SUMS, {"total": total})
    columns = [column[0] for column in sums.description]
    found = [dict(zip(columns, values, strict=True)) for values in sums]
    first = {name: (p50, p95) for name, p50, p95 in db.execute(_RANKED, {"what": "ttft", "total": total})}
    whole = {name: p50 for name, p50, _ in db.execute(_RANKED, {"what": "total", "total": total})}
    for row in found:
        row["ttft_p50_ns"], row["ttft_p95_ns"] = first.get(row["name"], (None, None))
        row["total_p50_ns"] = whole.get(row["name"])
    return [Row(**row) for row in found]
