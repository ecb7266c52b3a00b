"""`/v1/chat/completions` as bytes: the request read at the edge, rewritten for a target, and the answer read back.

Not here: framing of streams (`wire/sse.py`), whole answers from pieces and back (`wire/answer.py`).
Invariants: members that Trivet does not know keep their bytes, both ways; what is decided on and what is forwarded
are read from the same members (a name given twice: the last one counts, and only that one goes on).
"""

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trivet.errors import BadRequestError, TrivetError, UpstreamError
from trivet.types import CacheWord, Chunk, Controls, Labels, Request, Usage

Headers = Iterable[tuple[bytes, bytes]]


class _StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class ChatBody(Struct, gc=False):
    """The members of a chat completion request that Trivet itself reads; all others pass through."""

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    messages: Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    trivet: dict[str, str | int | float | bool | None] | UnsetType = UNSET


_read_body = msgspec.json.Decoder(ChatBody).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

MAX_MEMBERS = 1000
"""Of a body. OpenAI knows some forty; a million of them would hold up everybody for seconds in making a cache key."""

_STAYS_HERE = frozenset(
    b"host content-length content-type content-encoding accept accept-encoding accept-language authorization cookie "
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade expect forwarded via x-real-ip x-api-key api-key origin referer".split()
)
"""Hop-by-hop (RFC 9110, 7.6.1), about our own connection, or a credential: never passed on."""

_STAYS_HERE_TOO = (b"x-trivet-", b"x-forwarded-", b"sec-", b"cf-", b"proxy-")


def read_chat(body: bytes, headers: Headers, *, id: str, tenant: str, key_id: str, at_ns: int) -> Request:  # noqa: A002  # the field's name
    """Read a request from its body and headers.

    Raises:
        BadRequestError: not JSON, not a chat completion, or a control that does not exist.
    """
    try:
        chat = _read_body(body)
        fields = _read_members(body)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"The body is not a chat completion request: {error}.", param=_param(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}.", code="invalid_json") from error
    if not bytes(chat.messages).startswith(b"["):
        raise BadRequestError("`messages` must be a list of messages.", param="messages")
    if len(fields) > MAX_MEMBERS:
        raise BadRequestError(f"The body has {len(fields)} members; a chat completion has at most {MAX_MEMBERS}.")
    words: dict[str, str] = {}
    if chat.trivet is not UNSET:
        del fields["trivet"]
        words = {name: _word(value) for name, value in chat.trivet.items() if value is not None}
    passed, asked = _sort_headers(headers)
    words |= asked
    labels, controls = _controls(words) if words else (_NO_LABELS, _NO_CONTROLS)
    options = chat.stream_options
    return Request(
        id=id,
        tenant=tenant,
        key_id=key_id,
        model=chat.model,
        fields=fields,
        stream=bool(chat.stream),
        wants_usage=options is not None and bool(options.include_usage),
        temperature=chat.temperature,
        n=chat.n or 1,
        labels=labels,
        controls=controls,
        headers=passed,
        at_ns=at_ns,
    )


_NO_LABELS, _NO_CONTROLS = Labels(), Controls()


def _word(value: str | float | bool) -> str:  # noqa: FBT001  # a JSON value
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _param(error: msgspec.ValidationError) -> str | None:
    text = str(error)
    return text.rsplit("$.", 1)[1].rstrip("`") if "`$." in text else None


def _sort_headers(headers: Headers) -> tuple[tuple[tuple[bytes, bytes], ...], dict[str, str]]:
    """Part the headers into those that are passed on and our own words; the rest stays here."""
    passed: list[tuple[bytes, bytes]] = []
    asked: dict[str, str] = {}
    named_by_connection: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name in _STAYS_HERE:
            if name == b"connection" and value not in (b"keep-alive", b"close"):
                named_by_connection |= {v.strip().lower() for v in value.split(b",")}
        elif not name.startswith(_STAYS_HERE_TOO):
            passed.append((name, value))
        elif name.startswith(b"x-trivet-"):
            asked[name[9:].decode("latin-1")] = value.decode("latin-1")
    if named_by_connection:
        passed = [(n, v) for n, v in passed if n not in named_by_connection]
    return tuple(passed), asked


_CACHE_WORDS: dict[str, CacheWord] = {"auto": "auto", "off": "off", "refresh": "refresh", "only": "only"}
_NOT_YET = frozenset({"max-error", "quality", "priority", "cache-tags"})
_MAX_WORD = 256


def _controls(words: dict[str, str]) -> tuple[Labels, Controls]:
    """Read our own words. Raises BadRequestError for one that does not exist: it would be ignored otherwise."""
    given = {name.replace("_", "-"): value for name, value in words.items()}
    for name, value in given.items():
        if len(value) > _MAX_WORD:
            raise BadRequestError(f"x-trivet-{name} is longer than {_MAX_WORD} characters.", param=f"x-trivet-{name}")
    cache = given.pop("cache", "auto")
    if cache not in _CACHE_WORDS:
        raise BadRequestError(
            f"x-trivet-cache is {cache!r}; it can be auto, off, refresh or only.", param="x-trivet-cache"
        )
    report = given.pop("report", None)
    if report not in (None, "on", "off"):
        raise BadRequestError(f"x-trivet-report is {report!r}; it can be on or off.", param="x-trivet-report")
    controls = Controls(
        cache=_CACHE_WORDS[cache],
        namespace=given.pop("namespace", ""),
        baseline=given.pop("baseline", ""),
        report=None if report is None else report == "on",
        deadline_ms=_deadline_ms(given.pop("deadline", None)),
    )
    labels = Labels(feature=given.pop("feature", ""), agent=given.pop("agent", ""), customer=given.pop("customer", ""))
    for name in given:
        why = "this version does not have it yet" if name in _NOT_YET else "there is no such control"
        raise BadRequestError(f"x-trivet-{name}: {why}; leave it out.", param=f"x-trivet-{name}")
    return labels, controls


_SPANS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def _deadline_ms(span: str | None) -> int | None:
    if span is None:
        return None
    number = span.rstrip("msh")
    unit = span[len(number) :] or "ms"
    if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number)) or unit not in _SPANS_MS:
        raise BadRequestError(
            f"x-trivet-deadline is {span[:40]!r}; write a length of time such as 800ms, 30s or 2m.",
            param="x-trivet-deadline",
        )
    return int(number) * _SPANS_MS[unit]


# ---- towards a target -------------------------------------------------------------------------------------------


def for_target(request: Request, *, model: str) -> bytes:
    """Write the body for a target: its own name for the model, and usage always asked for in streams."""
    fields: dict[str, object] = {**request.fields, "model": model}
    if request.stream and not request.wants_usage:
        options = request.fields.get("stream_options")
        old = {} if options is None or bytes(options) == b"null" else _read_members(options)
        fields["stream_options"] = {**old, "include_usage": True}
    return _encode(fields)


# ---- an answer, read ---------------------------------------------------------------------------------------------


class _Details(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
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
        reasoning_tokens=out.reasoning_tokens or 0,
        input_audio_tokens=into.audio_tokens or 0,
        output_audio_tokens=out.audio_tokens or 0,
    )
    return usage if _possible(usage) else None


def _possible(usage: Usage) -> bool:
    into, out = usage.input_tokens, usage.output_tokens
    return (
        0 <= usage.cached_tokens <= into <= _MOST_TOKENS
        and 0 <= usage.cache_write_tokens <= into
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
                speaks = _speaks(choice.delta)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The target sent something that is not a chat completion: {error}.") from error
    if piece.error is not _NULL and bytes(piece.error) != b"null":
        raise _inner_error(data, piece.error)
    if not streamed and not piece.choices:
        raise UpstreamError("The target's answer has no choices.")
    usage = None if piece.usage is _NULL or bytes(piece.usage) == b"null" else read_usage(piece.usage)
    return Chunk(data, speaks=speaks, finish=finish, usage=usage, model=piece.model)


def _speaks(delta: Raw) -> bool:
    if bytes(delta) in _NOTHING:
        return False
    return any(name != "role" and bytes(value) not in _NOTHING for name, value in _read_members(delta).items())


class _InnerError(Struct):
    message: str = ""
    code: str | int | None = None
    status: int | None = None


def read_error(body: bytes) -> UpstreamError | None:
    """Read a document that is nothing but an error; None if it is not in OpenAI's shape."""
    try:
        error = _read_piece(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if bytes(error) == b"null" else _inner_error(body, error)


def _inner_error(data: bytes, raw: Raw) -> UpstreamError:
    try:
        inner = msgspec.json.decode(raw, type=_InnerError)
    except msgspec.MsgspecError:
        inner = _InnerError(message=bytes(raw)[:500].decode("utf-8", "replace"))
    status = next((s for s in (inner.status, inner.code) if isinstance(s, int) and 400 <= s <= 599), 502)
    code = inner.code if isinstance(inner.code, str) and _CODE.fullmatch(inner.code) else "upstream_error"
    kept = f"The target sent an error inside its answer: {status} {code}."
    return UpstreamError(inner.message or kept, status=status, code=code, body=data, kept=kept)


_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""A code is a word, and the ledger keeps it; anything else is prose, and may quote the request."""


# ---- an answer, on its way to the client --------------------------------------------------------------------------


def without_usage(data: bytes) -> bytes | None:
    """Take `usage` out of a chunk for a client that did not ask for it; None if nothing is left to say."""
    if b'"usage"' not in data:
        return data
    members = _read_members(data)
    usage = members.pop("usage", None)
    if usage is None:
        return data
    if bytes(usage) != b"null" and bytes(members.get("choices", Raw(b"[]"))) == b"[]":
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
