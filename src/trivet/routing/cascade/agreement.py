"""Which answers say the same: tool calls and JSON as values, texts by the answer that they end up with, or by meaning.

Not here: whether they are well-formed (`formed.py`), how many have to agree (`router.py`).
Invariants: texts that close with other numbers are never the same; what cannot be compared is not the same; the first
of a side speaks for it, so that the order of answers may matter and their number does not.
"""

from collections.abc import Sequence

from trivet.errors import EmbedderError
from trivet.seams import Embedder
from trivet.wire.alike import LIKE, Prose, likeness, settled, text_in
from trivet.wire.canonical import canonical, closing


class Agreement:
    """Compares answers."""

    def __init__(self, embedder: Embedder | None) -> None:
        """`embedder`: for prose; None, or not ready: it is compared word by word."""
        self._embedder = embedder

    async def sides(self, bodies: Sequence[bytes], *, compare: str) -> list[list[int]]:
        """Put answers together that say the same as the first of theirs: places in `bodies`.

        Args:
            bodies: whole `chat.completion`s that are well-formed.
            compare: `likeness`, or `equality`: prose that differs is another answer.
        """
        sides: list[list[int]] = []
        for i, body in enumerate(bodies):
            for side in sides:
                if await self._same(bodies[side[0]], body, compare=compare):
                    side.append(i)
                    break
            else:
                sides.append([i])
        return sides

    async def _same(self, one: bytes, other: bytes, *, compare: str) -> bool:
        found = settled(one, other)
        if found is True:
            return True
        ends = _ends(one, other)
        if ends is not None or not isinstance(found, Prose):
            return bool(ends)
        if compare == "equality" or self._embedder is None or self._embedder.ready():
            return False
        try:
            return await likeness(found, self._embedder) >= LIKE
        except EmbedderError:
            return False


def _ends(one: bytes, other: bytes) -> bool | None:
    """Say whether two texts end up with the same answer, however they come to it; None: that cannot be said."""
    texts = text_in(one), text_in(other)
    if texts[0] is None or texts[1] is None:
        return None
    first, second = canonical(texts[0]), canonical(texts[1])
    if first is not None and second is not None:
        return first == second
    numbers = closing(texts[0]), closing(texts[1])
    if all(numbers) and numbers[0] != numbers[1]:
        return False
    known, text = (first, texts[1]) if first is not None else (second, texts[0])
    if known is None or known.kind == "words":
        return None
    return known.kind == "number" and known.text in closing(text)
