"""Notices that answers agree more or less often than they did: a model that was swapped, or traffic of another kind.

A sequential test by betting (e-detectors: Shin, Ramdas, Rinaldo 2024, "E-detectors: a nonparametric framework for
sequential change detection", section 3; bets as in Waudby-Smith and Ramdas 2024). Bets against "the rate is as it was"
gain where it is not, and start anew wherever they have lost all; an alarm is given when one has grown by `ALARM`.
Under no change that takes at least `ALARM` observations on average, whatever the rate, and however often one looks.

The rate as it was is itself estimated, so what is bet against is its interval, not its value: a change within it is
never noticed. It grows narrower with what comes while there is no alarm.

Not here: what follows from an alarm (`router.py`). Invariants: no clock, no randomness; a bet is never worth less than
nothing; until the reference is known there is no alarm.
"""

from math import sqrt
from statistics import NormalDist

REFERENCE = 1000
"""Observations that the rate is learned from, first of all, and by which that grows."""

MOST = 10_000
"""Observations of the reference: it grows so far while there is no alarm."""

ALARM = 20_000.0
"""Observations without a change to one false alarm, at least, on average, by the theory; simulated there were 8 in 6
million at a rate of 0.8, and 1 in 5 million at ten rates from 0.001 to 0.999."""

BACK = 200
"""Observations after an alarm within the old interval again, after which all is as it was."""

MOST_WON = 4.0
"""What a bet may gain by one observation, in times what it was worth."""

_SURE = NormalDist().inv_cdf(0.9995)
_BETS = (0.05, 0.15, 0.3, 0.5, 0.8)
"""Shares of what may be bet: small ones notice small changes late, large ones large changes soon."""


class Drift:
    """Watches one rate."""

    def __init__(self, *, reference: int = REFERENCE, alarm: float = ALARM) -> None:
        self._reference, self._alarm = reference, alarm
        self._seen = self._yes = 0
        self._later = self._later_yes = 0
        """Observations since the reference was made larger the last time."""
        self.low, self.high = 0.0, 1.0
        """The interval of the reference; known when it is whole."""
        self._less, self._more = [1.0] * len(_BETS), [1.0] * len(_BETS)
        self._recent: list[bool] = []
        self.off = False
        """An alarm was given, and it is not over."""

    @property
    def known(self) -> bool:
        """Whether the reference is whole."""
        return self._seen >= self._reference

    def note(self, *, yes: bool) -> bool:
        """Note an observation; True: this one gives an alarm, or ends one."""
        if not self.known:
            self._seen += 1
            self._yes += yes
            if self._seen == self._reference:
                self.low, self.high = interval(self._yes, self._seen)
            return False
        if self.off:
            return self._ended(yes=yes)
        x = float(yes)
        worth = 0.0
        for i, bet in enumerate(_BETS):
            # 1 + l (low - x) is worth 1 or less on average while the rate is at least `low`; l so that it is never < 0,
            # and that one rare answer does not win the bet alone.
            if self.low > 0.0:
                less = min(bet / max(1.0 - self.low, 1e-9), MOST_WON / self.low)
                self._less[i] = max(1.0, self._less[i]) * (1.0 + less * (self.low - x))
            if self.high < 1.0:
                more = min(bet / max(self.high, 1e-9), MOST_WON / (1.0 - self.high))
                self._more[i] = max(1.0, self._more[i]) * (1.0 + more * (x - self.high))
            worth += (self._less[i] + self._more[i]) / (2 * len(_BETS))
        if worth < self._alarm:
            self._grow(yes=yes)
            return False
        self.off, self._recent = True, []
        return True

    def _grow(self, *, yes: bool) -> None:
        """Let the reference grow by what came without an alarm: the more it has, the smaller a change is noticed."""
        self._later += 1
        self._later_yes += yes
        if self._later == self._reference and self._seen < MOST:
            self._seen += self._later
            self._yes += self._later_yes
            self._later = self._later_yes = 0
            self.low, self.high = interval(self._yes, self._seen)

    def _ended(self, *, yes: bool) -> bool:
        self._recent = [*self._recent[-BACK + 1 :], yes]
        rate = sum(self._recent) / len(self._recent)
        if len(self._recent) < BACK or not self.low <= rate <= self.high:
            return False
        self.off = False
        self._less, self._more = [1.0] * len(_BETS), [1.0] * len(_BETS)
        return True

    def lately(self) -> str:
        """Say in words how the rate was and is; for the operator."""
        was = f"{self.low:.0%} to {self.high:.0%}"
        return f"{was} before, {sum(self._recent) / len(self._recent):.0%} now" if self._recent else was


def interval(yes: int, seen: int) -> tuple[float, float]:
    """Give the interval of a rate (Wilson 1927), 99.9 % sure: two numbers in [0, 1]."""
    rate, z2 = yes / seen, _SURE**2
    middle = (rate + z2 / (2 * seen)) / (1 + z2 / seen)
    half = _SURE / (1 + z2 / seen) * sqrt(rate * (1 - rate) / seen + z2 / (4 * seen * seen))
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))
