"""An answer in OpenAI's shapes as bytes: read for what matters, and left as it is on its way to the client.

Not here: requests (`wire/request.py`), framing of streams (`wire/sse.py`), whole answers from pieces and back
(`wire/answer.py`). Invariant: members that Trivet does not know keep their bytes.
"""

import re

import msgspec
from msgspec import Raw, Struct

from trivet.errors import TrivetError, UpstreamError
from trivet.types import Chunk, Kind, Usage

_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

# ---- an answer, read ---------------------------------------------------------------------------------------------


class _Details(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Of those before: ours, for what Anthropic tells (`anthropic_answer.py`)."""
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None


class _WireUsage(Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_NULL = Raw(b"null")


class _Choice(Struct, gc=False):
    finish_reason: str | None = None
    delta: Raw = _NULL
    text: str = ""
    """Of a completion that is asked the older way."""


class _Piece(Struct, gc=False):
    choices: list[_Choice] = []
    usage: Raw = _NULL
    error: Raw = _NULL
    model: str | None = None


_NO_DETAILS = _Details()
_read_piece = msgspec.json.Decoder(_Piece).decode
_read_usage = msgspec.json.Decoder(_WireUsage).decode
_MOST_TOKENS = 1_000_000_000
_NOTHING = frozenset({b"null", b'""', b"[]", b"{}"})


def read_usage(raw: bytes | Raw) -> Usage | None:
    """Read a `usage` object; None where it says what cannot be (negative, absurd, parts larger than the whole)."""
    try:
        wire = _read_usage(raw)
    except msgspec.MsgspecError:
        return None
    into = wire.prompt_tokens_details or _NO_DETAILS
    out = wire.completion_tokens_details or _NO_DETAILS
    usage = Usage(
        input_tokens=wire.prompt_tokens,
        output_tokens=wire.completion_tokens or 0,
        cached_tokens=into.cached_tokens or 0,
        cache_write_tokens=into.cache_write_tokens or 0,
        cache_write_1h_tokens=into.cache_write_1h_tokens or 0,
        reasoning_tokens=out.reasoning_tokens or 0,
        input_audio_tokens=into.audio_tokens or 0,
        output_audio_tokens=out.audio_tokens or 0,
    )
    return usage if _possible(usage) else None


def _possible(usage: Usage) -> bool:
    into, out = usage.input_tokens, usage.output_tokens
    return (
        0 <= usage.cached_tokens <= into <= _MOST_TOKENS
        and 0 <= usage.cache_write_1h_tokens <= usage.cache_write_tokens <= into
        and 0 <= usage.input_audio_tokens <= into
        and 0 <= usage.reasoning_tokens <= out <= _MOST_TOKENS
        and 0 <= usage.output_audio_tokens <= out
    )


def read_piece(data: bytes, *, streamed: bool) -> Chunk:
    """Read one document of an answer: a `chat.completion.chunk`, or a whole `chat.completion`.

    Raises:
        UpstreamError: it is not one, or it is an error inside an answer that began well (status 200).
    """
    finish = None
    speaks = not streamed
    try:
        piece = _read_piece(data)
        for choice in piece.choices:
            finish = choice.finish_reason or finish
            if not speaks:
                speaks = bool(choice.text) or (choice.delta is not _NULL and _speaks(choice.delta))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The target sent something that is not a chat completion: {error}.") from error
    if piece.error is not _NULL and bytes(piece.error) != b"null":
        raise _inner_error(data, piece.error)
    if not streamed and not piece.choices:
        raise UpstreamError("The target's answer has no choices.")
    usage = None if piece.usage is _NULL or bytes(piece.usage) == b"null" else read_usage(piece.usage)
    return Chunk(data, speaks=speaks, finish=finish, usage=usage, model=piece.model)


class _Document(Struct, gc=False):
    data: list[Raw] | None = None
    results: list[Raw] | None = None
    usage: Raw = _NULL
    error: Raw = _NULL
    model: str | None = None


_read_document = msgspec.json.Decoder(_Document).decode


def read_document(data: bytes, *, kind: Kind) -> Chunk:
    """Read an answer that is no completion: a list of embeddings, or of moderations.

    Raises:
        UpstreamError: it is not one, or it is an error under a status of 200.
    """
    try:
        document = _read_document(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The target sent something that is no answer of {kind}: {error}.") from error
    if bytes(document.error) != b"null":
        raise _inner_error(data, document.error)
    if (document.data if kind == "embeddings" else document.results) is None:
        raise UpstreamError(f"The target's answer has no {kind}.")
    usage = None if bytes(document.usage) == b"null" else read_usage(document.usage)
    return Chunk(data, speaks=True, usage=usage, model=document.model)


def _speaks(delta: Raw) -> bool:
    if bytes(delta) in _NOTHING:
        return False
    return any(name != "role" and bytes(value) not in _NOTHING for name, value in _read_members(delta).items())


class _InnerError(Struct):
    message: str = ""
    code: str | int | None = None
    status: int | None = None


def read_error(body: bytes) -> UpstreamError | None:
    """Read a document that is nothing but an error; None if it says nothing that could be told."""
    try:
        error = _read_piece(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if bytes(error) in _NOTHING else _inner_error(body, error)


def _inner_error(data: bytes, raw: Raw) -> UpstreamError:
    """Make an error of one that a target sent; it goes on as it came only where it has OpenAI's shape."""
    body: bytes | None = None
    try:
        inner = msgspec.json.decode(raw, type=_InnerError)
        if inner.message and data.decode():  # in UTF-8
            body = data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        inner = _InnerError(message=_words(raw))
    status = next((s for s in (inner.status, inner.code) if isinstance(s, int) and 400 <= s <= 599), 502)
    code = inner.code if isinstance(inner.code, str) and _CODE.fullmatch(inner.code) else "upstream_error"
    kept = f"The target sent an error inside its answer: {status} {code}."
    return UpstreamError(inner.message or kept, status=status, code=code, body=body, kept=kept)


def _words(raw: Raw) -> str:
    """Read an error that is no object: Ollama's is a text, others' whatever they had."""
    try:
        text = msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = bytes(raw).decode("utf-8", "replace")
    return text[:500]


_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""A code is a word, and the ledger keeps it; anything else is prose, and may quote the request."""


# ---- an answer, on its way to the client --------------------------------------------------------------------------


def without_usage(data: bytes) -> bytes | None:
    """Take `usage` out of a chunk for a client that did not ask for it; None if nothing is left to say."""
    if data.find(b'"usage"') < 0:
        return data
    members = _read_members(data)
    usage = members.pop("usage", None)
    if usage is None:
        return data
    if bytes(usage) != b"null" and b"".join(bytes(members.get("choices", _NULL)).split()) in (b"[]", b"null"):
        return None
    return _encode(members)


def with_report(data: bytes, report: dict[str, object]) -> bytes:
    """Add our own member `trivet` to a document, leaving the bytes before it as they are."""
    head = data.rstrip()[:-1].rstrip()
    return head + (b"" if head.endswith(b"{") else b",") + b'"trivet":' + _encode(report) + b"}"


def error_body(error: TrivetError) -> bytes:
    """Write an error in OpenAI's shape. A target's own error body goes through as it came."""
    if isinstance(error, UpstreamError) and error.body is not None:
        return error.body
    param = getattr(error, "param", None)
    return _encode({"error": {"message": str(error), "type": error.kind, "param": param, "code": error.code}})
