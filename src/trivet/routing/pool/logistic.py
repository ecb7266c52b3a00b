"""Logistic regression with a normal prior: a few weights, found by Newton's method, and how unsure they are.

Not here: where the prior comes from (`skills.py`). Invariant: whatever the labels are (one, all equal, contradictory),
the weights are finite; with none they are the prior's mean.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS, _SMALL = 60, 1e-7
_FURTHEST = 3.0
"""Log odds by which one step may move a row: plain Newton runs away where all labels are equal."""


class Normal(NamedTuple):
    """What is thought of some numbers."""

    mean: Floats
    """[d]"""
    covariance: Floats
    """[d, d]"""

    def part(self, size: int) -> "Normal":
        """Give what is thought of the first `size` alone."""
        return Normal(self.mean[:size], self.covariance[:size, :size])


def chance(log_odds: Floats) -> Floats:
    """Turn log odds into probabilities."""
    made: Floats = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -35.0, 35.0)))
    return made


def softened(log_odds: Floats, variance: Floats | float) -> Floats:
    """Give the chance where the log odds are only known up to a variance (MacKay 1992, eq. 5)."""
    return chance(log_odds / np.sqrt(1.0 + np.pi / 8.0 * variance))


def fit(rows: Floats, scores: Floats, prior: Normal) -> Normal:
    """Find the most likely weights, and the normal about them (Laplace's approximation).

    Args:
        rows: [n, d], n may be 0.
        scores: [n], each in [0, 1].
    """
    precision = np.linalg.inv(prior.covariance)
    mean = prior.mean.copy()
    for _ in range(_STEPS):
        p = chance(rows @ mean)
        slope = rows.T @ (scores - p) - precision @ (mean - prior.mean)
        step = np.linalg.solve((rows * (p * (1.0 - p))[:, None]).T @ rows + precision, slope)
        furthest = float(np.abs(rows @ step).max(initial=0.0))
        mean = mean + step * min(1.0, _FURTHEST / max(furthest, _SMALL))
        if float(np.abs(step).max()) < _SMALL:
            break
    p = chance(rows @ mean)
    return Normal(mean, np.linalg.inv((rows * (p * (1.0 - p))[:, None]).T @ rows + precision))
