"""Whether the answer of a shadow says the same as the one that the client got.

It is the comparison that the cache learns by (`wire/alike.py`, `cache/semantic/jury.py`), so the same word in a policy
means the same in both. Not here: what follows from it (`labels.py`), calling a model (`pipeline.py`).
"""

from typing import NamedTuple

from msgspec import Raw

from trivet.cache.semantic import jury
from trivet.errors import EmbedderError
from trivet.seams import Embedder
from trivet.wire.alike import LIKE, Prose, likeness, settled


class Verdict(NamedTuple):
    """What is known of two answers."""

    same: bool
    likeness: float | None = None
    """Their cosine, where it came to that."""
    source: str = "shadow"


class Asks(NamedTuple):
    """What a model is to be asked first: the members of chat requests, but for the model."""

    fields: tuple[dict[str, Raw], ...]


async def compared(
    one: bytes, other: bytes, *, by: str, question: str, embedder: Embedder | None
) -> Verdict | Asks | None:
    """Compare two answers, each a whole `chat.completion`; None where it cannot be said.

    Args:
        by: `equality`, `likeness`, or the model that is to be asked where words differ.
        embedder: for `likeness`; None, or one that is not ready: it cannot be said.
    """
    found = settled(one, other)
    if not isinstance(found, Prose):
        return None if found is None else Verdict(found)
    if by == "equality":
        return Verdict(same=False)
    if by != "likeness":
        fields = jury.asks(question, *found)
        return Asks(fields) if fields else None
    if embedder is None or embedder.ready():
        return None
    try:
        cosine = await likeness(found, embedder)
    except EmbedderError:
        return None
    return Verdict(cosine >= LIKE, cosine)


def heard(bodies: list[bytes | None], asks: Asks) -> Verdict | None:
    """Read what a model said; None: nothing that counts."""
    same, _ = jury.heard([*bodies, *[None] * (len(asks.fields) - len(bodies))])
    return None if same is None else Verdict(same, source="judge")
