"""Going back by itself: all to the reference model, when a promise is seen to be broken or an alarm says so.

    on -- an alarm, or quality surely under the floor --> safe -- quality surely over it again, and told to --> on

What is held against the floor are labels of requests drawn by chance, the score of the plan's choice beside the
reference's. While all goes to the reference they still come, from shadows of what the plan would have chosen, so the
way back needs no customer's answer. Both are bounds that hold at every moment (`bound.py`), and each stretch has half
the chance of error of the one before it: over all time, the chance of *ever* going back for a broken promise that was
kept, or of being ready where it is not, is at most one minus the confidence.

*Surely under* is not that the lower bound is under the floor, as it always is at first: the upper one is. As one mean
over a long good time hides a bad day, an alarm of `drift.py` beside it notices that quality is under the floor
*lately*; that one may be false once in `FALSE_EVERY` labels.

Not here: noticing that a model is another one (`drift.py`), forgetting what was learned of it (`thompson.py`).
Invariants: it never comes back by itself, only when told to (`resume`); in the safe state nothing but the reference is
to be asked, whatever was learned.
"""

from typing import Literal, NamedTuple

from trivet.routing.online.bound import Running
from trivet.routing.online.drift import FALSE_EVERY, Alarm, exactly

State = Literal["on", "safe"]


class Standing(NamedTuple):
    """How it stands, for people and programs."""

    state: State
    why: str
    """It is safe; "" where it is on."""
    over: float
    """What the plan's choice scores more than the floor, on average in this stretch; in [-1, 1]."""
    low: float
    """Its bounds at every moment."""
    high: float
    labels: int
    """Of this stretch."""
    ready: bool
    """Safe, and quality is surely over the floor again."""


class Guard:
    """Of one policy."""

    def __init__(self, *, quality: float, confidence: float) -> None:
        """Begin, on.

        Args:
            quality: the floor, a share of the reference's, in [0, 1].
            confidence: in (0, 1).

        Raises:
            ValueError: not in these ranges.
        """
        if not (0.0 <= quality <= 1.0 and 0.0 < confidence < 1.0):
            raise ValueError(f"quality is {quality} and confidence {confidence}; each is a share from 0 to 1.")
        self._quality, self._error = quality, 1.0 - confidence
        self.state: State = "on"
        self.why = ""
        self._stretch()

    def _stretch(self) -> None:
        # Half of what is left, each time: they add up to no more than the whole.
        self._error /= 2.0
        self._over = Running(-self._quality, 1.0)
        self._lately = Alarm(exactly(self._quality / (1.0 + self._quality)), false_every=FALSE_EVERY)

    def take(self, chosen: float, reference: float) -> bool:
        """Take in the scores, each in [0, 1], of a request drawn by chance; says whether it goes to the safe state.

        Args:
            chosen: of the answer of the target that the plan chooses, which in the safe state is not the one served.
            reference: of the reference's answer.

        Raises:
            ValueError: they are not in [0, 1].
        """
        if not (0.0 <= chosen <= 1.0 and 0.0 <= reference <= 1.0):
            raise ValueError(f"Scores are {chosen} and {reference}, and must be from 0 to 1.")
        over = chosen - self._quality * reference
        self._over.take(over)
        if self.state == "safe":
            return False
        noticed = self._lately.take(min(1.0, (over + self._quality) / (1.0 + self._quality)))
        count, mean, high = self._over.count, self._over.mean, self._over.high(self._error)
        if noticed is not None:
            count, mean = noticed.since, noticed.mean * (1.0 + self._quality) - self._quality
        elif high >= 0.0:
            return False
        return self.alarm(f"quality is under its floor by {-mean:.3f} of score, on average over {count} labels")

    def alarm(self, why: str) -> bool:
        """Go to the safe state, for a reason; says whether it was on until now."""
        was_on = self.state == "on"
        if was_on:
            self.state = "safe"
        self.why = why
        # Also where it was safe: labels of before the change say nothing of what is there now.
        self._stretch()
        return was_on

    def resume(self, *, replanned: bool = False) -> None:
        """Come back.

        Args:
            replanned: what is chosen was found anew, on labels that came since, and its promise holds by itself.

        Raises:
            ValueError: it is not safe to, or it never left.
        """
        if self.state == "on" or not (replanned or self.ready):
            raise ValueError("It is not shown that quality is over the floor. Wait for labels, or plan anew.")
        self.state, self.why = "on", ""
        self._stretch()

    @property
    def ready(self) -> bool:
        """Whether it is safe to come back."""
        return self.state == "safe" and self._over.count > 0 and self._over.low(self._error) >= 0.0

    def standing(self) -> Standing:
        """Say how it stands."""
        over = self._over
        return Standing(
            self.state, self.why, over.mean, over.low(self._error), over.high(self._error), over.count, self.ready
        )
