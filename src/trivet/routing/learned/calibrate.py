"""From sums to chances: a logistic curve for each model, and for a pair the order of its prompts and the gain.

Curves of models are fitted on predictions for prompts that were left out, at random and with their whole domain, both
counted alike: so a model whose head knows nothing about domains that it did not see is believed less, everywhere. Where
a label is of no known domain nothing better can be said.

A pair is ordered by the difference of two chances, not of two sums: where a model is almost sure to be right, or wrong,
a sum says more than a chance can move. The curves of these chances are the steeper ones, of prompts left out at random.
Or, where that wins clearly more on what was left out, both chances see the ease of a prompt for all models beside the
model's own sum, and are fitted both ways.

Not here: the predictions (`heads.py`), the curves drawn of them (`curve.py`).
Invariants: more of a sum never means less of a chance; few or equal labels give finite numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned.curve import apgr, curve

Numbers = NDArray[np.float64]

CLEARLY = 0.01
"""More than this has to be won, on what was left out, to let the ease into the order: less is noise."""

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


class Sense(NamedTuple):
    """`1 / (1 + exp(-(a + b * sum + ease * e)))`, b >= 0: of a model's sum and the ease of a prompt for all models."""

    a: float
    b: float
    ease: float

    def at(self, sums: Numbers, ease: Numbers) -> Numbers:
        """Give the chances."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.a + self.b * sums + self.ease * ease, -30, 30)))


class View(NamedTuple):
    """What was predicted of some prompts without having seen them."""

    sums: Numbers
    """[n, 2], of the small and the large model."""
    ease: Numbers
    """[n]"""
    scores: Numbers
    """[n, 2], what they did."""


class PairRule(NamedTuple):
    """How a pair is ordered, by the difference of two chances, and the gain it means: `a + b * order`."""

    small: Sense
    large: Sense
    eased: bool
    """Whether the chances see the ease."""
    a: float
    b: float
    prompts: int
    """That both answered in training."""
    apgr_seen: float | None
    """Of the order, on prompts left out at random; None: there are none, or the two models did equally well."""
    apgr_unseen: float | None
    """With their whole domains left out."""

    def order(self, sums: Numbers, ease: Numbers) -> Numbers:
        """Order prompts by the sums of both models, [n, 2], and their ease, [n]."""
        return self.small.at(sums[:, 0], ease) - self.large.at(sums[:, 1], ease)


def logistic(sums: Numbers, scores: Numbers, counts: Numbers) -> Logistic:
    """Fit a curve, with a prior that holds it finite (b about 4, as between 0 and 1 at its middle).

    Args:
        sums: [n]. scores: [n], in [0, 1]. counts: [n], how much each counts.
    """
    x = np.stack([np.ones(len(sums)), sums - 0.5], 1)
    w = _newton(x, scores, counts, prior=np.array([0.0, 4.0]), hold=np.array([0.1, 1.0]))
    if w[1] < 0:  # what was left out says the opposite: the mean is all that is known
        mean = float((counts @ scores + 0.5) / (counts.sum() + 1))
        return Logistic(math.log(mean / (1 - mean)), 0.0)
    return Logistic(float(w[0] - 0.5 * w[1]), float(w[1]))


def sense(sums: Numbers, ease: Numbers, scores: Numbers, counts: Numbers) -> Sense:
    """Fit a curve of both, with the same prior, and one that is about 0 for the ease."""
    x = np.stack([np.ones(len(sums)), sums - 0.5, ease], 1)
    w = _newton(x, scores, counts, prior=np.array([0.0, 4.0, 0.0]), hold=np.array([0.1, 1.0, 1.0]))
    if w[1] < 0:
        return Sense(*logistic(sums, scores, counts), 0.0)
    return Sense(float(w[0] - 0.5 * w[1]), float(w[1]), float(w[2]))


def pair_rule(seen: View, unseen: View) -> PairRule:
    """Choose how a pair is ordered, by what was left out: at random, and with its domain; of that there may be less."""
    n = len(seen.scores)
    usual = Sense(-2.0, 4.0, 0.0)
    if n == 0:
        return PairRule(usual, usual, False, 0.0, 1.0, 0, None, None)  # noqa: FBT003 - no field has a better name here
    views = [view for view in (seen, unseen) if len(view.scores) > 1]
    alone = [Sense(*logistic(seen.sums[:, i], seen.scores[:, i], np.ones(n)), 0.0) for i in range(2)]
    both = [_sense(views or [seen], i) for i in range(2)]
    eased = _won(views, both) > _won(views, alone) + CLEARLY
    small, large = both if eased else alone
    gain = seen.scores[:, 0] - seen.scores[:, 1]
    made = PairRule(small, large, eased, float(gain.mean()), _FLAT, n, None, None)
    if not views:
        return made
    orders = [made.order(view.sums, view.ease) for view in views]
    x, y = np.concatenate(orders), np.concatenate([view.scores[:, 0] - view.scores[:, 1] for view in views])
    spread = float(((x - x.mean()) ** 2).sum())
    b = float(((x - x.mean()) * (y - y.mean())).sum() / (spread + 1.0))
    b = min(max(b, _FLAT), 1.5)
    apgrs = [apgr(order, *view.scores.T) for order, view in zip(orders, views, strict=True)]
    return made._replace(
        a=float(gain.mean() - b * x.mean()),
        b=b,
        apgr_seen=apgrs[0],
        apgr_unseen=apgrs[1] if len(apgrs) == 2 else None,
    )


def _sense(views: Sequence[View], model: int) -> Sense:
    sums = np.concatenate([view.sums[:, model] for view in views])
    scores = np.concatenate([view.scores[:, model] for view in views])
    counts = np.full(len(sums), len(views[0].scores) / len(sums))  # each label counts once in all
    return sense(sums, np.concatenate([view.ease for view in views]), scores, counts)


def _won(views: Sequence[View], by: Sequence[Sense]) -> float:
    """Say what an order wins over chance, in parts of the gap, whichever of the two models is better."""
    told = 0.0
    for view in views:
        order = by[0].at(view.sums[:, 0], view.ease) - by[1].at(view.sums[:, 1], view.ease)
        drawn = curve(order, *view.scores.T).quality
        middle = (drawn[0] + drawn[-1]) / 2
        told += float((drawn[1:] + drawn[:-1]).mean() / 2 - middle) / max(abs(float(drawn[-1] - drawn[0])), _GAP)
    return told / max(len(views), 1)


def _newton(x: Numbers, y: Numbers, counts: Numbers, *, prior: Numbers, hold: Numbers) -> Numbers:
    """Fit log odds `x @ w` [n, d] to scores in [0, 1] [n]; `hold` [d] is how strongly w is held to `prior` [d]."""
    w = prior.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (counts * (p - y)) + hold * (w - prior)
        curvature = (x * (counts * p * (1 - p))[:, None]).T @ x + np.diag(hold)
        step = np.linalg.solve(curvature, gradient)
        w = w - step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-8:
            break
    return w
