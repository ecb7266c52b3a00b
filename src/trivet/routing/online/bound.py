"""Bounds of a mean that hold at every moment, however often one looks: a confidence sequence.

Of the sum of n numbers in [0, 1], for a rate r in (0, 1), `exp(r * (sum - sum of means) - psi(r) * squares)` is a
supermartingale, where `psi(r) = -log(1 - r) - r`, and `squares` are of the numbers less what was foreseen of each
(Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
1810.08240, theorem 4; after Fan et al. 2015). So is the mean of some of them, above 1 / error at any time with
a chance of at most `error` (Ville 1939). Nothing is assumed of the numbers but their range: the bound is of the mean of
their means, which may change on the way.

Not here: what is held against a floor (`guard.py`, `allowance.py`). Invariant: less error never gives a tighter bound.
"""

from math import log

_RATES = (0.85, *(2.0**-k for k in range(1, 10)))
"""Tried at once, of which each is best for some number of values: together at most log(10) of a bound's 2 to 5 is lost,
and the last is for millions of them."""


class Running:
    """A mean of numbers in a range, with bounds."""

    def __init__(self, least: float = 0.0, most: float = 1.0) -> None:
        """Begin. Args: least, most: the range of the numbers. Raises ValueError: it is none."""
        if not least < most < float("inf") or least == float("-inf"):
            raise ValueError(f"There is no range from {least} to {most}.")
        self._least, self._most, self._wide = least, most, most - least
        self.count, self._total, self._squares = 0, 0.0, 0.0

    @property
    def mean(self) -> float:
        """Of the numbers; the middle of the range without any."""
        return self._least + self._wide * (self._total / self.count if self.count else 0.5)

    def take(self, value: float) -> None:
        """Take in a number. Raises ValueError: it is not in the range; nothing has changed then."""
        scaled = (value - self._least) / self._wide
        if not -1e-9 <= scaled <= 1.0 + 1e-9:
            raise ValueError(f"A value is {value}, and must be from {self._least} to {self._most}.")
        foreseen = (self._total + 0.5) / (self.count + 1)
        self._squares += (scaled - foreseen) ** 2
        self._total += scaled
        self.count += 1

    def low(self, error: float) -> float:
        """Give what the mean is above at all times, but for a chance of `error`, in (0, 1)."""
        return max(self._least, self.mean - self._far(error)) if self.count else self._least

    def high(self, error: float) -> float:
        """Give what the mean is below at all times, but for a chance of `error`, in (0, 1)."""
        return min(self._most, self.mean + self._far(error)) if self.count else self._most

    def _far(self, error: float) -> float:
        if not 0.0 < error < 1.0:
            raise ValueError(f"An error is {error}, and must be above 0 and below 1.")
        needed = log(len(_RATES) / error)
        return self._wide / self.count * min((needed + (-log(1.0 - r) - r) * self._squares) / r for r in _RATES)
