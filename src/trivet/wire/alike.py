"""Whether two answers say the same: what makes a fresh answer a verdict on a kept one, and two cheap models agree.

Not here: which answers are compared (`cache/semantic/`, `routing/cascade/`, `labels/`), asking a model about them
(`cache/semantic/jury.py`). These checks see no question.
Invariants: what cannot be read as an answer is not "the same" as anything; nor is what sends people somewhere else,
however like its words are.
"""

import re
from typing import Any, NamedTuple

import msgspec

from trivet.seams import Embedder

LIKE = 0.80
"""Cosine of two answers from which they are taken to say the same, where both are prose: about the lowest at which one
in twenty wrong hits passes for right (0.79 with MiniLM, 0.84 with the builtin embedder, on one half of 697 comparisons
of two small models' answers; on the other half 5.6 and 3.2 % passed at 0.80). bench/judge.py, docs/cache.md#judges."""

BRIEF = 200
"""Characters of an answer up to which every number in it counts: "It is 42". Longer ones number their steps."""

_PIECE = 600
"""Characters of prose that are embedded at once: under the 256 tokens that small embedders read."""

MAX_PIECES = 16
"""Of one answer that are compared: ten thousand characters."""

MAX_BYTES = 200_000
"""Of an answer that is judged: reading one takes a millisecond of the event loop, and longer ones say many things."""

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_HOST = re.compile(
    r"(?<![\w.+-])(?:https?://(?:[^\s/@]{0,100}@)?|www\.|[\w.+-]+@)([a-z0-9-]+(?:\.[a-z0-9-]+)+)"
    r"|(?<![\w.-])([a-z0-9-]+(?:\.[a-z0-9-]+)*"
    r"\.(?:com|net|org|io|co|info|biz|app|dev|xyz|top|site|online|shop|link|me|ru|cn))(?![\w-])"
)
"""Hosts of links and of e-mail addresses, and what reads like one by its ending, in text that is in lower case. Only
the beginnings of words are tried, so that no text takes longer than its length."""
_DIALLED = re.compile(r"\+?\d(?:[ ()/.-]{0,2}\d){6,}")
"""Seven digits and more, as telephone and account numbers have."""


class Prose(NamedTuple):
    """Two answers in words that differ: what remains to be compared by their meaning."""

    fresh: str
    kept: str


def settled(fresh: bytes, kept: bytes) -> bool | Prose | None:
    """Say whether two answers (each a whole `chat.completion`) say the same, as far as no meaning is needed for that.

    Tool calls and JSON are compared as values; prose is the same in any case and spacing, and not the same if it sends
    people to other hosts or telephone numbers, or is brief and has other numbers. None: that cannot be said at all.
    """
    if max(len(fresh), len(kept)) > MAX_BYTES:
        return None
    one, other = _said(fresh), _said(kept)
    if one is None or other is None:
        return None
    if not (isinstance(one, str) and isinstance(other, str)):
        return bool(one == other)
    plain, known = plainly(one), plainly(other)
    if plain == known:
        return True
    if not plain or not known or leads(plain) != leads(known):
        return False
    if max(len(plain), len(known)) <= BRIEF and set(_NUMBER.findall(plain)) != set(_NUMBER.findall(known)):
        return False
    return Prose(one, other)


async def same(fresh: bytes, kept: bytes, embedder: Embedder, *, by: str = "likeness") -> bool | None:
    """Say whether two answers say the same; None where that cannot be said. Raises EmbedderError.

    Args:
        by: "equality": prose that differs is another answer; anything else: prose is compared by likeness.
    """
    found = settled(fresh, kept)
    if isinstance(found, Prose):
        return by != "equality" and await likeness(found, embedder) >= LIKE
    return found


async def likeness(prose: Prose, embedder: Embedder) -> float:
    """Give the cosine of two answers, in [-1, 1]; 0 where one has nothing in it. Raises EmbedderError."""
    pieces = _pieces(plainly(prose.fresh)), _pieces(plainly(prose.kept))
    rows = (await embedder.embed([*pieces[0], *pieces[1]])).rows
    first, second = rows[: len(pieces[0])].sum(axis=0), rows[len(pieces[0]) :].sum(axis=0)
    lengths = float(first @ first) * float(second @ second)
    return float(first @ second) / lengths**0.5 if lengths > 0 else 0.0


def plainly(text: str) -> str:
    """Write a text in lower case with single blanks."""
    return " ".join(text.lower().split())


def leads(plain: str) -> set[str]:
    """Give where a text sends people, hosts and telephone numbers. Args: plain: as `plainly` has it."""
    hosts = {(one or other).removeprefix("www.") for one, other in _HOST.findall(plain)}
    return hosts | {re.sub(r"\D", "", number) for number in _DIALLED.findall(plain)}


def said_in_words(body: bytes) -> str | None:
    """Give all that an answer says, its tool calls as JSON; None: it is too long to be read."""
    if len(body) > MAX_BYTES:
        return None
    said = _said(body)
    return said if isinstance(said, str) else _encode(said).decode()


def text_in(body: bytes) -> str | None:
    """Give an answer that is a text; None: it is none, or too long to be read."""
    said = _said(body) if len(body) <= MAX_BYTES else None
    return said if isinstance(said, str) else None


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
    """Give what an answer says: a text, or a JSON value; None: it cannot be read."""
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
    return text
