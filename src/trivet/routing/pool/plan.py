"""The triangle: hold two of quality, cost and time to first token, and the third is made as small as it can be.

A plan is a weight: a target is worth its estimated quality minus that weight times its price, where the price is the
leg that is minimised, in dollars or seconds. Larger weights save more; they are tried in that order, from "all to the
reference" on, and a floor under quality ends the walk where it no longer holds (`promise.py`).

Not here: estimates for a text, calls, headers. Invariants: `Plan.choose` is floats only, no numpy; what cannot be held
is a value that says what can be had, never a plan that does not hold.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivet.routing.pool.logistic import Floats, Normal
from trivet.routing.pool.promise import STEPS, Held, more, walk

MISFIT = 0.1
"""By how much the difference of two estimates, of models never tried on the same prompts, may be wrong where it decides
(a standard deviation): a few skills do not tell all, and choices are made where they differ."""


TIMES = (2, 5, 10)
"""So many times the labels that there are, of which a forecast tells."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a policy wants: the legs it holds, and the one it makes small (or quality: large)."""

    aim: Literal["cost", "latency", "quality"] = "cost"
    quality: float | None = None
    """Floor: a share of the reference's, in (0, 1]."""
    reference: str = ""
    """Whose quality; empty: the best target's, as estimated."""
    cost_usd: float | None = None
    """Ceiling: what a request costs on average."""
    ttft_s: float | None = None
    """Ceiling: seconds to the first token..."""
    percentile: float = 0.95
    """... of this share of the requests."""
    confidence: float = 0.9


class Evidence(NamedTuple):
    """What is known of some prompts, n of them, for targets in the order of `names`."""

    names: tuple[str, ...]
    estimates: Floats
    """[n, targets]: the chance to be right, by weights that did not see these labels."""
    costs: Floats
    """[n, targets] in USD; NaN: unknown."""
    scores: Floats
    """[n, targets]; NaN: not labelled, so that the estimate stands for it, with its doubt."""
    ttfts: Mapping[str, Sequence[float]] = {}
    """Measured seconds to the first token, of each target; without: unknown."""
    groups: NDArray[np.int64] | None = None
    """[n], domains, where traffic of other domains is to be covered too."""
    fresh: int | None = None
    """Prompts that it is to hold on; None: on average over all that may come."""
    doubts: tuple[Normal, ...] | None = None
    """Of each target, what its estimates come from; None: prompts without all scores are left out."""
    slopes: Floats | None = None
    """[targets, n, d]: how an estimate changes with what it comes from."""


class Point(NamedTuple):
    """What a weight gives."""

    weight: float
    quality: float
    """Of the reference's, as estimated."""
    at_least: float
    """Its lower bound; -inf where it is not held."""
    cost_usd: float
    ttft_s: float
    """Mean; NaN where unknown."""
    late: float
    """Share of requests whose first token is later than `ttft_s` of the ask; 0 where none is asked for."""
    shares: tuple[float, ...]
    """Of the requests, that each target gets."""


class Plan(NamedTuple):
    """How to choose."""

    names: tuple[str, ...]
    reference: int
    """Its place among the names."""
    weight: float
    """Of the price; -1: all to the reference."""
    prices: tuple[float, ...]
    """Mean price of each target: USD or seconds."""
    point: Point
    """What it gives, as estimated."""
    labels: int
    """What the promise rests on."""
    curve: tuple[Point, ...]
    """All that was tried."""

    def choose(self, estimates: Sequence[float], prices: Sequence[float] | None = None) -> list[int]:
        """Order the targets for a request, best first: places in `names`.

        Args:
            estimates: the chance to be right, of each target.
            prices: of this request, if known; else those on average.
        """
        paid = self.prices if prices is None else prices
        weight = self.weight
        worth = [p - weight * c for p, c in zip(estimates, paid, strict=True)]
        order = sorted(range(len(worth)), key=worth.__getitem__, reverse=True)  # which leaves equals as they stand
        if self.weight < 0.0:
            order = [self.reference, *(i for i in sorted(order, key=lambda i: -estimates[i]) if i != self.reference)]
        return order


class More(NamedTuple):
    """What could be had with more labels."""

    labels: int
    point: Point
    """Its `at_least` is of the labels that there are."""


class Refused(NamedTuple):
    """An ask that cannot be met, and what can."""

    why: str
    curve: tuple[Point, ...]
    """What can be had: no point has another that is better in quality and in the price."""


def plan(ask: Ask, evidence: Evidence) -> Plan | Refused:
    """Find the weight that holds what is asked for and is best in what is aimed at.

    Raises:
        ValueError: no target, an unknown reference, or numbers out of range.
    """
    reference = _reference(ask, evidence)
    prices, why = _prices(ask, evidence)
    if why:
        return Refused(why, ())
    weights = path(evidence.estimates, prices)
    chosen = choices(evidence.estimates, prices, weights, reference)
    held = _held(ask, evidence, chosen, reference)
    points = [
        _point(ask, evidence, w, row, reference, held, k)
        for k, (w, row) in enumerate(zip(weights, chosen, strict=True))
    ]
    last = len(points) - 1 if ask.quality is None else held.step
    fits = [
        point
        for k, point in enumerate(points)
        if k <= last
        and (ask.cost_usd is None or point.cost_usd <= ask.cost_usd)
        and (ask.ttft_s is None or point.late <= 1.0 - ask.percentile)
    ]
    curve = tuple(points)
    if not fits:
        return Refused(_why(ask, points[: last + 1], held), tuple(_hull(points, ask)))
    best = min(fits, key=lambda p: _aimed(ask, p))
    mean = tuple(float(c) for c in np.nanmean(prices, axis=0))
    return Plan(evidence.names, reference, best.weight, mean, best, held.labels, curve)


def forecast(ask: Ask, evidence: Evidence, found: Plan) -> tuple[More, ...]:
    """Say what more labels would buy, if they were like those there are; nothing where estimates stand for labels."""
    prices, _ = _prices(ask, evidence)
    rows = np.flatnonzero(~np.isnan(evidence.scores).any(axis=1))
    if ask.quality is None or not len(rows) or (len(rows) < len(evidence.scores) and evidence.doubts is not None):
        return ()
    chosen = choices(evidence.estimates, prices, np.array([p.weight for p in found.curve]), found.reference)
    gains, base, groups = _gained(evidence, chosen, rows, found.reference)
    made = []
    for times in TIMES:
        step = more(
            gains,
            base,
            quality=ask.quality,
            confidence=ask.confidence,
            labels=times * len(rows),
            groups=groups,
            fresh=evidence.fresh,
        )
        made.append(More(times * len(rows), min(found.curve[: step + 1], key=lambda p: _aimed(ask, p))))
    return tuple(made)


def path(estimates: Floats, prices: Floats, *, steps: int = STEPS) -> Floats:
    """Give the weights to try: -1 (all to the reference), 0 (the best, at any price), then ever larger ones."""
    gain = float(np.abs(estimates - estimates.mean(axis=1, keepdims=True)).max(initial=0.0))
    apart = np.ptp(np.nanmean(prices, axis=0)) if prices.size else 0.0
    if apart <= 0.0 or gain <= 0.0:
        return np.array([-1.0, 0.0])
    return np.concatenate([[-1.0, 0.0], np.geomspace(1e-3, 30.0, steps - 2) * gain / apart])


def choices(estimates: Floats, prices: Floats, weights: Floats, reference: int) -> NDArray[np.int64]:
    """Say which target each prompt goes to at each weight: [weights, n]."""
    made = np.empty((len(weights), len(estimates)), np.int64)
    for k, weight in enumerate(weights):
        made[k] = reference if weight < 0 else np.argmax(estimates - weight * prices, axis=1)
    return made


def _reference(ask: Ask, evidence: Evidence) -> int:
    if not evidence.names:
        raise ValueError("The pool is empty. Name at least one target.")
    if ask.quality is not None and not 0.0 < ask.quality <= 1.0:
        raise ValueError(f"quality is {ask.quality}, and must be above 0 and at most 1: a share of the reference's.")
    if ask.reference and ask.reference not in evidence.names:
        raise ValueError(f"{ask.reference!r} is not in the pool: {', '.join(evidence.names)}.")
    if ask.reference:
        return evidence.names.index(ask.reference)
    return int(np.argmax(evidence.estimates.mean(axis=0)))


def _prices(ask: Ask, evidence: Evidence) -> tuple[Floats, str]:
    timed = [name for name in evidence.names if not len(evidence.ttfts.get(name, ()))]
    if (ask.aim == "latency" or ask.ttft_s is not None) and timed:
        return evidence.costs, f"The time to the first token of {', '.join(timed)} was not measured. Send some traffic."
    if ask.aim == "latency":
        each = [float(np.mean(evidence.ttfts[name])) for name in evidence.names]
        return np.tile(each, (len(evidence.estimates), 1)), ""
    unpriced = [name for i, name in enumerate(evidence.names) if np.isnan(evidence.costs[:, i]).any()]
    if unpriced:
        return evidence.costs, f"What {', '.join(unpriced)} costs is not known. Add `cost_usd` to its outcomes."
    return evidence.costs, ""


def _held(ask: Ask, evidence: Evidence, chosen: NDArray[np.int64], reference: int) -> Held:
    known = ~np.isnan(evidence.scores)
    used = known.all(axis=1) if evidence.doubts is None else np.ones(len(known), bool)
    rows = np.flatnonzero(used)
    gains, base, groups = _gained(evidence, chosen, rows, reference)
    held = walk(
        gains,
        base,
        quality=ask.quality or 0.0,
        confidence=ask.confidence,
        groups=groups,
        fresh=evidence.fresh,
        doubt=_doubt(evidence, chosen[:, rows], rows, reference, ask.quality or 0.0),
    )
    return held._replace(labels=int(known.all(axis=1).sum()))


def _gained(
    evidence: Evidence, chosen: NDArray[np.int64], rows: NDArray[np.int64], reference: int
) -> tuple[Floats, Floats, Floats | None]:
    """Give what each step's choices score more than the reference on some prompts [steps, n], its scores, groups."""
    scores = np.where(np.isnan(evidence.scores), evidence.estimates, evidence.scores)[rows]
    base, at = scores[:, reference], np.arange(len(rows))
    gains = np.array([scores[at, row] - base for row in chosen[:, rows]]).reshape(len(chosen), -1)
    return gains, base, None if evidence.groups is None else evidence.groups[rows].astype(float)


def _doubt(
    evidence: Evidence, picked: NDArray[np.int64], rows: NDArray[np.int64], reference: int, quality: float
) -> Floats | None:
    """Give the variance of each step's mean that comes from estimates that stand for scores."""
    if evidence.doubts is None or evidence.slopes is None:
        return None
    doubt = np.zeros(len(picked))
    for target, of in enumerate(evidence.doubts):
        slopes = np.where(np.isnan(evidence.scores[rows, target])[:, None], evidence.slopes[target][rows], 0.0)
        towards = (picked == target) @ slopes
        if target == reference:
            towards = towards - quality * slopes.sum(axis=0)
        towards = towards / max(1, len(rows))
        doubt += np.einsum("ij,jk,ik->i", towards, of.covariance, towards)
    guessed = np.isnan(evidence.scores[rows])
    at = np.arange(len(rows))
    moved = np.array([((row != reference) & (guessed[at, row] | guessed[:, reference])).mean() for row in picked])
    return doubt + (MISFIT * moved) ** 2


def _point(
    ask: Ask,
    evidence: Evidence,
    weight: float,
    row: NDArray[np.int64],
    reference: int,
    held: Held,
    step: int,
) -> Point:
    at, n = np.arange(len(row)), max(1, len(row))
    shares = np.bincount(row, minlength=len(evidence.names)) / n
    base = float(evidence.estimates[:, reference].mean())
    timed = bool(evidence.ttfts) and all(len(evidence.ttfts.get(name, ())) for name in evidence.names)
    ttft, late = float("nan"), 0.0
    if timed:
        ttft = float(sum(s * np.mean(evidence.ttfts[name]) for s, name in zip(shares, evidence.names, strict=True)))
        if ask.ttft_s is not None:
            late = float(
                sum(s * _late(evidence.ttfts[name], ask.ttft_s) for s, name in zip(shares, evidence.names, strict=True))
            )
    return Point(
        weight=float(weight),
        quality=float(evidence.estimates[at, row].mean()) / base if base > 0 else 1.0,
        at_least=held.at_least if step == held.step else (ask.quality or 0.0) if step < held.step else float("-inf"),
        cost_usd=float(evidence.costs[at, row].mean()),
        ttft_s=ttft,
        late=late,
        shares=tuple(float(s) for s in shares),
    )


def _late(seconds: Sequence[float], most: float) -> float:
    """Give the share that is later, with half a late one added: ten quick answers prove no 95 %."""
    return (sum(s > most for s in seconds) + 0.5) / (len(seconds) + 1.0)


def _aimed(ask: Ask, point: Point) -> float:
    return {"cost": point.cost_usd, "latency": point.ttft_s, "quality": -point.quality}[ask.aim]


def _why(ask: Ask, points: Sequence[Point], held: Held) -> str:
    said = []
    if ask.quality is not None:
        said.append(
            f"quality of {ask.quality:g} of the reference's, confidence {ask.confidence:g} ({held.labels} labels)"
        )
    if ask.cost_usd is not None:
        said.append(f"at most ${ask.cost_usd:g} a request (the least here is ${min(p.cost_usd for p in points):.3g})")
    if ask.ttft_s is not None:
        said.append(
            f"{ask.percentile:.0%} of first tokens within {ask.ttft_s:g} s (the best here is "
            f"{1 - min(p.late for p in points):.0%})"
        )
    return f"These cannot be held together: {'; '.join(said)}. Loosen one, add a target, or add labels."


def _hull(points: Sequence[Point], ask: Ask) -> list[Point]:
    """Keep the points that no other beats in quality and price."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ttft_s if ask.aim == "latency" else p.cost_usd, -p.quality)):
        if not kept or point.quality > kept[-1].quality:
            kept.append(point)
    return kept
