"""Servers that do as a test says, one for each version of HTTP, behind one interface; and ways to ask them.

The server of HTTP/1.1 is asyncio's streams, that of HTTP/2 is h2 in its server's role. Both on real loopback ports.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes, Settings

from tests.upstream.http_kit import WAIT_S, Clock, until
from trivet.upstream.http import Pool, dial
from trivet.upstream.http2 import Streams
from trivet.upstream.reply import Origin
from trivet.upstream.way import Way

Headers = list[tuple[bytes, bytes]]


class Asked(Protocol):
    """One request at the server, to be answered as the test says."""

    headers: Headers
    """Without what HTTP/2 says otherwise; `path` apart."""
    path: bytes
    gone: asyncio.Event
    """The client ended this exchange before its end, or its connection was lost."""
    link: Any

    async def body(self) -> bytes: ...
    async def head(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None: ...
    async def interim(self, status: int) -> None: ...
    async def piece(self, data: bytes) -> None: ...
    async def end(self) -> None: ...
    def cut(self) -> None:
        """Close the connection at once."""
        ...


Talk = Callable[[Any], Awaitable[None]]


async def hello(asked: Asked) -> None:
    """The usual answer."""
    await asked.body()
    await asked.head(200, (b"x-id", b"7"))
    await asked.piece(b"hel")
    await asked.piece(b"lo")
    await asked.end()


class Server:
    """Accepts connections and runs `talk` for every request."""

    def __init__(self, talk: Talk, *, max_streams: int = 100) -> None:
        self.talk, self.max_streams = talk, max_streams
        self.port = self.connections = 0
        self.links: set[Any] = set()
        self.asked: list[Any] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.serving: set[asyncio.Task[Any]] = set()

    def serve(self, asked: Any) -> "asyncio.Task[None]":
        self.asked.append(asked)
        task = asyncio.ensure_future(self._serve(asked))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _serve(self, asked: Any) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client is gone
            await self.talk(asked)


# HTTP/1.1.


class Asked1:
    def __init__(self, link: "Link1", path: bytes, headers: Headers, length: int) -> None:
        self.link, self.path, self.headers, self._length = link, path, headers, length
        self.gone = asyncio.Event()
        self._chunked = False
        self.over = False

    async def body(self) -> bytes:
        found = await self.link.reader.readexactly(self._length)
        self.link.watch()
        return found

    async def head(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self._chunked = status != 204
        lines = [*headers, *([(b"transfer-encoding", b"chunked")] if self._chunked else [])]
        told = b"".join(b"%b: %b\r\n" % line for line in lines)
        await self.link.write(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, told))

    async def interim(self, status: int) -> None:
        await self.link.write(b"HTTP/1.1 %d X\r\nlink: x\r\n\r\n" % status)

    async def piece(self, data: bytes) -> None:
        await self.link.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        if self._chunked:
            await self.link.write(b"0\r\n\r\n")
        self.over = True

    def cut(self) -> None:
        self.link.writer.transport.abort()


class Link1:
    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.current: Asked1 | None = None
        self.early = b""
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        try:
            self.early = await self.reader.read(1)
        except ConnectionError:
            self.early = b""
        if not self.early:
            self.lost()

    def lost(self) -> None:
        if self.current is not None and not self.current.over:
            self.current.gone.set()

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError("the client is gone")
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0.001)

    async def run(self) -> None:
        while True:
            head = self.early + await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(b":") for line in lines)]
            length = int(dict(headers)[b"content-length"])
            kept = [h for h in headers if h[0] != b"host"]
            self.current = Asked1(self, first.split(b" ")[1], kept, length)
            await asyncio.wait([self.server.serve(self.current)])
            if self._watching is None:  # its body was not read: only the end can come
                while await self.reader.read(1 << 20):
                    pass
                self.lost()
                return
            await self._watching
            self._watching = None
            if not self.early:
                return


async def accept1(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server.connections += 1
    link = Link1(server, reader, writer)
    server.links.add(link)
    task = asyncio.current_task()
    assert task is not None
    server.serving.add(task)
    try:
        await link.run()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        link.lost()
        server.links.discard(link)
        server.serving.discard(task)
        writer.transport.abort()


# HTTP/2.


class Asked2:
    def __init__(self, link: "Link2", id: int, headers: Headers) -> None:  # noqa: A002
        self.link, self.id = link, id
        self.all = headers
        self.path = dict(headers)[b":path"]
        self.headers = [(bytes(n), bytes(v)) for n, v in headers if n[:1] != b":"]
        self.gone = asyncio.Event()
        self.reset: int | None = None
        self.pieces: list[bytes] = []
        self.unread = 0
        self.ended = asyncio.Event()
        self.news = asyncio.Event()

    async def body(self) -> bytes:
        while not self.ended.is_set():
            if self.unread:
                self.link.h2.acknowledge_received_data(self.unread, self.id)
                self.unread = 0
                self.link.flush()
            await self._news()
        return b"".join(self.pieces)

    async def _news(self) -> None:
        self.news.clear()
        await self.news.wait()
        if self.gone.is_set():
            raise ConnectionResetError("the client is gone")

    async def head(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self._send(lambda: self.link.h2.send_headers(self.id, [(b":status", b"%d" % status), *headers]))

    async def interim(self, status: int) -> None:
        await self.head(status, (b"link", b"x"))

    async def piece(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self.gone.is_set():
                raise ConnectionResetError("the client is gone")
            room = min(self.link.h2.local_flow_control_window(self.id), self.link.h2.max_outbound_frame_size)
            if room > 0:
                part = data[at : at + room]
                at += room
                await self._send(lambda part=part: self.link.h2.send_data(self.id, part))  # type: ignore[misc]
            else:
                await self._news()

    async def end(self) -> None:
        await self._send(lambda: self.link.h2.end_stream(self.id))

    async def _send(self, act: Callable[[], None]) -> None:
        if self.gone.is_set():
            raise ConnectionResetError("the client is gone")
        act()
        self.link.flush()
        await asyncio.sleep(0.001)

    def refuse(self, code: ErrorCodes) -> None:
        self.link.h2.reset_stream(self.id, code)
        self.link.flush()

    def cut(self) -> None:
        self.link.transport.abort()


class Link2(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams: dict[int, Asked2] = {}
        self.transport: asyncio.Transport
        self.terminated = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.connections += 1
        self.server.links.add(self)
        ours = {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams}
        self.h2.local_settings = Settings(client=False, initial_values=ours)
        self.h2.initiate_connection()
        # Who asks for more all the same is refused below, as servers in use do it; h2 would give the connection up.
        self.h2.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 10_000})
        self.flush()

    def flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived) and self.h2.open_inbound_streams > self.server.max_streams:
                self.h2.reset_stream(event.stream_id or 0, ErrorCodes.REFUSED_STREAM)
            elif isinstance(event, RequestReceived):
                asked = self.streams[event.stream_id or 0] = Asked2(self, event.stream_id or 0, event.headers or [])
                self.server.serve(asked)
            elif isinstance(event, DataReceived) and event.stream_id in self.streams:
                asked = self.streams[event.stream_id or 0]
                asked.pieces.append(event.data or b"")
                asked.unread += event.flow_controlled_length or 0
                asked.news.set()
            elif isinstance(event, StreamEnded) and event.stream_id in self.streams:
                self.streams[event.stream_id or 0].ended.set()
                self.streams[event.stream_id or 0].news.set()
            elif isinstance(event, StreamReset):
                asked = self.streams[event.stream_id or 0]
                asked.reset = event.error_code
                asked.gone.set()
                asked.news.set()
            elif isinstance(event, WindowUpdated):
                for asked in self.streams.values():
                    asked.news.set()
            elif isinstance(event, ConnectionTerminated):
                self.terminated.set()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for asked in self.streams.values():
            asked.gone.set()
            asked.news.set()
        self.server.links.discard(self)

    def go_away(self, last: int, code: int = 0, *, then: bytes = b"") -> None:
        """Send a GOAWAY past h2, which would take nothing more after one."""
        self.transport.write(goaway(last, code) + then)


def goaway(last: int, code: int = 0) -> bytes:
    words = last.to_bytes(4) + code.to_bytes(4) + b"bye"
    return len(words).to_bytes(3) + b"\x07\x00" + bytes(4) + words


# Both.


def pool1(port: int, **options: Any) -> Pool:
    return Pool(_origin(port, options), **_options(options))


def pool2(port: int, **options: Any) -> Streams:
    return Streams(_origin(port, options), **_options(options))


def _origin(port: int, options: dict[str, Any]) -> Origin:
    return Origin("https" if options.get("tls") else "http", "127.0.0.1", port)


def _options(options: dict[str, Any]) -> dict[str, Any]:
    times = {"connect_s": WAIT_S, "first_byte_s": WAIT_S, "idle_s": WAIT_S}
    return {"dial": dial, "clock": Clock(), "tls": None} | times | options


@asynccontextmanager
async def listening(
    version: str, talk: Talk, *, tls: ssl.SSLContext | None = None, max_streams: int = 100
) -> AsyncGenerator[Server, None]:
    """A server of that version of HTTP."""
    server = Server(talk, max_streams=max_streams)
    loop = asyncio.get_running_loop()
    if version == "2":
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        listener = await loop.create_server(lambda: Link2(server), "127.0.0.1", 0, ssl=tls)
    else:
        listener = await asyncio.start_server(lambda r, w: accept1(server, r, w), "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for link in list(server.links):
            (link.writer.transport if isinstance(link, Link1) else link.transport).abort()
        for task in list(server.tasks):
            task.cancel()
        await until(lambda: not server.tasks and not server.serving and not server.links)


@asynccontextmanager
async def asking(
    version: str, talk: Talk = hello, *, max_streams: int = 100, **options: Any
) -> AsyncGenerator[tuple[Any, Server], None]:
    """A server, and a way to it."""
    async with listening(version, talk, tls=options.pop("server_tls", None), max_streams=max_streams) as server:
        way: Way = pool2(server.port, **options) if version == "2" else pool1(server.port, **options)
        try:
            yield way, server
        finally:
            await way.aclose()
