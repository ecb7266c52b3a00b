"""Vectors by number, compared with all of them: exact, one pass over some matrices.

Not here: what is faster where there are very many (`graph.py`), what the numbers stand for (`shelf.py`).
Rows are kept in float32 without gaps: what is removed is overwritten by the last. They are in blocks, so that to make
room never copies much: at 20,000 rows of 384 it would hold up the event loop for 20 ms.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST_ROWS = 4
"""Most scopes have few questions (a tenant, a system prompt), and some have a hundred thousand."""

_BLOCK_BYTES = 1 << 22
"""Of a whole block: 2,730 rows of 384."""


class Rows:
    """Vectors by number."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._in_block = max(_FIRST_ROWS, _BLOCK_BYTES // (4 * width))
        self._blocks: list[NDArray[np.float32]] = []
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def numbers(self) -> Sequence[int]:
        """Give those that are there; not to be changed, and only good until something is put or removed."""
        return self._numbers

    def put(self, number: int, vector: "NDArray[np.float32]") -> None:
        """Put a vector in: float32 [width], of unit length. A number that is there already gets the new one."""
        if vector.shape != (self.width,):
            raise ValueError(f"A vector of {vector.shape} does not go with those of width {self.width}.")
        place = self._places.get(number)
        if place is None:
            place = len(self._numbers)
            self._make_room(place)
            self._numbers.append(number)
            self._places[number] = place
        block, row = divmod(place, self._in_block)
        self._blocks[block][row] = vector

    def remove(self, number: int) -> None:
        """Take a vector out; the number must be there."""
        place = self._places.pop(number)
        last = self._numbers.pop()
        if last != number:
            block, row = divmod(place, self._in_block)
            of_last, row_of_last = divmod(len(self._numbers), self._in_block)
            self._blocks[block][row] = self._blocks[of_last][row_of_last]
            self._numbers[place] = last
            self._places[last] = place
        if len(self._blocks) > 1 + -(-len(self._numbers) // self._in_block):
            self._blocks.pop()  # one that is empty stays, for the next to come

    def row(self, number: int) -> "NDArray[np.float32]":
        """Give the vector of a number that is there."""
        block, row = divmod(self._places[number], self._in_block)
        found: NDArray[np.float32] = self._blocks[block][row]
        return found

    def cosines(self, vector: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Give the cosine of each, in the order of `numbers`.

        For unit vectors the dot product is the cosine (Manning, Raghavan & Schütze 2008, section 6.3).
        """
        import numpy as np  # heavy, and only for those whose cache compares meanings

        count = len(self._numbers)
        made = np.empty(count, np.float32)
        for n, block in enumerate(self._blocks):
            start = n * self._in_block
            part = made[start : start + self._in_block]
            np.dot(block[: len(part)], vector, out=part)
        return np.clip(made, -1.0, 1.0, out=made)

    def nearest(self, vector: "NDArray[np.float32]", k: int) -> list[tuple[int, float]]:
        """Give the k nearest numbers with their cosines in [-1, 1], nearest first; fewer where there are fewer."""
        import numpy as np

        count = len(self._numbers)
        if not count:
            return []
        cosines = self.cosines(vector)
        top = np.argpartition(-cosines, k)[:k] if count > k else np.arange(count)
        top = top[np.argsort(-cosines[top], kind="stable")]
        return [(self._numbers[i], float(cosines[i])) for i in top]

    def _make_room(self, place: int) -> None:
        import numpy as np

        block, row = divmod(place, self._in_block)
        if block == len(self._blocks):
            rows = self._in_block if block else _FIRST_ROWS
            self._blocks.append(np.empty((rows, self.width), np.float32))
        elif row == len(self._blocks[block]):  # the first one grows
            grown = np.empty((min(2 * row, self._in_block), self.width), np.float32)
            grown[:row] = self._blocks[block]
            self._blocks[block] = grown
