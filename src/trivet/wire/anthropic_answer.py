"""Answers of Anthropic's Messages API, rewritten as chat completions: whole ones, usage, reasons, errors.

Not here: streams (`wire/anthropic_stream.py`), the way there (`wire/anthropic_request.py`).
Invariants: `prompt_tokens` counts all tokens that went in, those read from the cache and written to it too, which
Anthropic counts apart; arguments of tools and kept blocks have the bytes that came; what text and calls of tools
cannot say is kept in `anthropic_content`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from trivet.errors import UpstreamError
from trivet.types import Chunk, Usage
from trivet.wire.anthropic_messages import KEPT, NULL
from trivet.wire.chat import read_usage

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    # Tools at Anthropic took long, and it waits to be asked again with what it has said: not the end of an answer.
    "pause_turn": "length",
}
"""Their reasons in OpenAI's words; one that is not here goes through as it is. `stop_reason` beside it has theirs."""


class _Caller(Struct, gc=False):
    type: str = "direct"


class _Block(Struct, gc=False):
    """What is read of a block of content."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")
    citations: list[Raw] | None = None
    caller: _Caller | None = None
    toolset_name: str | None = None

    def shape(self) -> "Shape":
        caller = "direct" if self.caller is None else self.caller.type
        return Shape(self.type, bool(self.citations or self.toolset_name or caller != "direct"))


class Shape(NamedTuple):
    """Of a block, what tells whether OpenAI has words for it."""

    type: str
    more: bool
    """There is more to it: citations, or a call that is not simply the client's to answer."""


class _Message(Struct, gc=False):
    type: str = ""
    id: str = ""
    model: str = ""
    content: list[Raw] = []
    stop_reason: str | None = None
    stop_sequence: Raw = NULL
    stop_details: Raw = NULL
    container: Raw = NULL
    usage: Json | None = None


_read_message = msgspec.json.Decoder(_Message).decode
_read_block = msgspec.json.Decoder(_Block).decode


def read_answer(body: bytes, *, created: int) -> Chunk:
    """Read a whole answer.

    Args:
        created: seconds since 1970; Anthropic does not say when an answer was made.
    Raises:
        UpstreamError: it is no message, or it is an error.
    """
    try:
        message = _read_message(body)
        blocks = [_read_block(raw) for raw in message.content]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The target sent something that is not an answer of Anthropic's: {error}.") from error
    if message.type == "error":
        raise read_error(body) or UpstreamError("The target sent an error that says nothing.")
    if message.type != "message":
        raise UpstreamError("The target sent something that is not an answer of Anthropic's: its type is no message.")
    finish = FINISH.get(message.stop_reason or "", message.stop_reason)
    said = {"index": 0, "message": _said(message.content, blocks), "logprobs": None, "finish_reason": finish}
    document: Json = {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": message.model,
        "choices": [said | reasons(message.stop_reason, message.stop_sequence, message.stop_details)],
    }
    if message.container != NULL:
        document["container"] = message.container
    usage, document["usage"] = usage_of(message.usage or {})
    return Chunk(_encode(document), speaks=True, finish=finish, usage=usage, model=message.model or None)


def reasons(stop_reason: str | None, stop_sequence: object, stop_details: object) -> Json:
    """Give what Anthropic says of the end, for the choice; what is not said is left out."""
    told = {"stop_reason": stop_reason, "stop_sequence": stop_sequence, "stop_details": stop_details}
    return {name: value for name, value in told.items() if value is not None and value != NULL}


def _said(raws: Sequence[Raw], blocks: Sequence[_Block]) -> Json:
    text = "".join([block.text for block in blocks if block.type == "text"])
    thinking = "".join([block.thinking for block in blocks if block.type == "thinking"])
    calls = [
        {"id": b.id, "type": "function", "function": {"name": b.name, "arguments": bytes(b.input).decode()}}
        for b in blocks
        if b.type == "tool_use"
    ]
    message: Json = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if thinking:
        message["reasoning_content"] = thinking
    if calls:
        message["tool_calls"] = calls
    if not plain(block.shape() for block in blocks):
        message[KEPT] = list(raws)
    return message


def plain(shapes: Iterable[Shape]) -> bool:
    """Say whether text and calls of tools, in this order, are all there is."""
    called = False
    for shape in shapes:
        if shape.more or shape.type not in ("text", "tool_use") or (called and shape.type == "text"):
            return False
        called = shape.type == "tool_use"
    return True


# ---- usage ------------------------------------------------------------------------------------------------------


class _Thought(Struct, gc=False):
    thinking_tokens: int = 0


class _Written(Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _Spent(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    output_tokens_details: _Thought | None = None


_COUNTED = frozenset(_Spent.__struct_fields__) - {"cache_creation"}
"""What OpenAI has words for."""


def usage_of(spent: Mapping[str, Any]) -> tuple[Usage | None, Json | None]:
    """Add up what Anthropic counts apart: for the ledger, and as OpenAI's `usage`; None where it says nothing sensible.

    What else it tells (`cache_creation` by lifetime, `server_tool_use`, `service_tier`, ...) stays in the latter.
    """
    try:
        counted = msgspec.convert(spent, _Spent)
    except msgspec.ValidationError:
        return None, None
    if counted.input_tokens is None or counted.output_tokens is None:
        return None, None
    read, written = counted.cache_read_input_tokens or 0, counted.cache_creation_input_tokens or 0
    into = counted.input_tokens + read + written
    told: Json = {
        "prompt_tokens": into,
        "completion_tokens": counted.output_tokens,
        "total_tokens": into + counted.output_tokens,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }
    if counted.cache_creation is not None and counted.cache_creation.ephemeral_1h_input_tokens:  # they cost more
        told["prompt_tokens_details"]["cache_write_1h_tokens"] = counted.cache_creation.ephemeral_1h_input_tokens
    if counted.output_tokens_details is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": counted.output_tokens_details.thinking_tokens}
    rest = {name: value for name, value in spent.items() if name not in _COUNTED and value is not None}
    return read_usage(_encode(told)), rest | told


# ---- errors -----------------------------------------------------------------------------------------------------

STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error inside an answer would have been, had it come before it: docs.claude.com, "Errors"."""

_CODE = re.compile(r"[a-z0-9_]{1,64}")
"""A code is a word, and the ledger keeps it; anything else is prose, and may quote the request."""


class _Error(Struct, gc=False):
    error: Json | None = None
    request_id: str | None = None


_read_error = msgspec.json.Decoder(_Error).decode


def read_error(body: bytes) -> UpstreamError | None:
    """Read a document that is an error, in OpenAI's shape; None if it is not in Anthropic's."""
    try:
        told = _read_error(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if told.error is None:
        return None
    kind, message = told.error.get("type"), told.error.get("message")
    code = kind if isinstance(kind, str) and _CODE.fullmatch(kind) else "upstream_error"
    status = STATUS.get(code, 502)
    kept = f"The target sent an error inside its answer: {status} {code}."
    words = message if isinstance(message, str) and message else kept
    document: Json = {"error": {"param": None, **told.error, "message": words, "type": code, "code": code}}
    if told.request_id is not None:
        document["request_id"] = told.request_id
    return UpstreamError(words, status=status, code=code, body=_encode(document), kept=kept)
