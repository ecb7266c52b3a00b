"""Requests and answers that are valid and odd, made from a seed: what a transparent gateway must not touch.

Not here: what is not valid (`attacks.py`), how they are sent and compared (`test_transparent.py`).
Invariant: the same number makes the same bytes, here and at the target, which sees only what it was sent.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from tests.hostile.wires import Asked, Header, Step, chunks, whole

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
_TEXTS = [
    "", "hi", "é", "e\u0301", "日本語のテキスト", "👩‍👩‍👧‍👦", "\u202egnirts", "\u0000\u0001\u001f", "\u2028\u2029",
    "a\\b\"c/d", "data: [DONE]\n\n",
    "<script>", "\r\n\r\nHTTP/1.1 200 OK", "\ufeff", "\U0010ffff", "x" * 3000, "null", "{}", "\t tabs and  spaces ",
]  # fmt: skip
_NUMBERS = [
    "0", "-0", "-0.0", "1E+2", "1e2", "1.50", "0.1e-7", "123456789012345678901234567890", "1e308", "5e-324",
    "9007199254740993", "18446744073709551616", "3.141592653589793238462643383279", "1.0000000000000000000001",
]  # fmt: skip
_PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


class Number(NamedTuple):
    """A number with its spelling."""

    text: str


class Case(NamedTuple):
    """One request."""

    number: int
    kind: str
    body: bytes
    headers: list[Header]
    stream: bool
    wants_usage: bool


def spell(rng: random.Random, value: Any, *, plain_names: bool = False) -> str:
    """Write JSON as nobody would: gaps, escapes, numbers as they are given; escapes in names unless they are plain."""

    def gap() -> str:
        return rng.choice(["", "", "", " ", "\n", "\t", " \r\n "])

    if isinstance(value, Number):
        return value.text
    if isinstance(value, str):
        return _text(rng, value)
    if isinstance(value, dict):
        name = json.dumps if plain_names else partial(_text, rng)
        inner = [
            f"{gap()}{name(k)}{gap()}:{gap()}{spell(rng, v, plain_names=plain_names)}{gap()}" for k, v in value.items()
        ]
        return "{" + (",".join(inner) or gap()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(gap() + spell(rng, v, plain_names=plain_names) + gap() for v in value) or gap()) + "]"
    return json.dumps(value)


def _text(rng: random.Random, text: str) -> str:
    way = rng.random()
    if way < 0.6:
        return json.dumps(text, ensure_ascii=False)
    if way < 0.8:
        return json.dumps(text)
    escaped = "".join(
        f"\\u{ord(c):04X}" if c.isalnum() and ord(c) < 0x10000 and rng.random() < 0.3 else c for c in text
    )
    return '"' + "".join(c if c.isprintable() and c not in '"' else json.dumps(c)[1:-1] for c in _safe(escaped)) + '"'


def _safe(text: str) -> list[str]:
    """Part a text into characters, but for escapes of ours, which stay together."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        ours = text[at : at + 2] == "\\u" and all(c in "0123456789ABCDEF" for c in text[at + 2 : at + 6])
        parts.append(
            text[at : at + 6] if ours and len(text) >= at + 6 else json.dumps(text[at], ensure_ascii=False)[1:-1]
        )
        at += 6 if ours and len(text) >= at + 6 else 1
    return parts


def case(number: int, kind: str, *, model: str) -> Case:
    """Make the request of a number."""
    rng = random.Random(f"{kind} {number}")
    stream = kind != "embeddings" and rng.random() < 0.5
    members: dict[str, Any] = {"model": model, **_asked(rng, kind)}
    wants_usage = stream and rng.random() < 0.4
    if stream:
        members["stream"] = True
        options = {"include_usage": True} if wants_usage else rng.choice([{}, None, {"include_usage": False}])
        if options or rng.random() < 0.5:
            members["stream_options"] = None if options is None else {**options, **_more(rng, 1)}
    elif rng.random() < 0.3 and kind != "embeddings":
        members["stream"] = rng.choice([False, None])
    members |= _more(rng, rng.randrange(5))
    names = list(members)
    rng.shuffle(names)
    body = spell(rng, {name: members[name] for name in names})
    if rng.random() < 0.2:  # a name given twice: the last one counts, with everybody
        body = '{"seed": 0, "model": "nobody",' + body[1:]
        body = body if "seed" in members else body[:-1] + ', "seed": 1}'
    return Case(number, kind, body.encode(), _headers(rng, number), stream, wants_usage)


def _asked(rng: random.Random, kind: str) -> dict[str, Any]:
    if kind == "embeddings":
        return {"input": rng.choice([_word(rng), [_word(rng), _word(rng)], [1, 2, 50256], [[1], [2, 3]]])}
    if kind == "completions":
        return {"prompt": rng.choice([_word(rng), [_word(rng)], [1, 2, 3]]), "echo": rng.random() < 0.5}
    choose: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", **_more(rng, 2)}}}],
        "tool_choice": rng.choice(["auto", "none", {"type": "function", "function": {"name": "f"}}]),
        "n": rng.choice([1, 2, 5, None]), "stop": rng.choice(["a", ["a", "\n"], None]), "logprobs": True,
        "top_logprobs": 3, "temperature": rng.choice([0, 0.7, Number("1.0e0"), None]),
        "seed": Number(rng.choice(_NUMBERS)),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _more(rng, 2)}},
        "logit_bias": {"50256": Number("-1E2")}, "user": _word(rng), "metadata": _more(rng, 2), "max_tokens": 5,
        "reasoning_effort": "low", "service_tier": "flex", "prediction": {"type": "content", "content": _word(rng)},
    }  # fmt: skip
    picked = {name: choose[name] for name in rng.sample(list(choose), rng.randrange(8))}
    return {"messages": [_message(rng) for _ in range(rng.randrange(1, 5))], **picked}


def _message(rng: random.Random) -> dict[str, Any]:
    called = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":  1.0}'}}
    image = {"type": "image_url", "image_url": {"url": _PICTURE, "detail": "low"}}
    return rng.choice([
        {"role": "user", "content": _word(rng)}, {"role": "system", "content": _word(rng), **_more(rng, 1)},
        {"role": "user", "content": [{"type": "text", "text": _word(rng)}, image]},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": _word(rng)},
    ])  # fmt: skip


def _word(rng: random.Random) -> str:
    return rng.choice(_TEXTS)


def _more(rng: random.Random, count: int) -> dict[str, Any]:
    """Make members that nobody has heard of."""
    leaves: list[Any] = [*map(Number, _NUMBERS), True, None, [], {}, *_TEXTS]
    names = ["x_vendor", "usage", "é", "x y", "choices", "", "__proto__", "X-Ü", "delta", "error"]
    return {
        f"{name}_{i}": rng.choice([rng.choice(leaves), [rng.choice(leaves)], {name: rng.choice(leaves)}])
        for i, name in enumerate(rng.choices(names, k=count))
    }


def _headers(rng: random.Random, number: int) -> list[Header]:
    choose: list[Header] = [
        (b"User-Agent", b"odd/1.0 (x; y)"), (b"OpenAI-Beta", b"assistants=v2"), (b"X-Custom", b"a, b;q=0.1"),
        (b"x-custom", b"again"), (b"X-Latin", b"caf\xe9"), (b"X-Empty", b""), (b"traceparent", b"00-1-2-01"),
        (b"Idempotency-Key", b"k-1"), (b"x-stainless-lang", b"python"), (b"X-Long", b"v" * 2000),
        (b"anthropic-beta", b"x"),
        (b"Accept", b"*/*"), (b"Accept-Language", b"de"), (b"Cookie", b"c=1"), (b"Forwarded", b"for=1"),
        (b"X-Forwarded-For", b"10.0.0.1"), (b"Connection", b"x-hop, keep-alive"), (b"X-Hop", b"1"),
        (b"TE", b"trailers"),
        (b"Referer", b"http://x"), (b"Sec-Fetch-Mode", b"cors"), (b"cf-ray", b"1"), (b"X-Trivet-Feature", b"f"),
    ]  # fmt: skip
    return [(b"X-Case", b"%d" % number), *rng.sample(choose, rng.randrange(len(choose)))]


# ---- answers ------------------------------------------------------------------------------------------------------

_ERRORS = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)


def answer(asked: Asked, case: Case) -> Sequence[Step]:
    """Say something that depends on what was asked, member by member, and on the number."""
    rng = random.Random(f"answer {case.kind} {case.number}")
    asked_usage = b"include_usage" in asked.body and _wants_usage(asked.body)
    digest = hashlib.sha256(_prompt(asked.body)).hexdigest()[:12]
    headers = _said_headers(rng)
    if rng.random() < 0.15:
        return [_error(rng, headers)]
    if case.stream:
        return _streamed(rng, case, digest, headers, usage=asked_usage)
    body = spell(rng, _document(rng, case.kind, digest), plain_names=True).encode()
    typed = [*headers, (b"Content-Type", rng.choice([b"application/json", b"application/json; charset=utf-8"]))]
    way = rng.random()
    if way < 0.4:
        return [whole(body, *typed)]
    if way < 0.8:
        return [_head(*typed, (b"Transfer-Encoding", b"chunked")), *chunks(_parts(rng, body))]
    return [_head(*typed, (b"Connection", b"close")), *_parts(rng, body), None]


def _wants_usage(body: bytes) -> bool:
    options = json.loads(body).get("stream_options")
    return bool(options and options.get("include_usage"))


def _prompt(body: bytes) -> bytes:
    members = json.loads(body)
    asked = members.get("messages") or members.get("prompt") or members.get("input")
    return json.dumps([asked, members.get("seed"), members.get("n")]).encode()


def _head(*headers: Header, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Said\r\n%b\r\n" % (status, b"".join(b"%b: %b\r\n" % header for header in headers))


def _said_headers(rng: random.Random) -> list[Header]:
    choose: list[Header] = [
        (b"X-Request-Id", b"r-1"), (b"x-ratelimit-remaining-tokens", b"99"), (b"OpenAI-Processing-Ms", b"12"),
        (b"X-Twice", b"1"), (b"x-twice", b"2"), (b"Set-Cookie", b"c=1"), (b"Server", b"theirs"),
        (b"X-Latin", b"caf\xe9"),
        (b"Server-Timing", b"model;dur=5"), (b"X-Trivet-Id", b"theirs"), (b"Cache-Control", b"public"),
        (b"X-Empty", b""),
        (b"Date", b"Sun, 22 Nov 2026 00:00:00 GMT"), (b"Retry-After", b"2"), (b"Alt-Svc", b"h3"), (b"Vary", b"x"),
        (b"Strict-Transport-Security", b"max-age=1"), (b"Access-Control-Allow-Origin", b"*"),
        (b"Keep-Alive", b"timeout=5"),
        (b"WWW-Authenticate", b"Theirs"), (b"X-Accel-Buffering", b"yes"), (b"Via", b"1.1 x"), (b"X-Long", b"v" * 3000),
    ]  # fmt: skip
    return rng.sample(choose, rng.randrange(len(choose)))


def _error(rng: random.Random, headers: Sequence[Header]) -> bytes:
    told = {
        "message": _word(rng) or "no",
        "type": "t",
        "param": None,
        "code": rng.choice(["c", 5, None]),
        **_more(rng, 2),
    }
    body = spell(rng, {"error": told, **_more(rng, 1)}).encode()
    return whole(body, *headers, (b"content-type", b"application/json"), status=rng.choice(_ERRORS))


def _usage(rng: random.Random) -> dict[str, Any]:
    details = {"cached_tokens": 2, "audio_tokens": 0, **_more(rng, 1)}
    return {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": details,
        **_more(rng, 1),
    }


def _document(rng: random.Random, kind: str, digest: str) -> dict[str, Any]:
    shared: dict[str, Any] = {"id": f"id-{digest}", "model": "said-1", "created": 1, **_more(rng, 2)}
    if kind == "embeddings":
        rows = [{"object": "embedding", "index": 0, "embedding": [Number("1E-5"), Number("-0.0"), Number("0.10")]}]
        return {**shared, "object": "list", "data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    said = (
        {"text": _word(rng)}
        if kind == "completions"
        else {"message": {"role": "assistant", "content": _word(rng), **_more(rng, 1)}}
    )
    choices = [{"index": i, **said, "finish_reason": "stop", **_more(rng, 1)} for i in range(rng.randrange(1, 4))]
    return {**shared, "choices": choices, "usage": rng.choice([_usage(rng), None])}


def _streamed(rng: random.Random, case: Case, digest: str, headers: list[Header], *, usage: bool) -> Sequence[Step]:
    """Make a stream; its documents are the same whether usage was asked for or not, but for usage."""
    end, named = rng.choice(["\n", "\r\n", "\r"]), rng.random() < 0.3
    tail = {"usage": None} if usage else {}
    shared = {"id": f"id-{digest}", "model": "said-1", **_more(rng, 1)}
    count = rng.randrange(1, 4)
    texts = [_word(rng) for _ in range(rng.randrange(1, 6))]

    def document(choice: dict[str, Any], more: dict[str, Any], gaps: int) -> str:
        return spell(random.Random(gaps), {**shared, "choices": [choice], **more, **tail}, plain_names=True)

    documents = [
        document(
            {"index": i % count, **_said(case.kind, text), "finish_reason": None}, _more(rng, 1), rng.getrandbits(32)
        )
        for text in texts
        for i in range(count)
    ]
    documents += [
        document({"index": i, **_said(case.kind, ""), "finish_reason": "stop"}, _more(rng, 1), rng.getrandbits(32))
        for i in range(count)
    ]
    used = spell(rng, {**shared, "choices": [], "usage": _usage(rng)}, plain_names=True)
    documents += [used] if usage else []
    lines = [
        ("event: delta" + end if named else "") + "".join(f"data: {x}{end}" for x in d.split("\n"))
        for d in map(_lf, documents)
    ]
    lines.insert(rng.randrange(len(lines)), rng.choice([": ping" + end, f"retry: 5{end}", f"id: 7{end}"]))
    text = end.join([*lines, "data: [DONE]" + end]) + end
    body = (b"\xef\xbb\xbf" if rng.random() < 0.2 else b"") + text.encode()
    typed = [*headers, (b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked")]
    return [_head(*typed), *chunks(_parts(rng, body))]


def _lf(text: str) -> str:
    """Leave only line feeds between tokens, for each begins a `data:` of its own."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _said(kind: str, text: str) -> dict[str, Any]:
    return {"text": text} if kind == "completions" else {"delta": {"content": text} if text else {}}


def _parts(rng: random.Random, body: bytes) -> list[bytes]:
    """Cut anywhere, characters and line ends too."""
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(8)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
