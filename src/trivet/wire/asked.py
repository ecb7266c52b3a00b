"""Requests of our own to a model, about what clients said: how that is put before it, and what it said, read back.

Not here: what is asked (each stage has words of its own), calling (`pipeline.py`).
Invariant: what is quoted cannot end its own quotation, nor its line.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def fields(system: str, words: str, *, max_tokens: int, examples: Iterable[tuple[str, str]] = ()) -> dict[str, Raw]:
    """Give the members of a chat request, but for the model, with as little chance as there can be.

    Args:
        system: what it is to do.
        words: what it is to do it with, now.
        max_tokens: of its answer.
        examples: words, and what it would have said to them.
    """
    turns = [turn for said in examples for turn in zip(("user", "assistant"), said, strict=True)]
    messages = [("system", system), *turns, ("user", words)]
    body = {
        "messages": [{"role": role, "content": content} for role, content in messages],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    return {name: Raw(_encode(value)) for name, value in body.items()}


def quoted(text: str) -> str:
    """Write a text as a JSON string on one line, whatever it takes for the end of a line."""
    return _encode(text).decode().translate(_LINE_ENDS)


def said(body: bytes) -> str:
    """Give what a whole `chat.completion` says; "" where that is nothing, or cannot be read."""
    try:
        text = _decode(body)["choices"][0]["message"]["content"]
    except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError):
        return ""
    return text if isinstance(text, str) else ""
