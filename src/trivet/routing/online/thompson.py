"""Learning from choices: what a router was told of each target in training, corrected by the labels that come.

Of each target two numbers are learned: how far its log odds are off (a level), and by what they have to be stretched.
Training says 0 and 1, more or less; labels move that, by Bayes' rule (`pool/logistic.py`: Laplace's approximation, one
label after another). Traffic that is harder than training was is harder for all models: levels are correlated, and
labels of one target say something of the others too.

A request goes to each target with the chance that it is worth most there, as far as is known (Thompson 1933; for
logistic beliefs Chapelle & Li 2011), where worth is the chance to be right less the weight of the price times the
price, as in a plan. Others draw numbers and take the best; here that chance is worked out first, with worth taken as
normal (the delta method), and one draw is made by it. So **the probability of each choice is exact**, though it is
Thompson's only nearly: it is what was drawn by.

Where a promise leaves no room (`allowance.py`), the chance of bold targets is cut to the room there is, and what was
cut goes to the safe one.

Not here: which targets are bold, or safe (a plan and its reference), when to forget (`drift.py`). Labels come late, out
of order, and of some requests only; none is needed. They are taken as drawn by chance given the request and its target:
where clients label only what annoys them, levels are learned too low.
Invariants: probabilities are finite, in [0, 1], and their sum is 1; `choose` is floats alone, no numpy, and changes
nothing; what is believed does not depend on the order of labels by more than the approximation; a score that is not in
[0, 1] is refused.
"""

from collections.abc import Collection, Sequence
from math import erfc, exp, inf, isfinite, log, pi, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from trivet.routing.pool.logistic import Normal, fit

LEVEL, STRETCH = 0.5, 0.25
"""What training is thought to be off by, in log odds and as a part of them (standard deviations): on domains that were
left out of training it was off by .24 (24 of mmlu_pro) and .89 (42 of mmlu and gsm8k), and traffic is of several."""

TRIED = 0.02
"""The least chance of each target, where a promise has room for it: what is never chosen can never be estimated, and a
chance that learning has brought near 0 makes estimates of other policies wrong by ten standard errors. It costs a
fiftieth of the difference between targets."""

ALIKE = 0.5
"""Correlation of levels: of two models, on the domains of mmlu and gsm8k it was .64, of mmlu_pro .88."""

STRANGE = 1.5
"""The same of the level of a model that was swapped: where training said .9, it may be anything from .3 up."""

_POINTS = tuple(NormalDist().inv_cdf((i + 0.5) / 16) for i in range(16))
"""Of a normal, equally likely; for three targets and more."""

_EXTREME = 12.0
"""Log odds beyond it are cut."""

_ROOT_2 = sqrt(2.0)

_SURE = 1e-12
"""No worth is known better than to this variance, so that it can be divided by."""

_LEAST = 1e-12
"""Added to how likely each of many is best, so that they cannot all be 0."""


class Belief(NamedTuple):
    """What is thought of one target: how far training is off."""

    level: float
    """In log odds."""
    stretch: float
    level_sd: float
    stretch_sd: float
    labels: int


class Kept(NamedTuple):
    """What was learned, as it is saved: of K targets, level and stretch of each in turn."""

    mean: list[float]
    """[2 K]"""
    covariance: list[list[float]]
    """[2 K, 2 K]"""
    labels: list[int]
    """[K]"""


class Choice(NamedTuple):
    """What is asked, and with what probability it came to that."""

    target: int
    probabilities: tuple[float, ...]
    """Of each target: their sum is 1."""
    bold: float
    """The probability of a bold target."""

    @property
    def propensity(self) -> float:
        """The probability of the choice that was made."""
        return self.probabilities[self.target]


class Learner:
    """Beliefs of the targets of one policy."""

    def __init__(self, prices: Sequence[float], *, weight: float, tried: float = TRIED) -> None:
        """Begin with what training said.

        Args:
            prices: of each target, in the unit of the plan; two targets at least.
            weight: of the price, 0 or more: what a unit of it is worth in score.
            tried: the least chance of each, from 0 to one over the number of targets.

        Raises:
            ValueError: not so.
        """
        if not 0.0 <= tried * len(prices) <= 1.0:
            raise ValueError(f"Each of {len(prices)} targets cannot have a chance of {tried} at the least.")
        self._tried = tried
        if len(prices) < 2 or not all(map(isfinite, prices)) or not (isfinite(weight) and weight >= 0.0):
            raise ValueError(
                f"Choosing takes two targets with prices and a weight of 0 or more; not {prices}, {weight}."
            )
        self._paid = tuple(weight * price for price in prices)
        n = len(prices)
        levels = LEVEL**2 * (ALIKE + (1.0 - ALIKE) * np.eye(n))
        covariance = np.zeros((2 * n, 2 * n))
        covariance[::2, ::2] = levels
        covariance[1::2, 1::2] = STRETCH**2 * np.eye(n)
        self._take(Kept([0.0, 1.0] * n, covariance.tolist(), [0] * n))

    def _take(self, kept: Kept) -> None:
        self._mean, self._covariance, self._labels = kept.mean, kept.covariance, kept.labels

    def believed(self, target: int) -> Belief:
        """Say what is thought of a target."""
        mean, at = self._mean, 2 * target
        sds = sqrt(self._covariance[at][at]), sqrt(self._covariance[at + 1][at + 1])
        return Belief(mean[at], mean[at + 1], *sds, self._labels[target])

    def choose(
        self, chances: Sequence[float], draw: float, *, safe: int = 0, bold: Collection[int] = (), room: float = 1.0
    ) -> Choice:
        """Choose a target for a request.

        Args:
            chances: of each target to be right, as the router estimates; in [0, 1].
            draw: a random number in [0, 1).
            safe: the target that the chance of bold ones goes to where there is no room.
            bold: targets that the promise does not cover on this request.
            room: how likely one of them may be, in [0, 1].

        Raises:
            ValueError: not in these ranges.
        """
        if not (0.0 <= draw < 1.0 and 0.0 <= room <= 1.0) or safe in bold:
            raise ValueError(
                f"draw is {draw}, room {room}, safe {safe}, bold {list(bold)}: shares, and safe is not bold."
            )
        rest = 1.0 - self._tried * len(self._paid)
        tried = [self._tried + rest * p for p in self.probabilities(chances)]
        made, mass = capped(tried, safe=safe, bold=bold, room=room)
        left = draw
        for target, probability in enumerate(made):
            if left < probability:
                return Choice(target, made, mass)
            left -= probability
        last = max(range(len(made)), key=made.__getitem__)  # the sum of all was 1 - 1e-16 and the draw between
        return Choice(last, made, mass)

    def probabilities(self, chances: Sequence[float]) -> tuple[float, ...]:
        """Say of each target how likely it is worth most. Raises ValueError: there is not a chance for each target."""
        told = self._told(chances)
        rights = [_right(mean) for mean, _ in told]
        slopes = [right * (1.0 - right) for right in rights]
        worth = [right - paid for right, paid in zip(rights, self._paid, strict=True)]
        shared = self._shared(chances, slopes)
        # What all doubts have in common moves no difference, and differences are all that counts.
        doubts = [(slope * sd) ** 2 - shared for slope, (_, sd) in zip(slopes, told, strict=True)]
        if len(worth) == 2:
            first = _below((worth[0] - worth[1]) / sqrt(max(doubts[0] + doubts[1], _SURE)))
            return first, 1.0 - first
        both = [(mean, sqrt(max(doubt, _SURE))) for mean, doubt in zip(worth, doubts, strict=True)]
        made = [_wins(k, both) for k in range(len(both))]
        total = sum(made)
        return tuple(p / total for p in made)

    def expected(self, chances: Sequence[float]) -> tuple[float, ...]:
        """Say of each target how likely it is right, as far as is known now: the guesses of `estimate.robust`."""
        return tuple(_right(mean / sqrt(1.0 + pi / 8.0 * sd * sd)) for mean, sd in self._told(chances))  # MacKay 1992

    def _told(self, chances: Sequence[float]) -> list[tuple[float, float]]:
        """Give mean and standard deviation of the log odds of each target."""
        if len(chances) != len(self._paid) or not all(0.0 <= chance <= 1.0 for chance in chances):
            raise ValueError(f"Chances are {list(chances)}, and must be one for each target, from 0 to 1.")
        made, mean = [], self._mean
        for k, chance in enumerate(chances):
            z, at = logit(chance), 2 * k
            one, other = self._covariance[at], self._covariance[at + 1]
            variance = one[at] + 2.0 * z * one[at + 1] + z * z * other[at + 1]
            made.append((mean[at] + mean[at + 1] * z, sqrt(max(variance, 0.0))))
        return made

    def _shared(self, chances: Sequence[float], slopes: Sequence[float]) -> float:
        """Give the least covariance of what two targets are worth."""
        logits, least = [logit(chance) for chance in chances], inf
        for i, z in enumerate(logits):
            one, other = self._covariance[2 * i], self._covariance[2 * i + 1]
            for j in range(i):
                at, y = 2 * j, logits[j]
                both = one[at] + z * other[at] + y * (one[at + 1] + z * other[at + 1])
                least = min(least, both * slopes[i] * slopes[j])
        return least

    def learn(self, target: int, chance: float, score: float) -> None:
        """Take in a label.

        Args:
            target: whose answer it is of.
            chance: of it to be right, as the router estimated, in [0, 1].
            score: in [0, 1].

        Raises:
            ValueError: one of them is not in its range; nothing has changed then.
        """
        if not (0.0 <= score <= 1.0 and 0.0 <= chance <= 1.0 and 0 <= target < len(self._paid)):
            raise ValueError(f"A label of target {target} is {score} where {chance} was likely: not from 0 to 1.")
        row = np.zeros((1, len(self._mean)))
        row[0, 2 * target : 2 * target + 2] = 1.0, logit(chance)
        now = fit(row, np.array([float(score)]), Normal(np.array(self._mean), np.array(self._covariance)))
        labels = [n + (k == target) for k, n in enumerate(self._labels)]
        self._take(Kept(now.mean.tolist(), ((now.covariance + now.covariance.T) / 2.0).tolist(), labels))

    def forget(self, target: int, *, level: float = STRANGE) -> None:
        """Begin anew with a target that is another model now: what training said counts for little."""
        at, mean, covariance = 2 * target, np.array(self._mean), np.array(self._covariance)
        mean[at : at + 2] = 0.0, 1.0
        covariance[at : at + 2, :] = covariance[:, at : at + 2] = 0.0
        covariance[at, at], covariance[at + 1, at + 1] = level**2, STRETCH**2
        labels = [0 if k == target else n for k, n in enumerate(self._labels)]
        self._take(Kept(mean.tolist(), covariance.tolist(), labels))

    def save(self) -> Kept:
        """Give what is to be kept."""
        return Kept(self._mean, self._covariance, self._labels)

    def restore(self, kept: Kept) -> None:
        """Go on from there. Raises ValueError: it is damaged, or of another number of targets."""
        mean, covariance = np.array(kept.mean, float), np.array(kept.covariance, float)
        n = len(self._paid)
        if not (
            mean.shape == (2 * n,)
            and covariance.shape == (2 * n, 2 * n)
            and len(kept.labels) == n
            and np.isfinite(mean).all()
            and np.isfinite(covariance).all()
            and np.array_equal(covariance, covariance.T)
            and (np.linalg.eigvalsh(covariance) > 0.0).all()
        ):
            raise ValueError(f"What was kept of what was learned is damaged, or not of {n} targets.")
        self._take(kept)


def capped(
    probabilities: Sequence[float], *, safe: int, bold: Collection[int], room: float
) -> tuple[tuple[float, ...], float]:
    """Cut what bold targets have to the room there is, and give the rest to the safe one; and what bold ones have."""
    mass = min(1.0, sum((probabilities[k] for k in bold), 0.0))
    if mass <= room:
        return tuple(probabilities), mass
    part = room / mass
    made = [p * part if k in bold else p for k, p in enumerate(probabilities)]
    made[safe] += mass - room
    return tuple(made), room


def logit(chance: float) -> float:
    """Turn a chance into log odds, cut at 12 either way."""
    if chance <= 0.0:
        return -_EXTREME
    return max(-_EXTREME, min(_EXTREME, log(chance / (1.0 - chance)))) if chance < 1.0 else _EXTREME


def _right(log_odds: float) -> float:
    return 1.0 / (1.0 + exp(-max(-35.0, min(35.0, log_odds))))


def _below(z: float) -> float:
    return 0.5 * erfc(-z / _ROOT_2)


def _wins(k: int, worth: Sequence[tuple[float, float]]) -> float:
    """Say how likely a target is worth more than all others: over points of its own, how likely each is below."""
    (mean, sd), total = worth[k], _LEAST
    for point in _POINTS:
        all_below = 1.0
        for j, (other, doubt) in enumerate(worth):
            if j != k:
                all_below *= _below((mean + sd * point - other) / doubt)
        total += all_below
    return total
