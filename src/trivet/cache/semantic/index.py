"""The vectors of one scope, and which of them are nearest: by comparing with all, or where there are very many by a
graph and with what came since.

Not here: what the numbers stand for (`shelf.py`), making a graph (`graphs.py`).
Invariants: only numbers are found that were added and not removed, whatever a graph has; the cosines that are given
are those of the vectors, also where a graph found them. Without a graph it is exact.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from trivet.cache.semantic.graph import Graph, alike
from trivet.cache.semantic.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALONE = 20_000
"""Rows that are compared with one by one before a graph is worth it: 0.8 ms on one core."""

SINCE = 4_096
"""Rows beside a graph, before they are put into it: 0.1 ms. A sixteenth of the graph where that is more, so that not
all of a large file is written again for a few."""

_FETCHED = 32
"""Candidates that are taken from a graph and compared exactly, for the eight that are wanted."""

_MOST_FETCHED = 1_024
"""Where most of the nearest are gone: past that a look finds less than there is, which is a miss."""

_IN_A_SLICE = 2_048
"""Vectors of a graph that are compared at once by `every`: 1.5 ms."""

_SETTLED_AT_ONCE = 512
"""Rows: 1 ms."""

_SHRUNK_EVERY = 16_384

_PROBED = 64
"""Vectors of a new graph that are compared with what they should be."""


_MOST_STRANDED = 8_192
"""Vectors that an old graph has and a new one has not, and that are still wanted: few came too late to be removed from
it. More: the new one was made from a file that has lost something, or is not of this index at all."""


class Change(NamedTuple):
    """Another graph for an index, and how it differs from the one before."""

    graph: Graph | None
    base: Graph | None
    """The one before."""
    fresh: set[int]
    """Numbers that only the new one has."""
    lost: set[int]
    """Numbers that only the old one has."""


class Index:
    """Vectors by number. A number that was removed and comes back has the vector that it had."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._rows = Rows(width)
        self._graph: Graph | None = None
        self._dead: set[int] = set()
        """Numbers in the graph that are not in the index, or are among the rows."""
        self._moved: set[int] = set()
        """Numbers whose vector was replaced: no graph that still comes may be right about them."""
        self._settling: list[int] = []
        """Numbers in the graph that may be among the rows too."""

    def __len__(self) -> int:
        return len(self._rows) + self._in_graph()

    def _in_graph(self) -> int:
        return 0 if self._graph is None else len(self._graph) - len(self._dead)

    @property
    def bytes(self) -> int:
        """What the vectors take; of a graph, its share of those that are still there."""
        of_graph = 0 if self._graph is None else self._graph.bytes * self._in_graph() // len(self._graph)
        return 4 * self.width * len(self._rows) + of_graph

    @property
    def crowded(self) -> bool:
        """Whether another graph would make it quicker."""
        both = len(self._settling)
        if self._graph is None:
            return len(self._rows) > ALONE
        if len(self._rows) - both > max(SINCE, len(self._graph) // 16):
            return True
        return len(self._dead) - both > max(SINCE, len(self._graph) // 4)

    def add(self, number: int, vector: "NDArray[np.float32]") -> None:
        """Put a vector in: float32 [width], of unit length. A number that is there already gets the new one."""
        in_graph = self._graph is not None and number in self._graph
        if in_graph or number in self._rows:
            self._moved.add(number)
        self._rows.put(number, vector)
        if in_graph:
            self._dead.add(number)

    def adopt(self, number: int) -> bool:
        """Put in a number whose vector is in the graph. False: it is not there, so `add` it."""
        if number not in self._dead or number in self._moved or number in self._rows:
            return False
        self._dead.discard(number)
        if len(self._dead) % _SHRUNK_EVERY == 0:
            self._dead = set(self._dead)  # a set does not shrink by itself
        return True

    def remove(self, number: int) -> None:
        """Take a vector out; the number must be there."""
        if number in self._rows:
            self._rows.remove(number)
        else:
            assert self._graph is not None
            assert number not in self._dead
            self._dead.add(number)

    def row(self, number: int) -> "NDArray[np.float32]":
        """Give the vector of a number that is there."""
        if number in self._rows:
            return self._rows.row(number)
        assert self._graph is not None
        one: NDArray[np.float32] = self._graph.rows(_array([number]))[0]
        return one

    def nearest(self, vector: "NDArray[np.float32]", k: int) -> list[tuple[int, float]]:
        """Give the k nearest numbers with their cosines in [-1, 1], nearest first; fewer where there are fewer.

        With a graph one in some hundred is not found, and where most of the nearest were taken out, more of them.
        """
        found = self._rows.nearest(vector, k)
        if self._graph is not None:
            found += self._in_graph_near(self._graph, vector, k)
            found.sort(key=lambda one: -one[1])
        return found[:k]

    def _in_graph_near(self, graph: Graph, vector: "NDArray[np.float32]", k: int) -> list[tuple[int, float]]:
        import numpy as np  # heavy, and only for those whose cache compares meanings

        fetch, most = max(k, _FETCHED), min(len(graph), max(k, _MOST_FETCHED))
        while True:
            near = graph.near(vector, fetch)
            numbers = near.tolist()
            if self._dead:
                numbers = [number for number in numbers if number not in self._dead]
            if len(numbers) >= k or fetch >= most or not self._dead:
                break
            fetch *= 4
        numbers = numbers[: max(k, _FETCHED)]
        if len(numbers) < len(near):
            near = _array(numbers)
        cosines = graph.rows(near) @ vector
        top = np.argsort(-cosines, kind="stable")[:k]
        return [(numbers[i], min(1.0, max(-1.0, float(cosines[i])))) for i in top]

    def every(self, vector: "NDArray[np.float32]", cosine: float) -> Iterator[list[tuple[int, float]]]:
        """Give all numbers whose cosine is at least that, exactly, in slices between which others may have their turn.

        What is added or taken out between two slices may be missing, or be given although it is gone.
        """
        import numpy as np

        graph, cosines = self._graph, self._rows.cosines(vector)
        numbers = self._rows.numbers()
        yield [(numbers[i], float(cosines[i])) for i in np.flatnonzero(cosines >= cosine).tolist()]
        if graph is None:
            return
        there = graph.numbers()
        for start in range(0, len(there), _IN_A_SLICE):
            some = there[start : start + _IN_A_SLICE]
            cosines = np.clip(graph.rows(some) @ vector, -1.0, 1.0)
            near = [(int(some[i]), float(cosines[i])) for i in np.flatnonzero(cosines >= cosine)]
            yield [one for one in near if one[0] not in self._dead]

    def take(self, change: Change) -> bool:
        """Take another graph in the place of what it has. False: it is not of these vectors, and was not taken.

        Numbers of it that are not in the index are not found until they are adopted.
        """
        old, graph, fresh, lost = self._graph, change.graph, change.fresh, change.lost
        if change.base is not old:  # a scope that was given up and came back
            ours = set() if old is None else set(old.numbers().tolist())
            theirs = set() if graph is None else set(graph.numbers().tolist())
            fresh, lost = theirs - ours, ours - theirs
        stranded = lost - self._dead
        if len(stranded) > _MOST_STRANDED or (graph is not None and not self._agrees(graph, fresh)):
            return False
        if old is not None and stranded:
            numbers = list(stranded)
            for number, row in zip(numbers, old.rows(_array(numbers)), strict=True):
                self._rows.put(number, row)
        # What is fresh is dead at first: it is found among the rows until it is settled, or is not in the index.
        self._dead = (self._dead - lost) | fresh if self._dead else fresh
        self._settling = [*self._settling, *fresh] if len(self._rows) else []
        self._graph = graph
        return True

    def settle(self) -> bool:
        """Let go of some rows that the graph has too, in the order of a millisecond. False: there are no more."""
        some = self._settling[-_SETTLED_AT_ONCE:]
        del self._settling[-_SETTLED_AT_ONCE:]
        for number in some:
            if number in self._rows and number not in self._moved and number in self._dead:
                self._rows.remove(number)
                self._dead.discard(number)
        if some and not self._settling:
            self._dead = set(self._dead)  # a set does not shrink by itself
        return bool(self._settling)

    def _agrees(self, graph: Graph, fresh: set[int]) -> bool:
        """Compare some of the vectors of a graph with those that are known."""
        import numpy as np

        some = [number for number in islice(fresh, _PROBED) if number in self._rows and number not in self._moved]
        return not some or bool(alike(graph.rows(_array(some)), np.stack([self._rows.row(n) for n in some])).all())


def _array(numbers: list[int]) -> "NDArray[np.uint64]":
    import numpy as np

    return np.array(numbers, np.uint64)
