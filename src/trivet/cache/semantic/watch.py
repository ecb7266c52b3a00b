"""What comes of the looks of one policy: the error that audits measure, and whether looking pays.

Not here: either of the two (`alarm.py`, `gain.py`). This is where they are told of, saved and reported together.
Invariant: nothing of it decides whether an answer is right; it says when the operator should look, and where to look
less.
"""

from collections.abc import Callable

import msgspec

from trivet.cache.semantic import alarm
from trivet.cache.semantic.alarm import Alarm
from trivet.cache.semantic.gain import Gain, Gains, Space
from trivet.seams import Clock, Random
from trivet.types import CachePolicy

NAME = "watch"
"""Under which the file of kept answers has it, beside what deciders have learned."""

WHAT_TO_DO = (
    'Until you know why, set mode = "shadow", which measures and serves nothing by likeness, or a lower max_error; if '
    "the answers said the same after all, another judge. docs/cache.md says more."
)

PROMISING = ("vcache", "verified", "shadow")
"""Modes that promise something."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As it is saved, and read by `trivet cache stats`."""

    at_ns: int
    promise: float
    error: tuple[float, float, float]
    """Of all answers, as audits measured it, and its interval."""
    audits: int
    audits_wrong: int
    alarm: alarm.Kept
    gains: list[tuple[Space, Gain]]


class Watch:
    """Of one policy."""

    def __init__(
        self, policy: str, rules: CachePolicy, *, clock: Clock, random: Random, tell: Callable[[str], None]
    ) -> None:
        self._policy, self._clock, self._random, self._tell = policy, clock, random, tell
        self.gains = Gains(random)
        self.alarm = Alarm(0.0)
        self.follow(rules)

    def follow(self, rules: CachePolicy) -> None:
        """Go on under these rules."""
        self._rules = rules
        self.alarm.promise = rules.max_error if rules.mode in PROMISING else 1.0

    def skips(self, space: Space) -> bool:
        """Say whether a look is to be left out, because there looking does not pay."""
        return self._rules.auto_off and self._rules.mode != "shadow" and self.gains.skips(space)

    def audited(self, chance: float, *, same: bool) -> None:
        """Take in what an audit found."""
        if not self.alarm.audited(chance, wrong=not same):
            return
        error, low, high = self.alarm.measured()
        audits, wrong = self.alarm.counts()
        self._tell(
            f"Policy {self._policy!r} breaks its promise: {error:.2%} of all its answers lately were wrong hits (95 %: "
            f"{low:.2%} to {high:.2%}), and max_error is {self.alarm.promise:.2%}. Of {audits} audits {wrong} found "
            f"another answer. {WHAT_TO_DO}"
        )

    def report(self) -> dict[str, float]:
        """Say how it stands, beside what the decider says of itself."""
        error, low, high = self.alarm.measured()
        return {
            "measured_error": error,
            "measured_error_low": low,
            "measured_error_high": high,
            "promise_broken": float(self.alarm.broken),
            "spaces": len(self.gains),
            "spaces_off": len(self.gains.off()),
        }

    def save(self) -> bytes:
        """Give what it has seen, as JSON."""
        audits, wrong = self.alarm.counts()
        state = State(
            self._clock.now_ns(), self.alarm.promise, self.alarm.measured(), audits, wrong, self.alarm.save(),
            self.gains.save(),
        )  # fmt: skip
        return msgspec.json.encode(state)

    def restore(self, saved: bytes) -> None:
        """Go on from what was saved; from nothing where that cannot be read: it costs some looks."""
        try:
            state = read(saved)
        except msgspec.MsgspecError:
            return
        self.alarm.restore(state.alarm)
        self.gains.restore(state.gains)


def read(saved: bytes) -> State:
    """Read what a watch saved. Raises msgspec.MsgspecError: it is damaged, or of another version."""
    return msgspec.json.decode(saved, type=State)
