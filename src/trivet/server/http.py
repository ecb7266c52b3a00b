"""A small HTTP/1.1 server for one ASGI callable: the twin of `upstream/http.py`, and written with the same care.

Not here: what is answered (`server/app.py`), signals and the listening socket (`server/run.py`), TLS, HTTP/2, web
sockets, compression.

    Server  ->  _Connection  ->  parser  ->  _Exchange (receive, send)  ->  the app  ->  one write

Invariants:
- One exchange at a time on a socket. The next request is not parsed before the app has returned from the one before,
  and bytes are never kept beyond a bound: of a body, of requests to come, of an answer that is not taken.
- What is not plainly HTTP/1.1 is refused before the app is called, and what follows it is not read as a request.
- Head and body of an answer leave in one write; pieces of a stream leave once in a turn of the loop.
- A client that leaves is told of at once, through `Gone` and `receive`; an answer to nobody is dropped.
- No clock but the loop's (the Date header apart), no thread, no global state: it runs in virtual time too.

Source: RFC 9112; ASGI 3.0 (HTTP); llhttp (strict, through httptools) reads the bytes.
"""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import httptools

from trivet.errors import TrivetError
from trivet.server.asgi import GONE, JSON, PRIVATE, Gone, Message, RawHeaders, Receive, Scope, Send
from trivet.wire.chat import error_body

MAX_HEAD_BYTES = 65_536
"""Of one request's line and headers; also of bytes in a row that are no content (trailers, chunk extensions). llhttp
has no bound of its own, so a head without an end would fill the memory before any key is looked at."""
MAX_HEADERS = 200
"""Browsers send 20, proxies add 10. Each costs an object, which is more than its bytes."""
MAX_URL_BYTES = 8_192
"""RFC 9112, section 3, asks for 8,000 at least; the longest route here has 20."""
MAX_WAITING_BYTES = 262_144
"""Of a body that the app has not asked for yet: one read of the socket. Reading pauses above it."""
MAX_EARLY_BYTES = 65_536
"""Of requests sent ahead of their turn. Reading pauses above it; below, so that a client that leaves is noticed."""
MAX_DROPPED_BYTES = 65_536
"""Of a body that is read only to keep the connection when it was answered unread (401, 404). One with more closes."""
MAX_JOINED_BYTES = 65_536
"""Of a stream's pieces that wait for the end of the loop's turn: the socket's own high-water mark."""
BACKLOG = 2048
"""Connections the kernel holds for us: as many as come while the loop is away for a few milliseconds."""
EARLY_S = 0.001
"""Loops ring up to this early: uvloop counts in milliseconds."""
CUT_S = 5.0
"""For cancelled requests to keep their entries: a commit takes milliseconds, a disk that hangs takes for ever."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""RFC 9110's and PATCH, without CONNECT and TRACE: a gateway is no tunnel and no echo. llhttp knows 30 more."""

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Times(NamedTuple):
    """How long a client may take, in seconds."""

    head_s: float = 30.0
    """From the first byte of a request (or the connection) to the end of its head: slowloris stops here."""
    idle_s: float = 75.0
    """Between requests: nginx's default, longer than client pools keep theirs."""
    stall_s: float = 60.0
    """Without a byte of a body that is waited for, or with no byte taken of an answer: nginx's defaults."""
    linger_s: float = 30.0
    """For the client to close after a last answer that it may not have read yet: nginx's `lingering_time`."""


class BadHttpError(TrivetError):
    """What came is no request that this server reads, or was too slow or too large to be one."""

    code, kind, whose = "bad_http", "invalid_request_error", "client"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StoppingError(TrivetError):
    """The server stops, and this answer had not begun."""

    status, code, whose, retry_after_s = 503, "stopping", "operator", 1.0


class Server:
    """Serves an ASGI callable on a listening socket, until it is stopped."""

    def __init__(self, app: App, *, times: Times = Times()) -> None:
        self.app, self.times = app, times
        self.stopping = False
        self.live: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._emptied: asyncio.Event = asyncio.Event()
        self._date, self._date_due = b"", -1.0

    async def start(self, sock: socket.socket) -> None:
        """Answer connections from now on. The socket is closed by `stop`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=BACKLOG)

    async def stop(self, grace_s: float) -> None:
        """Take no new request, let running ones end within `grace_s`, cancel the rest; then nothing is open."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.live):
            connection.retire()
        await self._until_empty(grace_s)
        self.cut()
        await self._until_empty(CUT_S)
        for connection in list(self.live):
            connection.drop()
        await self._until_empty(CUT_S)

    def cut(self) -> None:
        """Cancel every running request: the grace is over, or was not wanted."""
        for connection in list(self.live):
            connection.cut()

    async def _until_empty(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while self.live:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            pass

    def forget(self, connection: "_Connection") -> None:
        """A connection is closed, and its request is over."""
        self.live.discard(connection)
        if not self.live:
            self._emptied.set()

    def date(self, now_s: float) -> bytes:
        """Give the Date line (RFC 9110, 6.6.1), written once a second."""
        if now_s >= self._date_due:
            self._date, self._date_due = b"date: %b\r\n" % formatdate(usegmt=True).encode(), now_s + 1.0
        return self._date


class _Exchange:
    """One request and its answer, as the app sees them. It belongs to one connection, and outlives it harmlessly."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_left",
        "_silent",
        "answered",
        "expects",
        "given",
        "gone",
        "keep",
        "left",
        "method",
        "old",
        "pieces",
        "reader",
        "size",
        "started",
        "whole",
        "writer",
    )

    def __init__(self, connection: "_Connection", method: str, *, keep: bool, old: bool, expects: bool) -> None:
        self._connection, self.method = connection, method
        self.keep, self.old, self.expects = keep, old, expects
        self.gone = Gone()
        self.pieces: list[bytes] = []  # of the body, not asked for yet
        self.size = 0
        self.whole = self.given = False  # the body: all here; all given to the app
        self.started = self.answered = self.left = False  # the answer's head, its end, and the client
        self.reader: asyncio.Future[None] | None = None
        self.writer: asyncio.Future[None] | None = None
        self._head = b""
        self._left: int | None = None  # of the length that the app has promised
        self._chunked = self._silent = False

    # What the app calls.

    async def receive(self) -> Message:
        """Give the next piece of the body, or `http.disconnect` once the client has left or has its answer."""
        while not self.left and not self.answered:
            if self.pieces or (self.whole and not self.given):
                body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
                self.pieces.clear()
                self.size, self.given = 0, self.whole
                if not self.whole:
                    self._connection.unhold()
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self.expects and not self.whole:
                self.expects = False
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.reader is None or self.reader.done():
                self.reader = asyncio.get_running_loop().create_future()
            await asyncio.shield(self.reader)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the next part of the answer; waits while the client takes nothing."""
        if self.left:
            return
        kind = message["type"]
        if kind == "http.response.body":
            self._body(message.get("body", b""), more=message.get("more_body", False))
            while self._connection.full and not self.left:
                self.writer = asyncio.get_running_loop().create_future()
                await self.writer
        elif kind == "http.response.start" and not self.started:
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"the app sent {kind!r} where it has no place")

    def _start(self, status: int, headers: RawHeaders) -> None:
        """Write the head, with our own framing."""
        self.started = True
        self._silent = self.method == "HEAD" or status in (204, 304)
        named = False
        lines = [_line(status), self._connection.date()]
        for name, value in headers:
            if name in _OURS:
                if name == b"content-length":
                    self._left = int(value)
                else:
                    self.keep = self.keep and not (name == b"connection" and value.lower() == b"close")
                    continue  # how a connection is used is said below
            lines += (name, b": ", value, b"\r\n")
            named = named or name != name.lower()
        if named:
            raise RuntimeError(f"the app sent header names that are not in lower case: {headers}")
        self._chunked = self._left is None and not self._silent and not self.old
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        self.keep = self.keep and self._connection.may_keep(self) and not (self.old and self._left is None)
        if not self.keep:
            lines.append(b"connection: close\r\n")
        elif self.old:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
