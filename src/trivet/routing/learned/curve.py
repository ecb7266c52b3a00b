"""Cost against quality: what a score for each prompt is worth, when the highest go to the small model.

    PGR = (quality - small's) / (large's - small's)       of a share of calls to the large model
    APGR = the mean of PGR over that share; 0.5 is chance
    CPT(x) = the least share with PGR >= x

(RouteLLM, 2406.18665.) Not here: where scores come from. Invariant: prompts of one score go together in expectation, so
an order that is in the file by accident never counts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Curve(NamedTuple):
    """Quality and cost by the share of calls to the large model: [n + 1] each, from none to all."""

    share: Numbers
    quality: Numbers
    cost: Numbers
    """Relative to the large model for all."""

    def at_quality(self, part: float) -> tuple[float, float]:
        """Give the least share of large calls, and its cost, at which `part` of the large model's quality is had."""
        found = np.flatnonzero(self.quality >= part * self.quality[-1] - 1e-12)
        return float(self.share[found[0]]), float(self.cost[found[0]])

    def pgr(self) -> Numbers | None:
        """Give PGR for each share; None where both models did equally well."""
        gap = self.quality[-1] - self.quality[0]
        return (self.quality - self.quality[0]) / gap if abs(gap) > 1e-12 else None

    def apgr(self) -> float | None:
        """Give the mean of PGR."""
        pgr = self.pgr()
        return None if pgr is None else float((pgr[1:] + pgr[:-1]).mean() / 2)

    def cpt(self, part: float) -> float | None:
        """Give the least share of large calls with that PGR."""
        pgr = self.pgr()
        return None if pgr is None else float(self.share[np.flatnonzero(pgr >= part - 1e-12)[0]])


def curve(order: Numbers, small: Numbers, large: Numbers, *, costs: tuple[Numbers, Numbers] | None = None) -> Curve:
    """Draw the curve: the prompts with the least `order` go to the large model first.

    Args:
        order: [n]. small, large: [n], scores.
        costs: [n] each, of the small and the large model; none: a small call costs nothing, a large one 1.
    """
    n = len(order)
    cheap, dear = costs or (np.zeros(n), np.ones(n))
    sort = np.argsort(order, kind="stable")
    _, first, count = np.unique(order[sort], return_index=True, return_counts=True)

    def climb(low: Numbers, high: Numbers) -> Numbers:
        sums = np.add.reduceat((high - low)[sort], first) / count
        return np.concatenate([[low.sum()], low.sum() + np.cumsum(np.repeat(sums, count))])

    return Curve(np.arange(n + 1) / n, climb(small, large) / n, climb(cheap, dear) / max(float(dear.sum()), 1e-300))


def apgr(order: Numbers, small: Numbers, large: Numbers) -> float | None:
    """Give the APGR of an order; None where it has no meaning."""
    return curve(order, small, large).apgr() if len(order) else None


def interval(
    order: Numbers, small: Numbers, large: Numbers, *, seed: int = 0, draws: int = 200
) -> tuple[float, float] | None:
    """Give the 95 % interval of the APGR, by drawing prompts anew. None where it has no meaning."""
    random = np.random.default_rng(seed)
    told = []
    for _ in range(draws):
        some = random.integers(0, len(order), len(order))
        value = apgr(order[some], small[some], large[some])
        if value is not None:
            told.append(value)
    return (float(np.quantile(told, 0.025)), float(np.quantile(told, 0.975))) if told else None
