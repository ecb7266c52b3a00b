"""From sums to chances: a logistic curve for each model, and for a pair the order of its prompts and the gain.

Fitted on predictions for prompts that were left out, at random and with their whole domain, both counted alike: so a
model whose head knows nothing about domains that it did not see is believed less, everywhere. Where a label is of no
known domain nothing better can be said.

Not here: the predictions (`heads.py`), the curves drawn of them (`curve.py`).
Invariants: more of a sum never means less of a chance or of a gain; few or equal labels give finite numbers.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned.curve import apgr, curve

Numbers = NDArray[np.float64]

MIXES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How much of a pair's order is the gain; the rest is whether the small model is right."""

CLEARLY = 0.01
"""More than this has to be won, on what was left out, to leave the gain alone as the order: less is noise."""

_GAP = 0.05
"""Of two models that did almost equally well, what is won is told in parts of this gap, not of theirs."""

_FLAT = 1e-3
"""The least slope of a gain: where what was left out shows none, the order stays and the numbers say 'the same'."""


class Logistic(NamedTuple):
    """`1 / (1 + exp(-(a + b * sum)))`, b >= 0."""

    a: float
    b: float

    def at(self, sums: Numbers) -> Numbers:
        """Give the chances of sums."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.a + self.b * sums, -30, 30)))


class PairRule(NamedTuple):
    """How a pair is ordered: `mix * (small - large) + (1 - mix) * small`, and the gain it means: `a + b * order`."""

    mix: float
    a: float
    b: float
    prompts: int
    """That both answered in training."""
    apgr_seen: float | None
    """Of the order, on prompts left out at random; None: there are none, or the two models did equally well."""
    apgr_unseen: float | None
    """With their whole domains left out."""

    def order(self, small: Numbers, large: Numbers) -> Numbers:
        """Order prompts by the sums of both models."""
        return small - self.mix * large


def logistic(sums: Numbers, scores: Numbers, counts: Numbers) -> Logistic:
    """Fit a curve by Newton's method, with a prior that holds it finite (b about 4, as between 0 and 1 at its middle).

    Args:
        sums: [n]. scores: [n], in [0, 1]. counts: [n], how much each counts.
    """
    x = np.stack([np.ones(len(sums)), sums - 0.5], 1)
    prior, hold = np.array([0.0, 4.0]), np.diag([0.1, 1.0])
    w = prior.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (counts * (p - scores)) + hold @ (w - prior)
        curvature = (x * (counts * p * (1 - p))[:, None]).T @ x + hold
        step = np.linalg.solve(curvature, gradient)
        w = w - step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-8:
            break
    if w[1] < 0:  # what was left out says the opposite: the mean is all that is known
        mean = float((counts @ scores + 0.5) / (counts.sum() + 1))
        return Logistic(math.log(mean / (1 - mean)), 0.0)
    return Logistic(float(w[0] - 0.5 * w[1]), float(w[1]))


def pair_rule(scores: Numbers, seen: Numbers, unseen: Numbers) -> PairRule:
    """Choose how a pair is ordered, by what was left out.

    Args:
        scores: [n, 2], small and large, of prompts that both answered.
        seen: [n, 2], predictions with the prompt left out. unseen: with its domain left out; NaN where there are none.
    """
    n = len(scores)
    if n == 0:
        return PairRule(1.0, 0.0, 1.0, 0, None, None)
    views = [(view[ok], scores[ok]) for view in (seen, unseen) if (ok := np.isfinite(view).all(1)).sum() > 1]

    def won(mix: float) -> float:
        """What the order wins over chance, in parts of the gap, whichever of the two is better."""
        return sum(_area(view[:, 0] - mix * view[:, 1], y) for view, y in views)

    told = {mix: won(mix) / max(len(views), 1) for mix in MIXES}
    best = max(MIXES, key=lambda mix: told[mix])
    mix = best if told[best] > told[1.0] + CLEARLY else 1.0
    gain = scores[:, 0] - scores[:, 1]
    if not views:
        return PairRule(mix, float(gain.mean()), _FLAT, n, None, None)
    x = np.concatenate([view[:, 0] - mix * view[:, 1] for view, _ in views])
    y = np.concatenate([some[:, 0] - some[:, 1] for _, some in views])
    spread = float(((x - x.mean()) ** 2).sum())
    b = float(((x - x.mean()) * (y - y.mean())).sum() / (spread + 1.0))
    b = min(max(b, _FLAT), 1.5)
    apgrs = [apgr(view[:, 0] - mix * view[:, 1], y[:, 0], y[:, 1]) for view, y in views]
    return PairRule(mix, float(gain.mean() - b * x.mean()), b, n, apgrs[0], apgrs[1] if len(apgrs) == 2 else None)


def _area(order: Numbers, scores: Numbers) -> float:
    drawn = curve(order, scores[:, 0], scores[:, 1]).quality
    middle = (drawn[0] + drawn[-1]) / 2
    return float((drawn[1:] + drawn[:-1]).mean() / 2 - middle) / max(abs(float(drawn[-1] - drawn[0])), _GAP)
