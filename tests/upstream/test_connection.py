"""One connection of the HTTP client against raw sockets, on both loops: what an answer says, what is held of it."""

import asyncio
import hashlib
import random
import socket
import struct

import pytest

from tests.upstream.http_kit import CHUNKED, HEAD, HELLO, OK, WAIT_S, Link, answering, ask, on_both_loops, serving
from trivet.upstream.reply import (
    MAX_HEAD_BYTES,
    LostError,
    ProtocolError,
)

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops

# What an answer says.


@pytest.mark.parametrize("answer", [HELLO, CHUNKED], ids=["sized", "chunked"])
async def test_an_answer_is_the_same_wherever_it_is_cut_and_its_connection_is_used_again(answer: bytes) -> None:
    async def talk(link: Link) -> None:
        for at in range(1, len(answer)):
            await link.request()
            await link.send(answer[:at], answer[at:])

    async with serving(talk) as (pool, server):
        for _ in range(1, len(answer)):
            reply = await pool.send(HEAD % 2, b"{}")
            assert reply.status == 200
            assert await reply.read_all(100) == b"hello"
            assert await reply.read() == b""
            assert [n for n, _ in reply.headers] in ([b"content-length"], [b"x-id", b"transfer-encoding"])
        assert server.connections == 1


async def test_an_answer_that_comes_byte_by_byte_is_read() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(*(CHUNKED[i : i + 1] for i in range(len(CHUNKED))))

    async with serving(talk) as (pool, _):
        assert await ask(pool) == b"hello"


async def test_pieces_are_given_as_they_come() -> None:
    go = asyncio.Event()

    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await go.wait()
        await link.send(b"1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")

    async with serving(talk) as (pool, _):
        reply = await pool.send(HEAD % 2, b"{}")
        assert await reply.read() == b"a"
        go.set()
        assert await reply.read_all(10) == b"bc"


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"\r\nhel", b"lo")
        link.writer.close()

    async with serving(talk) as (pool, server):
        assert await ask(pool) == b"hello"
        assert await ask(pool) == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize("status", [b"204 None", b"304 Same"])
async def test_an_answer_without_a_body_is_whole_at_once(status: bytes) -> None:
    async with serving(answering(b"HTTP/1.1 " + status + b"\r\ncontent-length: 9\r\n\r\n", HELLO)) as (pool, server):
        assert await ask(pool) == b""
        assert await ask(pool) == b"hello"
        assert server.connections == 1


async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with serving(answering(interim + HELLO)) as (pool, _):
        reply = await pool.send(HEAD % 2, b"{}")
        assert reply.headers == [(b"content-length", b"5")]
        assert await reply.read_all(10) == b"hello"


BAD = {
    "noise": b"\x15\x03\x03\x00\x02\x02\x16 no\r\n\r\n",
    "length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "signed length": OK + b"content-length: +5\r\n\r\nhello",
    "hex length": OK + b"content-length: 0x5\r\n\r\nhello",
    "bad chunk size": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "endless chunk size": OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "other coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "compressed": OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
    "folded header": OK + b"a: b\r\n c\r\ncontent-length: 5\r\n\r\nhello",
    "zero byte": OK + b"a: b\0c\r\ncontent-length: 5\r\n\r\nhello",
    "upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    "upgrade without its headers": b"HTTP/1.1 101 Switching\r\n\r\n" + HELLO,
    "unknown interim": b"HTTP/1.1 199 Hm\r\n\r\n" + HELLO,
    "status 0": b"HTTP/1.1 000 OK\r\ncontent-length: 5\r\n\r\nhello",
    "interim flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + HELLO,
    "large header": OK + b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\ncontent-length: 5\r\n\r\nhello",
    "many headers": OK + b"a: b\r\n" * (MAX_HEAD_BYTES // 6) + b"content-length: 5\r\n\r\nhello",
    "endless header": OK + b"a: " + b"b" * 2 * MAX_HEAD_BYTES,
    "endless interim header": b"HTTP/1.1 103 Early\r\na: " + b"b" * 2 * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
async def test_a_bad_head_is_a_protocol_error_and_closes_the_connection(answer: bytes) -> None:
    async with serving(answering(answer)) as (pool, server):
        with pytest.raises(ProtocolError) as caught:
            await ask(pool)
        assert not isinstance(caught.value, LostError)
        assert caught.value.origin == pool.origin
        assert not pool._idle
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0


@pytest.mark.parametrize("start", [b"5;", b"0\r\nx: "], ids=["chunk extension", "trailer"])
async def test_endless_framing_without_content_is_refused(start: bytes) -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", start, *[b"x" * 9_000] * 9)

    async with serving(talk) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        assert await reply.read() == b"he"
        with pytest.raises(ProtocolError, match="without content"):
            await reply.read()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)


@pytest.mark.parametrize("answer", [HELLO[:-2], CHUNKED[:-30], CHUNKED[:-2]])
async def test_an_answer_cut_short_gives_what_came_and_then_an_error(answer: bytes) -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(answer)
        link.writer.close()

    async with serving(talk) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        assert b"hello".startswith(await reply.read())
        with pytest.raises(ProtocolError, match="before the end"):
            await reply.read_all(10)
        assert server.connections == 1  # bytes had come: not asked again


async def test_a_body_without_a_length_that_is_reset_is_not_whole() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"\r\nhel")
        reset = struct.pack("ii", 1, 0)  # linger for no time: close by a reset
        link.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        link.writer.transport.abort()

    async with serving(talk) as (pool, _):
        reply = await pool.send(HEAD % 2, b"{}")
        with pytest.raises(LostError):
            await reply.read_all(10)


async def test_a_body_over_the_limit_is_refused_and_the_connection_closed() -> None:
    async with serving(answering(OK + b"content-length: 100\r\n\r\n" + b"x" * 60)) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        with pytest.raises(ProtocolError, match="more than 50 bytes"):
            await reply.read_all(50)
        await asyncio.wait_for(server.lost.wait(), WAIT_S)


# How much is held.


async def test_a_slow_reader_stops_the_server_and_holds_little() -> None:
    total, sent = 50_000_000, 0

    async def talk(link: Link) -> None:
        nonlocal sent
        await link.request()
        await link.send(OK + b"content-length: %d\r\n\r\n" % total)
        while sent < total:
            link.writer.write(b"x" * 100_000)
            await link.writer.drain()
            sent += 100_000

    async with serving(talk, high_water_bytes=100_000) as (pool, _):
        reply = await pool.send(HEAD % 2, b"{}")
        taken = len(await reply.read())
        before = -1
        while before != sent:  # until it is at a stand
            before = sent
            await asyncio.sleep(0.1)
        assert sent < total
        assert reply._answer.size <= 100_000 + 262_144
        while piece := await reply.read():
            taken += len(piece)
            assert len(piece) <= 100_000 + 262_144
        assert taken == total


async def test_a_large_request_is_sent_as_the_server_takes_it() -> None:
    body = random.Random(1).randbytes(5_000_000)
    came: list[bytes] = []

    async def talk(link: Link) -> None:
        for _ in range(2):
            came.append(await link.request())
            await link.send(HELLO)

    async with serving(talk) as (pool, server):
        for _ in range(2):
            assert await ask(pool, body) == b"hello"
        assert [hashlib.sha256(c).digest() for c in came] == [hashlib.sha256(body).digest()] * 2
        assert server.connections == 1


async def test_an_answer_that_comes_before_the_request_is_out_is_taken_and_the_rest_not_sent() -> None:
    async def talk(link: Link) -> None:
        await link.reader.readuntil(b"\r\n\r\n")
        await link.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")

    async with serving(talk) as (pool, server):
        body = b"x" * 50_000_000
        reply = await pool.send(HEAD % len(body), body)
        assert reply.status == 413
        assert await reply.read_all(10) == b"no"
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert not pool._idle
