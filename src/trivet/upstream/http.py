"""A small pooled HTTP/1.1 client: the largest CPU cost of a gateway, so it is written with care for it.

Not here: one connection (`upstream/connection.py`), what is asked and what the answer means (`upstream/remote.py`),
proxies (`upstream/proxy.py`), HTTP/2 (`upstream/http2.py`), redirects, cookies, decompression (ask for
`accept-encoding: identity`; anything else that comes is refused).

    Pool.send  ->  Connection.ask  ->  Reply.read ... read  ->  the connection is back in the pool

Invariants: a connection is either asked, idle or closed, and counted once; who waits for one is served in turn, and
nobody's turn is lost when another leaves the line. No clock but the loop's and the one passed in, no thread, no global
state: it runs in virtual time too.
"""

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable

from trivet.seams import Clock, Connections, Dialer
from trivet.upstream.connection import Connection
from trivet.upstream.reply import ConnectError, LostError, Origin, PhaseTimeoutError, Reply
from trivet.upstream.way import Counts

MOST_OPEN = 10_000
"""Connections to one target: more than any has slots, and few enough that one that hangs does not use up all files."""


class Pool:
    """Connections to one origin, the last used first.

    Args:
        connect_s: for a place in the pool and the connection together.
        first_byte_s: from the request sent to the first byte of the answer's body (servers of local models send
            the head at once and then think).
        idle_s: between two pieces of the body; and between two slices of a large request.
        max_open: sockets at a time, `MOST_OPEN` if not given; who comes later waits in line.
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
        max_open: int | None = None,
        max_idle: int = 256,
        high_water_bytes: int = 262_144,
    ) -> None:
        if (origin.scheme == "https") != (tls is not None):
            raise ValueError(f"{origin}: a TLS context goes with https, and only with it")
        self.origin = origin
        self.first_byte_s, self.idle_s = first_byte_s, idle_s
        self.high_water_bytes = high_water_bytes
        self.live: set[Connection] = set()
        self._dial, self._clock, self._tls = dial, clock, tls
        self._connect_s, self._max_idle = connect_s, max_idle
        self._max_open = MOST_OPEN if max_open is None else max_open
        self._open = 0  # places taken: connecting, busy or idle
        self._idle: dict[Connection, None] = {}  # the last in is the first out
        self._line: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._outbox: list[tuple[asyncio.Transport, bytes]] = []
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None
        self._counts = Counts()

    async def send(self, head: bytes, body: bytes = b"") -> Reply:
        """Send a request and give its answer when the head is here.

        Args:
            head: request line and headers up to and with the blank line; `content-length` is the caller's to set.
        Raises:
            HttpError: there is no answer; says the phase.
        """
        connection = self._idle.popitem()[0] if self._idle else await self._connect()
        reused = connection.used
        self._counts.reused += reused
        try:
            return await connection.ask(head, body)
        except LostError as lost:
            if not (reused and lost.unanswered):
                raise
        # The server closed it as idle while our request was on its way (RFC 9112, 9.5): once more, on another
        # connection. Those that lay idle for longer than this one go too; so it is a new one, or, where the pool
        # is full, one that has answered this moment.
        self._counts.retried += 1
        for idle in list(self._idle):
            idle.shut()
        connection = await self._connect()
        self._counts.reused += connection.used
        return await connection.ask(head, body)

    async def warm(self) -> None:
        """Open one more connection and leave it idle; nothing where the pool is full. Raises HttpError."""
        if self._open >= self._max_open or self._closed:
            return
        self._open += 1
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._new()
        except TimeoutError as error:
            what = f"accepted no connection for {self._connect_s:g} s."
            raise PhaseTimeoutError(self.origin, "connect", what) from error
        connection.connect_ns = 0  # nobody waited for it
        connection.rest()

    def connections(self) -> Connections:
        """Say how many there are, and were."""
        return self._counts.told(open=self._open, idle=len(self._idle), waiting=len(self._line))

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

    async def _connect(self) -> Connection:
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

    async def _wait_in_line(self) -> Connection | None:
        if self._closed:
            raise self._shut_error()
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
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

    async def _new(self) -> Connection:
        """Dial, in a place that is already ours."""
        connection, began_ns = Connection(self), self._clock.mono_ns()
        try:
            await self._dial(lambda: connection, self.origin.host, self.origin.port, tls=self._tls)
        except OSError as error:
            connection.shut()
            raise ConnectError(self.origin, "connect", f"cannot be connected to: {error}.") from error
        except BaseException:
            connection.shut()
            raise
        connection.connect_ns = max(1, self._clock.mono_ns() - began_ns)
        self._counts.connected(connection.connect_ns)
        if self._closed:
            connection.shut()
            raise self._shut_error()
        return connection

    # For its connections.

    def take_back(self, connection: Connection) -> None:
        """A connection is ready for its next request: the first in line gets it, or it is kept."""
        if connection.gone:
            return
        if waiter := self._next_in_line():
            waiter.set_result(connection)
        elif len(self._idle) < self._max_idle:
            self._idle[connection] = None
        else:
            connection.shut()

    def forget(self, connection: Connection) -> None:
        """A connection is being closed: its place is free."""
        self._idle.pop(connection, None)
        self._free()

    def lost(self, connection: Connection) -> None:
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

    def _next_in_line(self) -> asyncio.Future[Connection | None] | None:
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
