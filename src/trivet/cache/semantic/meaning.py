"""What a question means, as a vector: the embedder as the cache asks it, and what it does when there is none.

Not here: embedders (the room `embed`), what is done with a vector (`tier.py`).
Invariant: no failure of an embedder leaves here; it is counted, told of once, and the question has no vector.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trivet.cache.key import Question
from trivet.errors import EmbedderError
from trivet.seams import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBED_WITHIN_S = 1.0
"""A look that takes longer is given up: the model would have begun to answer by then."""

MAX_CHARACTERS = 50_000
"""Of a question that is compared by meaning: more than embedders read (8,192 tokens), and not worth cutting up."""

TROUBLES = ("not_ready", "slow", "failed", "shape", "busy", "learning", "defect")
"""What can go wrong: with the embedder (the first four), in comparing answers, and in our own code."""


class Troubles:
    """What went wrong and was a miss, by kind; each is told of once until it works again."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(TROUBLES, 0))
        self._tell = tell
        self._alarmed: set[str] = set()

    def count(self, kind: str, words: str) -> None:
        """Count one of `TROUBLES`."""
        self.counts[kind] += 1
        if kind not in self._alarmed:
            self._alarmed.add(kind)
            self._tell(f"The semantic cache is a miss for now ({kind}): {words}")

    def over(self) -> None:
        """Say that it works again."""
        self._alarmed.clear()


class Meant(NamedTuple):
    """A question as a vector."""

    vector: "NDArray[np.float32] | None"
    """float32 [width], of length 1; with a context [2 width], either half of length √½, so that the cosine of two is
    the mean of that of the texts and that of the contexts. None: it has none, or none was to be had."""
    whole: bool = True
    """False: more was said than the embedder reads, or nothing that it can read; to ask again is of no use."""


async def vector_of(
    asked: Question, embedder: Embedder, troubles: Troubles, *, patience_s: float = EMBED_WITHIN_S
) -> Meant:
    """Turn a question into a vector."""
    said = [asked.text, asked.context] if asked.context else [asked.text]
    if sum(map(len, said)) > MAX_CHARACTERS:
        return Meant(None, whole=False)
    state = embedder.ready()
    if state:
        troubles.count("not_ready", state)
        return Meant(None)
    try:
        async with asyncio.timeout(patience_s):
            rows, _, cut = await embedder.embed(said)
    except TimeoutError:
        troubles.count("slow", f"the embedder took over {patience_s:g} s")
        return Meant(None)
    except EmbedderError as error:
        troubles.count("failed", str(error))
        return Meant(None)
    if rows.shape != (len(said), embedder.width):
        troubles.count("shape", f"the embedder gave {rows.shape} in place of {(len(said), embedder.width)}")
        return Meant(None)
    troubles.over()
    # A text that was cut is like all that begin like it; one without a word has no direction (and NaN fails here).
    if any(cut) or not all(0.98 < float(row @ row) < 1.02 for row in rows):
        return Meant(None, whole=False)
    return Meant((rows.reshape(-1) * len(said) ** -0.5).astype("float32", copy=False))
