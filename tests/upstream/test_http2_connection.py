"""One connection of HTTP/2 against h2 in its server's role: streams that end alone, windows, GOAWAY, bad frames."""

import asyncio
import random
import socket
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from tests.upstream.http_kit import HEAD, WAIT_S, ask, on_both_loops, until
from tests.upstream.way_kit import Asked, Asked2, asking, goaway, hello, pool2
from trivet.upstream.http import dial
from trivet.upstream.http2_connection import Connection, _fields
from trivet.upstream.reply import LostError, Origin, PhaseTimeoutError, ProtocolError

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops


async def test_a_cancelled_caller_resets_its_stream_and_no_other() -> None:
    go = asyncio.Event()

    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"a")
        await go.wait()
        await asked.piece(b"b")
        await asked.end()

    async with asking("2", talk) as (way, server):
        leaver, stayer = asyncio.create_task(ask(way)), asyncio.create_task(ask(way))
        await until(lambda: len(server.asked) == 2)
        await asyncio.sleep(0.02)
        leaver.cancel()
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)
        assert server.asked[0].reset == ErrorCodes.CANCEL
        go.set()
        assert await asyncio.wait_for(stayer, WAIT_S) == b"ab"
        assert not server.asked[1].gone.is_set()
        assert await ask(way) == b"ab"
        assert server.connections == 1


async def test_what_comes_for_callers_that_left_does_not_use_up_the_window() -> None:
    """The connection's window is 1 MB: forty answers of 100 kB that nobody reads would stop it for all."""

    async def talk(asked: Asked2) -> None:
        await asked.body()
        if len(server.asked) > 40:
            await asked.head()
            await asked.piece(b"x" * 200_000)
            await asked.end()
        else:  # all of it at once, so that it is on its way when the reset comes
            h2 = asked.link.h2
            h2.send_headers(asked.id, [(b":status", b"200")])
            for _ in range(10):
                h2.send_data(asked.id, b"y" * 10_000)
            asked.link.flush()

    async with asking("2", talk) as (way, server):
        for _ in range(40):
            reply = await way.send(HEAD % 2, b"{}")
            reply.close()
        assert len(await asyncio.wait_for(ask(way), WAIT_S)) == 200_000
        assert server.connections == 1


async def test_a_reader_that_does_not_read_does_not_stop_the_others() -> None:
    async def talk(asked: Asked) -> None:
        body = await asked.body()
        await asked.head()
        await asked.piece(b"x" * int(body))
        await asked.end()

    async with asking("2", talk) as (way, server):
        slow = [await way.send(HEAD % 7, b"9000000") for _ in range(8)]
        await asyncio.sleep(0.1)
        assert len(await asyncio.wait_for(ask(way, b"3000000"), WAIT_S)) == 3_000_000
        assert all(reply._answer.size <= 262_144 for reply in slow)
        for reply in slow:
            reply.close()
        assert server.connections == 1


@pytest.mark.parametrize("polite", [True, False], ids=["in two steps", "at once"])
async def test_a_server_that_goes_away_ends_what_it_has_begun_and_the_rest_is_asked_elsewhere(*, polite: bool) -> None:
    go = asyncio.Event()

    async def talk(asked: Asked2) -> None:
        body = await asked.body()
        if body == b"second" and server.connections == 1:
            if polite:
                asked.link.go_away(2**31 - 1)
            asked.link.go_away(1)
            return
        await go.wait()
        await asked.head()
        await asked.piece(body)
        await asked.end()

    async with asking("2", talk) as (way, server):
        first = asyncio.create_task(ask(way, b"first"))
        await until(lambda: server.asked)
        second = asyncio.create_task(ask(way, b"second"))
        await until(lambda: server.connections == 2)
        go.set()
        assert await asyncio.wait_for(first, WAIT_S) == b"first"
        assert await asyncio.wait_for(second, WAIT_S) == b"second"
        assert await ask(way, b"third") == b"third"
        assert server.connections == 2
        assert way.connections().retried == 1
        await until(lambda: len(server.links) == 1)  # the old one is closed when its last answer is over


@pytest.mark.parametrize("cut", range(0, 21, 3))
async def test_a_goaway_is_read_wherever_it_is_cut(cut: int) -> None:
    async def talk(asked: Asked2) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"a")
        frame = goaway(asked.id)
        asked.link.transport.write(frame[:cut])
        await asyncio.sleep(0.01)
        asked.link.transport.write(frame[cut:])
        await asked.piece(b"b")
        await asked.end()

    async with asking("2", talk) as (way, server):
        assert await ask(way) == b"ab"
        assert await ask(way) == b"ab"
        assert server.connections == 2


async def test_however_the_bytes_are_cut_goaways_are_taken_out_and_nothing_else() -> None:
    dice = random.Random(3)

    def frame(kind: int, size: int) -> bytes:
        return size.to_bytes(3) + bytes([kind, 0]) + (1).to_bytes(4) + dice.randbytes(size)

    frames = [frame(dice.choice([0, 1, 4, 8]), dice.choice([0, 1, 4, 300])) for _ in range(60)]
    whole = b"".join(frames[:20]) + goaway(5) + b"".join(frames[20:40]) + goaway(3, 2) + b"".join(frames[40:])
    for _ in range(200):
        connection = Connection(pool2(1))
        kept, found, rest = b"", list[tuple[int, int]](), whole
        while rest:
            size = dice.choice([1, 2, 5, 17, 400, 4000])
            data, goaways = connection._without_goaways(rest[:size])
            kept, found, rest = kept + data, found + goaways, rest[size:]
        assert kept == b"".join(frames)
        assert found == [(5, 0), (3, 2)]


async def test_a_request_that_the_server_has_begun_to_take_is_not_sent_twice() -> None:
    """Its connection breaks with no word of an answer, but with one that it was there: it may be at work on it."""

    async def talk(asked: Asked2) -> None:
        if len(server.asked) == 1:
            await hello(asked)
        else:
            await asked.body()
            asked.link.h2.ping(b"pingpong")
            asked.link.flush()
            await asyncio.sleep(0.02)
            asked.cut()

    async with asking("2", talk) as (way, server):
        assert await ask(way) == b"hello"
        with pytest.raises(LostError):
            await ask(way)
        assert len(server.asked) == 2


async def test_a_refused_stream_is_asked_again_and_a_failed_one_is_not() -> None:
    async def talk(asked: Asked2) -> None:
        body = await asked.body()
        if len(server.asked) == 1 or body == b"fail":
            asked.refuse(ErrorCodes.INTERNAL_ERROR if body == b"fail" else ErrorCodes.REFUSED_STREAM)
        else:
            await hello(asked)

    async with asking("2", talk) as (way, server):
        assert await ask(way) == b"hello"
        assert len(server.asked) == 2
        with pytest.raises(LostError, match="INTERNAL_ERROR"):
            await ask(way, b"fail")
        assert len(server.asked) == 3
        assert server.connections == 1


@pytest.mark.parametrize(
    "noise",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x04\x08\x00" + bytes(8), b"\xff\xff\xff\x07\x00" + bytes(40)],
    ids=["http/1.1", "a window of nothing", "an endless goaway"],
)
async def test_what_is_not_http2_is_a_protocol_error_and_closes_the_connection(noise: bytes) -> None:
    async def talk(asked: Asked2) -> None:
        await asked.body()
        asked.link.transport.write(noise)

    async with asking("2", talk) as (way, server):
        with pytest.raises(ProtocolError, match="good HTTP/2") as caught:
            await ask(way)
        assert not isinstance(caught.value, LostError)
        await until(lambda: not server.links)
        assert way.connections().open == 0


async def test_a_head_that_is_too_large_is_refused() -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head(200, *[(b"x-%d" % i, b"b" * 1000) for i in range(70)])

    async with asking("2", talk) as (way, _):
        with pytest.raises(ProtocolError):
            await ask(way)


@pytest.mark.slow
async def test_a_server_that_floods_us_with_pings_it_does_not_read_the_answers_of_is_cut_off() -> None:
    async def talk(asked: Asked2) -> None:
        await asked.body()
        asked.link.transport.pause_reading()
        while not asked.link.transport.is_closing():
            asked.link.transport.write((b"\x00\x00\x08\x06\x00" + bytes(4) + b"pingpong") * 4000)
            await asyncio.sleep(0)

    async def narrow(*args: Any, **options: Any) -> Any:
        transport, protocol = await dial(*args, **options)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        return transport, protocol

    async with asking("2", talk, dial=narrow, first_byte_s=300.0) as (way, _):
        with pytest.raises(ProtocolError, match="acknowledgements"):
            await asyncio.wait_for(ask(way), 120)
        assert way.connections().open == 0


async def test_a_connection_on_which_nothing_came_in_time_is_not_asked_again() -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        if server.connections > 1:
            await hello(asked)
        else:
            await asyncio.Event().wait()

    async with asking("2", talk, first_byte_s=0.1, idle_s=0.1) as (way, server):
        with pytest.raises(PhaseTimeoutError):
            await ask(way)
        assert await ask(way) == b"hello"
        assert server.connections == 2


def test_keys_are_never_put_into_the_table_of_the_compressor() -> None:
    lines = b"POST /v1 HTTP/1.1", b"host: h", b"x-api-key: k", b"Authorization: Bearer k", b"x-team: t", b"te: trailers"
    head = b"\r\n".join([*lines, b"connection: close", b"", b""])
    fields = _fields(head, Origin("https", "h", 443))
    assert [(bytes(n), bytes(v)) for n, v in fields] == [
        (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/v1"),
        (b"x-api-key", b"k"), (b"authorization", b"Bearer k"), (b"x-team", b"t"),
        (b"te", b"trailers"),
    ]  # fmt: skip
    assert [f[0] for f in fields if isinstance(f, NeverIndexedHeaderTuple)] == [b"x-api-key", b"authorization"]


async def test_a_header_that_http2_cannot_say_is_an_error_of_that_request() -> None:
    async with asking("2") as (way, _):
        with pytest.raises(ProtocolError, match="cannot be asked"):
            await way.send(b"POST / HTTP/1.1\r\nhost: h\r\nte: gzip\r\ncontent-length: 0\r\n\r\n")
        assert await ask(way) == b"hello"
