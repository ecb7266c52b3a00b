"""What the labels say, for people: counts and agreement, an export that `trivet route train` reads, and a purge.

Not here: writing labels (`file.py`), printing (`cli/route/labels.py`).
Invariants: one export has the prompts of one tenant; what is purged is overwritten in the file.
"""

import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from trivet.errors import ConfigError
from trivet.labels.file import SOURCES, connect
from trivet.ledger.money import usd
from trivet.types import Nanos

_Z = 1.959964
"""Of the normal distribution, for intervals of 95 %."""

_FIRST = {"feedback": 0, "judge": 1, "shadow": 2}
"""Which source is believed, where there are several: who got the answer, then a model, then a comparison of words."""

_KINDS = (".parquet", ".jsonl.gz", ".csv")
"""Of files beside which an export would not be read, or be read wrong (`routing/learned/data.py`)."""

_encode = msgspec.json.Encoder().encode


class Scores(NamedTuple):
    """The labels of one target, from one source."""

    policy: str
    target: str
    source: str
    reference: bool
    """What the other target's answers were held against."""
    labels: int
    mean: float
    low: float
    high: float
    """Wilson's interval of 95 % (1927), as if each score were right or wrong; it is wider than need be for others."""


class Shadowed(NamedTuple):
    """How a policy stands."""

    policy: str
    kept: int
    """Requests."""
    compared: int
    agreed: float | None
    """Share of shadows where both targets said the same; None: there was none."""
    low: float
    high: float
    spent_today_nanos: Nanos
    """For shadows; today is UTC's."""
    spent_nanos: Nanos


class Stats(NamedTuple):
    """All of it."""

    policies: list[Shadowed]
    scores: list[Scores]


class Exported(NamedTuple):
    """What was written."""

    prompts: int
    outcomes: int


_STATS = """SELECT a.policy, l.target, l.source, l.reference, count(*), sum(l.score)
    FROM labels l JOIN asked a USING (id)
    WHERE (:tenant IS NULL OR a.tenant = :tenant) AND a.expires_ns > :now
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 4, 2, 3"""
_KEPT = """SELECT policy, count(*) FROM asked
    WHERE (:tenant IS NULL OR tenant = :tenant) AND expires_ns > :now GROUP BY 1"""
_SPENT = "SELECT policy, sum(nanos * (day = :day)), sum(nanos) FROM spent WHERE policy <> '' GROUP BY 1"
_TENANTS = "SELECT DISTINCT a.tenant FROM asked a JOIN labels l USING (id) WHERE a.expires_ns > :now ORDER BY 1"
_EXPORT = """SELECT a.id, a.policy, a.prompt, a.domain, l.target, l.source, l.score, l.propensity, l.cost_nanos
    FROM asked a JOIN labels l USING (id)
    WHERE a.tenant = :tenant AND (:policy IS NULL OR a.policy = :policy) AND a.expires_ns > :now
    ORDER BY a.seq, l.target"""
_PURGE = """DELETE FROM asked WHERE (:tenant IS NULL OR tenant = :tenant) AND (:policy IS NULL OR policy = :policy)
    AND (:id IS NULL OR id = :id) AND (:before IS NULL OR at_ns < :before)"""


def stats(path: Path, *, tenant: str | None, now_ns: int) -> Stats:
    """Count the labels of the file `path`, of one tenant or of all.

    Raises:
        ConfigError: there is no file, or it cannot be read.
    """
    with _reading(path) as db:
        scores = [
            Scores(policy, target, source, bool(reference), n, total / n, *wilson(total, n))
            for policy, target, source, reference, n, total in db.execute(_STATS, {"tenant": tenant, "now": now_ns})
        ]
        kept = dict(db.execute(_KEPT, {"tenant": tenant, "now": now_ns}).fetchall())
        day = now_ns // 86_400_000_000_000
        spent = {policy: (today, ever) for policy, today, ever in db.execute(_SPENT, {"day": day})}
    policies = []
    for policy in sorted({*kept, *spent}):
        told = [s for s in scores if s.policy == policy and s.source != "feedback" and not s.reference]
        n, agreed = sum(s.labels for s in told), sum(s.mean * s.labels for s in told)
        today, ever = spent.get(policy, (0, 0))
        share = agreed / n if n else None
        policies.append(
            Shadowed(policy, kept.get(policy, 0), n, share, *wilson(agreed, n), Nanos(today or 0), Nanos(ever or 0))
        )
    return Stats(policies, scores)


def wilson(total: float, n: int) -> tuple[float, float]:
    """Give Wilson's interval of 95 % for the mean of `n` scores in [0, 1] that sum to `total`; (0, 1) without any."""
    if not n:
        return 0.0, 1.0
    mean, z2 = total / n, _Z * _Z
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def export(
    path: Path,
    folder: Path,
    *,
    tenant: str | None,
    policy: str | None,
    sources: Collection[str] = SOURCES,
    now_ns: int,
) -> Exported:
    """Write `prompts.jsonl` and `outcomes.jsonl`, for their owner alone: one outcome for each prompt and target.

    Args:
        tenant: whose; it may be left out where only one has labels.
        sources: of `SOURCES`, those that count.
    Raises:
        ConfigError: there are labels of several tenants, nothing to read, or the folder cannot be written.
    """
    with _reading(path) as db:
        there = [name for (name,) in db.execute(_TENANTS, {"now": now_ns})]
        if tenant is None and len(there) > 1:
            raise ConfigError(
                f"There are labels of {len(there)} tenants: {', '.join(map(repr, there[:12]))}. A router keeps words "
                "of the prompts that it was trained on, so they are not put together. Choose one with --tenant."
            )
        tenant = there[0] if tenant is None and there else tenant
        rows = db.execute(_EXPORT, {"tenant": tenant, "policy": policy, "now": now_ns})
        prompts: list[bytes] = []
        outcomes: dict[tuple[str, str], tuple[int, bytes]] = {}
        last = ""
        for id_, named, prompt, domain, target, source, score, propensity, cost in rows:
            if source not in sources:
                continue
            if id_ != last:
                prompts.append(_encode({"pid": id_, "prompt": prompt, "ds": named, "domain": domain}))
                last = id_
            row: dict[str, object] = {"pid": id_, "model": target, "score": score}
            if cost is not None:
                row["cost_usd"] = Raw(usd(Nanos(cost)).encode())
            before = outcomes.get((id_, target))
            if before is None or _FIRST[source] < before[0]:
                told = _encode(row | {"source": source, "propensity": propensity})
                outcomes[id_, target] = _FIRST[source], told
    if prompts:
        _write(folder, {"prompts": prompts, "outcomes": [row for _, row in outcomes.values()]})
    return Exported(len(prompts), len(outcomes))


def purge(
    path: Path, *, tenant: str | None, policy: str | None, id_: str | None, before_ns: int | None
) -> tuple[int, bool]:
    """Delete requests with their prompts and labels; gives how many, and whether nothing of them is in the file's log.

    None of the arguments: all of them, and a damaged file that was set aside. What was spent on shadows stays.

    Raises:
        ConfigError: there is no file, or it cannot be written.
    """
    if not path.exists():
        raise _nothing(path)
    try:
        with closing(connect(path)) as db:
            chosen = {"tenant": tenant, "policy": policy, "id": id_, "before": before_ns}
            gone = db.execute(_PURGE, chosen).rowcount
            clean = _is_emptied(db)
        if all(word is None for word in chosen.values()):
            path.with_suffix(".damaged").unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"The labels in {path} cannot be purged: {error}.") from error
    return gone, clean


def _is_emptied(db: sqlite3.Connection) -> bool:
    """Have the log of the file written into it and emptied: what was deleted is still in there."""
    busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # waits for others, as long as writing does
    return not busy


def _write(folder: Path, files: Mapping[str, list[bytes]]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, rows in files.items():
            for kind in _KINDS:
                if (other := folder / f"{name}{kind}").exists():
                    raise ConfigError(f"{other} is there already, and would be mixed up with this. Choose another DIR.")
            fresh = folder / f"{name}.jsonl.part"
            fresh.touch(0o600)
            fresh.write_bytes(b"".join(row + b"\n" for row in rows))
            fresh.replace(folder / f"{name}.jsonl")
    except OSError as error:
        raise ConfigError(f"Cannot write to {folder}: {error.strerror or error}.") from error


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise _nothing(path)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            db.execute("BEGIN")  # all questions see the same
            yield db
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise ConfigError(f"The labels in {path} cannot be read: {error}.") from error


def _nothing(path: Path) -> ConfigError:
    return ConfigError(f"No labels are kept: there is no {path}. Write `labels.keep = true` in a policy.")


def told(stats: Stats) -> dict[str, Any]:
    """Write it for JSON."""
    return {
        "policies": [row._asdict() for row in stats.policies],
        "scores": [row._asdict() for row in stats.scores],
    }
