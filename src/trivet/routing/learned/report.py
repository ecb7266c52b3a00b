"""What training learned, told from prompts that were left out: how true the chances are, what an order would win.

For each model, calibration; for some pairs, APGR with its interval, and what it was with half of the labels, so that
one can see what twice as many would bring. The error of what is learned falls with the root of the labels, so the next
doubling brings about 0.7 times what the last one did.

Not here: outcomes that were not trained on (`trivet route eval`), which are the better trial.
Invariant: every number is of predictions by weights that did not see the prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.learned import heads
from trivet.routing.learned.calibrate import Numbers, PairRule, View, pair_rule
from trivet.routing.learned.curve import apgr, interval
from trivet.routing.learned.data import Outcomes
from trivet.routing.learned.learned import Learned

BINS = 10
"""Of equally many predictions, for the calibration error."""

PAIRS = 6
"""That are told of where none is asked for."""

FEW = 100
"""Prompts of a pair, below which halves of them say nothing."""

_NEXT = 2**-0.5
"""What the next doubling of the labels brings, of what the last one did, where errors fall with their root."""


class ModelReport(NamedTuple):
    """What is known of a model."""

    name: str
    labels: int
    score: float
    """Mean."""
    brier: float
    """Of its chances, on prompts left out at random; that of knowing the mean alone beside it."""
    brier_of_mean: float
    error: float
    """Expected calibration error: how far chances are from what came true, on average over `BINS`."""
    error_unseen: float | None
    """With the whole domain left out; None: there was only one."""


class PairReport(NamedTuple):
    """What is known of a pair."""

    small: str
    large: str
    prompts: int
    """That both answered."""
    gap: float
    """Mean score of the large model less that of the small one."""
    order: str
    """What was chosen: `gain`, or `gain, with ease`."""
    seen: float | None
    """APGR, on prompts left out at random; None: both did equally well."""
    seen_interval: tuple[float, float] | None
    unseen: float | None
    """With their domains left out."""
    unseen_interval: tuple[float, float] | None
    halved: float | None
    """`seen` with half of the pair's labels; None: too few for that."""
    doubled: float | None
    """`seen` with twice as many, if it goes on like that."""
    p_small: float | None
    """APGR of ordering by the small model's chance alone, on prompts left out at random: what was not chosen."""


def models(router: Learned) -> list[ModelReport]:
    """Tell of each model, those with most labels first."""
    e = router.evidence
    told = []
    for i, name in enumerate(router.models):
        at = np.flatnonzero(e.model == i)
        away = at[e.regional[at] == 1]
        scores = e.score[at].astype(np.float64)
        chances = router.curves[i].at(e.seen[at].astype(np.float64))
        unseen = router.curves[i].at(e.unseen[away].astype(np.float64))
        told.append(
            ModelReport(
                name=name,
                labels=len(at),
                score=float(scores.mean()),
                brier=float(((chances - scores) ** 2).mean()),
                brier_of_mean=float(scores.var()),
                error=calibration_error(chances, scores),
                error_unseen=calibration_error(unseen, e.score[away].astype(np.float64)) if len(away) else None,
            )
        )
    return sorted(told, key=lambda m: (-m.labels, m.name))


def calibration_error(chances: Numbers, scores: Numbers) -> float:
    """Give how far the mean of chances is from that of scores, on average over bins of equally many chances."""
    parts = np.array_split(np.argsort(chances, kind="stable"), min(BINS, len(chances)))
    return float(sum(len(p) * abs(chances[p].mean() - scores[p].mean()) for p in parts) / len(chances))


def usual_pairs(router: Learned) -> list[tuple[str, str]]:
    """Choose pairs to tell of: those with most prompts in common, then those that are furthest apart; the worse first.

    Each model is in one pair as long as that gives any.
    """
    e, n = router.evidence, len(router.models)
    scores = np.full((len(e.domain), n), np.nan)
    scores[e.prompt, e.model] = e.score
    there = ~np.isnan(scores)
    common = there.T.astype(np.float32) @ there.astype(np.float32)
    sums = np.where(there, scores, 0.0).T @ there.astype(np.float64)  # [i, j]: of i, where j answered too
    gaps = (sums - sums.T) / np.maximum(common, 1)
    ranked = sorted(
        ((int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(common >= heads.FOLDS, 1)), strict=True)),
        key=lambda at: (-common[at], -abs(gaps[at])),
    )
    used: set[int] = set()
    first = []
    for at in ranked:
        if not used & set(at):
            first.append(at)
            used |= set(at)
    rest = [at for at in ranked if at not in set(first)]
    picked = (first + rest)[:PAIRS]
    ordered = [(i, j) if gaps[i, j] <= 0 else (j, i) for i, j in picked]
    return [(router.models[small], router.models[large]) for small, large in ordered]


def pairs(router: Learned, outcomes: Outcomes, asked: Sequence[tuple[str, str]]) -> list[PairReport]:
    """Tell of pairs (small, large); `outcomes` are those of the training.

    Raises:
        ConfigError: a model is not known, or no prompt was answered by both of a pair.
    """
    rows = router.space.dense(outcomes.prompts.texts) if asked else np.zeros((0, 0), np.float32)
    scores = outcomes.matrix()
    regions = heads.regions(rows, outcomes.prompts.domains, seed=router.about.seed) if asked else np.zeros(0, np.int64)
    return [_pair(router, pair, rows, scores[:, [router.place(name) for name in pair]], regions) for pair in asked]


def _pair(
    router: Learned, pair: tuple[str, str], rows: NDArray[np.float32], scores: Numbers, regions: NDArray[np.int64]
) -> PairReport:
    seen, unseen = router.common(*pair)
    if not len(seen.scores):
        raise ConfigError(f"No prompt was answered by both {pair[0]} and {pair[1]}. Name another pair.")
    rule = router.rule(*pair)
    second = _second_half(rows, scores, regions, seed=router.about.seed)
    whole = rule.apgr_seen
    return PairReport(
        small=pair[0],
        large=pair[1],
        prompts=len(seen.scores),
        gap=float((seen.scores[:, 1] - seen.scores[:, 0]).mean()),
        order="gain, with ease" if rule.eased else "gain",
        seen=whole,
        seen_interval=_interval(rule, seen),
        unseen=rule.apgr_unseen,
        unseen_interval=_interval(rule, unseen),
        halved=None if second is None or whole is None else whole - second,
        doubled=None if second is None or whole is None else whole + _NEXT * second,
        p_small=apgr(rule.small.at(seen.sums[:, 0], seen.ease), *seen.scores.T),
    )


def _interval(rule: PairRule, view: View) -> tuple[float, float] | None:
    if len(view.scores) < 2:
        return None
    return interval(rule.order(view.sums, view.ease), *view.scores.T)


def _second_half(rows: NDArray[np.float32], scores: Numbers, regions: NDArray[np.int64], *, seed: int) -> float | None:
    """Say by how much all labels of a pair give a better APGR on left-out prompts than halves of them do, on average.

    Both are of the two models' labels alone, without the ease that all models share.
    """
    both = np.flatnonzero(np.isfinite(scores).all(1))
    if len(both) < FEW:
        return None
    half = np.random.default_rng(seed).permutation(len(both)) % 2
    whole, *halves = (
        _alone(rows[at], scores[at], regions[at], seed=seed) for at in (both, both[half == 0], both[half == 1])
    )
    known = [value for value in halves if value is not None]
    return None if whole is None or not known else whole - float(np.mean(known))


def _alone(rows: NDArray[np.float32], scores: Numbers, regions: NDArray[np.int64], *, seed: int) -> float | None:
    fitted = heads.fit(rows, scores, regions=regions, seed=seed)
    view = View(fitted.seen, np.zeros(len(rows)), scores)
    return pair_rule(view, View(view.sums[:0], view.ease[:0], view.scores[:0])).apgr_seen
