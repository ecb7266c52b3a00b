"""What a question means, as a vector: the embedder as the cache asks it, and what it does when there is none.

Not here: embedders (the room `embed`), what is done with a vector (`tier.py`).
Invariant: no failure of an embedder leaves here; it is counted, told of once, and the question has no vector.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trivet.cache.key import Question
from trivet.errors import EmbedderError, WidthError
from trivet.seams import Embedder, Vectors

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
    return (await vectors_of([asked], embedder, troubles, patience_s=patience_s))[0]


async def vectors_of(
    asked: Sequence[Question], embedder: Embedder, troubles: Troubles, *, patience_s: float = EMBED_WITHIN_S
) -> list[Meant]:
    """Turn questions into vectors, all at once."""
    made = [Meant(None, whole=False)] * len(asked)
    short = [i for i, one in enumerate(asked) if len(one.text) + len(one.context) <= MAX_CHARACTERS]
    said = [[one.text, one.context] if one.context else [one.text] for one in (asked[i] for i in short)]
    texts = [text for some in said for text in some]
    if not texts:
        return made
    vectors = await _embedded(texts, embedder, troubles, patience_s=patience_s)
    at = 0
    for i, some in zip(short, said, strict=True):
        to = at + len(some)
        made[i] = Meant(None) if vectors is None else _meant(vectors.rows[at:to], vectors.cut[at:to])
        at = to
    return made


async def _embedded(
    texts: Sequence[str], embedder: Embedder, troubles: Troubles, *, patience_s: float
) -> Vectors | None:
    state = embedder.ready()
    if state:
        troubles.count("not_ready", state)
        return None
    try:
        async with asyncio.timeout(patience_s):
            vectors = await embedder.embed(texts)
    except TimeoutError:
        troubles.count("slow", f"the embedder took over {patience_s:g} s")
        return None
    except WidthError as error:
        troubles.count("shape", str(error))
        return None
    except EmbedderError as error:
        troubles.count("failed", str(error))
        return None
    if vectors.rows.shape != (len(texts), embedder.width):
        troubles.count("shape", f"the embedder gave {vectors.rows.shape} in place of {(len(texts), embedder.width)}")
        return None
    troubles.over()
    return vectors


def _meant(rows: "NDArray[np.float32]", cut: Sequence[bool]) -> Meant:
    # A text that was cut is like all that begin like it; one without a word has no direction (and NaN fails here).
    if any(cut) or not all(0.98 < float(row @ row) < 1.02 for row in rows):
        return Meant(None, whole=False)
    return Meant((rows.reshape(-1) * len(rows) ** -0.5).astype("float32", copy=False))


def text_of(vector: "NDArray[np.float32]", asked: Question) -> "NDArray[np.float32]":
    """Give the vector of the text alone, of unit length, from the one that a question has."""
    return vector[: len(vector) // 2] * 2.0**0.5 if asked.context else vector
