"""A small HTTP/1.1 server for one ASGI callable: the twin of `upstream/http.py`, written with the same care.

Not here: what is answered (`server/app.py`), signals and the listening socket (`server/run.py`), TLS, HTTP/2, web
sockets, compression.

    Server  ->  _Connection  ->  parser  ->  _Exchange (receive, send)  ->  the app  ->  one write

Invariants:
- One exchange at a time on a socket. The next request is not parsed before the app has returned from the one before.
- What is kept in memory is bounded: of a head, of a body, of requests sent early, of an answer that is not taken.
- What is not plainly HTTP/1.1 is refused before the app is called, and what follows it is not read as a request.
- What is written to a client in one turn of the loop leaves in one write, and at the end of that turn with all others:
  a write wakes its client, which costs more than the write, and clients that are awake are woken for nothing.
- A client that leaves is told of in that same step, through `Gone` and `receive`; an answer to nobody is dropped.
- No clock but the loop's (the Date line apart), no thread, no global state: it runs in virtual time too.

Source: RFC 9112; ASGI 3.0 (HTTP); llhttp (strict, through httptools) reads the bytes.
"""

import asyncio
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
"""Browsers send 20 and proxies add 10. Each is an object, which costs more than its bytes."""
MAX_URL_BYTES = 8_192
"""RFC 9112, section 3, asks for 8,000 at least; the longest route here has 20."""
MAX_WAITING_BYTES = 262_144
"""Of a body that the app has not asked for yet: one read of the socket. Reading pauses above it."""
MAX_EARLY_BYTES = 65_536
"""Of requests sent before their turn. Reading pauses above it, and not at once, so that leaving is noticed."""
MAX_DROPPED_BYTES = 65_536
"""Of a body answered unread (401, 404) that is read to keep the connection. With more to come, it is closed."""
MAX_JOINED_BYTES = 65_536
"""Of an answer that waits for the end of the loop's turn: the high-water mark of the socket's own buffer."""
BACKLOG = 2048
"""Connections that the kernel holds for us: as many as come while the loop is away for some milliseconds."""
EARLY_S = 0.001
"""Loops ring up to this early: uvloop counts in milliseconds."""
CUT_S = 5.0
"""For cancelled requests to keep their entries: a commit takes milliseconds, a disk that hangs takes for ever."""

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""RFC 9110's and PATCH, without CONNECT and TRACE: this is no tunnel and no echo. llhttp knows 30 more, RTSP's too."""

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_NOTED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""Of a request: what says where it ends, and for whom it is."""
_OURS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive"})
"""Of an answer: what says where it ends."""
_NEVER = float("inf")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Times(NamedTuple):
    """How long a client may take, in seconds."""

    head_s: float = 30.0
    """From the connection, or the first byte of a later request, to the end of its head: slowloris ends here."""
    idle_s: float = 75.0
    """Between requests: nginx's default, longer than client pools keep theirs."""
    stall_s: float = 60.0
    """Without a byte of a body that is waited for, or with nothing taken of an answer: nginx's defaults."""
    linger_s: float = 30.0
    """For the client to close after our last answer, which it may still be reading: nginx's `lingering_time`."""


class BadHttpError(TrivetError):
    """What came is no request that is read here, or too large or too slow to be one."""

    code, kind, whose = "bad_http", "invalid_request_error", "client"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StoppingError(TrivetError):
    """The server stops, and this answer had not begun."""

    status, code, whose, retry_after_s = 503, "stopping", "operator", 1.0


class Server:
    """Serves an ASGI callable on a listening socket, until it is stopped."""

    def __init__(self, app: App, *, times: Times = Times()) -> None:  # noqa: B008  # immutable
        self.app, self.times = app, times
        self.stopping = False
        self.live: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._emptied = asyncio.Event()
        self._date, self._date_due = b"", -1.0
        self._written: list[_Connection] = []  # in this turn of the loop

    async def start(self, sock: socket.socket) -> None:
        """Answer connections from now on. The socket is ours to close."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=BACKLOG)

    async def stop(self, grace_s: float) -> None:
        """Take no new request, let running ones end within `grace_s`, cancel the rest; nothing is open after it."""
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
        """Cancel every running request now: the grace is over, or is not wanted."""
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
        """A connection is closed and its request is over."""
        self.live.discard(connection)
        if not self.live:
            self._emptied.set()

    def flush_soon(self, connection: "_Connection") -> None:
        """Send what this connection has written at the end of this turn of the loop."""
        if not self._written:
            asyncio.get_running_loop().call_soon(self._flush)
        self._written.append(connection)

    def _flush(self) -> None:
        written, self._written = self._written, []
        for connection in written:
            connection.flush()

    def date(self, now_s: float) -> bytes:
        """Give the Date line (RFC 9110, 6.6.1), made once a second."""
        if now_s >= self._date_due:
            self._date, self._date_due = b"date: %b\r\n" % formatdate(usegmt=True).encode(), now_s + 1.0
        return self._date


class _Exchange:
    """One request and its answer, as the app sees them. Whoever still holds it later can do no harm with it."""

    __slots__ = ("_chunked", "_connection", "_given", "_owed", "_silent", "answered", "expects", "gone", "head", "keep",
                 "last", "left", "method", "old", "pieces", "reader", "scope", "size", "started", "whole",
                 "writer")  # fmt: skip

    def __init__(self, connection: "_Connection", method: str, *, keep: bool, old: bool, expects: bool) -> None:
        self._connection, self.method = connection, method
        self.keep, self.last = keep, not keep  # whether another may follow; whether the client wants none
        self.old, self.expects = old, expects  # HTTP/1.0; holds its body back for a "100 Continue"
        self.scope: Scope = {}
        self.gone = Gone()
        self.pieces: list[bytes] = []  # of the body, not asked for yet
        self.size = 0
        self.whole = self._given = False  # the body: all here; all given to the app
        self.started = self.answered = self.left = False  # the answer's head, its end; the client
        self.reader: asyncio.Future[None] | None = None
        self.writer: asyncio.Future[None] | None = None
        self.head = b""  # of the answer, until the first piece of its body
        self._owed: int | None = None  # of the length that the app has promised
        self._chunked = self._silent = False

    async def receive(self) -> Message:
        """Give the next piece of the body, or `http.disconnect` once the client has left or has its answer."""
        while not self.left and not self.answered:
            if self.pieces or (self.whole and not self._given):
                body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
                self.pieces.clear()
                self.size, self._given = 0, self.whole
                self._connection.taken(self)
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self.expects and not self.whole and not self.started:
                self.expects = False
                self._connection.write([b"HTTP/1.1 100 Continue\r\n\r\n"], size=0)
            if self.reader is not None and not self.reader.done():
                raise RuntimeError("two tasks read one request")
            self.reader = asyncio.get_running_loop().create_future()
            await self.reader
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the next part of the answer; wait while the client takes nothing."""
        if self.left:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.started and not self.answered:
            self._body(message.get("body", b""), more=message.get("more_body", False))
            while self._connection.full and not self.left:
                self.writer = asyncio.get_running_loop().create_future()
                await self.writer
        elif kind == "http.response.start" and not self.started:
            self._start(message["status"], list(message.get("headers", ())))
        else:
            raise RuntimeError(f"the app sent {kind!r} where it has no place")

    def _start(self, status: int, headers: RawHeaders) -> None:
        """Make the head, with a framing of our own. It goes out with the first piece of the body."""
        lines, ends = [_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._connection.date()], 2 + len(headers)
        for name, value in headers:
            if name in _OURS:  # in lower case, as ASGI asks
                if name == b"content-length":
                    self._owed = int(value)
                else:  # how the connection goes on is said below
                    self.keep = self.keep and value.lower() != b"close"
                    ends -= 1
                    continue
            lines += (name, b": ", value, b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != ends or head.count(b"\r") != ends:
            raise RuntimeError("the app sent a header with a line end in it")
        self._silent = self.method == "HEAD" or status in (204, 304)
        sized = self._owed is not None or self._silent
        self._chunked = not sized and not self.old
        self.keep = self.keep and (sized or self._chunked) and self._connection.may_keep(self)
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n"
        if not self.keep:
            head += b"connection: close\r\n"
        elif self.old:
            head += b"connection: keep-alive\r\n"
        self.head, self.started = head + b"\r\n", True

    def _body(self, body: bytes, *, more: bool) -> None:
        """Frame a piece of the body."""
        parts = [self.head] if self.head else []
        if self._silent:
            pass
        elif self._owed is not None:
            self._owed -= len(body)
            if self._owed < 0 or (self._owed and not more):
                raise RuntimeError(f"the app's body is not as long as it said: {-self._owed:+d} bytes")
            parts.append(body)
        elif self._chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        else:
            parts.append(body)
        self.head, self.answered = b"", not more
        self._connection.write(parts, size=len(body))

    def leave(self) -> None:
        """The client is gone: tell all who wait."""
        self.left = True
        self.wake()
        self.drained()
        if not self.answered:
            self.gone.tell()

    def wake(self) -> None:
        """Let `receive` look again."""
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)

    def drained(self) -> None:
        """Let `send` look again."""
        if self.writer is not None and not self.writer.done():
            self.writer.set_result(None)


class _Connection(asyncio.Protocol):
    """One socket, and the parser's callbacks. `_exchange` is set from the end of a head to the app's return."""

    def __init__(self, server: Server) -> None:
        self.full = False  # the socket takes no more for now
        self._server, self._times = server, server.times
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: _Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._wrong: BadHttpError | None = None
        self._url = b""
        self._deaf = self._lost = False  # what comes is dropped; nothing comes any more
        self._early = bytearray()  # what came before its turn
        self._held = self._begun = False  # reading is paused; a part of a head is here
        self._left = self._barren = 0  # of a body with a length; bytes in a row without content
        self._upgrade = False  # the parser reads no further
        self._tail = b""  # of the last read: a blank line may have begun there
        self._out: list[bytes] = []  # written in this turn of the loop
        self._out_size = self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER

    # What the socket does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods and not the base class
        self._client, self._here = (_address(transport.get_extra_info(name)) for name in ("peername", "sockname"))
        self._server.live.add(self)
        self._expect(self._times.head_s)
        if self._server.stopping:
            self.drop()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        early = self._whole()
        used = 0 if early else self._parse(data)
        if used < len(data):
            self._early += data[used:]
            if len(self._early) > MAX_EARLY_BYTES:
                self._hold()
        if not early:
            self._go_on()

    def eof_received(self) -> None:
        """It will send no more, which counts as leaving; the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._deaf = True
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        if self._task is None:
            self._server.forget(self)

    def pause_writing(self) -> None:
        self.full = True
        self._unsent = self._transport.get_write_buffer_size()
        if not self._deaf:
            self._expect(self._times.stall_s)

    def resume_writing(self) -> None:
        self.full = False
        if self._exchange is not None:
            self._await(self._exchange)
            self._exchange.drained()

    # One request after the other.

    def _parse(self, data: bytes | bytearray) -> int:
        """Feed the parser with what belongs to this request and nothing of the next; give how much that was.

        It does not say where a request ended. But one with a length ends there, and any other with a blank line.
        """
        at = 0
        while at < len(data) and self._wrong is None and not self._whole():
            if self._left:
                end = min(at + self._left, len(data))
                self._left -= end - at
            else:
                end = self._blank_line(data, at)
                self._barren += end - at
            try:
                if self._upgrade:
                    self.on_body(bytes(data[at:end]))
                else:
                    self._parser.feed_data(data[at:end])
            except httptools.HttpParserUpgrade:
                self._decline()
            except httptools.HttpParserError as error:
                self._blame(BadHttpError(400, f"This is no HTTP that is read here: {error}."))
            if self._upgrade and self._exchange is not None:
                self._exchange.whole = not self._left
            if self._barren > MAX_HEAD_BYTES:
                self._blame(_too_large(self._url))
            elif self._exchange is None and not self._tail:
                self._blame(BadHttpError(400, "There are empty lines before the request."))
            at = end
        return at

    def _decline(self) -> None:
        """Go on without the upgrade that was asked for, as with any request, and read nothing after it.

        llhttp leaves its body to the other protocol, so we read it (Java's HttpClient offers h2c with its first POST).
        What follows could be taken for a request by one side, and for that protocol by the other.
        """
        self._upgrade = True
        if self._exchange is not None:
            self._exchange.keep = False
        if self._coding:
            self._blame(BadHttpError(400, "A request for an upgrade has a body in chunks. Send it with a length."))

    def _blame(self, error: BadHttpError) -> None:
        if self._wrong is None:  # what was found first is the cause
            self._wrong = error

    def _whole(self) -> bool:
        return self._exchange is not None and self._exchange.whole

    def _blank_line(self, data: bytes | bytearray, at: int) -> int:
        """Say where the next blank line ends, or the data; `_tail` is empty where there is one."""
        known, found = len(self._tail), -1
        if known:
            found = (self._tail + data[at : at + 3]).find(b"\r\n\r\n")
        if found >= 0:
            found += at - known
        elif (found := data.find(b"\r\n\r\n", at)) < 0:
            self._tail = bytes(self._tail + data[max(at, len(data) - 3) :])[-3:]
            return len(data)
        self._tail = b""
        return found + 4

    def _go_on(self) -> None:
        """Act on what was parsed."""
        exchange = self._exchange
        if self._wrong is not None:
            self._refuse(self._wrong)
        elif exchange is None:
            if not self._begun:
                self._begun = True
                self._expect(self._times.head_s)
        elif exchange.answered and self._task is None and exchange.whole:
            self._next()
        else:
            self._await(exchange)
            if exchange.size > MAX_WAITING_BYTES:
                self._hold()
            if self._task is not None:
                exchange.wake()
            elif not exchange.answered:
                self._task = self._loop.create_task(self._serve(exchange))

    async def _serve(self, exchange: _Exchange) -> None:
        """Let the app answer. This is the edge where its defects end, so they are reported here."""
        try:
            try:
                await self._server.app(exchange.scope, exchange.receive, exchange.send)
            finally:
                exchange.gone.call = None
            if not exchange.answered and not exchange.left:
                raise RuntimeError("the app returned before the end of its answer")
        except asyncio.CancelledError:
            self._fail(exchange, StoppingError("The server is being stopped. Ask again in a moment."))
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end in silence
            told = f"a defect of the app: {exchange.method} {exchange.scope['path'][:200]!r}"
            self._loop.call_exception_handler({"message": told, "exception": error})
            self._fail(exchange, TrivetError("A defect in Trivet: its log says more and is worth a report."))
        self._task = None
        if self._lost:
            self._exchange = None
            self._server.forget(self)
        elif self._deaf:
            self._exchange = None
        elif not exchange.keep:
            self._close(linger=not (exchange.last and exchange.whole))
        elif exchange.whole:
            self._next()
        else:  # read the rest of its body and drop it
            exchange.pieces.clear()
            self._unhold()
            self._await(exchange)

    def _next(self) -> None:
        """The exchange is over: begin with the next, which may be here."""
        self._exchange, self._begun, self._barren, self._tail = None, False, 0, b""
        self._expect(self._times.idle_s)
        self._unhold()
        if self._early:
            used = self._parse(self._early)
            del self._early[:used]
            self._go_on()
            if len(self._early) > MAX_EARLY_BYTES:
                self._hold()

    # The end.

    def _fail(self, exchange: _Exchange, error: TrivetError) -> None:
        if not exchange.answered and not exchange.left:
            self._refuse(error)

    def _refuse(self, error: TrivetError) -> None:
        """Answer with an error, and read no further; where another answer has begun, only breaking it off is left."""
        exchange = self._exchange
        if exchange is not None and exchange.started and not exchange.head:
            self.drop()
            return
        body = error_body(error)
        lines = [_LINES[error.status], self.date(), b"content-length: %d\r\n" % len(body)]
        lines += [b"%b: %b\r\n" % header for header in (JSON, *PRIVATE, (b"x-trivet-fault", error.whose.encode()))]
        if error.retry_after_s is not None:
            lines.append(b"retry-after: %d\r\n" % error.retry_after_s)
        silent = exchange is not None and exchange.method == "HEAD"
        self._out += [*lines, b"connection: close\r\n\r\n", b"" if silent else body]
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Close behind what is written. Lingering, for a close with unread bytes is a reset, which can undo that."""
        self._deaf = True
        self._early.clear()
        self.flush()
        self._leave()
        self._expect(self._times.linger_s)
        if not linger or self._server.stopping:
            self._transport.close()
            return
        self._unhold()
        try:
            self._transport.write_eof()
        except OSError:  # it was quicker
            self._transport.abort()

    def drop(self) -> None:
        """Close now, whatever is on its way."""
        self._deaf = True
        self._out.clear()
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        if self._exchange is not None:
            self._exchange.leave()
        if self._task is None:
            self._exchange = None

    def retire(self) -> None:
        """Take no further request."""
        if self._task is None:
            self._close(linger=False)
        elif self._exchange is not None:
            self._exchange.keep = False

    def cut(self) -> None:
        """Cancel the request that is running."""
        if self._task is not None:
            self._task.cancel()

    # For its exchange.

    def date(self) -> bytes:
        """Give the Date line."""
        return self._server.date(self._loop.time())

    def may_keep(self, exchange: _Exchange) -> bool:
        """Say whether a further request can be read after this one: its body is here, or is a short rest."""
        short = 0 < self._left <= MAX_DROPPED_BYTES and not exchange.expects
        return (exchange.whole or short) and not self._server.stopping

    def write(self, parts: list[bytes], *, size: int) -> None:
        """Send at the end of this turn of the loop; now, if it is much."""
        if not self._out:
            self._server.flush_soon(self)
        self._out += parts
        self._out_size += size
        if self._out_size > MAX_JOINED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was written."""
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self._transport.write(data)

    def taken(self, exchange: _Exchange) -> None:
        """The app has what was here of the body: read on."""
        if self._held and not exchange.whole:
            self._unhold()
            self._await(exchange)

    def _hold(self) -> None:
        if not self._held and not self._lost:
            self._held = True
            self._transport.pause_reading()

    def _unhold(self) -> None:
        if self._held and not self._lost:
            self._held = False
            self._transport.resume_reading()

    # What the parser finds, within `_parse`.

    def on_message_begin(self) -> None:
        if self._exchange is not None:
            raise ValueError("bytes after the end of the request")
        self._url, self._coding, self._expects = b"", b"", False
        self._headers: RawHeaders = []
        self._hosts = self._length = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _NOTED:
            self._note(name, value)
        self._headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._length = int(value)  # digits: llhttp has looked
        elif name == b"transfer-encoding":
            self._coding = value.strip(b" \t").lower()
        else:
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        method, version = parser.get_method(), parser.get_http_version()
        self._wrong = self._flaw(method, version)
        if self._wrong is not None:
            return
        raw_path, _, query = self._url.partition(b"?")
        path = raw_path.decode("ascii")
        old = version == "1.0"
        exchange = _Exchange(
            self, method.decode(), keep=parser.should_keep_alive(), old=old, expects=self._expects and not old
        )
        exchange.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": exchange.method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._here,
            "extensions": {GONE: exchange.gone},
        }
        self._exchange = exchange
        self._left, self._barren = self._length, 0
        self._headers = []  # trailers go there: nobody asked for them

    def _flaw(self, method: bytes, version: str) -> BadHttpError | None:
        """Say what is wrong with a head that llhttp has let through; put a URL with a host into its plain form."""
        if len(self._url) > MAX_URL_BYTES or self._barren > MAX_HEAD_BYTES:
            return _too_large(self._url)
        if len(self._headers) > MAX_HEADERS:
            return BadHttpError(431, f"There are {len(self._headers)} headers. Send at most {MAX_HEADERS}.")
        if version not in ("1.1", "1.0"):
            return BadHttpError(505, f"This is HTTP/{version}. Speak HTTP/1.1.")
        if method not in METHODS:
            return BadHttpError(501, f"The method {method.decode()} is not known here.")
        if self._hosts > 1 or (self._hosts == 0 and version == "1.1"):
            return BadHttpError(400, f"There are {self._hosts} Host headers. Send one.")
        if self._coding and (self._coding != b"chunked" or version == "1.0"):
            return BadHttpError(400, "The only transfer-encoding here is `chunked`, and that with HTTP/1.1.")
        if not self._url.startswith(b"/") and not self._plain_url():
            return BadHttpError(400, f"{self._url[:200]!r} is no path.")
        if b"#" in self._url:
            return BadHttpError(400, "A path ends before its `#`.")
        return None

    def _plain_url(self) -> bool:
        """Make `/path?query` of `http://host/path?query` (RFC 9112, 3.2.2); the host decides nothing here."""
        scheme, _, rest = self._url.partition(b"://")
        _, slash, path = rest.partition(b"/")
        self._url = slash + path
        return scheme.lower() in (b"http", b"https") and slash == b"/"

    def on_body(self, body: bytes) -> None:
        exchange, self._barren = self._exchange, 0
        if exchange is not None and not exchange.answered:
            exchange.pieces.append(body)
            exchange.size += len(body)

    def on_message_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.whole = True

    # Time.

    def _await(self, exchange: _Exchange) -> None:
        """Set the deadline of a running exchange: the client has one where it is waited for, the app has its own."""
        if self.full or not (exchange.whole or self._held):
            self._expect(self._times.stall_s)
        else:
            self._due = _NEVER

    def _expect(self, delay_s: float) -> None:
        """Move the deadline. The one timer of this socket runs on and looks when it rings: moving costs no timer."""
        self._due = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._due - EARLY_S:
            if self._due < _NEVER:
                self._timer = self._loop.call_at(self._due, self._ring)
            return
        exchange, unsent = self._exchange, self._transport.get_write_buffer_size()
        if self._deaf:
            self.drop()
        elif self.full and unsent < self._unsent:  # slow, but not gone
            self._unsent = unsent
            self._expect(self._times.stall_s)
        elif self.full or (exchange is not None and exchange.answered):
            self.drop()
        elif exchange is not None:
            self._refuse(BadHttpError(408, f"Nothing came of the body for {self._times.stall_s:g} s."))
        elif self._begun:
            self._refuse(BadHttpError(408, f"The head of the request was not whole in {self._times.head_s:g} s."))
        else:
            self._close(linger=False)


_ASGI = {"version": "3.0", "spec_version": "2.3"}


def _too_large(url: bytes) -> BadHttpError:
    if len(url) > MAX_URL_BYTES:
        return BadHttpError(414, f"The URL has more than {MAX_URL_BYTES} bytes.")
    return BadHttpError(
        431, f"The head of the request, or what is no content in its body, is over {MAX_HEAD_BYTES} bytes."
    )


def _address(given: Any) -> tuple[str, int] | None:
    """Give host and port of an IP address; a Unix socket has none."""
    return (given[0], given[1]) if isinstance(given, tuple) else None
