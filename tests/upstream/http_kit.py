"""What the tests of our HTTP client share: a server that says what it is told to, and a pool to ask it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import async_solipsism
import pytest

from trivet.upstream.http import Pool, dial
from trivet.upstream.reply import (
    Origin,
)
from trivet.upstream.way import Way

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = (
    OK + b"X-Id: 7\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nx-sum: 1\r\nx-t: 2\r\n\r\n"
)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\naccept-encoding: identity\r\ncontent-length: %d\r\n\r\n"
WAIT_S = 10  # for what must come; generous, never asserted on


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def on_both_loops(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Clock:
    now_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)


class Link:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> bytes:
        """Read one request and give its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return await self.reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))

    async def send(self, *pieces: bytes) -> None:
        """Send each piece as a packet of its own."""
        for piece in pieces:
            if self.writer.is_closing():
                raise ConnectionResetError("the client is gone")
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.001)  # the client, on the same loop, reads what is there before we go on


Talk = Callable[[Link], Awaitable[None]]


class Server:
    """Runs `talk` for every connection, then waits until the client closes it."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.port = talk, 0
        self.connections = 0
        self.lost = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            await self.talk(Link(reader, writer))
            while await reader.read(65536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.lost.set()
            writer.transport.abort()
            self.tasks.discard(task)


@asynccontextmanager
async def serving(talk: Talk, **options: Any) -> AsyncGenerator[tuple[Pool, Server]]:
    """A server, and a pool for it."""
    server = Server(talk)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=options.pop("server_tls", None))
    server.port = listener.sockets[0].getsockname()[1]
    pool = pool_for(server.port, **options)
    try:
        yield pool, server
    finally:
        await pool.aclose()
        listener.close()
        await until(lambda: not server.tasks)


def pool_for(port: int, **options: Any) -> Pool:
    times = {"connect_s": WAIT_S, "first_byte_s": WAIT_S, "idle_s": WAIT_S}
    tls = options.pop("tls", None)
    origin = Origin("https" if tls else "http", "127.0.0.1", port)
    return Pool(origin, **{"dial": dial, "clock": Clock(), "tls": tls} | times | options)


def answering(*answers: bytes) -> Talk:
    """Answer one request after the other on each connection, in one packet each."""

    async def talk(link: Link) -> None:
        for answer in answers:
            await link.request()
            await link.send(answer)

    return talk


async def ask(pool: Way, body: bytes = b"{}") -> bytes:
    reply = await pool.send(HEAD % len(body), body)
    return await reply.read_all(1 << 30)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(WAIT_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


def virtually(main: Coroutine[Any, Any, None]) -> float:
    """Run in virtual time; give how many seconds passed in it."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(main)
        return float(runner.get_loop().time())
