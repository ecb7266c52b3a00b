"""A small pooled HTTP/1.1 client: the largest CPU cost of a gateway, so it is written with care for it.

Not here: what is asked and what the answer means (`upstream/openai.py`), redirects, cookies, proxies, HTTP/2,
decompression (ask for `accept-encoding: identity`; anything else that comes is refused).

    Pool.send  ->  _Connection.ask  ->  Reply.read ... read  ->  the connection is back in the pool

Invariants:
- One exchange at a time on a socket. It is used again only when its last answer ended cleanly, by keep-alive, with
  nothing said after it; any other end closes it at once.
- A caller that is cancelled, or that closes a Reply early, closes the socket in that same step.
- What waits in memory of one answer is at most `high_water_bytes` and one read of the socket.
- No clock but the loop's and the one passed in, no thread, no global state: it runs in virtual time too.

Source: RFC 9112; llhttp (strict, through httptools) reads the bytes.
"""

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import httptools

from trivet.seams import Clock, Dialer

MAX_HEAD_BYTES = 65_536
"""Of one answer's head; also of bytes in a row that carry no content (interim answers, chunk extensions, trailers)."""
MAX_INTERIM = 8
"""1xx answers before the real one. Servers in use send one or two (100, 103)."""
SLICE_BYTES = 262_144
"""Of a request body handed to the socket at a time; smaller bodies go out in one write with their head."""
KEEP_S = 60.0
"""An idle connection is closed after this: NATs forget a silent flow (Azure after 240 s) without telling us."""
EARLY_S = 0.001
"""Loops ring up to this early: uvloop counts in milliseconds."""
LINGER_S = 1.0
"""For the end of the framing after `finish`: it follows the last content by one write of the server, if at all."""

Phase = Literal["connect", "send", "first_byte", "idle"]

_CODINGS = {b"transfer-encoding": b"chunked", b"content-encoding": b"identity"}


class Origin(NamedTuple):
    """Where requests go: `Origin("https", "api.openai.com", 443)`."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class HttpError(Exception):
    """An exchange that did not come to its end: where, and in which phase. The provider translates it."""

    def __init__(self, origin: Origin, phase: Phase, what: str) -> None:
        super().__init__(f"{origin} {what}")
        self.origin, self.phase = origin, phase


class ConnectError(HttpError):
    """No connection could be had: the name, the port, TLS, or this pool is closed."""


class PhaseTimeoutError(HttpError):
    """A phase took longer than it may."""


class ProtocolError(HttpError):
    """The answer is not HTTP/1.1 as we read it, or oversteps a limit."""


class LostError(ProtocolError):
    """The connection ended before the answer did.

    Args:
        unanswered: not one byte of the answer had come.
    """

    def __init__(self, origin: Origin, phase: Phase, what: str, *, unanswered: bool) -> None:
        super().__init__(origin, phase, what)
        self.unanswered = unanswered


class _Answer:
    """What has come of one answer, and who waits for more of it."""

    __slots__ = ("error", "headers", "left", "pieces", "size", "status", "waiter", "whole")

    def __init__(self) -> None:
        self.status = 0  # until the head is complete
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.size = 0
        self.whole = False
        self.left = False  # by its reader, who has all that he needs: only the end of the framing is waited for
        self.error: HttpError | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        assert self.waiter is None or self.waiter.done(), "two tasks read one answer"
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter


class Reply:
    """An answer whose head is here. Its body comes by `read`; whoever has it must read it to the end or `close` it."""

    __slots__ = ("_answer", "_connection", "connect_ns", "headers", "status")

    def __init__(self, answer: _Answer, connection: "_Connection", connect_ns: int) -> None:
        self.status = answer.status
        self.headers = answer.headers
        """In order, names in lower case."""
        self.connect_ns = connect_ns
        """Name look-up, connect and TLS; 0 where an open connection was used again."""
        self._answer, self._connection = answer, connection

    async def read(self) -> bytes:
        """Give what has come since the last call, waiting if that is nothing; `b""` at the end of a whole body.

        Raises:
            HttpError: the body cannot be had in full; what came of it before is given first.
        """
        answer = self._answer
        while not answer.pieces:
            if answer.whole:
                return b""
            if answer.error is not None:
                raise answer.error
            try:
                await answer.wait()
            except BaseException:
                self.close()
                raise
        piece = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        answer.pieces.clear()
        answer.size = 0
        self._connection.unhold(answer)
        return piece

    async def read_all(self, limit: int) -> bytes:
        """Give the whole body; one of more than `limit` bytes is a ProtocolError."""
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > limit:
                self.close()
                raise ProtocolError(self._connection.pool.origin, "idle", f"sent a body of more than {limit} bytes.")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """Let go of a stream that has said its last word (`[DONE]`), without waiting for the end of its framing.

        Many servers send that in a packet of its own. If it comes soon, with no content before it, the connection is
        used again; if not, it is closed. `close` after this does nothing.
        """
        self._connection.leave(self._answer)

    def close(self) -> None:
        """Let go: closes the socket at once unless the whole answer has come. May be called at any time, twice too."""
        self._connection.abandon(self._answer)
        self._answer.pieces.clear()


class _Connection(asyncio.Protocol):
    """One socket, and the parser's callbacks. `_answer` is set while an exchange is on, and belongs to it alone."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.used = False
        self.gone = False
        self.connect_ns = 0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: _Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._allowed_s = 0.0
        self._full = self._held = False

    # The exchange, as the pool drives it.

    async def ask(self, head: bytes, body: bytes) -> Reply:
        """Send one request and wait for the head of its answer."""
        if self.gone or self._transport is None:
            raise LostError(self.pool.origin, "send", "closed the connection.", unanswered=True)
        answer = self._answer = _Answer()
        self._seen = self._begun = self._writing = self._keep = False
        self._barren = self._interims = 0
        self._wrong = ""
        connect_ns, self.connect_ns = self.connect_ns, 0
        try:
            if len(body) <= SLICE_BYTES:
                self.pool.write_soon(self._transport, head + body)
            else:
                await self._write(self._transport, answer, head, body)
            if not self.gone:
                self._expect(self.pool.first_byte_s)
            while not answer.status and answer.error is None:
                await answer.wait()
        except BaseException:
            self.abandon(answer)
            raise
        if not answer.status and answer.error is not None:
            raise answer.error
        return Reply(answer, self, connect_ns)

    async def _write(self, transport: asyncio.Transport, answer: _Answer, head: bytes, body: bytes) -> None:
        """Send a large body, the next slice when the socket has taken the last; stop if the answer comes early."""
        self._writing = True
        transport.write(head)
        view = memoryview(body)
        for at in range(0, len(body), SLICE_BYTES):
            transport.write(view[at : at + SLICE_BYTES])
            self._expect(self.pool.idle_s)
            while self._full and not answer.status and answer.error is None:
                await answer.wait()
            if answer.status or answer.error is not None:
                return
        self._writing = False

    def abandon(self, answer: _Answer) -> None:
        """Close the socket if this answer is still on it; another's exchange may be by now."""
        if self._answer is answer:
            self.shut()

    def leave(self, answer: _Answer) -> None:
        """Wait for the end of this answer on nobody's behalf."""
        if self._answer is not answer:
            return
        if answer.pieces:  # not the last word, then
            self.shut()
            return
        rest = self._answer = _Answer()
        rest.status, rest.headers, rest.left = answer.status, answer.headers, True
        answer.whole = True
        self._expect(LINGER_S)

    def shut(self, error: HttpError | None = None) -> None:
        """Close the socket now, whatever is on its way, and leave the pool."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.error = error or LostError(self.pool.origin, "idle", "was hung up on by us.", unanswered=False)
            answer.wake()
        if self.gone:
            return
        self.gone = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self.pool.forget(self)

    def _finish(self) -> None:
        """The answer is whole: wake its reader, and use the socket again if that is safe."""
        if self._answer is not None:
            self._answer.wake()
        self._answer = None
        # `_writing`: the answer came before the request was out, and the rest of that will never be sent.
        if self._keep and not self._writing:
            self._resume()
            self.used = True
            self._expect(KEEP_S)
            self.pool.take_back(self)
        else:
            self.shut()

    # What the socket does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods and not the base class
        self.pool.live.add(self)
        if self.gone:  # cancelled while it was being made
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # it speaks unasked: the next answer on this socket could not be trusted
            self.shut()
            return
        self._seen, self._fed = True, False
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._wrong = self._wrong or str(error)
            self._keep = False
        if answer.whole:
            self._finish()
        elif self._wrong:
            self._refuse(self._wrong)
        elif self._fed and answer.left:
            self.shut()
        elif self._fed:
            self._begun, self._barren = True, 0
            self._expect(self.pool.idle_s)
            if answer.size > self.pool.high_water_bytes and self._transport is not None and not self._held:
                self._held = True
                self._transport.pause_reading()
            answer.wake()
        elif self._barren > MAX_HEAD_BYTES:
            self._refuse(f"more than {MAX_HEAD_BYTES} bytes without content")
        elif answer.status:
            answer.wake()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self.shut()
        self.pool.lost(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._answer is not None:
            self._answer.wake()

    def _ended(self, cause: Exception | None) -> None:
        answer = self._answer
        if answer is None:
            self.shut()
        elif cause is None and answer.status and not _framed(answer.headers):
            answer.whole, self._keep = True, False  # a body without a length ends with the connection
            self._finish()
        else:
            what = f"closed the connection before the end of its answer{f' ({cause})' if cause else ''}."
            self.shut(LostError(self.pool.origin, self._phase(), what, unanswered=not self._seen))

    def _refuse(self, what: str) -> None:
        self.shut(ProtocolError(self.pool.origin, self._phase(), f"did not answer in good HTTP: {what}."))

    def unhold(self, answer: _Answer) -> None:
        """The reader has taken what was there: read on from the socket."""
        if self._held and self._answer is answer:
            self._resume()
            self._expect(self.pool.idle_s)  # loops look at timers before sockets, and what is there must count

    def _resume(self) -> None:
        if self._held and self._transport is not None:
            self._held = False
            self._transport.resume_reading()

    # What the parser finds, within `data_received`.

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.whole:
            raise ValueError("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer: nobody asked for it
        name = name.lower()
        if name in _CODINGS and value.strip().lower() != _CODINGS[name]:
            self._wrong = f"{name.decode()} {value[:40]!r}"
        answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        assert answer is not None
        if self._barren > MAX_HEAD_BYTES and sum(len(n) + len(v) + 4 for n, v in answer.headers) > MAX_HEAD_BYTES:
            self._wrong = f"a head of more than {MAX_HEAD_BYTES} bytes"
        if status >= 200:
            self._keep = self._parser.should_keep_alive()
            answer.status = 0 if self._wrong else status
            return
        self._interims += 1
        answer.headers.clear()
        if status not in (100, 102, 103) or self._interims > MAX_INTERIM:
            self._wrong = f"status {status:03d} as interim answer number {self._interims}"

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        assert answer is not None
        self._fed = True
        answer.pieces.append(body)
        answer.size += len(body)

    def on_message_complete(self) -> None:
        assert self._answer is not None
        self._answer.whole = self._answer.status != 0  # else it was an interim answer, or a wrong one

    # Time.

    def _expect(self, delay_s: float) -> None:
        """Move the deadline. The one timer of this socket runs on and looks when it rings: moving costs no timer."""
        self._allowed_s = delay_s
        self._due = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        now, answer = self._loop.time(), self._answer
        if answer is not None and answer.pieces:
            self._due = max(self._due, now + self.pool.idle_s)  # its reader is slow, not the server
        if now < self._due - EARLY_S:
            self._timer = self._loop.call_at(self._due, self._ring)
            return
        self._timer = None
        what = _LATE[self._phase()].format(s=self._allowed_s)
        self.shut(PhaseTimeoutError(self.pool.origin, self._phase(), what))

    def _phase(self) -> Phase:
        return "send" if self._writing else "idle" if self._begun else "first_byte"


_LATE: dict[Phase, str] = {
    "send": "took nothing more of the request for {s:g} s.",
    "first_byte": "sent nothing of its answer within {s:g} s.",
    "idle": "fell silent for {s:g} s in the middle of its answer.",
}


def _framed(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


class Pool:
    """Connections to one origin, the last used first.

    Args:
        connect_s: for a place in the pool and the connection together.
        first_byte_s: from the request sent to the first byte of the answer's body (servers of local models send
            the head at once and then think).
        idle_s: between two pieces of the body; and between two slices of a large request.
        max_open: sockets at a time; who comes later waits in line.
        max_idle: kept open for the next request.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        dial: Dialer,
        clock: Clock,
        tls: ssl.SSLContext | None,
        connect_s: float,
        first_byte_s: float,
        idle_s: float,
        max_open: int = 1000,
        max_idle: int = 256,
        high_water_bytes: int = 262_144,
    ) -> None:
        if (origin.scheme == "https") != (tls is not None):
            raise ValueError(f"{origin}: a TLS context goes with https, and only with it")
        self.origin = origin
        self.first_byte_s, self.idle_s = first_byte_s, idle_s
        self.high_water_bytes = high_water_bytes
        self.live: set[_Connection] = set()
        self._dial, self._clock, self._tls = dial, clock, tls
        self._connect_s, self._max_open, self._max_idle = connect_s, max_open, max_idle
        self._open = 0  # places taken: connecting, busy or idle
        self._idle: dict[_Connection, None] = {}  # the last in is the first out
        self._line: OrderedDict[asyncio.Future[_Connection | None], None] = OrderedDict()
        self._outbox: list[tuple[asyncio.Transport, bytes]] = []
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    async def send(self, head: bytes, body: bytes = b"") -> Reply:
        """Send a request and give its answer when the head is here.

        Args:
            head: request line and headers up to and with the blank line; `content-length` is the caller's to set.
        Raises:
            HttpError: there is no answer; says the phase.
        """
        connection = self._idle.popitem()[0] if self._idle else await self._connect()
        reused = connection.used
        try:
            return await connection.ask(head, body)
        except LostError as lost:
            if not (reused and lost.unanswered):
                raise
        # The server closed it as idle while our request was on its way (RFC 9112, 9.5): once more, on another
        # connection. Those that lay idle for longer than this one go too; so it is a new one, or, where the pool
        # is full, one that has answered this moment.
        for idle in list(self._idle):
            idle.shut()
        connection = await self._connect()
        return await connection.ask(head, body)

    async def aclose(self) -> None:
        """Close every connection, those in use too, and wait until they are closed. May be called twice."""
        self._closed = True
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(self._shut_error())
        for connection in list(self.live):
            connection.shut(self._shut_error())
        while self.live:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def write_soon(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send at the end of this turn of the loop, with all others: a write wakes its receiver, which costs more
        than the write, and receivers that are awake are woken for nothing."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append((transport, data))

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        for transport, data in outbox:
            if not transport.is_closing():  # its caller may have left in this same turn
                transport.write(data)

    async def _connect(self) -> _Connection:
        """Take a place, in line if need be, and connect; or take over a connection that comes free."""
        turn = self._open < self._max_open and not self._closed
        try:
            async with asyncio.timeout(self._connect_s):
                if turn:
                    self._open += 1
                elif (handed := await self._wait_in_line()) is not None:
                    return handed
                turn = True
                return await self._new()
        except TimeoutError as error:
            what = "accepted no connection" if turn else f"kept all {self._max_open} connections busy"
            raise PhaseTimeoutError(self.origin, "connect", f"{what} for {self._connect_s:g} s.") from error

    async def _wait_in_line(self) -> _Connection | None:
        if self._closed:
            raise self._shut_error()
        waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._line[waiter] = None
        try:
            return await waiter
        except asyncio.CancelledError:
            self._line.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Our turn came in the same step as the cancel: the next in line must have it, or nobody would.
                handed = waiter.result()
                self._free() if handed is None else self.take_back(handed)
            raise

    async def _new(self) -> _Connection:
        """Dial, in a place that is already ours."""
        connection, began_ns = _Connection(self), self._clock.mono_ns()
        try:
            await self._dial(lambda: connection, self.origin.host, self.origin.port, tls=self._tls)
        except OSError as error:
            connection.shut()
            raise ConnectError(self.origin, "connect", f"cannot be connected to: {error}.") from error
        except BaseException:
            connection.shut()
            raise
        connection.connect_ns = max(1, self._clock.mono_ns() - began_ns)
        if self._closed:
            connection.shut()
            raise self._shut_error()
        return connection

    # For its connections.

    def take_back(self, connection: _Connection) -> None:
        """A connection is ready for its next request: the first in line gets it, or it is kept."""
        if connection.gone:
            return
        if waiter := self._next_in_line():
            waiter.set_result(connection)
        elif len(self._idle) < self._max_idle:
            self._idle[connection] = None
        else:
            connection.shut()

    def forget(self, connection: _Connection) -> None:
        """A connection is being closed: its place is free."""
        self._idle.pop(connection, None)
        self._free()

    def lost(self, connection: _Connection) -> None:
        """The socket of a connection is closed."""
        self.live.discard(connection)
        if self._emptied is not None and not self.live:
            self._emptied.set_result(None)
            self._emptied = None

    # The line.

    def _free(self) -> None:
        if waiter := self._next_in_line():
            waiter.set_result(None)  # the place changes hands, so the count stays
        else:
            self._open -= 1

    def _next_in_line(self) -> asyncio.Future[_Connection | None] | None:
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():
                return waiter
        return None

    def _shut_error(self) -> ConnectError:
        return ConnectError(self.origin, "connect", "is not called any more: its connection pool is closed.")


async def dial(
    make: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """Connect over TCP, with TLS if a context is given: the `Dialer` of a running server."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(make, host, port, ssl=tls)
    sock = transport.get_extra_info("socket")
    if sock is not None:  # asyncio and uvloop set it too; a proxy's transport may not
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport, protocol


def tls_context() -> ssl.SSLContext:
    """Make the context for https: the system's certificates. Takes about 20 ms, so make one per process."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
