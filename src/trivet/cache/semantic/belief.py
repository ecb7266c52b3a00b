"""How likely a kept answer is right, given the numbers of a look: one logistic model for all entries, learning on.

Not here: the numbers (`features.py`), what probability is enough (`promise.py`).
The weights have a normal distribution. It starts at a prior that was fitted on labelled questions (`priors.py`), and
each verdict moves it (`evidence.py`). What is said is the probability moderated by the variance (MacKay 1992, "The
evidence framework applied to classification networks"): where little is known it is nearer to a half.
Invariants: the covariance stays symmetric and positive; nothing that is learned makes a probability 0, 1 or NaN.
"""

from collections.abc import Sequence
from math import pi, sqrt
from typing import TYPE_CHECKING

import msgspec

from trivet.cache.semantic.evidence import logistic, mode
from trivet.cache.semantic.priors import Prior

if TYPE_CHECKING:  # numpy is imported where a belief is made: it takes longer than all of this
    from numpy.typing import NDArray

_MIN_SLOPE = 1e-3
"""Of the logistic curve, p (1 - p), in an update: a verdict that was certain and is right moves nothing much."""

MODERATION = 0.02
"""Of the variance, what goes into a probability. The prior is made wide so that it learns fast (`fitting.WIDER`); all
of that width would make the first hits a matter of half and half: with 0.02 the stream `mixed` had 1 to 2 % more hits
than with 1, at the same promise, kept."""


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A belief as it is saved."""

    weight: list[float]
    covariance: list[list[float]]
    verdicts: int


class Belief:
    """The model and what it has learned."""

    def __init__(self, prior: Prior) -> None:
        import numpy as np

        self._np = np
        self._mean = np.array([n.mean for n in prior.numbers])
        self._scale = np.array([n.scale for n in prior.numbers])
        self._weight: NDArray[np.float64] = np.array([n.weight for n in prior.numbers])
        self._covariance: NDArray[np.float64] = np.diag([n.variance for n in prior.numbers])
        self.verdicts = 0

    def probability(self, numbers: Sequence[float]) -> float:
        """Say how likely the answer is right, in (0, 1)."""
        x = (self._np.asarray(numbers) - self._mean) / self._scale
        variance = max(float(x @ self._covariance @ x), 0.0)
        return logistic(float(self._weight @ x) / sqrt(1.0 + MODERATION * pi * variance / 8.0))

    def learn(self, numbers: Sequence[float], *, right: bool) -> None:
        """Take in one verdict."""
        np = self._np
        x = (np.asarray(numbers) - self._mean) / self._scale
        spread = self._covariance @ x
        variance = max(float(x @ spread), 0.0)
        said = logistic(mode(float(self._weight @ x), variance, yes=right))
        slope = max(said * (1.0 - said), _MIN_SLOPE)
        self._weight += spread * (float(right) - said)
        self._covariance -= np.outer(spread, spread) / (1.0 / slope + variance)
        self.verdicts += 1

    def save(self) -> Learned:
        """Give what is to be kept."""
        return Learned(self._weight.tolist(), self._covariance.tolist(), self.verdicts)

    def restore(self, learned: Learned) -> None:
        """Go on from there. Raises ValueError: it is of other numbers, or no distribution."""
        np = self._np
        size = len(self._weight)
        if len(learned.weight) != size or [len(row) for row in learned.covariance] != [size] * size:
            raise ValueError(f"What was learned is about other numbers than these {size}.")
        weight, covariance = np.array(learned.weight), np.array(learned.covariance)
        sound = np.isfinite(weight).all() and np.isfinite(covariance).all() and np.allclose(covariance, covariance.T)
        if not sound or float(np.linalg.eigvalsh(covariance).min()) < -1e-6 * float(np.abs(covariance).max()):
            raise ValueError("What was learned is damaged: its covariance is none.")
        self._weight, self._covariance, self.verdicts = weight, covariance, learned.verdicts
