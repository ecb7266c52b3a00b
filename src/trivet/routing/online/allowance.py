"""How much may be tried within a promise: what share of requests may go where its floor does not send them.

A request is *bold* where it goes to a target that what is promised does not cover. Of each, at most the whole answer is
lost: a score of 1. So bold requests may be tried as long as what is surely over the floor pays for them all, if each
were wrong (Wu et al. 2016, "Conservative bandits"; Kazerouni et al. 2017, 1611.06426). Two purses pay:

- the *share*, known from the start: a promise that holds more than the floor has that to give (`share_of`);
- what was *measured*: with labels of served requests beside the reference's, a lower bound, which holds at all times,
  of what all requests so far were over the floor (`bound.py`). What was tried and came out well is in it, so it need be
  paid again only until its labels can have come (`late`).

What it holds for: labels drawn by chance with one share, such as a shadow's, and as far as those drawn are like the
rest; not feedback from whoever gives it. Where
what is safe is the reference, quality stays above the floor with the confidence at every moment, if labels are right
and no later than `late`; where it is a plan's choice, as far as the plan's own promise holds.

Not here: what is tried (`thompson.py`), what ends all of it (`guard.py`). Invariants: what is spent from the share is
never more than it; without labels nothing but the share is spent; room is in [0, 1].
"""

from collections import deque

from trivet.routing.online.bound import Running

LATE = 100
"""Requests after which the label of one has come, if it comes: a shadow takes seconds."""


def share_of(*, at_least: float, quality: float, reference: float) -> float:
    """Give the share of requests that a promise has to give.

    Args:
        at_least: the lower bound of quality, as a share of the reference's (`promise.Held`).
        quality: the floor, the same.
        reference: the mean score of the reference, in [0, 1].
    """
    return min(1.0, max(0.0, (at_least - quality) * reference))


class Allowance:
    """Of one policy."""

    def __init__(self, *, quality: float, confidence: float, share: float = 0.0, late: int = LATE) -> None:
        """Begin.

        Args:
            quality: the floor, a share of the reference's, in [0, 1].
            confidence: in (0, 1).
            share: of requests, that may be bold whatever comes of them; see `share_of`.
            late: requests until a label comes.

        Raises:
            ValueError: not in these ranges.
        """
        if not (0.0 <= quality <= 1.0 and 0.0 < confidence < 1.0 and 0.0 <= share <= 1.0 and late >= 1):
            raise ValueError(
                f"quality is {quality}, confidence {confidence}, share {share}, late {late}: shares are from 0 to 1, "
                "and a label is late by at least one request."
            )
        self._quality, self._error, self._share = quality, 1.0 - confidence, share
        self._over = Running(-quality, 1.0)
        self._unpaid: deque[float] = deque([0.0] * late, maxlen=late)
        self._low = -quality
        self.requests = 0
        self.bold = 0.0
        """Requests that were expected to be bold: the sum of the chances."""
        self._of_share = self._pending = 0.0

    def room(self) -> float:
        """Say with what chance the next request may be bold, in [0, 1]."""
        return min(1.0, max(0.0, self._shared(), self._measured()))

    def _shared(self) -> float:
        return self._share * (self.requests + 1) - self._of_share

    def _measured(self) -> float:
        return self._low * self.requests - self._pending

    def asked(self, bold: float) -> None:
        """Count a request that was bold with that chance.

        Raises:
            ValueError: it is more than there is room for; nothing has changed then.
        """
        if not 0.0 <= bold <= self.room() + 1e-9:
            raise ValueError(f"A request is bold with a chance of {bold}, and there is room for {self.room()}.")
        if bold > self._measured():  # else it was paid for by what was measured
            self._of_share += bold
        self.requests += 1
        self.bold += bold
        self._pending += bold - self._unpaid[0]
        self._unpaid.append(bold)

    def labelled(self, served: float, reference: float) -> None:
        """Take in the scores of what was served and of the reference, for a request drawn by chance; each in [0, 1].

        Raises:
            ValueError: they are not.
        """
        if not (0.0 <= served <= 1.0 and 0.0 <= reference <= 1.0):
            raise ValueError(f"Scores are {served} and {reference}, and must be from 0 to 1.")
        self._over.take(served - self._quality * reference)
        self._low = self._over.low(self._error)

    def changed(self) -> None:
        """Forget what was measured: a model is another one. What was tried before is settled."""
        self._over = Running(-self._quality, 1.0)
        self._low = -self._quality
        self.requests, self._of_share, self._pending = 0, 0.0, 0.0
        self._unpaid.extend([0.0] * len(self._unpaid))

    def measured(self) -> tuple[float, float, float]:
        """Give how much score was over the floor on average, and between which bounds, each but for the error."""
        return self._over.mean, self._low, self._over.high(self._error)
