"""Some models compiled: a text to their chances in microseconds, with nothing but a dictionary and a sum.

One number for each word and model, bias and calibration around it. For two models the numbers of a word are one complex
number, so that one pass over the words adds up both; for more, a word is a row of a table.

Not here: fitting, files. Invariants: no input and output, no locks, nothing changes after it is made, so any thread may
ask; no text raises; a text of words that are all unknown gets the mean.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from math import exp, sqrt
from typing import NamedTuple

import numpy as np

from trivet.routing.learned.calibrate import Logistic, PairRule
from trivet.routing.learned.features import Floats, Space, words


class Gain(NamedTuple):
    """What is estimated of a text for a pair."""

    p_small: float
    """That the small model's answer is right: its expected score, in [0, 1]."""
    p_large: float
    gain: float
    """Expected score of the small model less that of the large one, in [-1, 1]; its order is the one to route by."""


class Pair:
    """Two models."""

    def __init__(
        self,
        words: Mapping[bytes, complex],
        bias: complex,
        *,
        curves: tuple[Logistic, Logistic],
        orders: tuple[Logistic, Logistic],
        rule: PairRule,
    ) -> None:
        """Take the weights of each word, the small model's real and the large one's imaginary.

        Args:
            words: each word's weights. bias: added to their sum.
            curves: from sums to the chances that are told.
            orders: from sums to the chances whose difference is the order.
            rule: from the order to the gain.
        """
        self._get = dict(words).get
        self._small_bias, self._large_bias = bias.real, bias.imag
        (self._small_a, self._small_b), (self._large_a, self._large_b) = curves
        (self._order_small_a, self._order_small_b), (self._order_large_a, self._order_large_b) = orders
        self._a, self._b = rule.a, rule.b
        self.rule = rule

    def estimate(self, text: str) -> Gain:
        """Estimate both chances, and the gain."""
        found = words(text)
        return self._told(sum(map(self._get, found, repeat(0j))), len(found))

    def read(self, text: str) -> tuple[Gain, float]:
        """Estimate the same, and give the share of the text's words that are known, in [0, 1]."""
        found = words(text)
        weights = list(map(self._get, found, repeat(0j)))
        return self._told(sum(weights), len(found)), 1.0 - weights.count(0j) / len(found) if found else 0.0

    def _told(self, total: complex, count: int) -> Gain:
        summed = total / sqrt(count or 1)
        small, large = summed.real + self._small_bias, summed.imag + self._large_bias
        gain = self._a + self._b * (
            1.0 / (1.0 + exp(-self._order_small_a - self._order_small_b * small))
            - 1.0 / (1.0 + exp(-self._order_large_a - self._order_large_b * large))
        )
        return Gain(
            1.0 / (1.0 + exp(-self._small_a - self._small_b * small)),
            1.0 / (1.0 + exp(-self._large_a - self._large_b * large)),
            -1.0 if gain < -1.0 else 1.0 if gain > 1.0 else gain,
        )


class Pool:
    """Any number of models."""

    def __init__(self, space: Space, weights: Floats, bias: Floats, curves: Sequence[Logistic]) -> None:
        """Take the weights [words, models] of a space."""
        self._get = {word: i for i, word in enumerate(space.words, start=1)}.get
        self._table = np.concatenate([np.zeros((1, weights.shape[1]), np.float32), weights])
        self._bias = bias.astype(np.float32)
        self._curves = tuple(curves)

    def estimate(self, text: str) -> tuple[float, ...]:
        """Estimate each model's chance to be right: its expected score, in [0, 1]."""
        return self.read(text)[0]

    def read(self, text: str) -> tuple[tuple[float, ...], float]:
        """Estimate the same, and give the share of the text's words that are known, in [0, 1]."""
        found = words(text)
        places = list(map(self._get, found, repeat(0)))
        rows = self._table.take(places, 0)
        sums = (np.add.reduce(rows) / sqrt(len(found) or 1) + self._bias).tolist()
        chances = tuple(1.0 / (1.0 + exp(-a - b * z)) for z, (a, b) in zip(sums, self._curves, strict=True))
        return chances, 1.0 - places.count(0) / len(found) if found else 0.0


def pair(
    space: Space,
    weights: Floats,
    bias: Floats,
    *,
    curves: tuple[Logistic, Logistic],
    orders: tuple[Logistic, Logistic],
    rule: PairRule,
) -> Pair:
    """Compile a pair from the weights [words, 2] of a space; see `Pair`."""
    both = (weights[:, 0].astype(np.float64) + 1j * weights[:, 1]).tolist()
    table = dict(zip(space.words, both, strict=True))
    return Pair(table, complex(float(bias[0]), float(bias[1])), curves=curves, orders=orders, rule=rule)
