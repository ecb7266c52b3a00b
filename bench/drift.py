"""How soon alarms notice what they are for, and how often they are false: a part of `bench.online`.

A small model is swapped for a worse one without a word, or a rate falls by a known size. Not here: what is done then.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from bench.traffic import PairOf, Row, Traffic
from numpy.typing import NDArray

from trivet.routing.online.drift import FALSE_EVERY, Alarm, Watch, rank, reference
from trivet.routing.pool.logistic import Floats

BEFORE = 8000
"""Requests before a swap."""
QUIET = 100_000
"""Requests without one."""
MOST_WAITED = 5000
"""Requests after a swap that are looked at."""
SHARES = (1.0, 0.2, 0.05)
"""Of requests whose agreement is known."""


class Signal(NamedTuple):
    """What is looked at."""

    name: str
    share: float
    """Of the requests."""
    values: Callable[[Traffic, int], Floats]
    """Of a model, by prompt."""
    served: bool = False
    """Whether it is of requests that the small model serves."""


def _rank(traffic: Traffic, model: int) -> Floats:
    ordered = sorted(traffic.lengths[:, 0].tolist())
    return np.array([rank(ordered, x) for x in traffic.lengths[:, model]])


def _spread(traffic: Traffic, model: int) -> Floats:
    return np.abs(2.0 * _rank(traffic, model) - 1.0)


def _agree(traffic: Traffic, model: int) -> Floats:
    return traffic.agree[:, model]


SIGNALS = (
    *(Signal(f"agreement, {share:.0%} of requests", share, _agree) for share in SHARES),
    Signal("length, where served", 1.0, _rank, served=True),
    Signal("spread of lengths, where served", 1.0, _spread, served=True),
)


def swaps(traffic: Traffic, pair: PairOf, seed: int) -> Iterator[Row]:
    """Swap the small model, which serves half of the requests, and let each signal run without a swap."""
    gains = traffic.chances @ np.array([1.0, -1.0])
    small = gains >= np.median(gains)
    for which, worse in enumerate((pair.small, *pair.worse)):
        model = which + 1 if which else 0
        lost = traffic.scores[:, 0] - traffic.scores[:, model]
        told = {"pair": pair.name, "seed": seed, "swapped": worse, "points": float(lost[small].mean() * 100)}
        firsts: dict[str, int | None] = {}
        for number, signal in enumerate(SIGNALS if pair.worse else ()):
            rng = np.random.default_rng([seed, 1, which, number])
            old, new = signal.values(traffic, 0), signal.values(traffic, model)
            row = told | {"signal": signal.name, "served": float(small.mean())}
            watch = Watch(towards="both" if signal.served else "down", collect=1000 if signal.share == 1.0 else 300)
            served = small if signal.served else None
            if not which:
                row["false"] = sum(noticed for _, noticed in run(watch, old, signal.share, served, QUIET, rng))
            else:
                early = any(noticed for _, noticed in run(watch, old, signal.share, served, BEFORE, rng))
                after = run(watch, new, signal.share, served, MOST_WAITED, rng)
                firsts[signal.name] = next((at for at, noticed in after if noticed), None)
                mean = (small if signal.served else np.ones(len(old), bool)).nonzero()
                row |= {"delay": firsts[signal.name], "early": early, "was": float(old[mean].mean())}
                row["is"] = float(new[mean].mean())
            yield row
        if which:
            soon = [at for name, at in firsts.items() if at and name != SIGNALS[0].name and name != SIGNALS[2].name]
            yield told | {"signal": "the first of 20 %, length and spread", "delay": min(soon, default=None)}


def run(
    watch: Watch, values: Floats, share: float, served: NDArray[np.bool_] | None, n: int, rng: np.random.Generator
) -> Iterator[tuple[int, bool]]:
    """Draw requests; gives the number of each that had the signal, and whether it raised the alarm."""
    rows = rng.integers(0, len(values), n)
    had = served[rows] if served is not None else rng.random(n) < share
    listed = values.tolist()
    for at in np.flatnonzero(had).tolist():
        yield at + 1, watch.take(listed[rows[at]]) is not None


def delays(runs: int) -> Iterator[Row]:
    """Say after how many values a fall of a rate is noticed, by how well the reference is known."""
    for was in (0.5, 0.7, 0.9):
        for drop in (0.05, 0.1, 0.15, 0.2, 0.3):
            now = was - drop
            entropy = now * math.log(now / was) + (1.0 - now) * math.log((1.0 - now) / (1.0 - was))
            row: Row = {"was": was, "drop": drop, "limit": math.log(FALSE_EVERY) / entropy}
            for known in (300, 1000, 8000):
                took = []
                for seed in range(runs):
                    rng = np.random.default_rng([seed, known])
                    alarm = Alarm(reference((rng.random(known) < was).astype(float).tolist()))
                    for value in (rng.random(1000) < was).astype(float).tolist():
                        alarm.take(value)
                    later = (rng.random(MOST_WAITED) < now).astype(float).tolist()
                    took.append(next((i for i, value in enumerate(later, start=1) if alarm.take(value)), MOST_WAITED))
                row[f"of {known}"] = np.quantile(took, (0.5, 0.9)).tolist()
            yield row


def false_alarms(runs: int) -> Row:
    """Count alarms in runs of 100,000 yes/no without a change, of a watch that gathers its own reference."""
    counts = []
    for seed in range(runs):
        rng, watch = np.random.default_rng([seed, 5]), Watch()
        values = (rng.random(QUIET) < (0.5, 0.7, 0.9)[seed % 3]).astype(float).tolist()
        counts.append(sum(watch.take(value) is not None for value in values))
    return {"runs": runs, "values": QUIET, "alarms": sum(counts), "most": max(counts)}
