"""The HTTP server against raw loopback sockets, on both loops; waits of minutes in virtual time; and beside uvicorn."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import async_solipsism
import pytest
import uvicorn

from tests.server.asgi import EXCHANGE, AsgiApp, Receive, Scope, Send, asgi, read_body, send_bytes
from trivet.server.exchange import Exchange, HttpExchange
from trivet.server.http import MAX_EARLY_BYTES, MAX_WAITING_BYTES, App, Server, Times, _Connection
from trivet.server.reader import MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES
from trivet.server.run import bind

pytestmark = pytest.mark.anyio

WAIT_S = 10  # for what must come; generous, never asserted on
GET = b"GET /g?q=1 HTTP/1.1\r\nHost: x\r\n\r\n"
SIZED = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3;ext=1\r\nhel\r\n6\r\nlo\r\n\r\n\r\n0\r\nX-Sum: 1\r\nX-T: 2\r\n\r\n"
)
SAID = {GET: b"GET /g ", SIZED: b"POST /p hello", CHUNKED: b"PUT /c hello\r\n\r\n"}
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Echo:
    """Says method, path and body; counts what it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        self.scope = scope
        body = await read_body(receive, 1 << 30)
        await send_bytes(send, 200, [], b"%b %b %b" % (scope["method"].encode(), scope["path"].encode(), body))


class Note:
    """Stands where a task would be cancelled, and notes it."""

    def __init__(self, seen: list[str]) -> None:
        self.cancel = lambda: seen.append("told")


class Held:
    """Waits before the body, before the answer or in the middle of it, until it is let go; tells what it saw."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.there, self.go, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.seen: list[str] = []
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        scope["extensions"][EXCHANGE].task = Note(self.seen)
        try:
            if self.phase == "before reading":
                await self.wait()
            if self.phase == "in the body":
                self.there.set()
            message = await receive()
            while message["type"] == "http.request" and message["more_body"]:
                message = await receive()
            if message["type"] == "http.request":
                if self.phase == "before answering":
                    await self.wait()
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"one ", "more_body": True})
                if self.phase == "in the middle":
                    await self.wait()
                await send({"type": "http.response.body", "body": b"two"})
                message = await receive()
            self.seen.append(message["type"])
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.over.set()

    async def wait(self) -> None:
        self.there.set()
        await self.go.wait()


class Wire:
    """A client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Send each piece as a packet of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.001)

    async def answer(self, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        async with asyncio.timeout(WAIT_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            status, body = int(lines[0].split(" ")[1]), b""
            if head or status in (100, 204, 304):
                return status, headers, body
            if "content-length" in headers:
                return status, headers, await self.reader.readexactly(int(headers["content-length"]))
            if "transfer-encoding" not in headers:
                return status, headers, await self.reader.read()
            pieces = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append((await self.reader.readexactly(size + 2))[:-2])
            assert await self.reader.readexactly(2) == b"\r\n"
            return status, headers, b"".join(pieces)

    async def rest(self) -> bytes:
        """Read until the server closes, by whatever way."""
        got = b""
        async with asyncio.timeout(WAIT_S):
            try:
                while piece := await self.reader.read(65_536):
                    got += piece
            except ConnectionError:
                pass
        return got

    def reset(self) -> None:
        """Leave by a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class House:
    """A server that runs, and what the loop was told of it."""

    def __init__(self, app: App, times: Times) -> None:
        self.server, self.reports, self.wires = Server(app, times=times), list[str](), list[Wire]()
        self.address: tuple[str, int] = ("", 0)

    async def open(self) -> Wire:
        wire = Wire(*await asyncio.open_connection(*self.address))
        self.wires.append(wire)
        return wire

    async def say(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; give all that comes until it is closed."""
        wire = await self.open()
        wire.writer.write(data)
        got = await wire.rest()
        wire.writer.close()
        return got

    def one(self) -> _Connection:
        (connection,) = self.server.live
        return connection


@asynccontextmanager
async def house(app: AsgiApp, times: Times = Times()) -> AsyncGenerator[House, None]:  # noqa: B008
    """Serve an ASGI app on a port of its own."""
    async with serving(asgi(app), times) as opened:
        yield opened


@asynccontextmanager
async def serving(app: App, times: Times = Times()) -> AsyncGenerator[House, None]:  # noqa: B008
    """Serve an app on a port of its own."""
    opened, sock = House(app, times), bind("127.0.0.1", 0, has_keys=False)
    opened.address = sock.getsockname()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: opened.reports.append(f"{told['message']}: {told.get('exception')!r}"))
    await opened.server.start(sock)
    try:
        yield opened
    finally:
        for wire in opened.wires:
            wire.writer.close()
        await opened.server.stop(WAIT_S)
        loop.set_exception_handler(None)
        assert not opened.server.live
        for wire in opened.wires:
            with suppress(ConnectionError):
                await wire.writer.wait_closed()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110  # it is made true by whoever is tested
            await asyncio.sleep(0.002)


# What a request says.


@pytest.mark.parametrize("first", [GET, SIZED, CHUNKED], ids=["none", "sized", "chunked"])
@pytest.mark.parametrize("second", [GET, SIZED, CHUNKED, b""], ids=["none", "sized", "chunked", "alone"])
async def test_requests_are_the_same_wherever_they_are_cut_and_in_their_order(first: bytes, second: bytes) -> None:
    both = first + second
    async with house(Echo()) as opened:
        wire = await opened.open()
        for at in range(1, len(both)):
            await wire.send(both[:at], both[at:])
            for request in (first, second) if second else (first,):
                assert (await wire.answer())[2] == SAID[request], at
        assert len(opened.server.live) == 1


async def test_requests_that_come_byte_by_byte_or_all_at_once_are_read() -> None:
    echo = Echo()
    async with house(echo) as opened:
        wire = await opened.open()
        for request in (CHUNKED, b"\r\n" + SIZED):
            await wire.send(*(request[i : i + 1] for i in range(len(request))))
            assert (await wire.answer())[2] == SAID[request.lstrip()]
        await wire.send((GET + SIZED + CHUNKED) * 2_000)
        for _ in range(2_000):
            for request in (GET, SIZED, CHUNKED):
                assert (await wire.answer())[2] == SAID[request]
    assert echo.calls == 6_002


async def test_an_exchange_says_what_was_asked() -> None:
    seen: list[HttpExchange] = []

    async def app(exchange: Exchange) -> None:
        assert isinstance(exchange, HttpExchange)
        seen.append(exchange)
        await exchange.answer(200, b"", b"")

    async with serving(app) as opened:
        wire = await opened.open()
        await wire.send(
            b"POST /a%20b/%C3%A9?x=%20&y HTTP/1.1\r\nHOST: h\r\nX-A: 1\r\nx-a:  two\r\ncontent-length: 0\r\n\r\n"
        )
        await wire.answer()
        exchange = seen[0]
        assert (exchange.method, exchange.path, exchange.query) == ("POST", "/a b/é", "x=%20&y")
        assert exchange.headers == [(b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"two"), (b"content-length", b"0")]
        assert exchange.client == wire.writer.get_extra_info("sockname")
        for target, path in ((b"http://h/v1?q", "/v1"), (b"HTTPS://h:1/", "/"), (b"//h/x", "//h/x")):
            await wire.send(b"GET %b HTTP/1.1\r\nhost: other\r\n\r\n" % target)
            assert (await wire.answer())[0] == 200
            assert seen[-1].path == path


async def test_a_body_is_asked_for_only_where_the_app_reads_it() -> None:
    expecting = POST + b"expect: 100-Continue\r\ncontent-length: 2\r\n\r\n"

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 401, [], b"no")

    async with house(Echo()) as opened:
        wire = await opened.open()
        await wire.send(expecting)
        assert (await wire.answer())[0] == 100
        await wire.send(b"hi")
        assert (await wire.answer())[2] == b"POST / hi"
        await wire.send(expecting + b"hi")
        assert (await wire.answer())[2] == b"POST / hi"
    async with house(deaf) as opened:
        got = await opened.say(expecting)
        assert got.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close\r\n" in got


@pytest.mark.parametrize("size", [5, 60_000, 20_000_000])
async def test_a_body_answered_unread_is_dropped_if_short_and_ends_the_connection_if_not(size: int) -> None:
    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 413, [], b"no")

    async with house(deaf) as opened:
        wire = await opened.open()
        await wire.send(POST + b"content-length: %d\r\n\r\n" % size)
        await asyncio.sleep(0.02)
        wire.writer.write(b"x" * size + GET)
        status, headers, body = await wire.answer()
        assert (status, body) == (413, b"no")
        if size > 100_000:
            assert headers["connection"] == "close"
            assert await wire.rest() == b""
        else:
            assert (await wire.answer())[0] == 413


# What an answer says.


def answering(status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> AsgiApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404, 299])
async def test_an_answer_is_framed_and_another_may_follow(method: bytes, status: int) -> None:
    silent = method == b"HEAD" or status in (204, 304)
    for headers in ([(b"content-length", b"5")], []):
        async with house(answering(status, headers, b"he", b"", b"llo")) as opened:
            wire = await opened.open()
            for _ in range(2):
                await wire.send(b"%b / HTTP/1.1\r\nhost: x\r\n\r\n" % method)
                got, told, body = await wire.answer(head=silent)
                assert (got, body) == (status, b"" if silent else b"hello")
                assert told.keys() == {"date"} | (
                    {"content-length"} if headers and status not in (204, 304) else set()
                ) | ({"transfer-encoding"} if not headers and not silent else set())
            assert wire.reader._buffer == b""  # type: ignore[attr-defined]  # nothing behind the answer


@pytest.mark.parametrize(
    ("ask", "sized", "kept"),
    [
        (b"HTTP/1.1\r\nhost: x\r\n", True, None), (b"HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", True, "close"),
        (b"HTTP/1.1\r\nhost: x\r\nConnection: foo, Close\r\n", False, "close"), (b"HTTP/1.0\r\n", True, "close"),
        (b"HTTP/1.0\r\nConnection: Keep-Alive\r\n", True, "keep-alive"),
        (b"HTTP/1.0\r\nconnection: keep-alive\r\n", False, "close"),
    ],
)  # fmt: skip
async def test_a_connection_is_kept_where_both_sides_can(ask: bytes, *, sized: bool, kept: str | None) -> None:
    headers = [(b"content-length", b"5")] if sized else []
    async with house(answering(200, headers, b"hello")) as opened:
        wire = await opened.open()
        await wire.send(b"GET / " + ask + b"\r\n")
        _, told, body = await wire.answer()
        assert (told.get("connection"), body) == (kept, b"hello")
        if kept == "close":
            assert await wire.rest() == b""
        else:
            await wire.send(b"GET / " + ask + b"\r\n")
            assert (await wire.answer())[2] == b"hello"


class Recorder(asyncio.Transport):
    """A transport that keeps each write apart, which no socket does."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.writes.append(b"closed")


@pytest.mark.parametrize(
    ("headers", "pieces", "writes"), [([(b"content-length", b"2")], (b"h", b"i"), 1), ([], (b"h",) * 300, 1),
                                      ([], (b"h" * 50_000,) * 4, 3)]
)  # fmt: skip
async def test_what_is_sent_in_one_turn_of_the_loop_leaves_in_one_write(
    headers: list[tuple[bytes, bytes]], pieces: tuple[bytes, ...], writes: int
) -> None:
    server, transport = Server(asgi(answering(200, headers, *pieces))), Recorder()
    connection = _Connection(server)
    connection.connection_made(transport)
    connection.data_received(GET)
    await until(lambda: connection._task is None and not connection._out)
    assert len(transport.writes) == writes
    assert b"".join(transport.writes).count(b"h\r\n" if not headers else b"hi") >= 1
    connection.connection_lost(None)


# What goes wrong in the app.


async def broken_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("secret")


async def broken_before_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise KeyError("secret")


async def silent_app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def splitting(scope: Scope, receive: Receive, send: Send) -> None:
    await send_bytes(send, 200, [(b"x", b"y\r\nset-cookie: z")], b"")


async def disordered(scope: Scope, receive: Receive, send: Send) -> None:
    exchange: HttpExchange = scope["extensions"][EXCHANGE]
    await exchange.end(b"hell")


@pytest.mark.parametrize("app", [broken_at_once, broken_before_the_body, silent_app, splitting, disordered])
async def test_a_defect_before_the_answer_is_a_500_that_tells_nothing_and_is_reported(app: AsgiApp) -> None:
    async with house(app) as opened:
        got = await opened.say(GET + GET)
        assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert got.count(b"HTTP/1.1 ") == 1
        assert b"connection: close\r\n" in got
        assert b"secret" not in got
        assert json.loads(got.split(b"\r\n\r\n")[1])["error"]["code"] == "internal_error"
        assert len(opened.reports) == 1


async def test_a_defect_in_the_middle_of_an_answer_breaks_it_off() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await asyncio.sleep(0.02)
        raise KeyError("secret")

    async with house(app) as opened:
        got = await opened.say(GET + GET)
        assert got.endswith(b"3\r\nhel\r\n")
        assert len(opened.reports) == 1


# What is refused.

SMUGGLED = {
    "length and chunks": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "the same length twice": POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": POST + b"content-length: 5, 5\r\n\r\nhello",
    "signed length": POST + b"content-length: +5\r\n\r\nhello",
    "negative length": POST + b"content-length: -5\r\n\r\nhello",
    "hex length": POST + b"content-length: 0x5\r\n\r\nhello",
    "length with an underscore": POST + b"content-length: 0_5\r\n\r\nhello",
    "length with a space": POST + b"content-length: 5 5\r\n\r\nhello",
    "no length": POST + b"content-length: \r\n\r\nhello",
    "endless length": POST + b"content-length: " + b"9" * 30 + b"\r\n\r\nhello",
    "other coding": POST + b"transfer-encoding: gzip\r\n\r\n0\r\n\r\n",
    "coding before chunks": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding after chunks": POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding that looks like chunks": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding with a tab inside": POST + b"transfer-encoding: chu\tnked\r\n\r\n0\r\n\r\n",
    "chunks in http/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare line feed after the request line": b"GET / HTTP/1.1\nhost: x\r\n\r\n",
    "bare line feed after a header": b"GET / HTTP/1.1\r\nhost: x\n\r\n",
    "bare line feed at the end": b"GET / HTTP/1.1\r\nhost: x\r\n\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: x\n\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nhost: x\ra: b\r\n\r\n",
    "folded header": POST + b"a: b\r\n c\r\ncontent-length: 5\r\n\r\nhello",
    "zero byte in a value": POST + b"a: b\0c\r\n\r\n",
    "space before the colon": POST + b"content-length : 5\r\n\r\nhello",
    "space before the name": POST + b" content-length: 5\r\n\r\nhello",
    "name that is no token": POST + b"a(b): c\r\n\r\n",
    "header without a name": POST + b": c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n",
    "the same host twice": b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
    "two hosts in http/1.0": b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
    "empty lines first": b"\r\n\r\n" + GET,
    "noise": b"\x16\x03\x01\x02\x00\x01\x00",
    "small letters": b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    "method that is no token": b"G(T / HTTP/1.1\r\nhost: x\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
    "control character in the path": b"GET /\x01 HTTP/1.1\r\nhost: x\r\n\r\n",
    "more than ascii in the path": "GET /é HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "http/1.2": b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
    "preface of http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
OTHERS = {
    "http/0.9": (505, b"GET /\r\n\r\n"),
    "http/2.0": (505, b"GET / HTTP/2.0\r\nhost: x\r\n\r\n"),
    "connect": (501, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"),
    "trace": (501, b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n"),
    "rtsp": (501, b"DESCRIBE / RTSP/1.0\r\nhost: x\r\n\r\n"),
    "icecast": (501, b"SOURCE / ICE/1.0\r\nhost: x\r\n\r\n"),
    "long path": (414, b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    "endless path": (414, b"GET /" + b"a" * 4 * MAX_HEAD_BYTES),
    "large header": (431, POST + b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n"),
    "endless header": (431, POST + b"a: " + b"b" * 4 * MAX_HEAD_BYTES),
    "endless name": (431, POST + b"b" * 4 * MAX_HEAD_BYTES),
    "many headers": (431, POST + b"a: b\r\n" * MAX_HEADERS + b"\r\n"),
    "endless headers": (431, POST + b"a: b\r\n" * MAX_HEAD_BYTES),
}
REFUSED = {name: (400, data) for name, data in SMUGGLED.items()} | OTHERS


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_plain_http_is_refused_and_nothing_behind_it_is_served(name: str) -> None:
    status, data = REFUSED[name]
    echo = Echo()
    async with house(echo) as opened:
        got = await opened.say(data + GET)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in head
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert got.count(b"HTTP/1.1 ") == 1
        assert not opened.reports
    assert echo.calls == 0


BAD_CHUNKS = {
    "no number": b"zz\r\nhello\r\n0\r\n\r\n", "signed": b"+5\r\nhello\r\n0\r\n\r\n",
    "hex": b"0x5\r\nhello\r\n0\r\n\r\n",
    "space after": b"5 \r\nhello\r\n0\r\n\r\n", "bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "bare line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n", "longer": b"5\r\nhelloXX0\r\n\r\n",
    "no line end after": b"5\r\nhello0\r\n\r\n", "line feed after": b"5\r\nhello\n0\r\n\r\n",
    "line feeds at the end": b"5\r\nhello\r\n0\n\n", "endless size": b"f" * 40,
    "length behind": b"0\r\ncontent-length: 5\r\n\r\n",
    "endless extension": b"5;" + b"a" * 4 * MAX_HEAD_BYTES, "endless trailers": b"0\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_bad_chunks_are_refused_also_where_the_app_reads_already(name: str) -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    for lead in (b"", b"2\r\nhi\r\n"):
        held = Held("in the body")
        async with house(held) as opened:
            wire = await opened.open()
            await wire.send(head + lead)
            await asyncio.wait_for(held.there.wait(), WAIT_S)
            wire.writer.write(BAD_CHUNKS[name] + GET)
            got = await wire.rest()
            assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
            assert got.count(b"HTTP/1.1 ") == 1
            await asyncio.wait_for(held.over.wait(), WAIT_S)
            assert held.seen == ["told", "http.disconnect"]
            assert held.calls == 1


@pytest.mark.parametrize("body", [b"", b"content-length: 2\r\n"])
async def test_an_upgrade_is_answered_as_if_it_were_none_and_ends_the_connection(body: bytes) -> None:
    echo = Echo()
    async with house(echo) as opened:
        got = await opened.say(
            b"POST /u HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n%b\r\n%b"
            % (body, b"hi" if body else b"")
            + GET
        )
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.endswith(b"POST /u " + (b"hi" if body else b""))
        assert b"connection: close\r\n" in got
    assert echo.calls == 1


# What waits in memory.


@pytest.mark.slow
async def test_the_next_request_waits_for_its_turn_and_a_flood_of_them_for_the_network() -> None:
    held = Held("before answering")
    async with house(held) as opened:
        wire = await opened.open()
        await wire.send(GET)
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        flood = asyncio.ensure_future(wire.send(GET * 500_000))
        await until(lambda: opened.one()._held)
        assert held.calls == 1
        assert len(opened.one()._early) <= MAX_EARLY_BYTES + 262_144
        held.go.set()
        for _ in range(20_000):
            assert (await wire.answer())[2] == b"one two"
        wire.reset()
        with suppress(ConnectionError):
            await flood


async def test_a_body_that_the_app_does_not_read_waits_in_the_network() -> None:
    held, size = Held("before reading"), 20_000_000
    got = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await held.wait()
        more = True
        while more:
            message = await receive()
            got, more = got + len(message["body"]), message["more_body"]
        await send_bytes(send, 200, [], b"thanks")

    for head, frame in (
        (b"content-length: %d\r\n\r\n" % size, b"%b"),
        (b"transfer-encoding: chunked\r\n\r\n", b"%b\r\n0\r\n\r\n"),
    ):
        got = 0
        held.there.clear()
        held.go.clear()
        async with house(app) as opened:
            wire = await opened.open()
            sized = b"" if b"length" in head else b"%x\r\n" % size
            sending = asyncio.ensure_future(wire.send(POST + head + sized + frame % (b"x" * size)))
            await asyncio.wait_for(held.there.wait(), WAIT_S)
            await until(lambda: opened.one()._held)
            exchange = opened.one()._reader.exchange
            assert exchange is not None
            assert exchange.size <= 2 * MAX_WAITING_BYTES + 262_144
            held.go.set()
            assert (await wire.answer())[2] == b"thanks"
            assert got == size
            await sending


async def test_an_answer_that_the_client_does_not_take_waits_in_the_app() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async with house(app) as opened:
        wire = await opened.open()
        await wire.send(GET)
        await until(lambda: opened.one().full)
        await asyncio.sleep(0.1)
        assert sent < 300
        assert opened.one()._transport.get_write_buffer_size() < 400_000
        assert len((await wire.answer())[2]) == 20_000_000
        assert sent == 400


# Who leaves.


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("phase", ["in the body", "before reading", "before answering", "in the middle"])
async def test_a_client_that_leaves_is_told_of_once_and_nobody_complains(phase: str, *, reset: bool) -> None:
    held = Held(phase)
    async with house(held) as opened:
        wire = await opened.open()
        await wire.send(POST + b"content-length: 2\r\n\r\nhi"[: -1 if phase == "in the body" else None])
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        wire.reset() if reset else wire.writer.close()
        await until(lambda: held.seen)
        held.go.set()
        await asyncio.wait_for(held.over.wait(), WAIT_S)
        assert held.seen == ["told", "http.disconnect"]
        await until(lambda: not opened.server.live)
        assert not opened.reports


async def test_an_app_may_be_cancelled_when_its_client_leaves() -> None:
    there, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        scope["extensions"][EXCHANGE].task = task
        there.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async with house(app) as opened:
        wire = await opened.open()
        await wire.send(GET + GET)  # what is sent early does not hide the leaving
        await there.wait()
        wire.writer.close()
        await asyncio.wait_for(ended.wait(), WAIT_S)
        assert not opened.reports


async def test_a_client_that_leaves_while_it_takes_nothing_frees_the_app() -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left: list[str] = []
        scope["extensions"][EXCHANGE].task = Note(left)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left:
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
        assert await receive() == {"type": "http.disconnect"}
        ended.set()

    async with house(app) as opened:
        wire = await opened.open()
        await wire.send(GET)
        await until(lambda: opened.one().full)
        wire.reset()
        await asyncio.wait_for(ended.wait(), WAIT_S)
        await until(lambda: not opened.server.live)
        assert not opened.reports


# The end.


async def test_a_stop_closes_idle_connections_at_once_and_lets_running_answers_end() -> None:
    held = Held("in the middle")
    async with house(held) as opened:
        idle, begun, busy = [await opened.open() for _ in range(3)]
        await begun.send(GET[:9])
        await busy.send(GET)
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        stopping = asyncio.ensure_future(opened.server.stop(WAIT_S))
        assert (await idle.rest(), await begun.rest()) == (b"", b"")
        with pytest.raises(ConnectionError):
            await opened.open()
        assert not stopping.done()
        await busy.send(GET)  # too late: answered by nobody
        held.go.set()
        assert (await busy.answer())[2] == b"one two"
        assert await busy.rest() == b""
        await asyncio.wait_for(stopping, WAIT_S)
        assert held.calls == 1
        assert not opened.reports


async def test_an_answer_that_begins_after_the_stop_says_that_it_is_the_last() -> None:
    held = Held("before answering")
    async with house(held) as opened:
        wire = await opened.open()
        await wire.send(GET)
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        stopping = asyncio.ensure_future(opened.server.stop(WAIT_S))
        await asyncio.sleep(0)
        held.go.set()
        _, headers, body = await wire.answer()
        assert (headers["connection"], body) == ("close", b"one two")
        await stopping


@pytest.mark.parametrize("hurry", [False, True], ids=["after the grace", "on a second signal"])
@pytest.mark.parametrize("phase", ["before answering", "in the middle"])
async def test_a_stop_cancels_what_does_not_end(phase: str, *, hurry: bool) -> None:
    held = Held(phase)
    async with house(held) as opened:
        wire = await opened.open()
        await wire.send(GET)
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        stopping = asyncio.ensure_future(opened.server.stop(3600 if hurry else 0.05))
        await asyncio.sleep(0)
        if hurry:
            opened.server.cut()
        got = await wire.rest()
        if phase == "in the middle":
            assert got.endswith(b"one \r\n")
        else:
            assert got.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in got
        await asyncio.wait_for(stopping, WAIT_S)
        assert held.seen == ["cancelled"]
        assert not opened.reports


# Time, in virtual seconds.


def virtually(main: Coroutine[Any, Any, None]) -> float:
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(main)
        return float(runner.get_loop().time())


async def far(app: AsgiApp, *pieces: bytes, every_s: float = 0.0) -> bytes:
    """Send pieces, one every so often, to a server in virtual time; give all that comes until it closes."""
    server = Server(asgi(app))
    listener = await asyncio.get_running_loop().create_server(lambda: _Connection(server), "127.0.0.1", 80)
    reader, writer = await asyncio.open_connection("127.0.0.1", 80)

    async def trickle() -> None:
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(every_s)
        except ConnectionError:
            pass

    sending, got = asyncio.ensure_future(trickle()), b""
    try:
        while piece := await reader.read(65_536):
            got += piece
    except ConnectionError:
        pass
    sending.cancel()
    writer.close()
    await server.stop(1.0)
    listener.close()
    return got


@pytest.mark.parametrize(
    ("pieces", "every_s", "status", "over_s"),
    [
        ((), 0.0, 0, 30), (tuple(GET[i : i + 1] for i in range(len(GET))), 1.0, 408, 30),
        ((GET,), 0.0, 200, 75), ((GET, GET[:20]), 60.0, 200, 90),
        ((POST + b"content-length: 2\r\n\r\n", b"h"), 59.0, 408, 119),
        ((POST + b"transfer-encoding: chunked\r\n\r\n5\r\nh",), 0.0, 408, 60),
        ((POST + b"content-length: 50\r\n\r\n", *[b"h"] * 50), 59.0, 200, 50 * 59 + 75),
        ((b"NO\r\n\r\n",), 0.0, 400, 0),
    ],
    ids=["nothing", "slow head", "idle", "half a second head", "half a body", "half a chunk", "slow body", "refused"],
)  # fmt: skip
def test_who_is_too_slow_is_told_so_and_who_is_only_slow_is_not(
    pieces: tuple[bytes, ...], every_s: float, status: int, over_s: int
) -> None:
    async def main() -> None:
        got = await far(Echo(), *pieces, every_s=every_s)
        assert got.startswith(b"HTTP/1.1 %d " % status if status else b"")
        assert bool(got) == bool(status)

    assert over_s <= virtually(main()) < over_s + 35


def test_an_app_may_think_for_an_hour() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3600)
        await send_bytes(send, 200, [], b"42")

    async def main() -> None:
        assert (await far(app, GET)).endswith(b"42")

    assert 3600 <= virtually(main()) < 3700


async def test_a_client_that_takes_nothing_is_let_go_and_one_that_takes_little_is_not() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_bytes(send, 200, [], b"x" * 20_000_000)

    async with house(app, Times(stall_s=0.3)) as opened:
        wire, slow = await opened.open(), await opened.open()
        await wire.send(GET)
        await slow.send(GET)
        size = 0
        async with asyncio.timeout(60):
            while size < 20_000_000:
                size += len(await slow.reader.read(1_000_000))
                await asyncio.sleep(0.01)
        await until(lambda: len(opened.server.live) == 1)
        assert len(await wire.rest()) < 20_000_000


async def test_a_client_that_does_not_close_after_the_last_answer_is_closed() -> None:
    async with house(Echo(), Times(linger_s=0.1)) as opened:
        wire = await opened.open()
        await wire.send(b"NOT HTTP\r\n\r\n")
        assert (await wire.answer())[0] == 400
        await until(lambda: not opened.server.live)


# Beside another server.


def generated(seed: int) -> tuple[bytes, bool]:
    """Make a request that is good HTTP; say whether it is a HEAD."""
    dice = random.Random(seed)
    method = dice.choice([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
    path = dice.choice([b"/", b"/a", b"/a%20b", b"/%C3%A9", b"//x", b"/a;b=c", b"/a:b@c", b"/%2e%2e/x", b"/~!$&'()*+,"])
    query = dice.choice([b"", b"?", b"?a=b", b"?a=%20&b", b"?a?b"])
    lines = [b"%b %b%b HTTP/1.1" % (method, path, query), dice.choice([b"Host: x", b"host:x:80", b"HOST:  x"])]
    for _ in range(dice.randrange(8)):
        name = dice.choice([b"X-A", b"accept", b"Cookie", b"x_y", b"X-A", b"!#$%&'*+-.^_`|~"])
        lines.append(name + dice.choice([b": ", b":", b":\t "]) + dice.choice([b"", b"1", b"a b", b"\xe9", b"a:b, c"]))
    body = dice.randbytes(dice.choice([0, 1, 100, 70_000])) if dice.random() < 0.7 else b""
    if dice.random() < 0.4:
        lines.append(b"Transfer-Encoding: chunked")
        step = dice.choice([1, 7, 65_536]) if len(body) < 1000 else 30_000
        cut = [body[i : i + step] for i in range(0, len(body), step)]
        body = (
            b"".join(b"%X;e=1\r\n%b\r\n" % (len(piece), piece) for piece in cut) + b"0\r\n\r\n"
        )  # no trailers: uvicorn takes them for headers
    elif body or dice.random() < 0.5:
        lines.append(b"Content-Length: %d" % len(body))
    dice.shuffle(lines[1:])
    return b"\r\n".join(lines) + b"\r\n\r\n" + body, method == b"HEAD"


async def telling(scope: Scope, receive: Receive, send: Send) -> None:
    """Says all that it was asked, in the framing and with the status that the query asks for."""
    body = await read_body(receive, 1 << 30)
    keys = ("method", "path", "query_string", "headers", "http_version")
    said = repr([scope[key] for key in keys]).encode() + body
    status = random.Random(said).choice([200, 201, 204, 304, 404, 500])
    sized = len(said) % 2
    headers = [(b"content-length", b"%d" % len(said))] if sized and status not in (204, 304) else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"x-a", b"1"), (b"x-a", b"2")]})
    if status in (204, 304):
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": said[:50], "more_body": True})
        await send({"type": "http.response.body", "body": said[50:]})


async def test_two_hundred_requests_get_the_answers_that_uvicorn_gives() -> None:
    config = uvicorn.Config(
        telling, http="httptools", lifespan="off", ws="none", log_level="error", server_header=False
    )
    other, sock = uvicorn.Server(config), bind("127.0.0.1", 0, has_keys=False)
    serving = asyncio.ensure_future(other.serve(sockets=[sock]))
    await until(lambda: other.started)
    its, statuses = Wire(*await asyncio.open_connection(*sock.getsockname())), set()
    try:
        async with house(telling) as opened:
            ours = await opened.open()
            for seed in range(200):
                request, head = generated(seed)
                answers = []
                for wire in (ours, its):
                    wire.writer.write(request)
                    status, headers, body = await wire.answer(head=head)
                    answers.append((status, headers | {"date": ""}, body))
                assert answers[0] == answers[1], seed
                statuses.add(answers[0][0])
    finally:
        its.writer.close()
        await its.writer.wait_closed()
        other.should_exit = True
        await serving
    assert len(statuses) == 6
