"""Whether two answers say the same: what makes a fresh answer a verdict on a kept one.

Not here: which answers are compared (`tier.py`). A judge sees what was answered and no question.
Invariant: what cannot be read as an answer is not "the same" as anything.
"""

import re
from typing import Any

import msgspec

from trivet.seams import Embedder

LIKE = 0.80
"""Cosine of two answers from which they are taken to say the same, where both are prose."""

BRIEF = 200
"""Characters of an answer up to which every number in it counts: "It is 42". Longer ones number their steps."""

_PIECE = 600
"""Characters of prose that are embedded at once: under the 256 tokens that small embedders read."""

MAX_PIECES = 16
"""Of one answer that are compared: ten thousand characters."""

MAX_BYTES = 200_000
"""Of an answer that is judged: reading one takes a millisecond of the event loop, and longer ones say many things."""

_decode = msgspec.json.Decoder().decode
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


async def same(fresh: bytes, kept: bytes, embedder: Embedder) -> bool | None:
    """Say whether two answers (each a whole `chat.completion`) say the same; None where that cannot be said.

    Tool calls and JSON are compared as values, prose by likeness, and prose with other numbers in it is another answer.
    Raises EmbedderError.
    """
    if max(len(fresh), len(kept)) > MAX_BYTES:
        return None
    one, other = _said(fresh), _said(kept)
    if one is None or other is None:
        return None
    if one == other:
        return True
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    if not one or not other:
        return False
    if max(len(one), len(other)) <= BRIEF and set(_NUMBER.findall(one)) != set(_NUMBER.findall(other)):
        return False
    pieces = _pieces(one), _pieces(other)
    rows = (await embedder.embed([*pieces[0], *pieces[1]])).rows
    first, second = rows[: len(pieces[0])].sum(axis=0), rows[len(pieces[0]) :].sum(axis=0)
    lengths = float(first @ first) * float(second @ second)
    return lengths > 0 and float(first @ second) >= LIKE * lengths**0.5


def _pieces(text: str) -> list[str]:
    """Cut a text between words into pieces of about a size."""
    pieces: list[str] = []
    words: list[str] = []
    size = 0
    for word in text[: MAX_PIECES * _PIECE].split(" "):
        if words and size + len(word) > _PIECE:
            pieces.append(" ".join(words))
            words, size = [], 0
        words.append(word[:_PIECE])
        size += len(words[-1]) + 1
    return [*pieces, " ".join(words)]


def _said(body: bytes) -> Any:
    """Give what an answer says: a text in lower case with single blanks, or a JSON value; None: it cannot be read."""
    try:
        message = _decode(body)["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        if calls:
            return [(c["function"]["name"], _decode(c["function"]["arguments"])) for c in calls]
        text = message.get("content")
        if not isinstance(text, str):
            return None
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError):
        return None
    if text.lstrip()[:1] in ("{", "["):
        try:
            return {"json": _decode(text)}
        except msgspec.MsgspecError:
            pass
    return " ".join(text.lower().split())
