"""A small HTTP/1.1 server: the twin of `upstream/http.py`, written with the same care.

Not here: what is answered (`server/app.py`), how bytes are read as requests (`server/reader.py`) and answers framed
(`server/exchange.py`), signals, certificates and the socket (`server/run.py`), HTTP/2, web sockets, compression.

    Server  ->  _Connection  ->  Reader  ->  Exchange  ->  the app  ->  one write

Invariants:
- One exchange at a time on a socket. The next request is not parsed before the app has returned from the one before.
- What is kept in memory is bounded: of a head, of a body, of requests sent early, of an answer that is not taken.
- What is written to a client in one turn of the loop leaves in one write, and at the end of that turn with all others:
  a write wakes its client, which costs more than the write, and clients that are awake are woken for nothing.
- A client that leaves is told of in that same step (`Exchange.task`); an answer to nobody is dropped.
- No clock but the loop's (the Date line apart), no thread, no global state: it runs in virtual time too.

Source: RFC 9112.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, NamedTuple, cast

from trivet.errors import TrivetError
from trivet.server.exchange import LINES, Exchange, HttpExchange
from trivet.server.head import JSON, PRIVATE
from trivet.server.reader import BadHttpError, Reader
from trivet.wire.chat import error_body

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

_NEVER = float("inf")

App = Callable[[Exchange], Awaitable[None]]


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


class StoppingError(TrivetError):
    """The server stops, and this answer had not begun."""

    status, code, whose, retry_after_s = 503, "stopping", "operator", 1.0


class Server:
    """Serves an app on a listening socket, until it is stopped."""

    def __init__(self, app: App, *, times: Times = Times()) -> None:  # noqa: B008  # immutable
        self.app, self.times = app, times
        self.stopping = False
        self.live: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._emptied = asyncio.Event()
        self._date, self._date_due = b"", -1.0
        self._written: list[_Connection] = []  # in this turn of the loop

    async def start(self, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Answer connections from now on. The socket is ours to close."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=BACKLOG, ssl=tls)

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


class _Connection(asyncio.Protocol):
    """One socket. The reader's exchange is there from the end of a head to the app's return."""

    def __init__(self, server: Server) -> None:
        self.full = False  # the socket takes no more for now
        self._server, self._times = server, server.times
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(self)
        self._task: asyncio.Task[None] | None = None
        self._deaf = self._lost = False  # what comes is dropped; nothing comes any more
        self._early = bytearray()  # what came before its turn
        self._held = self._begun = False  # reading is paused; a part of a head is here
        self._out: list[bytes] = []  # written in this turn of the loop
        self._out_size = self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER

    # What the socket does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods and not the base class
        self._reader.client = _address(transport.get_extra_info("peername"))
        self._server.live.add(self)
        self._expect(self._times.head_s)
        if self._server.stopping:
            self.drop()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        early = self._reader.whole()
        used = 0 if early else self._reader.feed(data)
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
        if self._reader.exchange is not None:
            self._reader.exchange.leave()
        if self._task is None:
            self._server.forget(self)

    def pause_writing(self) -> None:
        self.full = True
        self._unsent = self._transport.get_write_buffer_size()
        if not self._deaf:
            self._expect(self._times.stall_s)

    def resume_writing(self) -> None:
        self.full = False
        exchange = self._reader.exchange
        if exchange is not None:
            self._await(exchange)
            exchange.drained()

    # One request after the other.

    def _go_on(self) -> None:
        """Act on what was parsed."""
        exchange = self._reader.exchange
        if self._reader.wrong is not None:
            self._refuse(self._reader.wrong)
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
                self._task = exchange.runner = self._loop.create_task(self._serve(exchange))

    async def _serve(self, exchange: HttpExchange) -> None:
        """Let the app answer. This is the edge where its defects end, so they are reported here."""
        try:
            try:
                await self._server.app(exchange)
            finally:
                exchange.task = None
            if not exchange.answered and not exchange.left:
                raise RuntimeError("the app returned before the end of its answer")
        except asyncio.CancelledError:
            self._fail(exchange, StoppingError("The server is being stopped. Ask again in a moment."))
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end in silence
            told = f"a defect of the app: {exchange.method} {exchange.path[:200]!r}"
            self._loop.call_exception_handler({"message": told, "exception": error})
            self._fail(exchange, TrivetError("A defect in Trivet: its log says more and is worth a report."))
        self._task = None
        if self._lost:
            self._reader.exchange = None
            self._server.forget(self)
        elif self._deaf:
            self._reader.exchange = None
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
        self._begun = False
        self._reader.next()
        self._expect(self._times.idle_s)
        self._unhold()
        if self._early:
            used = self._reader.feed(self._early)
            del self._early[:used]
            self._go_on()
            if len(self._early) > MAX_EARLY_BYTES:
                self._hold()

    # The end.

    def _fail(self, exchange: HttpExchange, error: TrivetError) -> None:
        if not exchange.answered and not exchange.left:
            self._refuse(error)

    def _refuse(self, error: TrivetError) -> None:
        """Answer with an error, and read no further; where another answer has begun, only breaking it off is left."""
        exchange = self._reader.exchange
        if exchange is not None and exchange.started:
            self.drop()
            return
        body = error_body(error)
        head = [LINES[error.status], self.date(), b"content-length: %d\r\n" % len(body), JSON, PRIVATE]
        head.append(b"x-trivet-fault: %b\r\n" % error.whose.encode())
        if error.retry_after_s is not None:
            head.append(b"retry-after: %d\r\n" % error.retry_after_s)
        silent = exchange is not None and exchange.method == "HEAD"
        self._out += [*head, b"connection: close\r\n\r\n", b"" if silent else body]
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
        reader = self._reader
        if reader.exchange is not None:
            reader.exchange.leave()
        if self._task is None:
            reader.exchange = None

    def retire(self) -> None:
        """Take no further request."""
        if self._task is None:
            self._close(linger=False)
        elif self._reader.exchange is not None:
            self._reader.exchange.keep = False

    def cut(self) -> None:
        """Cancel the request that is running."""
        if self._task is not None:
            self._task.cancel()

    # For its exchange.

    def date(self) -> bytes:
        """Give the Date line."""
        return self._server.date(self._loop.time())

    def may_keep(self, exchange: HttpExchange) -> bool:
        """Say whether a further request can be read after this one: its body is here, or is a short rest."""
        short = 0 < self._reader.left <= MAX_DROPPED_BYTES and not exchange.expects
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

    def taken(self, exchange: HttpExchange) -> None:
        """The app has what was here of the body: read on."""
        if self._held:
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

    # Time.

    def _await(self, exchange: HttpExchange) -> None:
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
        exchange, unsent = self._reader.exchange, self._transport.get_write_buffer_size()
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


def _address(given: Any) -> tuple[str, int] | None:
    """Give host and port of an IP address; a Unix socket has none."""
    return (given[0], given[1]) if isinstance(given, tuple) else None
