"""Targets that lie, break off, babble and trickle: one entry, an error of the right shape, nobody else harmed.

Not here: what one connection of our client makes of bad HTTP (`tests/upstream/`), usage that cannot be and the shapes
that were attacks once (`tests/test_attacks.py`). Here a whole gateway stands before each, and a witness asks meanwhile.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.edge_kit import until
from tests.hostile.wires import RESET, Asked, Step, Target, Told, chunks, events, listening, request, tell, whole
from tests.hostile.witness import WORDS, Witness, sockets, witness
from trivet.testing.house import Gateway, house
from trivet.testing.upstream import Upstream
from trivet.types import Entry

pytestmark = pytest.mark.anyio

MORE = """
[targets.bad]
provider = "openai"
model = "bad-1"
base_url = "{url}"
price = {{ input = "$1", output = "$2" }}
timeouts = {{ connect = "1s", first_byte = "400ms", idle = "400ms" }}

[policies.p]
pool = ["bad"]
[policies.p.cache]
mode = "exact"
"""
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = SSE + b"transfer-encoding: chunked\r\n\r\n"
BARE = SSE + b"\r\n"
JSON = (b"content-type", b"application/json")


class Scene(NamedTuple):
    """A gateway over a target whose next answer can be set, beside one that is good."""

    gateway: Gateway
    target: Target
    seen: Witness

    async def ask(
        self, steps: Sequence[Step], *, stream: bool, model: str = "bad", about: str = "hi"
    ) -> tuple[Told, Entry]:
        """Let the target say these steps; give what the client got and the one entry, judged."""
        self.target.say = lambda asked: steps
        body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": about}]}).encode()
        told = await tell(self.gateway.url, request("/v1/chat/completions", body, [(b"connection", b"close")]))
        kept = {entry.id: entry for entry in self.gateway.store.entries}
        entry = kept[told.header(b"x-trivet-id").decode()]
        judge(told, entry, stream=stream)
        return told, entry

    def entries(self) -> list[Entry]:
        """Give those that are not the witness's."""
        return [entry for entry in self.gateway.store.entries if entry.model != "good"]


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene, None]:
    before = sockets()
    async with (
        listening(Target(lambda asked: [])) as target,
        Upstream(*WORDS) as good,
        house({"good": good.base_url}, MORE.format(url=target.base_url)) as gateway,
    ):
        async with witness(gateway.url, "good") as seen:
            yield Scene(gateway, target, seen)
        await until(lambda: target.open <= 1)  # one may be kept for the next request
    await until(lambda: sockets() <= before)


def judge(told: Told, entry: Entry, *, stream: bool) -> None:
    """Hold what the client got against the entry."""
    outcome = entry.outcome
    assert told.whole
    if told.status != 200:
        error = json.loads(told.body)["error"]
        assert isinstance(error, dict)
        assert isinstance(error["message"], str)
        assert error["message"]
        assert told.header(b"x-trivet-fault") == b"upstream"
        assert (outcome.status, outcome.http_status) == ("failed", told.status)
        return
    assert outcome.http_status == 200
    if stream:
        said = events(told.body)
        assert (outcome.status == "ok") is (said[-1] == b"[DONE]")
        assert said.count(b"[DONE]") <= 1
        if outcome.status != "ok":
            assert json.loads(said[-1])["error"]["message"]
            assert outcome.fault is not None
            assert outcome.fault.whose == "upstream"
    else:
        assert outcome.status == "ok"


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def event(document: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


DONE = b"data: [DONE]\n\n"
GOOD = {
    "id": "c",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
}


# ---- a stream, cut ------------------------------------------------------------------------------------------------

_USED = {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
_STREAM = [chunk("Hé"), chunk("llo 👋"), chunk(None, "stop"), _USED]
_FINISH, _LAST_WORD = 3, len(_STREAM)


def realistic() -> bytes:
    """Make a stream with everything that servers do: a mark, pings, names, retry times, all three line ends."""
    first, second, third, used = (json.dumps(document, ensure_ascii=False).encode() for document in _STREAM)
    return b"".join([
        b"\xef\xbb\xbf: ping\r\n\r\n", b"event: delta\r\ndata: %b\r\nid: 1\r\n\r\n" % first, b": ping\n\n",
        b"retry: 50\rdata:%b\r\r" % second, b"data: %b\n\n" % third.replace(b', "choices"', b',\ndata: "choices"'),
        b"data: %b\r\n\r\n" % used, b"data: [DONE]\n\n",
    ])  # fmt: skip


def ends() -> list[int]:
    """Say after how many bytes each event of the stream is whole."""
    stream = realistic()
    return [at for at in range(len(stream) + 1) if at and len(events(stream[:at])) > len(events(stream[: at - 1]))]


async def cut_at(opened: Scene, at: int, *, framed: bool) -> None:
    """Break the stream off after `at` bytes, and say what must come of it."""
    stream = realistic()
    head = [CHUNKED, *chunks([stream[:at]])[:-1]] if framed else [BARE, stream[:at]]
    told, entry = await opened.ask([*head, None], stream=True)
    whole_ones = len(events(stream[:at]))
    last = events(stream[:at] + b"\n\n")[-1:]
    finished = whole_ones >= _FINISH or (whole_ones == _FINISH - 1 and last == events(stream)[whole_ones:_FINISH])
    status = entry.outcome.status
    assert status == ("ok" if whole_ones > _LAST_WORD or (finished and not framed) else "failed"), at
    content = [e for e in events(told.body) if b'"content"' in e] if told.status == 200 else []
    true = [e.replace(b"\n", b" ") for e in events(stream)]
    assert content == true[: len(content)]
    assert len(content) >= min(whole_ones, 2)


@pytest.mark.parametrize("framed", [False, True])
async def test_a_stream_cut_anywhere_is_whole_or_an_error_and_never_something_else(*, framed: bool) -> None:
    """At the end of each event and one byte to either side, and at every ninth byte; the slow test takes all."""
    near = {end + by for end in ends() for by in (-1, 0, 1)}
    async with scene() as opened:
        for at in sorted(near | set(range(0, len(realistic()), 9))):
            await cut_at(opened, at, framed=framed)


@pytest.mark.slow
@pytest.mark.parametrize("framed", [False, True])
async def test_a_stream_cut_at_every_byte(*, framed: bool) -> None:
    async with scene() as opened:
        for at in range(len(realistic()) + 1):
            await cut_at(opened, at, framed=framed)
        assert len(opened.entries()) == len(realistic()) + 1


@pytest.mark.slow
async def test_a_stream_that_pauses_at_every_byte_is_the_same_stream() -> None:
    stream, said = realistic(), set[bytes]()
    async with scene() as opened:
        for at in range(1, len(stream)):
            told, entry = await opened.ask([CHUNKED, *chunks([stream[:at], stream[at:]])], stream=True)
            assert entry.outcome.usage is not None
            assert entry.outcome.usage.input_tokens == 3
            said.add(told.body)
    assert len(said) == 1


# ---- answers of every bad kind ------------------------------------------------------------------------------------

_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_PAGE = (b"content-type", b"text/html")
_SPOKEN = event(chunk("Hel"))
_ENDED = event(chunk(None, "stop"))
_FAILED = event({"error": {"message": "overloaded", "type": "x", "code": 529}})
_OK, _BAD, _SAYS = {200}, {502}, {200}
_LONG = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 60
_FLOOD = b"".join(b"x-%d: y\r\n" % i for i in range(20_000))

STREAMS: dict[str, tuple[set[int], str, Sequence[Step]]] = {
    "multi-line data": (_OK, "ok", [CHUNKED, *chunks([b'data: {"choices":\ndata: []}\n\n', _SPOKEN, _ENDED, DONE])]),
    "names, ids, retry times": (_OK, "ok", [CHUNKED, *chunks([b"id: 1\nretry: 1\n" + _SPOKEN, _ENDED, DONE])]),
    "two last words": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED, DONE, DONE])]),
    "two last words at once": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN + _ENDED + DONE + DONE])]),
    "content after the last word": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED, DONE, event(chunk("more"))])]),
    "an error after the last word": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED + DONE + _FAILED])]),
    "no last word": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED])]),
    "no blank line at the end": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED.strip()])]),
    "a last word with spaces": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED, b"data:  [DONE] \n\n"])]),
    "a last word cut off": (_OK, "ok", [BARE, _SPOKEN, _ENDED, b"data: [DO", None]),
    "usage cut off": (_OK, "ok", [BARE, _SPOKEN, _ENDED, b'data: {"choices":[],"usage":{"prompt', None]),
    "no finish": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN])]),
    "no finish, but a last word": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, DONE])]),
    "content cut off": (_SAYS, "failed", [BARE, _SPOKEN, b'data: {"choices":[{"delta":{"con', None]),
    "an error at once": ({529}, "failed", [CHUNKED, *chunks([_FAILED])]),
    "an error in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN, _FAILED, _ENDED, DONE])]),
    "garbage in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN, b"data: {nonsense\n\n", DONE])]),
    "no UTF-8 in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN, b'data: {"model":"\xff"}\n\n', DONE])]),
    "a reset in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN])[:-1], 0.05, RESET]),
    "silence in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN])[:-1], 30.0]),
    "bad chunks in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN])[:-1], b"zz\r\n"]),
    "nothing but the last word": (_BAD, "failed", [CHUNKED, *chunks([DONE])]),
    "nothing but pings": (_BAD, "failed", [CHUNKED, *chunks([b": ping\n\n"] * 50)]),
    "a web page": (_BAD, "failed", [whole(_HTML, _PAGE)]),
    "a web page as a stream": (_BAD, "failed", [BARE + _HTML, None]),
    "another type": (_OK, "ok", [CHUNKED.replace(b"event-stream", b"plain"), *chunks([_SPOKEN, _ENDED, DONE])]),
    "a whole answer": (_OK, "ok", [whole(json.dumps(GOOD).encode(), JSON)]),
    "an event of 10 MB": (_OK, "ok", [CHUNKED, *chunks([event(chunk("x" * 10_000_000)), _ENDED, DONE])]),
    "an event of 17 MB": (_BAD, "failed", [CHUNKED, *chunks([b"data: " + b"x" * 17_000_000])]),
    "an event of 17 MB in the middle": (_SAYS, "failed", [CHUNKED, *chunks([_SPOKEN, b"data: " + b"x" * 17_000_000])]),
    "thousands of finishes": (_OK, "ok", [CHUNKED, *chunks([_SPOKEN, _ENDED * 3000, DONE])]),
}  # fmt: skip
ANSWERS: dict[str, tuple[set[int], Sequence[Step]]] = {
    "compressed": (_BAD, [whole(gzip.compress(json.dumps(GOOD).encode()), JSON, (b"content-encoding", b"gzip"))]),
    "a compressed error": (_BAD, [whole(gzip.compress(b"{}"), (b"content-encoding", b"gzip"), status=500)]),
    "a web page with 500": ({500}, [whole(_HTML, _PAGE, status=500)]),
    "a web page with 503": ({503}, [whole(_HTML * 50, _PAGE, status=503)]),
    "a web page of 300 KB with 429": ({429, 502}, [whole(_HTML * 4000, _PAGE, status=429)]),
    "an error without a word": ({418}, [whole(b"", status=418)]),
    "an error of another shape": ({400}, [whole(b'{"detail":[{"loc":["body"]}]}', JSON, status=400)]),
    "an error that is text": ({400}, [whole(b'{"error":"no"}', JSON, status=400)]),
    "an error that is a number": ({400}, [whole(b'{"error":5}', JSON, status=400)]),
    "an error of odd types": ({400}, [whole(b'{"error":{"message":5,"code":[]}}', JSON, status=400)]),
    "an error without words": ({400}, [whole(b'{"error":{}}', JSON, status=400)]),
    "an error that is null": ({400}, [whole(b'{"error":null}', JSON, status=400)]),
    "an error that is no UTF-8": ({500}, [whole(b'{"error":{"message":"\xff"}}', JSON, status=500)]),
    "an error 100,000 deep": ({500}, [whole(b'{"error":' + b"[" * 100_000, JSON, status=500)]),
    "an error cut off": (_BAD, [whole(b'{"error":{"message":"no"}}' * 9, JSON, status=500)[:-40], None]),
    "204": (_BAD, [b"HTTP/1.1 204 No\r\n\r\n"]),
    "201": (_BAD, [whole(json.dumps(GOOD).encode(), JSON, status=201)]),
    "301": (_BAD, [b"HTTP/1.1 301 M\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"]),
    "304": (_BAD, [b"HTTP/1.1 304 N\r\n\r\n"]),
    "600": (_BAD, [whole(b"{}", status=600)]),
    "999": (_BAD, [whole(b"{}", status=999)]),
    "20,000 headers": (_BAD, [b"HTTP/1.1 200 OK\r\n" + _FLOOD + b"content-length: 2\r\n\r\n{}"]),
    "a flood of 100": (_BAD, [b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, whole(json.dumps(GOOD).encode(), JSON)]),
    "a header folded": (_BAD, [b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}"]),
    "a header with a NUL": (_BAD, [b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}"]),
    "two lengths": (_BAD, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"]),
    "a length and chunks": (_BAD, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"]),
    "a length too long": (_BAD, [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}", None]),
    "a length too short": (_BAD, [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", None]),
    "a close at once": (_BAD, [None]),
    "a reset at once": (_BAD, [RESET]),
    "a reset after the head": (_BAD, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 0.05, RESET]),
    "silence": ({504}, [30.0]),
    "silence after the head": ({504}, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 30.0]),
    "a head in trickles": ({504}, [part for byte in _LONG for part in (bytes([byte]), 0.02)]),
    "TLS": (_BAD, [b"\x15\x03\x03\x00\x02\x02\x16"]),
    "noise": (_BAD, [bytes(range(256)) * 100]),
    "HTTP/0.9": (_BAD, [json.dumps(GOOD).encode(), None]),
    "HTTP/2": (_BAD, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
    "a JSON text": (_BAD, [whole(b'"hello"', JSON)]),
    "nothing": (_BAD, [whole(b"", JSON)]),
    "another answer behind it": (_OK, [whole(json.dumps(GOOD).encode(), JSON) * 2]),
}  # fmt: skip


@pytest.mark.slow
async def test_bad_streams_are_errors_with_an_entry_or_good_answers() -> None:
    async with scene() as opened:
        for name, (statuses, ending, steps) in STREAMS.items():
            for model in ("bad", "p"):
                told, entry = await opened.ask(steps, stream=True, model=model, about=name)
                assert (told.status in statuses, entry.outcome.status) == (True, ending), name
                assert b"more" not in told.body, name
        assert len(opened.entries()) == 2 * len(STREAMS)


@pytest.mark.slow
async def test_bad_answers_are_errors_with_an_entry() -> None:
    async with scene() as opened:
        for name, (statuses, steps) in ANSWERS.items():
            for stream in (False, True):
                told, entry = await opened.ask(steps, stream=stream)
                assert told.status in statuses, name
                assert (entry.outcome.status == "ok") is (told.status == 200), name
        assert len(opened.entries()) == 2 * len(ANSWERS)


async def test_a_good_answer_byte_by_byte_is_a_good_answer() -> None:
    async with scene() as opened:
        answers = {False: whole(json.dumps(GOOD).encode(), JSON), True: CHUNKED + b"".join(chunks([realistic()]))}
        for stream, data in answers.items():
            told, entry = await opened.ask([bytes([byte]) for byte in data], stream=stream)
            assert (told.status, entry.outcome.status) == (200, "ok")


@pytest.mark.parametrize("said", [_SPOKEN, b": ping\n\n"], ids=["content", "pings"])
async def test_a_stream_without_an_end_ends_with_its_client_or_its_deadline(said: bytes) -> None:
    """Pings keep a connection alive for good reasons, so it is for the client to say how long it waits for content."""

    def for_ever(asked: Asked) -> Iterator[Step]:
        yield CHUNKED
        while True:
            yield b"".join(chunks([said])[:-1])
            yield 0.005

    async with scene() as opened:
        opened.target.say = for_ever
        body = b'{"model":"bad","stream":true,"messages":[]}'
        deadline = [] if said == _SPOKEN else [(b"x-trivet-deadline", b"300ms")]
        asking = asyncio.ensure_future(tell(opened.gateway.url, request("/v1/chat/completions", body, deadline)))
        await until(lambda: opened.target.asked)
        if deadline:
            assert (await asking).status == 504
        else:
            await asyncio.sleep(0.05)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: opened.entries() and not opened.target.open)
        assert [e.outcome.status for e in opened.entries()] == ["failed" if deadline else "cancelled"]


# ---- wrong types in every member that is read -------------------------------------------------------------------

WRONG: Sequence[bytes] = [
    b"null", b"true", b"0", b"-1", b"1.5", b"1e400", b"1" + b"0" * 50, b'""', b'"x"', b'"\\ud800"', b"[]", b"[null]",
    b"[5]",
    b"[[]]", b"{}", b'{"x":1}', b'{"content":5}', b'{"content":{"a":[]}}', b'{"tool_calls":5}', b'{"tool_calls":[5]}',
    b'{"tool_calls":[{"index":"q","function":5}]}', b'{"message":[]}', b'{"prompt_tokens":"5"}',
]  # fmt: skip


def members(*, stream: bool) -> dict[str, Callable[[bytes], bytes]]:
    """Give a document for each member that is read, with a place for its value."""
    part = b"delta" if stream else b"message"
    said = b'"%b":{"role":"assistant","content":"x"}' % part
    places = {
        "choices": b'{"choices":%b}', "choice": b'{"choices":[%b]}',
        part.decode(): b'{"choices":[{"' + part + b'":%b}]}',
        "content": b'{"choices":[{"' + part + b'":{"content":%b}}]}',
        "text": b'{"choices":[{' + said + b',"text":%b}]}',
        "tool_calls": b'{"choices":[{"' + part + b'":{"tool_calls":%b}}]}',
        "finish_reason": b'{"choices":[{' + said + b',"finish_reason":%b}]}',
        "index": b'{"choices":[{"index":%b,' + said + b',"finish_reason":"stop"}]}',
        "logprobs": b'{"choices":[{"logprobs":%b,' + said + b',"finish_reason":"stop"}]}',
        **{
            name: b'{"choices":[{' + said + b',"finish_reason":"stop"}],"' + name.encode() + b'":%b}'
            for name in ("usage", "model", "error", "id", "object", "created")
        },
        **{
            f"usage.{name}": b'{"choices":[{' + said + b'}],"usage":{"prompt_tokens":1,"' + name.encode() + b'":%b}}'
            for name in ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
        },
        "usage.cached": b'{"choices":[{'
        + said
        + b'}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":%b}}}',
    }  # fmt: skip
    return {name: lambda value, place=place: place % value for name, place in places.items()}  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_type_in_any_member_that_is_read_is_relayed_or_an_error_and_never_ours(*, stream: bool) -> None:
    """Named directly and through a cache, where a kept answer is asked for both ways after it."""
    count = 0
    async with scene() as opened:
        for name, document in members(stream=stream).items():
            for value in WRONG:
                said, about = document(value), f"{name} {value!r}"
                good = [CHUNKED, *chunks([b"data: %b\n\n" % said, _ENDED, DONE])] if stream else [whole(said, JSON)]
                for model, streamed in (("bad", stream), ("p", stream), ("p", not stream)):
                    steps = good if streamed is stream else [None]
                    told, _ = await opened.ask(steps, stream=streamed, model=model, about=about)
                    assert told.status in (200, 502) or b'"error"' in told.body
                    count += 1
        assert len(opened.entries()) == count
