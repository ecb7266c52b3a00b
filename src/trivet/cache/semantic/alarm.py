"""Whether a policy's promise is kept, as its audits say: the error that was measured lately, with its interval.

Not here: what the decider reckons its error to be (`promise.py`), comparing answers (`wire/alike.py`). A judge that
errs is not noticed here, and adds its errors to what is measured.
Riskier hits are audited more often, so each audit counts for as many hits as it stands for: one over the chance that
it had. Invariants: an alarm is told once, and again only after it was over; without audits nothing is measured.
"""

from collections import deque
from math import sqrt

import msgspec

AUDITS = 400
"""That are measured: of a cache at nine tenths of its promise one in fifteen raised a false alarm in 3,000 audits
(`SURE`), and one with three times the errors it may have was noticed after 195 (half of 30 runs)."""

REQUESTS = 2000
"""Over about which the share of hits is taken, as the promise is."""

SURE = 3.0
"""Standard errors by which what is measured is above the promise when the alarm is raised. It is looked at after each
audit, so at the 1.96 of the interval that is shown, two in five would raise a false one."""


class Audit(msgspec.Struct, frozen=True, array_like=True):
    """What came of one."""

    stands_for: float
    """Hits."""
    wrong: bool


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alarm's state as it is saved."""

    audits: list[Audit]
    requests: float
    served: float
    broken: bool


class Alarm:
    """Of one policy."""

    def __init__(self, promise: float) -> None:
        """Args: promise: share of all answers that may be wrong hits."""
        self.promise = promise
        self.broken = False
        self._audits: deque[Audit] = deque(maxlen=AUDITS)
        self._requests = self._served = 0.0

    def asked(self, *, served: bool) -> None:
        """Count a request: served from a question like it, or not."""
        fading = 1.0 - 1.0 / REQUESTS
        self._requests = self._requests * fading + 1.0
        self._served = self._served * fading + served

    def audited(self, chance: float, *, wrong: bool) -> bool:
        """Take in an audit; says whether the alarm is raised by it. Args: chance: that it had, in (0, 1]."""
        self._audits.append(Audit(1.0 / max(chance, 1e-3), wrong))
        before = self.broken
        error, low, _ = self.measured(SURE)
        # Over only when it is no more than promised: at the edge it would be raised again and again.
        self.broken = low > self.promise or (before and error > self.promise)
        return self.broken and not before

    def measured(self, z: float = 1.96) -> tuple[float, float, float]:
        """Give the share of all answers that were wrong hits, and its interval; 0 to 1 where nothing is known."""
        stood = sum(audit.stands_for for audit in self._audits)
        if not stood:
            return 0.0, 0.0, 1.0
        wrong = sum(audit.stands_for for audit in self._audits if audit.wrong)
        # Audits that stand for many hits make the count as unsure as fewer of equal weight would (Kish 1965).
        equal = stood**2 / sum(audit.stands_for**2 for audit in self._audits)
        low, high = wilson(wrong / stood, equal, z)
        served = self._served / self._requests if self._requests else 0.0
        return wrong / stood * served, low * served, high * served

    def counts(self) -> tuple[int, int]:
        """Give the audits that are measured, and how many of them found another answer."""
        return len(self._audits), sum(audit.wrong for audit in self._audits)

    def save(self) -> Kept:
        """Give what is to be kept."""
        return Kept(list(self._audits), self._requests, self._served, self.broken)

    def restore(self, kept: Kept) -> None:
        """Go on from there."""
        self._audits.extend(kept.audits)
        self._requests, self._served, self.broken = kept.requests, kept.served, kept.broken


def wilson(share: float, count: float, z: float) -> tuple[float, float]:
    """Give the interval of a share of a count that need not be whole (Wilson 1927)."""
    square = z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
