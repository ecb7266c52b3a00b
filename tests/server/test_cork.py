"""What is written in one turn of the loop leaves in one piece, in order, and whole."""

import asyncio
from typing import Any

import pytest

from tests.edge_kit import ASK, post, raw, until
from trivet.server.cork import Corked
from trivet.testing.house import house
from trivet.testing.upstream import Upstream

pytestmark = pytest.mark.anyio


class Writes(asyncio.Protocol):
    """What arrives, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def wire(use: Any) -> Writes:
    """Open a real connection, use a corked transport on one side, and give what the other side saw."""
    loop, seen = asyncio.get_running_loop(), Writes()
    server = await loop.create_server(lambda: seen, "127.0.0.1", 0)
    async with server:
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        await use(Corked(transport, loop))
        await asyncio.wait_for(seen.ended.wait(), 5)
    return seen


async def test_writes_of_one_turn_arrive_together_and_in_order() -> None:
    async def use(corked: Corked) -> None:
        for turn in (b"a", b"b"):
            for number in (b"1", b"2", b"3"):
                corked.write(turn + number)
            await asyncio.sleep(0.05)
        corked.close()

    assert (await wire(use)).pieces == [b"a1a2a3", b"b1b2b3"]


async def test_closing_sends_what_waits_and_aborting_does_not() -> None:
    async def closing(corked: Corked) -> None:
        corked.write(b"the last ")
        corked.write(b"words")
        corked.close()
        assert corked.is_closing()

    async def aborting(corked: Corked) -> None:
        corked.write(b"never")
        corked.abort()
        await asyncio.sleep(0)

    assert b"".join((await wire(closing)).pieces) == b"the last words"
    assert (await wire(aborting)).pieces == []


async def test_a_large_answer_comes_through_whole() -> None:
    text = "".join(chr(97 + i % 26) for i in range(3_000_000))
    async with Upstream(text) as upstream, house({"a": upstream.base_url}) as gateway:
        reply = await raw(gateway.url, post(ASK))
    assert text.encode() in reply.body
    assert int(reply.headers["content-length"]) == len(reply.body)


async def test_a_client_that_leaves_between_two_requests_of_a_connection_is_nobodys_loss() -> None:
    """One `Gone` serves a whole connection: it must be about the request that is running, if any is."""
    upstream = Upstream("x")
    async with upstream, house({"a": upstream.base_url}) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        for number in range(1, 4):
            _, writer = await asyncio.open_connection(host, int(port))
            whole = post(ASK).replace(b"connection: close\r\n", b"")
            writer.write(whole)
            await until(lambda number=number: len(gateway.store.entries) == number)
            writer.close()
            await writer.wait_closed()
        assert (await raw(gateway.url, post(ASK))).status == 200
        assert {e.outcome.status for e in gateway.store.entries} == {"ok"}
