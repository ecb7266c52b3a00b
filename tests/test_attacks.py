"""Attacks on a real gateway over real sockets, one test for each; the numbers are those of the plan's list of attacks.

Not here: keys in every shape (2), odd paths (3, 9), routes without credentials (4), a bind without keys (10), tenants
(12), metrics (56): tests/server/. Revoking on a running server (6): tests/server/test_run.py.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.edge_kit import ASK, CHAT, POLICY, Reply, Tape, bearer, chat, get, make_key, post, raw, serving, toml, until
from trivet.cache.key import fingerprint
from trivet.config import parse
from trivet.errors import LedgerError
from trivet.ledger.journal import parse as parse_journal
from trivet.ledger.keys import FILE, KeyRing
from trivet.ledger.report import entries as read_entries
from trivet.ledger.sqlite import SqliteStore
from trivet.pipeline import answer
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.tally import Tally
from trivet.testing.cache_suite import POLICY as CACHED
from trivet.testing.cache_suite import ask
from trivet.testing.house import Gateway, config, house, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Tool, Upstream
from trivet.types import Entry, Hold, Usage
from trivet.upstream.http import dial
from trivet.wire.request import read_request

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def open_house(upstream: Upstream, more: str = POLICY) -> AsyncGenerator[Gateway, None]:
    async with upstream, house({"a": upstream.base_url}, more) as gateway:
        yield gateway


@asynccontextmanager
async def speaking(said: bytes, *, then: bytes = b"") -> AsyncGenerator[tuple[str, list[int]]]:
    """A target that says these bytes to every request, `then` for ever, and closes; base URL, count of connections."""
    connections = [0]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(said)
            while then:
                await writer.drain()
                writer.write(then)
                await asyncio.sleep(0)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connections
        server.close()
        await asyncio.sleep(0.01)


def chunked(*events: bytes) -> list[bytes]:
    return [b"data: %b\n\n" % event for event in events]


def piece(content: str = "", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content} if content else {}, "finish_reason": None}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}).encode()


END = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
DONE = b"[DONE]"


# ---- money and consumption ------------------------------------------------------------------------------------------


ODD_AMOUNTS: Sequence[tuple[str, Sequence[Any]]] = [
    ("max_tokens", (0, -1, 10**12, 10**400, "many", None, 1.5, [], True)), ("max_completion_tokens", (-1,)),
    ("best_of", (50,)), ("reasoning_effort", ("high",)), ("tools", ([{}] * 500,)),
    ("n", (0, -1, 129, 10**20, "2", 1.5, True, None, 128)),
]  # fmt: skip


@pytest.mark.parametrize("odd", [{name: v} for name, vs in ODD_AMOUNTS for v in vs], ids=lambda odd: str(odd)[:30])
async def test_23_odd_amounts_pass_through_or_are_refused_and_nothing_breaks(odd: dict[str, Any]) -> None:
    async with open_house(Upstream("x")) as gateway:
        for model in ("a", "p"):
            reply = await raw(gateway.url, post({**ASK, "model": model, **odd}))
            assert reply.status in (200, 400)
        (name,) = odd
        refused = {e.outcome.status for e in gateway.store.entries}
        assert refused == ({"refused"} if name == "n" and odd["n"] not in (None, 128) else {"ok"})


@pytest.mark.parametrize("stream", [False, True])
async def test_24_a_stop_word_and_a_hang_up_pay_for_every_token_that_was_relayed(
    tmp_path: Path, *, stream: bool
) -> None:
    """Usage comes only at the end, so leaving before it must not be free: at any position of sixty."""
    words = [f"word{i} " for i in range(60)]
    store = Memory()
    async with Upstream(*words) as upstream, stages(config({"a": upstream.base_url}), kit(tmp_path), store) as made:
        for position in range(0, 60, 3) if stream else (0,):
            request = read_request(
                json.dumps({**ASK, "stream": stream}).encode(),
                [],
                id=f"r{position}",
                tenant="t",
                key_id="",
                at_ns=1,
            )
            tally, seen = Tally(request, made.clock.mono_ns()), 0
            async with aclosing(answer(tally, made)) as chunks:
                async for chunk in chunks:
                    seen += chunk.speaks
                    if seen > position:
                        break
            outcome = store.entries[-1].outcome
            assert outcome.usage is not None
            assert outcome.usage.output_tokens >= seen
            assert outcome.usage.input_tokens > 0
            assert outcome.cost_nanos is not None
            assert outcome.cost_nanos >= seen * 2000
            assert outcome.usage_estimated is stream
    assert len(store.entries) == (20 if stream else 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("slow", ["before the head", "before the first token", "in mid-answer", "while failing over"])
async def test_25_a_client_that_leaves_in_any_phase_leaves_one_entry_and_a_closed_target(
    slow: str, *, stream: bool
) -> None:
    odd: dict[str, dict[str, Any]] = {
        "before the head": {"first_delay_s": 60},
        "before the first token": {"hang_after": 0},
        "in mid-answer": {"hang_after": 1},
    }
    silent = Upstream("a", "b", **odd.get(slow, {"first_delay_s": 60}))
    broken = Upstream(status=500)
    more = '[policies.q]\npool = ["b", "a"]\n'
    async with broken, silent, house({"a": silent.base_url, "b": broken.base_url}, more) as gateway:
        model = "q" if slow == "while failing over" else "a"
        call = asyncio.ensure_future(raw(gateway.url, post({**ASK, "model": model, "stream": stream})))
        await until(lambda: silent.requests)
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.wait_for(silent.hung_up.wait(), 5)
        await until(lambda: gateway.store.entries)
        await asyncio.sleep(0.02)
        (entry,) = gateway.store.entries
    assert entry.outcome.status == "cancelled"
    assert [attempt.status for attempt in entry.outcome.attempts][-1] == "cancelled"
    assert len(entry.outcome.attempts) == (2 if model == "q" else 1)


@pytest.mark.parametrize("odd", [{"status": 429}, {"status": 500}, {"garbage": True}, {"cut_after": 0}], ids=str)
async def test_26_a_storm_of_failures_asks_each_target_once_and_says_so(odd: dict[str, Any]) -> None:
    one, other = Upstream("x", **odd), Upstream("x", **odd)
    more = '[policies.q]\npool = ["a", "b"]\n'
    async with one, other, house({"a": one.base_url, "b": other.base_url}, more) as gateway:
        replies = await asyncio.gather(
            *(raw(gateway.url, post({**ASK, "model": "q", "stream": i % 2 == 0})) for i in range(20))
        )
        entries = gateway.store.entries
    # The last target may have been cut off after its first word: then the status was 200, and the error is an event.
    assert {reply.status for reply in replies} <= {429, 500, 502, 200}
    assert all(b'"error"' in reply.body and b"[DONE]" not in reply.body for reply in replies)
    told = sorted(entry.outcome.http_status for entry in entries)
    assert told == sorted(reply.status for reply in replies)
    assert len(one.requests) == len(other.requests) == len(entries) == 20
    for entry in entries:
        assert [(a.target, a.status) for a in entry.outcome.attempts] == [("a", "failed"), ("b", "failed")]


async def test_29_a_price_that_is_not_known_is_loud_everywhere_and_never_zero() -> None:
    async with Upstream("x") as upstream:
        more = f'[targets.b]\nprovider = "openai"\nmodel = "m"\nbase_url = "{upstream.base_url}"\n'
        async with house({"a": upstream.base_url}, more) as gateway:
            reply = await raw(gateway.url, post({**ASK, "model": "b"}, ("x-trivet-report", b"on")))
            metrics = await raw(gateway.url, get("/metrics"))
            (entry,) = gateway.store.entries
    assert (entry.outcome.cost_nanos, bool(entry.outcome.cost_unknown)) == (None, True)
    assert reply.headers["x-trivet-cost-usd"] == "unknown"
    assert json.loads(reply.body)["trivet"]["cost_usd"] == "unknown"
    assert b'trivet_cost_unknown_total{policy="b",target="b"} 1' in metrics.body
    assert b'trivet_cost_nanodollars_total{policy="b"' not in metrics.body


LIES: Sequence[Any] = [
    {"prompt_tokens": -1, "completion_tokens": 5},
    {"prompt_tokens": 5, "completion_tokens": -1},
    {"prompt_tokens": 10**15, "completion_tokens": 5},
    {"prompt_tokens": 10**400, "completion_tokens": 5},
    {"prompt_tokens": 5, "completion_tokens": 10**15},
    {"prompt_tokens": 5.5, "completion_tokens": 5},
    {"prompt_tokens": "5", "completion_tokens": 5},
    {"prompt_tokens": None, "completion_tokens": 5},
    {"prompt_tokens": float("nan"), "completion_tokens": 5},
    {"prompt_tokens": float("inf"), "completion_tokens": 5},
    {"prompt_tokens": True, "completion_tokens": 5},
    {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}},
    {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -6}},
    {"prompt_tokens": 5, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}},
    {"completion_tokens": 5}, {}, [], 5, "usage", True,
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie)[:60])
async def test_30_usage_that_cannot_be_is_flagged_and_never_money(lie: Any) -> None:
    last = json.dumps({"choices": [], "usage": lie}).encode()
    whole = json.dumps(
        {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": lie,
        }
    ).encode()
    broken = b"NaN" in last or b"Infinity" in last  # not JSON: an answer that cannot be read
    for stream, events in ((True, chunked(piece("x"), END, last, DONE)), (False, [whole])):
        async with open_house(Upstream(events=events)) as gateway:
            for _ in range(2):
                reply = await raw(gateway.url, post({**ASK, "model": "p", "stream": stream}))
            first = gateway.store.entries[0]
        assert reply.status == (502 if broken and not stream else 200)
        outcome = first.outcome
        if broken and not stream:
            assert (outcome.status, outcome.usage) == ("failed", None)
            continue
        assert outcome.status == ("failed" if broken else "ok")
        assert outcome.usage_estimated
        assert outcome.usage is not None
        assert 0 < outcome.usage.input_tokens < 1000
        assert 0 <= outcome.usage.output_tokens < 1000


async def test_30_usage_in_two_chunks_counts_once_and_after_the_end_not_at_all() -> None:
    def usage(tokens: int) -> bytes:
        return json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}).encode()

    twice = Upstream(events=chunked(piece("x"), END, usage(3), usage(7), DONE))
    late = Upstream(events=chunked(piece("x"), END, usage(3), DONE, usage(1000), piece("more"), DONE))
    for upstream, tokens in ((twice, 7), (late, 3)):
        async with open_house(upstream) as gateway:
            reply = await raw(gateway.url, post({**ASK, "stream": True}))
            (entry,) = gateway.store.entries
        assert entry.outcome.usage == Usage(input_tokens=9, output_tokens=tokens)
        assert reply.body.count(b"[DONE]") == 1
        assert b"usage" not in reply.body
        assert b"more" not in reply.body


async def test_usage_in_every_chunk_does_not_hold_the_stream_back() -> None:
    """vLLM can report running totals: they are no end, and the last of them counts."""

    def chunk(i: int) -> bytes:
        return piece(f"word{i}", usage={"prompt_tokens": 9, "completion_tokens": i})

    hang = Upstream(events=chunked(*map(chunk, range(1, 5))), hang_after=3)
    async with hang, house({"a": hang.base_url}) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(post({**ASK, "stream": True}))
        async with asyncio.timeout(5):
            got = await reader.readuntil(b"word3")
        writer.close()
        await writer.wait_closed()
        await until(lambda: gateway.store.entries)
        (entry,) = gateway.store.entries
    assert b"usage" not in got
    assert entry.outcome.usage == Usage(input_tokens=9, output_tokens=3)


class Failing(Memory):
    """A ledger on a disk that is full, at once or by the time that it confirms."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self._at_once = at_once

    def settle(self, hold: Hold | None, entry: Entry) -> Awaitable[None] | None:
        if self._at_once:
            raise LedgerError("The journal cannot be written: no space left on device.")

        async def later() -> None:
            await asyncio.sleep(0.01)
            raise LedgerError("The entry is in the journal, but the disk has not confirmed it.")

        super().settle(hold, entry)
        return later()


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_the_ledger_does_not_keep_is_no_finished_answer(*, at_once: bool) -> None:
    """Attack 64, at settling: the client is told, and the metrics do not count what the ledger has not."""
    store = Failing(at_once=at_once)
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, POLICY, store=store) as gateway:
        for model in ("a", "p", "nobody"):
            whole = await raw(gateway.url, post({**ASK, "model": model}))
            assert (whole.status, whole.headers["x-trivet-fault"], whole.headers["retry-after"]) == (
                503,
                "operator",
                "1",
            )
            streamed = await raw(gateway.url, post({**ASK, "model": model, "stream": True}))
            assert b"ledger_unavailable" in streamed.body
            assert b"[DONE]" not in streamed.body
        assert gateway.app.metrics.requests == len(store.entries) == (0 if at_once else 6)


# ---- parsing and protocol -------------------------------------------------------------------------------------------

_CONTENT = json.dumps(ASK).encode()
_LENGTH = b"content-length: %d\r\n" % len(_CONTENT)
_NEXT = b"GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n"
SMUGGLED: dict[str, bytes] = {
    "CL and TE": CHAT + _LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "TE and CL": CHAT + b"transfer-encoding: chunked\r\n" + _LENGTH + b"\r\n0\r\n\r\n" + _NEXT,
    "two CLs": CHAT + _LENGTH + b"content-length: 5\r\n\r\n" + _CONTENT + _NEXT,
    "two equal CLs": CHAT + _LENGTH + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    **{
        f"CL {value!r}": CHAT + b"content-length:" + value + b"\r\n\r\n" + _CONTENT + _NEXT
        for value in (b" +5", b" 0x5", b" 5,5", b" 5 5", b" -1", b"", b" 5a", b" 1e1", b" " + b"9" * 30, b" \xb25")
    },
    "space before the colon": CHAT + b"content-length : %d\r\n\r\n%b" % (len(_CONTENT), _CONTENT) + _NEXT,
    "bare LF": (CHAT + _LENGTH).replace(b"\r", b"") + b"\n" + _CONTENT + _NEXT,
    "one bare LF": CHAT + b"x: y\n" + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    "bare CR": CHAT + b"x: y\rtransfer-encoding: chunked\r\n" + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    "NUL in a value": CHAT + b"x: a\0b\r\n" + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    "NUL in a name": CHAT + b"x\0y: a\r\n" + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    "obs-fold": CHAT + b"x: a\r\n b\r\n" + _LENGTH + b"\r\n" + _CONTENT + _NEXT,
    "folded TE": CHAT + b"transfer-encoding:\r\n chunked\r\n" + _LENGTH + b"\r\n0\r\n\r\n" + _NEXT,
    "TE xchunked": CHAT + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "TE identity": CHAT + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n" + _NEXT,
    "TE chunked, identity": CHAT + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + _NEXT,
    "two TEs": CHAT + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + _NEXT,
    "TE in HTTP/1.0": CHAT.replace(b"1.1", b"1.0") + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "chunk of 0x5": CHAT + b"transfer-encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n" + _NEXT,
    "chunk of -1": CHAT + b"transfer-encoding: chunked\r\n\r\n-1\r\n" + _CONTENT + _NEXT,
    "chunk of 2^72": CHAT + b"transfer-encoding: chunked\r\n\r\n1000000000000000000\r\nabcde\r\n0\r\n\r\n" + _NEXT,
    "chunk with LF": CHAT + b"transfer-encoding: chunked\r\n\r\n5\nabcde\n0\n\n" + _NEXT,
    "chunk too short": CHAT + b"transfer-encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n" + _NEXT,
    "header of 1 MB": CHAT + b"x: " + b"a" * 1_000_000 + b"\r\n" + _LENGTH + b"\r\n" + _CONTENT,
    "10,000 headers": CHAT + b"".join(b"x%d: yyy\r\n" % i for i in range(10_000)) + _LENGTH + b"\r\n" + _CONTENT,
    "CONNECT": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: x\r\n\r\n" + _NEXT,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _NEXT,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + _NEXT,
}  # fmt: skip


async def test_33_nobody_can_smuggle_a_second_request_past_the_first() -> None:
    """400 or a closed connection; never a 500, and never an answer to the bytes behind it."""
    async with open_house(Upstream("x")) as gateway:
        for name, data in SMUGGLED.items():
            reply = await raw(gateway.url, data, wait_s=3)
            assert reply.status in (0, 400, 405, 431, 501, 505), name
            assert reply.answers <= 1, name
            assert b'"object":"list"' not in reply.raw, name
        assert (await raw(gateway.url, post(ASK))).status == 200
        assert not [e for e in gateway.store.entries[:-1] if e.outcome.status == "ok"]


async def test_33_what_is_chunked_in_good_form_is_read() -> None:
    async with open_house(Upstream("x")) as gateway:
        head = CHAT + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        half = len(_CONTENT) // 2
        body = b"%x;ext=1\r\n%b\r\n%X\r\n%b\r\n0\r\nauthorization: late\r\n\r\n" % (
            half, _CONTENT[:half], len(_CONTENT) - half, _CONTENT[half:]
        )  # fmt: skip
        assert (await raw(gateway.url, head + body)).status == 200


async def test_34_connection_cannot_take_a_header_from_us_nor_send_one_on(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "acme")
    named = [
        ("connection", b"authorization, x-trivet-customer, openai-beta, x-mine"), ("connection", b"x-second"),
        ("openai-beta", b"b1"), ("x-mine", b"1"), ("x-second", b"2"), ("x-other", b"3"), ("x-trivet-customer", b"c"),
        ("te", b"trailers"), ("keep-alive", b"timeout=5"), ("proxy-authorization", b"Basic x"), ("cookie", b"c=1"),
    ]  # fmt: skip
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway:
        content = json.dumps(ASK).encode()
        lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in [*named, bearer(key)])
        reply = await raw(
            gateway.url, CHAT + lines + b"content-length: %d\r\n\r\n%b" % (len(content), content), wait_s=1
        )
        assert reply.status == 200  # its key was not dropped
        (entry,) = gateway.store.entries
    assert entry.labels.customer == "c"
    sent = upstream.requests[0].headers
    assert sent["x-other"] == "3"
    assert not sent.keys() & ({name for name, _ in named} - {"x-other"})
    assert "authorization" not in sent


async def test_a_target_cannot_speak_for_us_nor_for_the_connection() -> None:
    """Its headers go on to the client, but not those that only we or the connection may say."""
    theirs = {
        "x-trivet-id": "theirs", "x-trivet-cost-usd": "0", "x-request-id": "up-1", "set-cookie": "c=1",
        "server": "theirs", "keep-alive": "timeout=1", "cache-control": "public", "access-control-allow-origin": "*",
    }  # fmt: skip
    async with open_house(Upstream("x", headers=theirs)) as gateway:
        for stream in (False, True):
            reply = await raw(gateway.url, post({**ASK, "stream": stream}))
            assert reply.headers["x-trivet-id"] == gateway.store.entries[-1].id
            assert reply.headers["x-request-id"] == "up-1"
            assert reply.headers["cache-control"] == "no-store, private"
            assert b"theirs" not in reply.raw
            assert not reply.headers.keys() & {"set-cookie", "server", "keep-alive", "access-control-allow-origin"}
        error = await raw(gateway.url, post(b"{"))
        assert "x-request-id" not in error.headers


async def test_35_bytes_behind_an_upgrade_are_nobodys_request() -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"
    async with open_house(Upstream("x")) as gateway:
        for protocol in (b"websocket", b"h2c", b"TLS/1.0"):
            reply = await raw(gateway.url, upgrade % protocol + CHAT + _LENGTH + b"\r\n" + _CONTENT, wait_s=0.3)
            assert reply.status in (200, 400)
            assert reply.answers == 1
        assert gateway.store.entries == []


ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BROKEN_ANSWERS: dict[str, bytes] = {
    "length too long": OK + b"content-length: 999\r\n\r\n" + ANSWER,
    "length is no number": OK + b"content-length: x\r\n\r\n" + ANSWER,
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 9\r\n\r\n" + ANSWER,
    "length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of garbage": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n" + ANSWER,
    "chunks without an end": OK + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(ANSWER) + ANSWER + b"\r\n",
    "a flood of 1xx": b"HTTP/1.1 103 Early\r\n\r\n" * 50 + OK + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    "switching protocols": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "header of 1 MB": OK + b"x: " + b"a" * 1_000_000 + b"\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 O",
    "a redirect": b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No\r\n\r\n",
    "no JSON": OK + b"content-length: 5\r\n\r\nhello",
    "no choices": OK + b'content-length: 14\r\n\r\n{"choices":[]}',
    "not an object": OK + b"content-length: 2\r\n\r\n[]",
    "depth": OK + b"content-length: 200000\r\n\r\n" + b"[" * 200_000,
    "compressed": OK + b"content-encoding: gzip\r\ncontent-length: 20\r\n\r\n" + b"\x1f\x8b" + b"\0" * 18,
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
async def test_36_an_answer_that_is_not_one_is_an_error_of_the_target_with_words(name: str) -> None:
    async with speaking(BROKEN_ANSWERS[name]) as (base_url, connections), house({"a": base_url}) as gateway:
        for stream in (False, True):
            reply = await raw(gateway.url, post({**ASK, "stream": stream}))
            assert reply.status == 502, reply.raw
            assert json.loads(reply.body)["error"]["message"]
            assert reply.headers["x-trivet-fault"] == "upstream"
        assert {e.outcome.status for e in gateway.store.entries} == {"failed"}
        assert {a.http_status for e in gateway.store.entries for a in e.outcome.attempts} == {502}
    assert connections[0] >= 2  # a connection on which something was wrong is not used again


async def test_36_a_second_answer_on_the_same_connection_is_nobodys() -> None:
    whole = OK + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    other = whole.replace(b'"x"', b'"y"')
    async with speaking(whole + other) as (base_url, connections), house({"a": base_url}) as gateway:
        replies = [await raw(gateway.url, post(ASK)) for _ in range(3)]
    assert {reply.body for reply in replies} == {ANSWER}
    assert connections[0] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_36_headers_and_events_without_an_end_are_cut_off(*, stream: bool) -> None:
    drip: list[tuple[bytes, bytes]] = [
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"1;" + b"a" * 4000),
    ]
    if stream:
        events = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        drip += [(events + b"data: ", b"a" * 1_000_000)]
    for head, more in drip:
        async with speaking(head, then=more) as (base_url, _), house({"a": base_url}) as gateway:
            reply = await raw(gateway.url, post({**ASK, "stream": stream}), wait_s=30)
            await until(lambda gateway=gateway: gateway.store.entries)
            assert reply.status == 502
            assert gateway.store.entries[0].outcome.status == "failed"


ODD_SHAPES: Sequence[bytes] = [
    b'{"choices":[{"delta":"x"}]}', b'{"choices":[{"delta":[1]}]}', b'{"choices":[5]}', b'{"choices":{}}', b"5", b"",
    b"null", b'{"choices":[{"finish_reason":5}]}', b'{"choices":[{"delta":{"content":"\xff"}}], "model": 5}',
    b'{"error":{"message":"no"}}', b'{"error":"no"}', b'{"error":[1]}', b'{"error":{"code":7,"message":null}}',
]  # fmt: skip


@pytest.mark.parametrize("event", ODD_SHAPES, ids=repr)
async def test_a_chunk_of_another_shape_is_an_error_of_the_target_and_not_of_ours(event: bytes) -> None:
    async with open_house(Upstream(events=chunked(event, DONE))) as gateway:
        for model in ("a", "p"):
            reply = await raw(gateway.url, post({**ASK, "model": model, "stream": True}))
            assert (reply.status, reply.headers["x-trivet-fault"]) == (502, "upstream")
        assert {e.outcome.status for e in gateway.store.entries} == {"failed"}


async def test_a_stream_that_says_nothing_but_done_is_no_answer_and_the_next_target_is_asked() -> None:
    silent, other = Upstream(events=[b": hello\n\n", *chunked(DONE)]), Upstream("Fine")
    more = '[policies.q]\npool = ["a", "b"]\n'
    async with silent, other, house({"a": silent.base_url, "b": other.base_url}, more) as gateway:
        alone = await raw(gateway.url, post({**ASK, "stream": True}))
        both = await raw(gateway.url, post({**ASK, "model": "q", "stream": True}))
    assert alone.status == 502
    assert "ended its answer before it began" in json.loads(alone.body)["error"]["message"]
    assert (both.status, b"Fine" in both.body) == (200, True)


async def test_an_answer_without_a_word_is_still_the_first_targets_answer() -> None:
    """A role and an end, held back until it is sure that the next target is not needed."""
    mute, other = Upstream(events=chunked(piece(system_fingerprint="mute"), END, DONE)), Upstream("Never")
    more = '[policies.q]\npool = ["a", "b"]\n'
    async with mute, other, house({"a": mute.base_url, "b": other.base_url}, more) as gateway:
        reply = await raw(gateway.url, post({**ASK, "model": "q", "stream": True}))
    assert (reply.status, b'"mute"' in reply.body, b'"stop"' in reply.body) == (200, True, True)
    assert not other.requests
    assert [e.outcome.status for e in gateway.store.entries] == ["ok"]


@pytest.mark.parametrize(
    "whole",
    [
        b'{"choices":[{}]}', b'{"choices":[{"finish_reason":"stop"}]}', b'{"choices":[{"message":null}]}',
        b'{"choices":[{"finish_reason":"stop","message":5}]}', b'{"choices":[{"index":"q","message":{}}]}',
        b'{"choices":[{"finish_reason":"stop","message":{"tool_calls":5}}]}',
        b'{"choices":[{"finish_reason":"stop","message":{"tool_calls":[5],"content":[]}}],"usage":[],"error":null}',
    ],
    ids=repr,
)  # fmt: skip
async def test_a_whole_answer_of_another_shape_is_relayed_and_never_breaks_a_later_hit(whole: bytes) -> None:
    said = OK + b"content-length: %d\r\n\r\n" % len(whole) + whole
    async with speaking(said) as (base_url, _), house({"a": base_url}, POLICY) as gateway:
        for _ in range(2):
            for stream in (False, True):
                reply = await raw(gateway.url, post({**ASK, "model": "p", "stream": stream}))
                assert reply.status == 200, reply.raw
                assert reply.body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") or not stream


@pytest.mark.parametrize("kept", [False, True])
async def test_an_answer_that_calls_tools_is_kept_only_where_the_policy_says_so(*, kept: bool) -> None:
    upstream = Upstream(tools=[Tool("pay", '{"dollars": 5}')])
    async with open_house(upstream, POLICY + ("tools = true\n" if kept else "")) as gateway:
        for stream in (False, True, True, False):
            assert (await raw(gateway.url, post({**ASK, "model": "p", "stream": stream}))).status == 200
    assert len(upstream.requests) == (1 if kept else 4)


async def test_chunks_that_do_not_make_one_answer_are_relayed_and_not_kept() -> None:
    odd: list[list[bytes]] = [
        [b'{"choices":[{"index":"q","delta":{"content":"x"}}]}', END],
        [b'{"choices":[{"index":[],"delta":{"content":"x"}}]}', END],
        [b'{"choices":[{"delta":{"content":"x"}},{"delta":5}]}', END],
        [b'{"choices":[{"delta":{"content":"x","tool_calls":[5]}}]}', END],
        [b'{"choices":[{"delta":{"content":"x","y":"\xff"}}]}', END],
        [b'{"choices":[{"delta":{"content":"x"},"logprobs":5}]}', b'{"choices":[{"logprobs":{}}]}', END],
    ]
    for events in odd:
        upstream = Upstream(events=chunked(*events, DONE))
        async with open_house(upstream) as gateway:
            for _ in range(2):
                reply = await raw(gateway.url, post({**ASK, "model": "p", "stream": True}))
                assert (reply.status, b"[DONE]" in reply.body) == (200, True)
            assert {e.outcome.status for e in gateway.store.entries} == {"ok"}
        assert len(upstream.requests) == 2, events


DEEP = b"[" * 100_000 + b"]" * 100_000
JSON_BODIES: dict[str, tuple[bytes, set[int]]] = {
    "depth 10^5": (b'{"model":"p","messages":' + DEEP + b"}", {400}),
    "depth 10^5 aside": (b'{"model":"p","messages":[],"x":' + DEEP + b"}", {400}),
    "depth 500": (b'{"model":"p","messages":' + b"[" * 500 + b"]" * 500 + b"}", {200, 400}),
    "10^6 keys": (b'{"model":"p","messages":[],' + b",".join(b'"k%d":0' % i for i in range(10**6)) + b"}", {400}),
    "900 keys": (b'{"model":"p","messages":[],' + b",".join(b'"k%d":0' % i for i in range(900)) + b"}", {200}),
    "1e400": (b'{"model":"p","messages":[],"x":1e400}', {200, 400}),
    "temperature 1e400": (b'{"model":"p","messages":[],"temperature":1e400}', {400}),
    "temperature NaN": (b'{"model":"p","messages":[],"temperature":NaN}', {400}),
    "10^400": (b'{"model":"p","messages":[],"seed":1' + b"0" * 400 + b"}", {200, 400}),
    "deadline of 5000 digits": (b'{"model":"p","messages":[],"trivet":{"deadline":' + b"9" * 5000 + b"}}", {400}),
    "lone surrogate": (b'{"model":"p","messages":["\\ud800"]}', {200, 400}),
    "lone surrogate in the name": (b'{"model":"\\ud800","messages":[]}', {400}),
    "__proto__": (b'{"model":"p","messages":[],"__proto__":{"model":"a"},"constructor":1}', {200}),
    "byte order mark": (b'\xef\xbb\xbf{"model":"p","messages":[]}', {400}),
    "UTF-16": (json.dumps(ASK).encode("utf-16"), {400}),
    "UTF-7": (b'+AHsAIg-model":"p"}', {400}),
    "NUL": (b'{"model":"p\\u0000","messages":[]}', {404}),
    "nothing": (b"", {400}),
    "null": (b"null", {400}),
    "a list": (b"[]", {400}),
    "text behind": (b'{"model":"p","messages":[]} {}', {400}),
    "no messages": (b'{"model":"p"}', {400}),
    "messages that are text": (b'{"model":"p","messages":"hi"}', {400}),
    "name of 600 characters": (b'{"model":"' + b"p" * 600 + b'","messages":[]}', {400}),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_BODIES)
async def test_38_json_bombs_and_oddities_are_refused_or_passed_on(name: str) -> None:
    body, statuses = JSON_BODIES[name]
    async with open_house(Upstream("x")) as gateway:
        for stream in (b"", b',"stream":true'):
            sent = body[:-1] + stream + b"}" if body.endswith(b"}") and stream else body
            reply = await raw(gateway.url, post(sent), wait_s=60)
            assert reply.status in statuses, reply.raw[:500]
        assert len(gateway.store.entries) == 2


async def test_38_what_is_decided_on_and_what_is_forwarded_are_the_same_value() -> None:
    """A name given twice, in plain or in escapes: the last counts for us, and only that one goes on."""
    upstream = Upstream("x")
    bodies = [
        b'{"model":"nobody","messages":[1],"model":"a","messages":[2],"stream":true,"stream":false}',
        b'{"model":"nobody","messages":[1],"mod\\u0065l":"a","m\\u0065ssages":[2],"str\\u0065am":false}',
        b'{"stream":null,"messages":[2],"n":2,"n":1,"model":"a"}',
    ]
    async with open_house(upstream) as gateway:
        for body in bodies:
            assert (await raw(gateway.url, post(body))).status == 200
        assert (await raw(gateway.url, post(b'{"model":"a","mod\\u0065l":"nobody","messages":[]}'))).status == 404
        assert {e.model for e in gateway.store.entries[:3]} == {"a"}
    for asked in upstream.requests:
        pairs: list[tuple[str, Any]] = json.loads(asked.raw, object_pairs_hook=list)
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names)
        assert dict(pairs)["messages"] == [2]
        assert dict(pairs)["model"] == "a-1"
        assert dict(pairs).get("stream") in (False, None)


async def test_38_a_name_given_twice_further_in_never_decides_what_others_get() -> None:
    upstream = Upstream(script=lambda body: Answer(pieces=(str(body["messages"]),)))
    twice = b'{"model":"p","messages":[{"role":"user","content":"evil","content":"hi"}]}'
    plain = b'{"model":"p","messages":[{"role":"user","content":"hi"}]}'
    async with open_house(upstream) as gateway:
        for body in (twice, plain, plain, twice):
            await raw(gateway.url, post(body))
        caches = [e.cache for e in gateway.store.entries]
    assert caches[:3] == ["miss", "miss", "exact"]


async def test_40_events_in_any_spelling_are_the_same_chunks() -> None:
    spellings = [
        b"data: %b\n\n", b"data:%b\n\n", b"data: %b\r\n\r\n", b"data: %b\r\r", b"event: delta\nid: 7\ndata: %b\n\n",
        b": comment\n\ndata: %b\n\n", b"retry: 5\ndata: %b\nx: y\n\n", b"\xef\xbb\xbfdata: %b\n\n",
    ]  # fmt: skip
    seen = []
    for spelling in spellings:
        whole = b"".join(
            (spelling.removeprefix(b"\xef\xbb\xbf") if i else spelling) % event
            for i, event in enumerate([piece("x\\r\\n\\ndata: [DONE]"), piece("é\u2028"), END, DONE])
        )
        cut = [whole[i : i + 7] for i in range(0, len(whole), 7)]  # splits every character of two bytes somewhere
        async with open_house(Upstream(events=cut)) as gateway:
            reply = await raw(gateway.url, post({**ASK, "stream": True}))
        events = [line for line in dechunked(reply).split(b"\n\n") if line]
        assert all(event.startswith(b"data: ") for event in events)
        seen.append(events)
    assert all(events == seen[0] for events in seen)
    assert len(seen[0]) == 4


async def test_40_an_answer_of_ten_megabytes_in_one_event_comes_through() -> None:
    text = "x" * 10_000_000
    async with open_house(Upstream(text)) as gateway:
        reply = await raw(gateway.url, post({**ASK, "stream": True}), wait_s=60)
    assert text.encode() in dechunked(reply)


def dechunked(reply: Reply) -> bytes:
    body, whole = reply.body, b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


# ---- hosts ----------------------------------------------------------------------------------------------------------


async def test_44_no_field_of_a_request_makes_the_gateway_connect_anywhere_else(tmp_path: Path) -> None:
    dialled: list[tuple[str, int]] = []

    async def watched(make: Any, host: str, port: int, *, tls: Any) -> Any:
        dialled.append((host, port))
        return await dial(make, host, port, tls=tls)

    redirect = b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n"
    urls = [
        "http://169.254.169.254/latest/meta-data", "http://[::ffff:127.0.0.1]:1/", "http://2130706433:1/", "file:///etc/passwd",
        "http://localhost:1", "gopher://127.0.0.1:1/_x", "http://0x7f.1:1", "//127.0.0.1:1", "data:text/plain,x",
    ]  # fmt: skip
    names = ("base_url", "api_base", "url", "endpoint", "host", "webhook", "callback_url", "proxy", "provider")
    async with Upstream("x") as upstream, speaking(redirect) as (redirecting, _):
        settings = config({"a": upstream.base_url, "b": redirecting})
        async with stages(settings, kit(tmp_path, dialer=watched), Memory()) as made:
            app = App(made, auth=Auth(KeyRing(tmp_path / FILE)), random=random.Random(1), max_body_bytes=10**6)
            for url in urls:
                image = [{"type": "image_url", "image_url": {"url": url}}, {"type": "file", "file": {"file_url": url}}]
                fields = dict.fromkeys(names, url)
                body = {"model": "a", "messages": [{"role": "user", "content": image}], **fields, "tools": [fields]}
                headers = [
                    (b"x-custom-host", url.encode()),
                    (b"x-forwarded-host", url.encode()),
                    (b"host", url.encode()),
                ]
                assert await status_of(app, body, headers) == 200
                for model in (url, f"a/{url}", f"openai/{url}"):
                    assert await status_of(app, {**body, "model": model}, headers) in (400, 404)
                for control in ("x-trivet-baseline", "x-trivet-target", "x-trivet-base-url"):
                    assert await status_of(app, body, [(control.encode(), url.encode())]) == 400
            assert await status_of(app, {**ASK, "model": "b"}, []) == 502
    configured = {int(base.rsplit(":", 1)[1].split("/")[0]) for base in (upstream.base_url, redirecting)}
    assert {host for host, _ in dialled} == {"127.0.0.1"}
    assert {port for _, port in dialled} == configured
    assert len(upstream.requests) == len(urls)


async def status_of(app: App, body: Any, headers: list[tuple[bytes, bytes]], *, tape: Tape | None = None) -> int:
    """Ask the app itself; gives the status, and in `tape` what was written."""
    tape = tape or Tape()
    await app(chat(tape, body, headers))
    return tape.status()


async def test_46_names_that_look_like_paths_name_no_files(tmp_path: Path) -> None:
    """What a client calls a model, a customer or a namespace is text, wherever it is kept."""
    odd = ["../../../etc/passwd", "/etc/passwd", "a/../../b", "x\u0000y", "n" * 250, "CON", "..", "~/.ssh/id"]
    made, inner = kit(tmp_path), tmp_path / "one" / "two" / "ledger"
    store = SqliteStore(inner, durability="process", clock=made.clock, random=made.random, tell=made.tell)
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, POLICY, store=store) as gateway:
        for name in odd:
            words = {"namespace": name, "customer": name, "feature": name, "agent": name}
            named = await raw(gateway.url, post({**ASK, "model": name}))
            labelled = await raw(gateway.url, post({**ASK, "model": "p", "trivet": words}))
            assert (named.status, labelled.status) == (404, 200)
    kept = read_entries(inner, since_ns=0, until_ns=2**62, limit=100, tell=print)
    assert {entry.labels.customer for entry in kept} == {"", *odd}
    assert {path.name for path in files_below(tmp_path)} <= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# ---- leaks ----------------------------------------------------------------------------------------------------------

CANARY = "sk-canary-provider-Zx81mQd0v7Yt2Lk9"  # made up
PROMPT = "prompt-canary-7f3a"
SECRET_ANSWER = "answer-canary-91be"


def echoing(body: Any) -> Answer:
    """Fail in the way that the last word of the prompt says, repeating what was sent: key, prompt and all."""
    way = str(body["messages"][0]["content"]).split(" ")[-1]
    words = f"bad key {CANARY} for {body['messages']}"
    told = {"message": words, "code": CANARY, "type": "x"}
    error = json.dumps({"error": told}).encode()
    ways: dict[str, Answer] = {
        "refused": Answer(status=401, error=told, headers=(("x-debug", f"Bearer {CANARY}"),)),
        "broken": Answer(status=500, error=told, headers=(("www-authenticate", CANARY),)),
        "cut": Answer(pieces=(SECRET_ANSWER, "b"), cut_after=1),
        "inside": Answer(events=tuple(chunked(piece(SECRET_ANSWER), error))),
        "garbage": Answer(garbage=True),
        "shape": Answer(events=(b'data: {"choices":5,"x":"' + CANARY.encode() + b'"}\n\n',)),
        "fine": Answer(pieces=(SECRET_ANSWER,), headers=(("x-echo", f"authorization: Bearer {CANARY}"),)),
    }  # fmt: skip
    return ways[way]


async def test_52_53_54_keys_and_prompts_are_in_no_output_however_a_request_fails(tmp_path: Path) -> None:
    """Requests that fail in every way; then all that came out is searched: answers, disk, metrics, what was printed."""
    key, revoked = make_key(tmp_path / "home" / FILE, "acme"), "sk-trivet-" + "R" * 32
    answers, before = bytearray(), bytearray()
    async with Upstream(script=echoing) as upstream:
        config_text = toml({"a": upstream.base_url, "b": "http://127.0.0.1:9/v1"}, POLICY)
        parse(config_text, source="t")
        async with serving(tmp_path, config_text, env={"CANARY_KEY": CANARY}) as child:
            for way in ("refused", "broken", "cut", "inside", "garbage", "shape", "fine"):
                for stream in (False, True):
                    for model in ("a", "p", "p", "b"):
                        content = f"{PROMPT} {way}"
                        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}
                        reply = await raw(child.url, post(body, bearer(key), ("x-trivet-report", b"on")))
                        assert reply.status
                        answers += reply.raw.replace(PROMPT.encode(), b"").replace(SECRET_ANSWER.encode(), b"")
            bad = [
                post({**ASK, "messages": PROMPT}, bearer(key)), post(b'{"x":"' + PROMPT.encode(), bearer(key)),
                post(ASK, bearer(revoked)), post(ASK, bearer(key + "x")), post(ASK, bearer(key), bearer(key)),
                post({**ASK, "model": "nobody", "x": PROMPT}, bearer(key)), get("/metrics", bearer(key)),
                post({**ASK, "x": PROMPT}, bearer(key), ("x-trivet-odd", b"1")), get("/v1/models", bearer(key)),
                post({**ASK, "temperature": PROMPT}, bearer(key)), get("/openapi.json"), get("/readyz"),
                post(ASK, bearer(key), ("x", b"\0")), b"BAD " + PROMPT.encode() + b"\r\n\r\n",
            ]  # fmt: skip
            for data in bad:
                answers += (await raw(child.url, data)).raw
            before += on_disk(child.home)  # the journal too: a process that ends well removes it
            assert await child.stop() == 0
        assert any(CANARY in asked.headers["authorization"] for asked in upstream.requests)
        after = on_disk(child.home)
    said = child.words().encode()
    for name, output in {"answers": bytes(answers), "disk": bytes(before), "closed disk": after, "said": said}.items():
        for secret in (CANARY, key, revoked, PROMPT, SECRET_ANSWER):
            assert secret.encode() not in output, f"{secret[:12]} in {name}"
        assert b"Traceback" not in output, name
    assert b"sk-...Lk9" in answers or b"sk-...2Lk9" in answers  # it was repeated to us, and masked


def on_disk(home: Path) -> bytes:
    """Read every file below the home, and the journal record by record."""
    files = files_below(home)
    assert files
    whole = b"".join(path.read_bytes() for path in files)
    records = [p for f in files if f.suffix == ".log" for p in parse_journal(f.read_bytes()).payloads]
    return whole + b"".join(records) + "\n".join(map(os.fspath, files)).encode()


async def test_54_an_entry_has_no_word_of_prompt_or_answer() -> None:
    async with open_house(Upstream(SECRET_ANSWER)) as gateway:
        for stream in (False, True):
            body = {"model": "p", "stream": stream, "messages": [{"role": "user", "content": PROMPT}], "user": PROMPT}
            await raw(gateway.url, post(body))
            await raw(gateway.url, post({**body, "messages": PROMPT}))
        kept: list[Entry] = gateway.store.entries
        assert len(kept) == 4
        assert not [entry for entry in kept if PROMPT in repr(entry) or SECRET_ANSWER in repr(entry)]


async def test_a_defect_of_ours_is_a_500_in_openais_shape_with_its_entry(tmp_path: Path) -> None:
    """A plugin that breaks its promise: the client is told in good form, and the ledger whose fault it was."""

    class Broken:
        """A provider that raises what no provider may."""

        async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
            if request.tenant:
                raise ZeroDivisionError(PROMPT)
            yield

    store = Memory()
    async with stages(config({"a": "http://127.0.0.1:9/v1"}), kit(tmp_path), store) as made:
        broken = made._replace(providers={"a": Broken()})  # type: ignore[dict-item]  # broken on purpose
        app = App(broken, auth=Auth(KeyRing(tmp_path / FILE)), random=random.Random(1), max_body_bytes=10**6)
        tape = Tape()
        with pytest.raises(ZeroDivisionError):  # which the server writes to the log
            await status_of(app, ASK, [], tape=tape)
    assert tape.status() == 500
    told = json.loads(tape.written.split(b"\r\n\r\n")[1])["error"]
    assert (told["code"], store.entries[0].id in told["message"], PROMPT in told["message"]) == (
        "internal_error",
        True,
        False,
    )
    (entry,) = store.entries
    assert (entry.outcome.status, entry.outcome.http_status) == ("failed", 500)
    assert entry.outcome.fault is not None
    assert (entry.outcome.fault.whose, PROMPT in repr(entry)) == ("trivet", False)


# ---- cache keys, and everything down ---------------------------------------------------------------------------------


def test_15_requests_that_differ_in_any_one_part_never_share_a_key() -> None:
    """Twenty thousand of them, seeded: no two keys are equal unless the requests are."""
    rng = random.Random(15)
    words = [
        "",
        "a",
        "A",
        "a ",
        " a",
        "aa",
        "b",
        "é",
        "e\u0301",
        "\u200b",
        "1",
        "null",
        "0",
        "\u0000",
        '"',
        "a\nb",
        "\u0430",
    ]

    fields: dict[str, list[Any]] = {
        "temperature": [0, 0.5, 1, None], "seed": [0, 1, -1, 2**53, 2**53 + 1, 2**63, "1"], "tools": [[], [{}], None],
        "max_tokens": [1, 10, 1.5], "stop": ["a", ["a"], ["a", "b"], ["b", "a"]], "user": words, "x": [True, 1, "1"],
    }  # fmt: skip

    def choose() -> dict[str, Any]:
        word = rng.choice
        asked: dict[str, Any] = {
            "tenant": word(["t", "u", "t\u0000", "tt", "T", ""]), "namespace": word(words), "customer": word(words),
            "model": word(["p", "q", "P", "p "]),
            "messages": [{"role": word(["user", "system"]), "content": word(words)}],
        }  # fmt: skip
        if rng.random() < 0.5:
            asked["messages"].append({"role": "user", "content": word(words)})
        for name, values in fields.items():
            if rng.random() < 0.3:
                asked[name] = word(values)
        return asked

    seen: dict[bytes, str] = {}
    for _ in range(20_000):
        parts = choose()
        found = fingerprint(ask(**parts), CACHED)
        assert found is not None
        assert seen.setdefault(found.digest, json.dumps(parts, sort_keys=True)) == json.dumps(parts, sort_keys=True)
    assert len(seen) > 15_000


async def test_68_with_every_target_down_it_says_so_and_recovers_by_itself() -> None:
    async with Upstream("x") as upstream, Upstream("y") as other:
        pass  # ports that were free a moment ago
    more = '[policies.q]\npool = ["a", "b"]\n'
    async with house({"a": upstream.base_url, "b": other.base_url}, more) as gateway:
        for stream in (False, True):
            reply = await raw(gateway.url, post({**ASK, "model": "q", "stream": stream}))
            assert (reply.status, reply.headers["x-trivet-fault"]) == (502, "upstream")
            assert json.loads(reply.body)["error"]["code"] == "upstream_unreachable"
        assert (await raw(gateway.url, get("/healthz"))).status == 200
        async with Upstream("back", port=other.port):
            assert (await raw(gateway.url, post({**ASK, "model": "q"}))).status == 200
        assert [len(e.outcome.attempts) for e in gateway.store.entries] == [2, 2, 2]
