"""Words that were said of questions, and how long a model that says none is left alone.

Invariants: as many words as there is room for; no text is kept, only digests.
"""

from collections import OrderedDict

from trivet.routing.classifier.words import Word
from trivet.seams import Clock

AFTER = 5
"""Asks on end without a word, after which a model is left alone: one that is down would cost each request its
timeout."""

PAUSE_S = 30.0
"""For so long; then one request tries whether it is back."""


class Memory:
    """The words of one policy, those heard or used last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[Word, int]] = OrderedDict()

    def __len__(self) -> int:
        """Say how many words are kept."""
        return len(self._kept)

    def find(self, key: bytes) -> Word | None:
        """Give the word; None: there is none, or its time is over."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[1] <= self._clock.mono_ns():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def keep(self, key: bytes, word: Word, *, ttl_s: float, most: int) -> None:
        """Remember a word; those that were not used for longest make room."""
        self._kept[key] = (word, self._clock.mono_ns() + int(ttl_s * 1e9))
        self._kept.move_to_end(key)
        while len(self._kept) > most:
            self._kept.popitem(last=False)


class Breaker:
    """Leaves a model alone that has said nothing some times on end, and tries it again now and then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent = 0
        self._until_ns = 0

    def lets(self) -> bool:
        """Say whether it may be asked. Of a model that is left alone that is one ask in each pause."""
        if self._silent < AFTER:
            return True
        now_ns = self._clock.mono_ns()
        if now_ns < self._until_ns:
            return False
        self._until_ns = now_ns + int(PAUSE_S * 1e9)  # so an ask that is given up blocks nobody for longer
        return True

    def spoke(self) -> None:
        """It has said its word."""
        self._silent = 0

    def failed(self) -> bool:
        """It has not; gives whether that makes it one that is left alone from now on."""
        self._silent += 1
        if self._silent >= AFTER:
            self._until_ns = self._clock.mono_ns() + int(PAUSE_S * 1e9)
        return self._silent == AFTER
