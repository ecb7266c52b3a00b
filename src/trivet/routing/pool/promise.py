"""The promise: the furthest one may save so that quality stays at its floor, with a confidence, on fresh requests.

A way to save is a path of ever bolder choices, from "all to the reference model" on. Each step is tested on labelled
prompts, in that order, and the first that fails ends the walk (fixed-sequence testing: one error probability for all,
Bauer 1991; Angelopoulos et al. 2021, "Learn then test"). What is tested is a mean of differences on the same prompts,
which varies much less than two means.

What it holds for: requests that come from where the labels came from. For others it can say nothing; labels given with
groups (domains) are tested as if whole groups had been drawn, so that traffic of other groups of the same kind is
covered, at a price.

Not here: which way to save (`plan.py`, `pool.py`). Invariants: the first step is always held; a stricter floor or more
confidence never goes further; equal labels give equal steps.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.pool.logistic import Floats

STEPS = 50
"""Of a path: finer ones fail earlier by luck, coarser ones stop short. 20 to 100 do alike."""

WORST = 0.5
"""Labels at their worst that are added to those there are. Where few were lost a normal bound is too sure: with a
quarter of one, 15 % of the draws of 100 labels missed a floor of 98 %."""

LEAST_FRESH = 200
"""Prompts that a promise is for, at least: of ten prompts nothing can be promised."""

FOREIGN = 4.0
"""So many times fewer domains than the labels have are thought to be in the traffic: few vary more on average. With 2,
floors on domains that were not seen were missed in up to 42 % of 12 splits."""

_FEWEST = 10
"""Labels below which no step is tested."""


class Held(NamedTuple):
    """What can be promised."""

    step: int
    """The furthest step that is held; 0 is all to the reference."""
    quality: float
    """Of the reference's, as estimated at that step; 1.0 at step 0."""
    at_least: float
    """The lower bound of that."""
    labels: int
    """How many it rests on."""


def walk(
    gains: Floats,
    reference: Floats,
    *,
    quality: float,
    confidence: float,
    groups: Floats | None = None,
    doubt: Floats | None = None,
    fresh: int | None = None,
) -> Held:
    """Find the furthest step at which quality is at least a share of the reference's.

    Args:
        gains: [steps, n]: the chosen model's score minus the reference's, on each labelled prompt; step 0 is all 0.
        reference: [n], the reference's scores.
        quality: the share, in [0, 1].
        confidence: that it holds, in [0.5, 1).
        groups: [n], of a domain: equal numbers are of one. None: each prompt was drawn by itself.
        fresh: prompts on which it is to hold, themselves a draw; None: on average over all that may come.
        doubt: [steps], a variance of each mean that the labels do not show: where scores are estimates.

    Raises:
        ValueError: not in these ranges, or a score is NaN.
    """
    _check(quality, confidence)
    if not (np.isfinite(gains).all() and np.isfinite(reference).all()):
        raise ValueError("Scores that a promise rests on are numbers; one is NaN.")
    n = len(reference)
    if n < _FEWEST:
        return Held(0, 1.0, 1.0, n)
    over, error = _bounds(gains, reference, quality, groups, fresh)
    if doubt is not None:
        error = np.sqrt(error**2 + doubt)
    low = over - NormalDist().inv_cdf(confidence) * error
    failed = np.flatnonzero(low[1:] < 0)
    step = int(failed[0]) if len(failed) else len(low) - 1
    return _told(step, gains, low, float(reference.mean()), quality)


def more(
    gains: Floats,
    reference: Floats,
    *,
    quality: float,
    confidence: float,
    labels: int,
    groups: Floats | None = None,
    fresh: int | None = None,
) -> int:
    """Say how far one could go with that many labels, if they were like those there are: a step; see `walk`.

    Where groups are given, more labels are of more groups in the same measure.
    """
    _check(quality, confidence)
    if len(reference) < _FEWEST or labels < _FEWEST:
        return 0
    over, error = _bounds(gains, reference, quality, groups, fresh, labels=labels)
    failed = np.flatnonzero((over - NormalDist().inv_cdf(confidence) * error)[1:] < 0)
    return int(failed[0]) if len(failed) else len(over) - 1


def _check(quality: float, confidence: float) -> None:
    if not 0.0 <= quality <= 1.0:
        raise ValueError(f"quality is {quality}, and must be from 0 to 1: a share of the reference model's.")
    if not 0.5 <= confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, and must be at least 0.5 and below 1.")


def _bounds(
    gains: Floats,
    reference: Floats,
    quality: float,
    groups: Floats | None,
    fresh: int | None = None,
    *,
    labels: int | None = None,
) -> tuple[Floats, Floats]:
    """Give the mean of what is over the floor, and its standard error, for each step; `labels`: as if there were so
    many.
    """
    n = len(reference)
    fewer = 1.0 if labels is None else n / labels
    over = gains + (1.0 - quality) * reference
    mean = (over.sum(axis=1) - WORST) / (n + WORST)
    square = ((over**2).sum(axis=1) + WORST) / (n + WORST)
    error = np.sqrt(
        np.maximum(square - mean**2, 0.0) / n * (fewer + (0.0 if fresh is None else n / max(fresh, LEAST_FRESH)))
    )
    if groups is not None:
        _, at = np.unique(groups, return_inverse=True)
        k = int(at.max()) + 1
        if k > 1:
            # Whole groups are drawn, not prompts: the sums of their deviations are what varies (CR1).
            is_in = np.zeros((n, k))
            is_in[np.arange(n), at] = 1.0
            sums = (over - over.mean(axis=1, keepdims=True)) @ is_in
            error = np.maximum(error, np.sqrt((sums**2).sum(axis=1) * k / (k - 1) * (1.0 + FOREIGN) * fewer) / n)
    return mean, error


def _told(step: int, gains: Floats, low: Floats, reference: float, quality: float) -> Held:
    n = gains.shape[1]
    if step == 0 or reference <= 0.0:
        return Held(step, 1.0, 1.0, n)
    return Held(step, 1.0 + float(gains[step].mean()) / reference, quality + float(low[step]) / reference, n)


def thresholds(gains: Floats, *, steps: int = STEPS) -> Floats:
    """Give the path of a pair, from its predicted gains [n]: thresholds, the first above all of them, the last below.

    At each step a prompt goes to the small model where its gain is at least the threshold.
    """
    if not len(gains):
        return np.array([np.inf])
    return np.append(np.inf, np.quantile(gains, np.linspace(1.0, 0.0, steps + 1)[1:]))


def pair(
    gains: Floats,
    small: Floats,
    large: Floats,
    *,
    quality: float,
    confidence: float,
    groups: NDArray[np.int64] | None = None,
) -> tuple[float, Held]:
    """Find the least threshold on predicted gains that holds the floor, from labels of both models on the same prompts.

    Args:
        gains: [n], predicted scores of the small model minus those of the large.
        small, large: [n], their scores.

    Returns the threshold (infinite: all to the large model), and what is promised.
    """
    path = thresholds(gains)
    held = walk(
        np.where(gains >= path[:, None], small - large, 0.0),
        large,
        quality=quality,
        confidence=confidence,
        groups=None if groups is None else groups.astype(float),
    )
    return float(path[held.step]), held
