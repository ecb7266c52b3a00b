"""Chances of tokens, asked for where a client did not ask for them, and taken out again before it sees the answer.

Not here: what they say of an answer (`routing/cascade/formed.py`). Invariant: but for them, a document keeps its bytes'
meaning: every other member goes on as it came.
"""

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from trivet.types import Chunk, Request

_read = msgspec.json.Decoder(dict[str, Raw]).decode
_read_choices = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_encode = msgspec.json.Encoder().encode
_TRUE = Raw(b"true")


def asking(request: Request) -> Request:
    """Have a chat request ask for the chances of its answer's tokens; the same request if it does already."""
    if bytes(request.fields.get("logprobs", b"")) == b"true":
        return request
    return replace(request, fields={**request.fields, "logprobs": _TRUE})


def without(chunk: Chunk) -> Chunk:
    """Take the chances out of a piece of an answer."""
    if b'"logprobs"' not in chunk.data:
        return chunk
    try:
        document = _read(chunk.data)
        choices = _read_choices(document["choices"])
    except (msgspec.MsgspecError, UnicodeError, KeyError):
        return chunk
    for choice in choices:
        if "logprobs" in choice:
            choice["logprobs"] = Raw(b"null")
    return replace(chunk, data=_encode({**document, "choices": choices}))
