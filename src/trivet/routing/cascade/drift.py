"""Whether cheap answers agree as often as they did, and what becomes of an alarm: it holds until they do again.

Not here: how a change is noticed (`routing/online/drift.py`), what follows from it (`router.py`).
Invariants: no clock, no randomness; until the rate is known there is no alarm; an alarm is told once.
"""

from trivet.routing.online.drift import COLLECTED, Reference, Watch

BACK = 200
"""Observations after an alarm within the bounds of before, after which all is as it was."""


class Drift:
    """Watches one rate."""

    def __init__(self, *, collect: int = COLLECTED) -> None:
        self._watch = Watch(towards="both", collect=collect)
        self._before: Reference | None = None
        self._recent: list[bool] = []
        self.off = False
        """An alarm was given, and it is not over."""

    @property
    def reference(self) -> Reference | None:
        """The rate as it was before; None: it is not known yet."""
        if self.off:
            return self._before
        return None if self._watch.alarm is None else self._watch.alarm.reference

    def note(self, *, yes: bool) -> bool:
        """Note an observation; True: this one gives an alarm, or ends one."""
        if self.off:
            return self._ended(yes=yes)
        alarm = self._watch.alarm
        if self._watch.take(float(yes)) is None:
            return False
        assert alarm is not None
        self.off, self._before, self._recent = True, alarm.reference, []
        return True

    def _ended(self, *, yes: bool) -> bool:
        assert self._before is not None
        self._recent = [*self._recent[-BACK + 1 :], yes]
        rate = sum(self._recent) / len(self._recent)
        far = 2 * (max(self._before.mean * (1 - self._before.mean), 1e-4) / BACK) ** 0.5  # of so few, by chance
        if len(self._recent) < BACK or not self._before.low - far <= rate <= self._before.high + far:
            return False
        self.off = False
        self._watch.again()
        return True

    def lately(self) -> str:
        """Say in words how the rate was and is; for the operator."""
        known = self.reference
        was = f"{known.low:.0%} to {known.high:.0%}" if known else "not known"
        return f"{was} before, {sum(self._recent) / len(self._recent):.0%} now" if self._recent else was
