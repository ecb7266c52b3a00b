"""Hostile requests from a seed: number 4711 is the same bytes on every machine, so a failure can be run again.

Not here: sending and judging (`run.py`), targets that are hostile (`test_upstreams.py`).
Invariant: each attack says which statuses are right for it, and how many entries its requests may leave.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from tests.hostile.spellings import PATHS

ASKING = {path.encode() for path in PATHS.values()} | {b"/v1/moderations"}
CHAT = b"/v1/chat/completions"
_READ = {200, 400, 404}
_BROKEN = {0, 400, 408, 414, 431, 501, 505}
"""HTTP itself is broken: an answer that says so, or none."""
_ROUTED = {200, 400, 401, 404, 405, 501}


class Attack(NamedTuple):
    """What is sent on one connection."""

    name: str
    steps: Sequence[bytes | float]
    """Writes, and silences in seconds between them."""
    statuses: frozenset[int]
    """Right for each answer; 0: none came."""
    entries: tuple[int, int]
    """At least and at most."""
    leaves: bool = False
    """Closes when all is sent, without waiting for an answer."""
    patience_s: float = 20.0
    """For an answer. Where the gateway may be right to wait for more, it is short, and no answer is right."""


def attack(seed: int, number: int, *, key: bytes) -> Attack:
    """Make the attack of a number."""
    rng = random.Random(f"{seed} {number}")
    if number % 500 == 7:
        return _huge(rng, key)
    return rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0](rng, key)


def _post(
    body: bytes, *lines: bytes, key: bytes, path: bytes = CHAT, length: bytes | None = None, close: bool = True
) -> bytes:
    head = [b"POST %b HTTP/1.1" % path, b"host: gateway", b"authorization: Bearer " + key, *lines]
    head += [b"connection: close"] * close
    return b"\r\n".join([*head, b"content-length: " + (length or b"%d" % len(body)), b"", body])


def _ask(rng: random.Random) -> dict[str, Any]:
    asked = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": rng.random() < 0.3}
    return asked | {"temperature": 0.5, "n": 1, "stream_options": {"include_usage": True}, "x": [1, {"y": None}]}


def _body(rng: random.Random) -> bytes:
    return json.dumps(_ask(rng)).encode()


def _one(name: str, data: bytes, statuses: set[int] = _READ) -> Attack:
    return Attack(name, [data], frozenset(statuses), (1, 1))


# ---- bodies -------------------------------------------------------------------------------------------------------


def _mutated(rng: random.Random, data: bytes, most: int) -> bytes:
    """Cut, flip, drop, double and insert bytes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(made) + 1)
        way = rng.randrange(6)
        if way == 0 and made:
            made[at % len(made)] = rng.randrange(256)
        elif way == 1:
            made[at:at] = rng.choice(
                [b'"', b"{", b"}", b"[", b",", b":", b"\\", b"\0", b"\xff", b"\r\n", b"9" * 400, b"-"]
            )
        elif way == 2:
            del made[at : at + rng.randint(1, 20)]
        elif way == 3:
            made[at:at] = made[at : at + rng.randint(1, 30)]
        elif way == 4 and made:
            made[at % len(made)] ^= 1 << rng.randrange(8)
        else:
            made[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
    return bytes(made)


def _broken_json(rng: random.Random, key: bytes) -> Attack:
    body = _mutated(rng, _body(rng), 6)
    return _one("broken JSON", _post(body, key=key, path=rng.choice(sorted(ASKING))))


_VALUES: Sequence[bytes] = [
    b"null", b"true", b"0", b"-1", b"1.5", b"1e400", b"-1e999", b"1" + b"0" * 400, b"9" * 20, b'""', b'"x"',
    b'"\\ud800"',
    b'"\\u0000"', b'"' + b"a" * 5000 + b'"', b"[]", b"{}", b"[null]", b'{"a":{"b":[]}}', b"NaN", b"Infinity", b"'x'",
    b"",
    b'{"include_usage":5}', b'{"cache":"on"}', b'{"deadline":"0ms"}', b'{"deadline":1e9}', b'{"cache":null,"x":1}',
    b'"\xff\xfe"', b'"\xed\xa0\x80"', b"[[[[[[[[]]]]]]]]", b'{"":""}', b"-0", b"1E5", b"0x10", b"01", b"+1", b"1.",
]  # fmt: skip
_MEMBERS = [
    "model", "messages", "stream", "stream_options", "temperature", "n", "trivet", "prompt", "input", "max_tokens",
    "tools",
    "user", "seed", "x",
]  # fmt: skip


def _wrong_types(rng: random.Random, key: bytes) -> Attack:
    asked = {"model": b'"a"', "messages": b"[]", "prompt": b'"x"', "input": b'"x"'}
    for name in rng.sample(_MEMBERS, rng.randint(1, 3)):
        asked[name] = rng.choice(_VALUES)
    path = rng.choice(sorted(ASKING))
    if path in (b"/v1/embeddings", b"/v1/moderations"):  # where it means nothing to us, and would to the target
        asked.pop("stream", None)
    members = [b'"%b":%b' % (name.encode(), value) for name, value in asked.items()]
    if rng.random() < 0.3:  # a name given twice, or more often
        members += rng.choices(members, k=rng.randint(1, 5))
    return _one("wrong types", _post(b"{" + b",".join(members) + b"}", key=key, path=path))


def _deep(rng: random.Random, key: bytes) -> Attack:
    depth = rng.choice([10, 500, 1_000, 1_500, 20_000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nest = opening * depth + b"1" + (closing * depth if rng.random() < 0.7 else b"")
    where = rng.choice(
        [b'{"model":"a","messages":[],"x":%b}', b'{"model":"a","messages":[%b]}', b"%b", b'{"model":%b}']
    )
    return _one("deep nesting", _post(where % nest, key=key))


def _not_json(rng: random.Random, key: bytes) -> Attack:
    text = json.dumps(_ask(rng))
    body = rng.choice([
        b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32"), b"\0" * 100, b"", b"\0",
        text.encode() + b"\0", text.encode() * 2, bytes(rng.randrange(256) for _ in range(200)), b"model=a&messages=x",
        b"--x\r\ncontent-disposition: form-data\r\n\r\nx\r\n--x--", b"<xml/>", b"\x1f\x8b\x08\x00", b"(lambda: 1)()",
        b"__import__('os')",
    ])  # fmt: skip
    kind = rng.choice([b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"x" * 300, b""])
    return _one("not JSON", _post(body, b"content-type: " + kind, key=key))


def _huge(rng: random.Random, key: bytes) -> Attack:
    """Send fifty megabytes: just over the limit, or just under it and of no use."""
    size = rng.choice([50_000_001, 49_000_000])
    body = b'{"model":"nobody","messages":"' + b"x" * (size - 32) + b'"}'
    return _one("50 MB", _post(body, key=key), {413} if size > 50_000_000 else {400, 404})


def _many_members(rng: random.Random, key: bytes) -> Attack:
    count = rng.choice([999, 1001, 20_000])
    body = b'{"model":"a","messages":[],' + b",".join(b'"k%d":%d' % (i, i) for i in range(count)) + b"}"
    return _one("many members", _post(body, key=key))


# ---- heads --------------------------------------------------------------------------------------------------------

_SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n"
_LENGTHS = [b"+5", b"-5", b"0x5", b"5,5", b"5 5", b"5a", b"", b"9" * 30, b"1e1", b"\xb25", b"5;5", b"0_5", b" 5\t6"]
_CODINGS = [
    b"xchunked", b"chunked, identity", b"identity", b"gzip, chunked", b"chunked\0", b"chu\tnked", b"\x0bchunked",
    b'"chunked"',
    b"chunked, chunked", b"Chunked;q=1", b"cHuNkEd,", b"trailers",
]  # fmt: skip


_ENDS = [b"\n", b"\r", b"\0\r\n", b"\r\n \r\n", b"\r\n\tz\r\n"]


def _smuggling(rng: random.Random, key: bytes) -> Attack:
    body, head = _body(rng), b"POST %b HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n" % (CHAT, key)
    length = b"content-length: %d\r\n" % len(body)
    chunked, none = b"transfer-encoding: chunked\r\n", b"0\r\n\r\n"
    way = rng.randrange(12)
    data = [
        lambda: head + length + chunked + b"\r\n" + none,
        lambda: head + chunked + length + b"\r\n" + none,
        lambda: head + length + b"content-length: %d\r\n\r\n" % rng.randrange(99) + body,
        lambda: head + length + length + b"\r\n" + body,
        lambda: head + b"content-length: " + rng.choice(_LENGTHS) + b"\r\n\r\n" + body,
        lambda: head + b"transfer-encoding: " + rng.choice(_CODINGS) + b"\r\n\r\n" + none,
        lambda: head + b"x: y" + rng.choice(_ENDS) + length + b"\r\n" + body,
        lambda: (head + length).replace(b"\r\n", b"\n") + b"\n" + body,
        lambda: head + length.replace(b":", rng.choice([b" :", b"\t:", b"\0:", b""])) + b"\r\n" + body,
        lambda: head + rng.choice([b" ", b"\t"]) + length + b"\r\n" + body,
        lambda: head.replace(b"HTTP/1.1", rng.choice([b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11", b"http/1.1"]))
        + length + b"\r\n" + body,
        lambda: head.replace(b"host: gateway\r\n", rng.choice([b"", b"host: a\r\nhost: b\r\n", b"host : x\r\n"]))
        + length + b"\r\n" + body,
    ][way]()  # fmt: skip
    return Attack("smuggling", [data + _SMUGGLED], frozenset(_BROKEN), (0, 0), patience_s=2.0)


def _chunked(rng: random.Random, key: bytes) -> Attack:
    body, pieces = _body(rng), b""
    while body:
        size = rng.randint(1, 40)
        piece, body = body[:size], body[size:]
        ext = rng.choice([b"", b"", b";a=b", b';a="b;c"', b";" + b"x" * rng.choice([10, 500])])
        pieces += rng.choice([b"%x", b"%X", b"0%x"]) % len(piece) + ext + b"\r\n" + piece + b"\r\n"
    pieces += b"0\r\n" + rng.choice([b"", b"x: late\r\n", b"authorization: Bearer no\r\n"]) + b"\r\n"
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n" % CHAT
    head += b"authorization: Bearer %b\r\n\r\n" % key
    if rng.random() < 0.4:
        return Attack("chunks", [head + pieces], frozenset(_READ), (1, 1))
    spoiled = _mutated(rng, pieces, 3)
    return Attack("spoiled chunks", [head + spoiled], frozenset(_READ | _BROKEN), (0, 1), patience_s=0.3)


def _flood(rng: random.Random, key: bytes) -> Attack:
    shapes = [(150, 20), (150, 400), (250, 5), (5_000, 5), (20_000, 20), (1, 70_000), (3, 30_000), (1, 10**6)]
    count, size = rng.choice(shapes)
    lines = [b"x-%d: %b" % (i, b"y" * size) for i in range(count)]
    large = count > 190 or count * size > 60_000
    data = _post(_body(rng), *lines, key=key)
    return Attack("header flood", [data], frozenset({0, 431} if large else {200, 431}), (0, 0) if large else (0, 1))


def _noise(rng: random.Random, key: bytes) -> Attack:
    data = rng.choice([
        bytes(rng.randrange(256) for _ in range(rng.randint(1, 2000))),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * rng.randint(1, 999), b"GET", b"SSH-2.0-x\r\n", b"\0" * 999,
        b"GET " + b"/" * 99_999,
        b"GET / HTTP/1.1\r\n" + b"a" * 99_999, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"*1\r\n$4\r\nPING\r\n",
        b"<policy-file-request/>\0",
    ])  # fmt: skip
    return Attack("noise", [data], frozenset(_BROKEN), (0, 0), patience_s=0.3)


def _mutated_http(rng: random.Random, key: bytes) -> Attack:
    data = _post(_body(rng), b"x-a: b", b"x-trivet-feature: f", key=key)
    end = data.index(b"\r\n\r\n") + 4
    spoiled = _mutated(rng, data[:end], 3) + data[end:]
    statuses = frozenset(_READ | _BROKEN | _ROUTED)
    return Attack("spoiled head", [spoiled], statuses, (0, 2), patience_s=0.3)


# ---- routes, keys, words ------------------------------------------------------------------------------------------

_ODD_PATHS: Sequence[bytes] = [
    b"/", b"//", b"/v1", b"/v1/", b"/v1/chat", b"/v1/chat/completions/", b"/v1//chat/completions",
    b"/V1/chat/completions",
    b"/v1/chat/completions?x=1", b"/v1/chat%2Fcompletions", b"/%76%31/chat/completions", b"/v1/./chat/completions",
    b"/v1/../v1/chat/completions", b"/v1/chat/completions;x", b"/v1/chat/completions%00", b"/v1/models", b"/metrics",
    b"/healthz",
    b"/readyz", b"/openapi.json", b"/admin", b"/trivet/v1/keys", b"/.env", b"/%ff%fe", b"/%zz", b"/%",
    b"/v1/chat/completions%0d%0a",
    b"http://x/v1/chat/completions", b"http://x", b"/?" + b"q" * 3000, b"/" + b"a" * 8000, b"/v1/files",
    b"/v1/models/a",
]  # fmt: skip


def _routes(rng: random.Random, key: bytes) -> Attack:
    path = rng.choice([*_ODD_PATHS, *sorted(ASKING)])
    method = rng.choice(
        [b"GET", b"POST", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"M-SEARCH"]
    )
    data = _post(_body(rng), key=key, path=path).replace(b"POST", method, 1)
    plain = unquote_to_bytes((path.removeprefix(b"http://x") or path).partition(b"?")[0])
    asks = method == b"POST" and plain in ASKING
    return Attack("routes", [data], frozenset(_ROUTED | {0, 414}), (int(asks), int(asks)))


def _keys(rng: random.Random, key: bytes) -> Attack:
    given = rng.choice([
        b"", b"authorization:", b"authorization: Bearer", b"authorization: Bearer ' OR '1'='1",
        b"authorization: Basic eDp5",
        b"authorization: Bearer " + key[:-1], b"authorization: Bearer " + key + b"x",
        b"authorization: Bearer " + key[:20],
        b"authorization: Bearer " + b"k" * rng.choice([500, 600, 60_000]), b"authorization: Bearer \xff\xfe",
        b"x-api-key: no",
        b"api-key: " + key + b"," + key, b"authorization: Bearer %b\r\nx-api-key: %b" % (key, key),
        b"authorization: bearer  no",
    ])  # fmt: skip
    body = _body(rng) if rng.random() < 0.7 else b"x" * rng.choice([10, 100_000])
    head = b"POST %b HTTP/1.1\r\nhost: x\r\n%bconnection: close\r\n" % (CHAT, given + b"\r\n" if given else b"")
    return Attack("keys", [head + b"content-length: %d\r\n\r\n" % len(body) + body], frozenset({401}), (1, 1))


def _words(rng: random.Random, key: bytes) -> Attack:
    names = [
        b"cache",
        b"deadline",
        b"baseline",
        b"namespace",
        b"report",
        b"customer",
        b"quality",
        b"priority",
        b"nonsense",
        b"",
    ]
    values = [
        b"",
        b"on",
        b"off",
        b"only",
        b"1ms",
        b"-1s",
        b"1e9s",
        b"9" * 500,
        b"\xff",
        b"a" * 300,
        b"../..",
        b"' OR 1=1",
        b"5s",
    ]
    lines = [b"x-trivet-%b: %b" % (rng.choice(names), rng.choice(values)) for _ in range(rng.randint(1, 4))]
    return _one("controls", _post(_body(rng), *lines, key=key), _READ | {504, 0})


def _expecting(rng: random.Random, key: bytes) -> Attack:
    line = rng.choice([
        b"expect: 100-continue", b"expect: 200-ok", b"upgrade: websocket\r\nconnection: upgrade", b"te: trailers",
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings",
        b"accept-encoding: gzip, br, zstd",
        b"connection: authorization, content-length", b"content-encoding: gzip", b"range: bytes=0-1",
        b"if-none-match: *",
        b"x-forwarded-for: 127.0.0.1\r\nforwarded: for=127.0.0.1", b"x-http-method-override: DELETE",
        b"origin: http://evil.example",
    ])  # fmt: skip
    return _one("odd headers", _post(_body(rng), line, key=key))


# ---- time and order ------------------------------------------------------------------------------------------------


def _pipelined(rng: random.Random, key: bytes) -> Attack:
    count = rng.randint(2, 30)
    asks = [_post(_body(rng), key=key, close=False) for _ in range(count)]
    return Attack("pipelined", [b"".join(asks) + _post(_body(rng), key=key)], frozenset({200}), (count + 1, count + 1))


def _trickled(rng: random.Random, key: bytes) -> Attack:
    data, steps = _post(_body(rng), key=key), list[bytes | float]()
    while data:
        size = rng.randint(1, 60)
        steps += [data[:size], rng.choice([0.0, 0.0, 0.002])]
        data = data[size:]
    return Attack("trickled", steps, frozenset({200}), (1, 1))


def _left(rng: random.Random, key: bytes) -> Attack:
    """Leave at any byte of a request, or when it is all sent."""
    data = _post(_body(rng), key=key, length=rng.choice([None, None, b"999", b"9" * 12]))
    at = rng.randrange(len(data) + 1)
    headed = at >= data.index(b"\r\n\r\n") + 4
    return Attack("left", [data[:at], 0.005], frozenset({0, 200}), (int(headed), int(headed)), leaves=True)


_KINDS: dict[Callable[[random.Random, bytes], Attack], int] = {
    _broken_json: 18, _wrong_types: 18, _deep: 4, _not_json: 6, _many_members: 1, _smuggling: 10, _chunked: 8,
    _flood: 3,
    _noise: 4, _mutated_http: 8, _routes: 8, _keys: 5, _words: 4, _expecting: 4, _pipelined: 3, _trickled: 4, _left: 8,
}  # fmt: skip
