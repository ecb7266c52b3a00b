"""A client that hangs up, in every phase, streamed and not: the target is let go at once, and one entry says so.

"At once" is an order of events: the socket to the target is closed before the gateway has answered a few requests
that were sent after the hang-up, each of which takes about a millisecond. No clock is read.

Not here: cancellation at every await (`tests/test_torture.py`), phases while failing over (`tests/test_attacks.py`).
"""

import asyncio
import json
import resource
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.edge_kit import get, raw, until
from tests.hostile.wires import Asked, Step, Target, chunks, listening, request
from tests.hostile.witness import sockets
from trivet.testing.house import Gateway, house
from trivet.types import Entry
from trivet.upstream import http

pytestmark = pytest.mark.anyio

LATER = 25
"""Requests sent one after the other behind the hang-up: well under 100 ms of work."""
SILENCE_S = 60.0
_SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n"
_ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
_WORD = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
_END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'

PHASES: dict[str, tuple[Sequence[Step], Sequence[Step]]] = {
    # the target's steps for a stream, and for a whole answer
    "before headers": ([SILENCE_S], [SILENCE_S]),
    "half a head": ([_SSE[:20], SILENCE_S], [_WHOLE[:20], SILENCE_S]),
    "before the first byte": ([_SSE, SILENCE_S], [_WHOLE, SILENCE_S]),
    "before the first token": ([_SSE, *chunks([_ROLE])[:-1], SILENCE_S], [_WHOLE, b" ", SILENCE_S]),
    "mid-stream": ([_SSE, *chunks([_ROLE, _WORD])[:-1], SILENCE_S], [_WHOLE, b'{"choices":[', SILENCE_S]),
    "before the last word": ([_SSE, *chunks([_ROLE, _WORD, _END])[:-1], SILENCE_S], [_WHOLE, b"{" * 9998, SILENCE_S]),
}


class Caller:
    """A client that sends a request and can hang up in three manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def ask(cls, url: str, *, stream: bool) -> "Caller":
        """Send a request."""
        host, port = url.removeprefix("http://").rsplit(":", 1)
        caller = cls(*await asyncio.open_connection(host, int(port)))
        body = json.dumps({"model": "a", "stream": stream, "messages": []}).encode()
        caller.writer.write(request("/v1/chat/completions", body))
        await caller.writer.drain()
        return caller

    def hang_up(self, manner: str) -> None:
        """Close, reset, or say that nothing more will be sent, which counts as leaving."""
        if manner == "reset":
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif manner == "half-close":
            self.writer.write_eof()
        else:
            self.writer.close()


async def before_others(url: str, happened: Callable[[], bool]) -> None:
    """Ask other things, one after the other, until it has happened: it must before they are all answered."""
    for _ in range(LATER):
        assert (await raw(url, get("/healthz"))).status == 200
        if happened():
            return
    raise AssertionError(f"not before {LATER} other answers")


@asynccontextmanager
async def hearing(steps: Sequence[Step]) -> AsyncGenerator[tuple[Target, Gateway, list[int]], None]:
    """Open a gateway over a target; the list grows when it has said all that comes before its silence."""
    reached: list[int] = []

    def say(asked: Asked) -> Iterator[Step]:
        for step in steps:
            if isinstance(step, float):
                reached.append(1)
            yield step

    async with listening(Target(say)) as target, house({"a": target.base_url}) as gateway:
        yield target, gateway, reached


@pytest.mark.parametrize("manner", ["close", "reset", "half-close"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_hang_up_lets_go_of_the_target_at_once_and_leaves_one_entry(
    phase: str, manner: str, *, stream: bool
) -> None:
    async with hearing(PHASES[phase][0 if stream else 1]) as (target, gateway, reached):
        caller = await Caller.ask(gateway.url, stream=stream)
        await until(lambda: reached)
        if stream and phase in ("mid-stream", "before the last word"):
            assert b'"x"' in await caller.reader.readuntil(b'"x"')
        caller.hang_up(manner)
        await before_others(gateway.url, lambda: not target.open)
        assert target.hang_ups == 1
        await cancelled(gateway)
        caller.writer.close()


async def cancelled(gateway: Gateway, *, count: int = 1) -> None:
    await until(lambda: len(gateway.store.entries) >= count)
    await raw(gateway.url, get("/healthz"))  # whatever was still to come has had its turn
    entries: list[Entry] = gateway.store.entries
    assert [(entry.outcome.status, entry.outcome.http_status) for entry in entries] == [("cancelled", 499)] * count


def connecting(port: int) -> int:
    """Count the sockets of this machine that wait for a port to accept them (SYN_SENT)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "02" for line in lines)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_while_a_connection_is_being_made_gives_it_up(*, stream: bool) -> None:
    """The target's queue of connections is full, so the kernel leaves ours without an answer."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            async with house({"a": f"http://127.0.0.1:{port}/v1"}) as gateway:
                await asyncio.sleep(0.05)
                before = connecting(port)
                caller = await Caller.ask(gateway.url, stream=stream)
                await until(lambda: connecting(port) > before)
                caller.hang_up("close")
                await before_others(gateway.url, lambda: connecting(port) <= before)
                await cancelled(gateway)
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_in_the_line_for_a_full_pool_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    """A thousand connections are busy: who waits for one and leaves is entered, and takes nobody's turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8_000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_000, hard), hard))
    steps: list[Step] = [_SSE, *chunks([_WORD])[:-1], SILENCE_S] if stream else [SILENCE_S]
    at_rest = sockets()
    monkeypatch.setattr(http, "MOST_OPEN", 1000)  # ten thousand are more files than a machine of tests may open
    async with hearing(steps) as (target, gateway, _):
        busy = [await Caller.ask(gateway.url, stream=stream) for _ in range(1000)]
        await until(lambda: len(target.asked) == 1000)
        waiting = [await Caller.ask(gateway.url, stream=stream) for _ in range(5)]
        await raw(gateway.url, get("/healthz"))
        await asyncio.sleep(0.1)
        assert not gateway.store.entries
        for caller in waiting:
            caller.hang_up("close")
        await before_others(gateway.url, lambda: len(gateway.store.entries) == 5)
        assert target.open == target.connections == 1000
        for caller in busy:
            caller.hang_up("close")
        await until(lambda: not target.open)
        await cancelled(gateway, count=1005)
    await until(lambda: sockets() <= at_rest)
