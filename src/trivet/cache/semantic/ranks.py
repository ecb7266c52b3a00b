"""Numbers by rank, the lowest first: who goes to make room.

Not here: what a rank is of (`shelf.py`). Most are never looked at, so they lie in two plain arrays, 16 bytes each; only
the lowest are in order. Who is gone is not taken out: its turn comes, and the caller passes over it.
"""

import heapq
from array import array
from collections.abc import Callable

_IN_ORDER = 512
"""To find so many of the lowest among a hundred thousand takes 1 ms; so it is 2 us for each."""

_SPARE = 64

_AT_ONCE = 2_048
"""That `tidy` looks at: 0.2 ms."""


class Ranks:
    """A queue."""

    def __init__(self) -> None:
        self._low: list[tuple[float, int]] = []
        """A heap of all whose rank is at most `_bound`."""
        self._bound = float("-inf")
        self._ranks, self._numbers = array("d"), array("Q")
        """The others, as they came."""
        self._hand = 0
        """Where `tidy` goes on."""

    def __len__(self) -> int:
        return len(self._low) + len(self._ranks)

    def push(self, rank: float, number: int) -> None:
        """Put a number in, also one that is there with another rank."""
        if rank <= self._bound:
            heapq.heappush(self._low, (rank, number))
            if len(self._low) > 4 * _IN_ORDER:
                self._spill()
        else:
            self._ranks.append(rank)
            self._numbers.append(number)

    def pop(self) -> tuple[float, int]:
        """Take out the lowest; there must be one."""
        if not self._low:
            self._refill()
        return heapq.heappop(self._low)

    def tidy(self, *, there: Callable[[int], bool], count: int) -> None:
        """Take out some of those that are gone, if there are many. Args: there: whether one is not gone; count: of
        those."""
        if len(self) <= count + count // 4 + _SPARE:
            return
        some = slice(self._hand, self._hand + _AT_ONCE)
        last = some.stop >= len(self._ranks)
        kept = [one for one in zip(self._ranks[some], self._numbers[some], strict=True) if there(one[1])]
        self._ranks[some] = array("d", [rank for rank, _ in kept])
        self._numbers[some] = array("Q", [number for _, number in kept])
        self._hand = 0 if last else self._hand + len(kept)

    def _refill(self) -> None:
        import numpy as np  # heavy, and imported already where there is a vector

        ranks, numbers = np.array(self._ranks), np.array(self._numbers)
        most = min(_IN_ORDER, len(ranks))
        self._bound = float(np.partition(ranks, most - 1)[most - 1])
        low = ranks <= self._bound
        self._low = sorted(zip(ranks[low].tolist(), numbers[low].tolist(), strict=True))
        self._ranks, self._numbers = array("d", ranks[~low].tobytes()), array("Q", numbers[~low].tobytes())

    def _spill(self) -> None:
        self._low.sort()
        for rank, number in self._low[_IN_ORDER:]:
            self._ranks.append(rank)
            self._numbers.append(number)
        del self._low[_IN_ORDER:]
        self._bound = self._low[-1][0]
