"""Alarms on streams of numbers in [0, 1]: that their mean is not what it was, soon, and hardly ever for nothing.

What a stream can be: whether a small model's answer agrees with the large one's, a score, a judge's verdict, and what
needs no label at all: where an answer's length is among the lengths of before (`rank`).

Each value is a bet on a change, at fair odds if the mean is no less than the reference's (for a rise: no more). What
the bets have won, over all starts at once, is the Shiryaev-Roberts e-detector of Shin, Ramdas & Rinaldo (2022,
"E-detectors", 2203.03532): `won = (won + 1) * (1 + bet * (reference - value))`. Without a change, `won` less the number
of values is a supermartingale, so that, started again after each alarm, *alarms in n values are n / false_every on
average, or fewer*, for every n. No distribution is assumed, only that a value's mean, given all before it, is the
reference's or on the good side of it. The reference is itself estimated: its bound in place of its mean makes the
bets fair, but for a chance of `DOUBT` (Chernoff's bound, that of Hoeffding 1963, theorem 1).

How small a drop is noticed how soon: docs/online.md. What is not noticed: a change smaller than the reference's own
doubt, ever. A change of traffic is a change too: an alarm says that something is different, not what.

Not here: what is done about it (`guard.py`, `thompson.py`). Invariants: same values, same alarms; NaN is refused; after
an alarm the bets begin anew.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import isfinite, log
from typing import Literal, NamedTuple

FALSE_EVERY = 200_000
"""Values between two false alarms of a stream, on average, at the least: half a one in 100,000."""

DOUBT = 0.01
"""The chance that a reference's bound is on the wrong side of its mean."""

FEWEST = 20
"""Values of a reference: with fewer its bound is so wide that nothing would be noticed."""

COLLECTED = 1000
"""Values that a watch takes as its reference. With 300, a fall from .7 to .5 takes twice as long to notice."""

MOST = 8000
"""Values of a watch's reference at the most: from there on another thousand would move its bound by .001."""

QUIET = 1e-3
"""Of the evidence that an alarm needs: with more, a watch's reference takes in nothing, so as not to learn a change."""

BETS = (0.04, 0.09, 0.17, 0.3, 0.5, 0.75)
"""Relative falls, of a rate, against each of which one of the bets is the best (Kelly 1956): between two neighbours
either does nearly as well, and each bet more makes all wait for the logarithm of their number."""

Towards = Literal["down", "up", "both"]


class Reference(NamedTuple):
    """What a stream was like."""

    mean: float
    low: float
    """Bound of the mean, but for a chance of `DOUBT`."""
    high: float
    """The same."""
    values: int
    """How many were seen; 0 where it is given, not estimated."""


class Noticed(NamedTuple):
    """An alarm."""

    towards: Literal["down", "up"]
    reference: float
    """The mean of before."""
    mean: float
    """Of the values since the change, as far as it can be told."""
    since: int
    """Values since then, as far as it can be told."""
    seen: int
    """Values since the bets began."""


def reference(values: Iterable[float]) -> Reference:
    """Say what a stream is like, from values of a time when all was well.

    Raises:
        ValueError: they are fewer than `FEWEST`, or not in [0, 1].
    """
    count, total = 0, 0.0
    for value in values:
        total += _checked(value)
        count += 1
    if count < FEWEST:
        raise ValueError(f"A reference of {count} values says nothing. Give {FEWEST} at the least.")
    return _known(total, count)


def _known(total: float, count: int, doubt: float = DOUBT) -> Reference:
    mean = min(total / count, 1.0)
    far = log(1.0 / doubt) / count
    return Reference(mean, _bound(mean, far), 1.0 - _bound(1.0 - mean, far), count)


def exactly(mean: float) -> Reference:
    """Give a reference that is not estimated: a floor. Raises ValueError: it is not in [0, 1]."""
    return Reference(_checked(mean), mean, mean, 0)


def rank(ordered: Sequence[float], value: float) -> float:
    """Say where a number is among those of before: the share that is less, equals half; in [0, 1].

    Args:
        ordered: sorted, at least one. As part of a stream its mean is the same as long as the numbers are alike.
    """
    if not isfinite(value):
        raise ValueError(f"{value} has no rank.")
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2.0 * len(ordered))


class _Bet:
    """On one size of a change, of what is a fall of `value` (a rise is a fall of what is missing to 1)."""

    def __init__(self, share: float, fair: float) -> None:
        # A fall by `share` of a rate `fair` wins most, in the logarithm, with this stake; at most all of it is lost.
        self.stake, self.fair = share / max(1.0 - fair, 1e-3), fair
        self.begin()

    def know(self, fair: float) -> None:
        self.stake *= max(1.0 - self.fair, 1e-3) / max(1.0 - fair, 1e-3)
        self.fair = fair

    def begin(self) -> None:
        self.won = 0.0  # over all starts
        self.best, self.since, self.total = 0.0, 0, 0.0  # of the best start (Page 1954), the values from it on

    def take(self, value: float) -> float:
        factor = 1.0 + self.stake * (self.fair - value)
        self.won = (self.won + 1.0) * factor
        if self.best <= 1.0:
            self.best, self.since, self.total = 1.0, 0, 0.0
        self.best, self.since, self.total = self.best * factor, self.since + 1, self.total + value
        return self.won


class Alarm:
    """On one stream, against a reference."""

    def __init__(self, known: Reference, *, towards: Towards = "down", false_every: float = FALSE_EVERY) -> None:
        """Begin.

        Args:
            towards: a fall, a rise, or either.
            false_every: values between false alarms, on average, at the least; above 1.
        """
        if not (1.0 < false_every < float("inf")):
            raise ValueError(f"false_every is {false_every}, and must be more than 1: values between false alarms.")
        self.reference, self._limit, self.seen = known, false_every, 0
        self._down = [_Bet(share, known.low) for share in BETS] if towards != "up" else []
        self._up = [_Bet(share, 1.0 - known.high) for share in BETS] if towards != "down" else []

    @property
    def evidence(self) -> float:
        """How near it is to an alarm: 1 is one, in [0, 1); for people."""
        return self._won() / self._limit

    def take(self, value: float) -> Noticed | None:
        """Take in a value; gives the alarm that it raises, after which the bets begin anew.

        Raises:
            ValueError: it is not in [0, 1]; nothing has changed then.
        """
        _checked(value)
        self.seen += 1
        for bet in self._down:
            bet.take(value)
        for bet in self._up:
            bet.take(1.0 - value)
        if self._won() < self._limit:
            return None
        found = max((*self._down, *self._up), key=lambda bet: bet.won)
        mean = found.total / found.since
        fell = found in self._down
        told = Noticed(
            "down" if fell else "up", self.reference.mean, mean if fell else 1.0 - mean, found.since, self.seen
        )
        self.begin()
        return told

    def know(self, known: Reference) -> None:
        """Go on against a reference that is known better; what was won stays."""
        self.reference = known
        for bet in self._down:
            bet.know(known.low)
        for bet in self._up:
            bet.know(1.0 - known.high)

    def begin(self) -> None:
        """Forget the bets, keep the reference."""
        self.seen = 0
        for bet in (*self._down, *self._up):
            bet.begin()

    def _won(self) -> float:
        # The mean of e-detectors is one.
        bets = (*self._down, *self._up)
        return sum(bet.won for bet in bets) / len(bets)


class Watch:
    """A stream that gathers its own reference: first values, then alarms; after an alarm it gathers anew.

    As long as nothing points to a change the reference grows, to `MOST` values, each time with those that came since:
    the better it is known, the smaller a change is noticed. What drifts slower than that is followed, not noticed.
    """

    def __init__(
        self, *, towards: Towards = "down", collect: int = COLLECTED, false_every: float = FALSE_EVERY
    ) -> None:
        """Begin. Args: collect: values of the first reference, `FEWEST` at the least."""
        if collect < FEWEST:
            raise ValueError(f"A reference of {collect} values says nothing. Give {FEWEST} at the least.")
        self._towards: Towards = towards
        self._collect, self._false_every = collect, false_every
        self._total, self._count, self._due, self._doubt = 0.0, 0, collect, DOUBT
        self.alarm: Alarm | None = None
        """None while it gathers, when nothing is noticed."""

    def take(self, value: float) -> Noticed | None:
        """Take in a value; gives the alarm that it raises. Raises ValueError: it is not in [0, 1]."""
        noticed = self.alarm.take(value) if self.alarm else None
        if noticed is not None:
            self.again()
            return noticed
        self._total += _checked(value)
        self._count += 1
        if self._count >= self._due and (self.alarm is None or self.alarm.evidence < QUIET):
            # Of all the references of a watch together no more than DOUBT is wrong: half of it, a quarter, ...
            self._doubt /= 2.0
            known = _known(self._total, self._count, self._doubt)
            if self.alarm is None:
                self.alarm = Alarm(known, towards=self._towards, false_every=self._false_every)
            else:
                self.alarm.know(known)
            self._due = 2 * self._count if 2 * self._count <= MOST else sys.maxsize
        return None

    def again(self) -> None:
        """Gather a new reference: something was changed on purpose."""
        self.alarm = None
        self._total, self._count, self._due, self._doubt = 0.0, 0, self._collect, DOUBT


def _checked(value: float) -> float:
    if not 0.0 <= value <= 1.0:  # NaN is not either
        raise ValueError(f"A value is {value}, and must be from 0 to 1.")
    return float(value)


def _bound(mean: float, far: float) -> float:
    """Give the least p whose relative entropy from the mean, KL(mean, p), is at most `far`."""
    low, high = 0.0, mean
    for _ in range(50):
        p = (low + high) / 2.0
        low, high = (low, p) if _entropy(mean, p) <= far else (p, high)
    return low


def _entropy(mean: float, p: float) -> float:
    if p <= 0.0:
        return 0.0 if mean <= 0.0 else float("inf")
    first = mean * log(mean / p) if mean > 0.0 else 0.0
    return first + ((1.0 - mean) * log((1.0 - mean) / (1.0 - p)) if mean < 1.0 else 0.0)
