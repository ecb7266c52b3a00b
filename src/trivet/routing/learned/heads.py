"""Linear heads: for each model, weights that turn the numbers of a text into the score it will probably have.

Ridge regression on the scores themselves. As the loss is squared and the numbers are the same for all, the difference
of two models' heads is the head that a fit on their difference would give, wherever both answered the same prompts:
so the gain of any pair needs no head of its own. Beside the weights come predictions for prompts that were left out,
two ways: one in five at random (what a known domain will be like), and whole domains, similar ones together (an
unknown one).

One head more is that of *ease*: what is left of a prompt's scores when each model's own level is taken off, on one
scale for all prompts, whichever models answered them. It has the labels of all models to learn from.

Not here: what is made of them (`calibrate.py`, `learned.py`).
Invariant: no prediction for a prompt was made by weights that saw that prompt, or, the second way, its domain.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned.features import Floats

SHRINK = 10.0
"""Of the ridge, for dense rows about 1 long: 4 to 25 rank alike on every pair that was tried."""

FOLDS = 5
"""Of prompts left out at random."""

REGIONS = 8
"""At most: groups of similar domains, each left out in its turn."""

FEW = 3.0
"""Labels of a prompt whose mean is worth half of what that of many is."""

Numbers = NDArray[np.float64]


class Fitted(NamedTuple):
    """Heads of all models, and what they say about what they did not see."""

    weights: Floats
    """[width, models], of dense rows."""
    bias: Floats
    """[models]."""
    seen: Numbers
    """[prompts, models]: predictions with the prompt left out; NaN where the model has no outcome."""
    unseen: Numbers
    """The same, with the prompt's whole region left out. NaN too where nothing was left to fit on."""
    ease: Floats
    """[width + 1]: of dense rows, and the bias."""
    ease_seen: Numbers
    """[prompts], with the prompt left out."""
    ease_unseen: Numbers
    """[prompts], with its region left out; NaN where there is one region only."""


def fit(
    rows: Floats,
    scores: Numbers,
    *,
    regions: NDArray[np.int64],
    seed: int = 0,
    tell: Callable[[int], None] = lambda done: None,
) -> Fitted:
    """Fit heads.

    Args:
        rows: [n, width], dense.
        scores: [n, models], in [0, 1], NaN where there is none; at least one for each model.
        regions: [n]: the group of domains that each prompt is in.
        seed: of the random fifths.
        tell: is told how many models are done.
    """
    n, models = scores.shape
    there = ~np.isnan(scores)
    fifths = np.random.default_rng(seed).permutation(n) % FOLDS
    weights, bias = np.zeros((rows.shape[1], models), np.float32), np.zeros(models, np.float32)
    seen, unseen = np.full_like(scores, np.nan), np.full_like(scores, np.nan)
    # Models that answered the same prompts share all but the last step.
    _, group = np.unique(np.packbits(there, axis=0), axis=1, return_inverse=True)
    group = group.reshape(-1)
    done = 0
    for number in np.unique(group):
        some = np.flatnonzero(group == number)
        at = np.flatnonzero(there[:, some[0]])
        x, y = rows[at].astype(np.float32), scores[np.ix_(at, some)]
        weights[:, some], bias[some] = _solve([_Moments.of(x, y)])
        for made, folds in ((seen, fifths[at]), (unseen, regions[at])):
            made[np.ix_(at, some)] = _left_out(x, y, folds)
        done += len(some)
        tell(done)
    easy, counts = _ease(scores)
    whole, level = _solve([_Moments.of(rows, easy[:, None], counts)])
    left = [_left_out(rows, easy[:, None], folds, counts)[:, 0] for folds in (fifths, regions)]
    return Fitted(weights, bias, seen, unseen, np.append(whole[:, 0], level), *left)


def regions(rows: Floats, domains: Sequence[str], *, seed: int = 0) -> NDArray[np.int64]:
    """Put prompts into at most `REGIONS` groups of similar domains; where domains are not told, of similar prompts."""
    names = sorted(set(domains))
    if len(names) < 2:
        return _cluster(rows, seed=seed)
    place = {name: i for i, name in enumerate(names)}
    of = np.array([place[domain] for domain in domains])
    centres = np.stack([rows[of == i].mean(0) for i in range(len(names))])
    found: NDArray[np.int64] = _cluster(centres, seed=seed)[of]
    return found


def _ease(scores: Numbers) -> tuple[Numbers, Numbers]:
    """Give how easy each prompt is beyond what the models are that answered it, [n], and how much that counts, [n]."""
    there = ~np.isnan(scores)
    known, levels = np.where(there, scores, 0.0), np.zeros(scores.shape[1])
    each, labels = there.sum(1), np.maximum(there.sum(0), 1)
    easy = np.zeros(len(scores))
    for _ in range(30):  # by turns; three digits are more than is used
        easy = (known - there * levels).sum(1) / (each + 1.0)
        levels = (known - there * easy[:, None]).sum(0) / labels
    return easy, each / (each + FEW)


class _Moments(NamedTuple):
    """Sums over some prompts, of which those over all can be added up."""

    n: float
    x: Numbers
    y: Numbers
    xx: Numbers
    xy: Numbers

    @classmethod
    def of(cls, x: Floats, y: Numbers, counts: Numbers | None = None) -> "_Moments":
        """Add up; `counts` [n]: how much each prompt counts, without one each."""
        if counts is None:
            xx, xy = (x.T @ x).astype(np.float64), (x.T @ y).astype(np.float64)
            return cls(len(x), x.sum(0, np.float64), y.sum(0), xx, xy)
        heavy = (x * counts[:, None]).astype(np.float32)
        xx, xy = (heavy.T @ x).astype(np.float64), (heavy.T @ y).astype(np.float64)
        return cls(float(counts.sum()), heavy.sum(0, np.float64), counts @ y, xx, xy)


def _solve(parts: Sequence[_Moments]) -> tuple[Floats, Floats]:
    n = sum(p.n for p in parts)
    x, y = sum(p.x for p in parts) / n, sum(p.y for p in parts) / n
    square = sum(p.xx for p in parts) - n * np.outer(x, x)
    square[np.diag_indices_from(square)] += SHRINK
    weights = np.linalg.solve(square, sum(p.xy for p in parts) - n * np.outer(x, y))
    return weights.astype(np.float32), (y - x @ weights).astype(np.float32)


def _left_out(x: Floats, y: Numbers, folds: NDArray[np.int64], counts: Numbers | None = None) -> Numbers:
    made = np.full_like(y, np.nan)
    parts = {}
    for fold in np.unique(folds).tolist():
        at = folds == fold
        parts[fold] = _Moments.of(x[at], y[at], None if counts is None else counts[at])
    for fold in parts:
        others = [part for name, part in parts.items() if name != fold]
        if others:
            weights, bias = _solve(others)
            made[folds == fold] = x[folds == fold] @ weights + bias
    return made


def _cluster(points: Floats, *, seed: int) -> NDArray[np.int64]:
    """K-means, begun at points that are far from each other."""
    random = np.random.default_rng(seed)
    k = min(REGIONS, len(points))
    centres = points[[int(random.integers(len(points)))]]
    while len(centres) < k:
        far = _distances(points, centres).min(1)
        if not far.max() > 1e-9:
            break  # fewer different points than clusters
        centres = np.concatenate([centres, points[[int(random.choice(len(points), p=far / far.sum()))]]])
    for _ in range(20):
        nearest = _distances(points, centres).argmin(1)
        centres = np.stack(
            [points[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(len(centres))]
        )
    found: NDArray[np.int64] = _distances(points, centres).argmin(1)
    return found


def _distances(points: Floats, centres: Floats) -> Numbers:
    squares = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return np.asarray(np.maximum(squares, 0), np.float64)
