"""A request as bytes: read once at the edge, and rewritten for a target. OpenAI's shapes, of every kind that is asked.

Not here: answers (`wire/chat.py`), other protocols.
Invariants: members that Trivet does not know keep their bytes; what is decided on and what is forwarded are read from
the same members (a name given twice: the last one counts, and only that one goes on).
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trivet.errors import BadRequestError
from trivet.types import CacheWord, Controls, Kind, Labels, Permit, Request

Headers = Iterable[tuple[bytes, bytes]]


class _StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Words = dict[str, str | int | float | bool | None] | UnsetType


class _Written(Struct, kw_only=True, gc=False):
    """What requests for text that is written have in common."""

    model: _Name
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    trivet: _Words = UNSET


class ChatBody(_Written, kw_only=True, gc=False):
    """The members of a chat completion request that Trivet itself reads; all others pass through."""

    messages: Raw


class CompletionBody(_Written, kw_only=True, gc=False):
    """The same of a completion request, the older way: a prompt and no messages."""

    prompt: Raw


class EmbeddingBody(Struct, gc=False):
    """The same of an embedding request."""

    model: _Name
    input: Raw
    trivet: _Words = UNSET


class ModerationBody(Struct, gc=False):
    """The same of a moderation request; OpenAI lets the model be left out."""

    input: Raw
    model: _Name = "omni-moderation-latest"
    trivet: _Words = UNSET


BODIES: dict[Kind, type[ChatBody | CompletionBody | EmbeddingBody | ModerationBody]] = {
    "chat": ChatBody,
    "completions": CompletionBody,
    "embeddings": EmbeddingBody,
    "moderations": ModerationBody,
}
_CALLED: dict[Kind, str] = {
    "chat": "a chat completion",
    "completions": "a completion",
    "embeddings": "an embedding",
    "moderations": "a moderation",
}
_readers = {kind: msgspec.json.Decoder(body).decode for kind, body in BODIES.items()}
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

MAX_MEMBERS = 1000
"""Of a body. OpenAI knows some forty; a million of them would hold up everybody for seconds in making a cache key."""

_STAYS_HERE = frozenset(
    b"host content-length content-type content-encoding accept accept-encoding accept-language authorization cookie "
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade expect forwarded via x-real-ip x-api-key x-goog-api-key api-key origin referer".split()
)
"""Hop-by-hop (RFC 9110, 7.6.1), about our own connection, or a credential: never passed on."""

_STAYS_HERE_TOO = (b"x-trivet-", b"x-forwarded-", b"sec-", b"cf-", b"proxy-")


_ANYTHING = Permit()


def read_request(
    body: bytes,
    headers: Headers,
    *,
    id: str,  # noqa: A002  # the field's name
    tenant: str,
    key_id: str,
    at_ns: int,
    kind: Kind = "chat",
    permit: Permit = _ANYTHING,
) -> Request:
    """Read a request from its body and headers.

    Raises:
        BadRequestError: not JSON, not a request of this kind, or a control that does not exist.
    """
    try:
        if not body.isascii():
            body.decode()  # what is passed on unread is not looked at further, and JSON is UTF-8 (RFC 8259, 8.1)
        read = _readers[kind](body)
        fields = _read_members(body)
    except msgspec.ValidationError as error:
        words = f"The body is not {_CALLED[kind]} request: {error}."
        raise BadRequestError(words, param=_param(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}.", code="invalid_json") from error
    if len(fields) > MAX_MEMBERS:
        raise BadRequestError(f"The body has {len(fields)} members; {_CALLED[kind]} has at most {MAX_MEMBERS}.")
    words_given: dict[str, str] = {}
    if read.trivet is not UNSET:
        del fields["trivet"]
        words_given = {name: _word(value) for name, value in read.trivet.items() if value is not None}
    passed, asked = _sort_headers(headers)
    words_given |= asked
    labels, controls = _controls(words_given) if words_given else (_NO_LABELS, _NO_CONTROLS)
    stream, options, temperature, n = False, None, None, 1
    if type(read) is ChatBody or type(read) is CompletionBody:  # `isinstance` of a Struct may go through ABCMeta
        stream, options, temperature, n = bool(read.stream), read.stream_options, read.temperature, read.n or 1
    _check_text(fields, kind)
    return Request(
        id=id,
        kind=kind,
        tenant=tenant,
        key_id=key_id,
        permit=permit,
        model=read.model,
        fields=fields,
        stream=stream,
        wants_usage=options is not None and bool(options.include_usage),
        temperature=temperature,
        n=n,
        labels=labels,
        controls=controls,
        headers=passed,
        at_ns=at_ns,
    )


_NO_LABELS, _NO_CONTROLS = Labels(), Controls()
_TEXT: dict[Kind, str] = {"chat": "messages", "completions": "prompt", "embeddings": "input", "moderations": "input"}
_BRACKET, _QUOTE = ord("["), ord('"')


def _check_text(fields: dict[str, Raw], kind: Kind) -> None:
    """See that what is asked about has its type. Raises BadRequestError."""
    name = _TEXT[kind]
    first = memoryview(fields[name])[0]  # the rest may be megabytes
    if first != _BRACKET and (kind == "chat" or first != _QUOTE):
        wanted = "a list of messages" if kind == "chat" else "a text or a list"
        raise BadRequestError(f"`{name}` must be {wanted}.", param=name)


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
_NOT_YET = frozenset({"priority"})
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
        cache_tags=_tags(given.pop("cache-tags", "")),
        max_error=_max_error(given.pop("max-error", None)),
        quality=_quality(given.pop("quality", None)),
        baseline=given.pop("baseline", ""),
        report=None if report is None else report == "on",
        deadline_ms=_deadline_ms(given.pop("deadline", None)),
    )
    labels = Labels(feature=given.pop("feature", ""), agent=given.pop("agent", ""), customer=given.pop("customer", ""))
    for name in given:
        why = "this version does not have it yet" if name in _NOT_YET else "there is no such control"
        raise BadRequestError(f"x-trivet-{name}: {why}; leave it out.", param=f"x-trivet-{name}")
    return labels, controls


MAX_TAGS = 16


def _tags(words: str) -> tuple[str, ...]:
    """Read tags with commas between them."""
    tags = tuple(dict.fromkeys(tag for word in words.split(",") if (tag := word.strip())))
    if len(tags) > MAX_TAGS:
        raise BadRequestError(
            f"x-trivet-cache-tags has {len(tags)} tags; an answer may have {MAX_TAGS}.", param="x-trivet-cache-tags"
        )
    return tags


def _max_error(word: str | None) -> float | None:
    if word is None:
        return None
    try:
        share = float(word)
    except ValueError:
        share = 1.0
    if not 0.0 <= share < 1.0:
        raise BadRequestError(
            f"x-trivet-max-error is {word[:40]!r}; write the share of answers that may be wrong hits, such as 0.005.",
            param="x-trivet-max-error",
        )
    return share


def _quality(word: str | None) -> float | None:
    if word is None:
        return None
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise BadRequestError(
            f"x-trivet-quality is {word[:40]!r}; write a share of the reference's quality, such as 0.99.",
            param="x-trivet-quality",
        )
    return share


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
