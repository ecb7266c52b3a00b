"""HTTP/2 to one origin: many requests at a time on few connections. Only where a target says `http = "2"`.

Not here: one connection (`http2_connection.py`), what is asked and what the answer means (`remote.py`). Needs the
extra `trivet[http2]`; nothing else imports this module.

    Streams.send  ->  Connection.ask  ->  Reply.read ... read  ->  the stream is over; the connection stays

Invariants: who waits for a place is served in turn, and nobody's turn is lost when another leaves the line; at most one
connection is being opened for those who wait, and it is given up when nobody waits any more.
"""

import asyncio
import ssl
from collections import OrderedDict
from typing import NamedTuple

from trivet.seams import Clock, Connections, Dialer
from trivet.upstream.http2_connection import Connection
from trivet.upstream.reply import (
    ConnectError,
    HttpError,
    LostError,
    Origin,
    PhaseTimeoutError,
    Reply,
    UnservedError,
)
from trivet.upstream.way import Counts


class _Place(NamedTuple):
    """A place on a connection, reserved."""

    connection: Connection
    connect_ns: int
    """What it waited for the connection; 0 where that was open."""


class Streams:
    """Connections to one origin, the first with room first.

    Args:
        connect_s: for a place, connecting included.
        first_byte_s: from the request sent to the first byte of the answer's body.
        idle_s: between two pieces of the body; and between two slices of a large request.
        max_open: connections at a time; each takes as many requests as the server says, usually 100 or more.
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
        max_open: int = 16,
        high_water_bytes: int = 262_144,
    ) -> None:
        if (origin.scheme == "https") != (tls is not None):
            raise ValueError(f"{origin}: a TLS context goes with https, and only with it")
        self.origin = origin
        self.first_byte_s, self.idle_s = first_byte_s, idle_s
        self.high_water_bytes = high_water_bytes
        self.live: set[Connection] = set()
        self._dial, self._clock, self._tls = dial, clock, tls
        self._connect_s, self._max_open = connect_s, max_open
        self._taking: dict[Connection, None] = {}  # those that take new requests, the oldest first
        self._line: OrderedDict[asyncio.Future[_Place], None] = OrderedDict()
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None
        self._counts = Counts()

    async def send(self, head: bytes, body: bytes = b"") -> Reply:
        """Send a request and give its answer when the head is here.

        Raises:
            HttpError: there is no answer; says the phase.
        """
        place = await self._place()
        reused = place.connection.used
        try:
            return await self._ask(place, head, body)
        except LostError as lost:
            if not (isinstance(lost, UnservedError) or (reused and lost.unanswered)):
                raise
        # The server closed it as idle while our request was on its way, or says that it never looked at it: once more.
        self._counts.retried += 1
        return await self._ask(await self._place(), head, body)

    async def _ask(self, place: _Place, head: bytes, body: bytes) -> Reply:
        self._counts.reused += not place.connect_ns
        place.connection.reserved -= 1  # it is taken in this same step
        return await place.connection.ask(head, body, connect_ns=place.connect_ns)

    async def warm(self) -> None:
        """Open one more connection and leave it idle; nothing where no more may be. Raises HttpError."""
        if len(self._taking) >= self._max_open or self._closed:
            return
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._new()
        except TimeoutError as error:
            what = f"accepted no connection for {self._connect_s:g} s."
            raise PhaseTimeoutError(self.origin, "connect", what) from error
        connection.connect_ns = 0  # nobody waited for it
        self._taking[connection] = None
        connection.rest()

    def connections(self) -> Connections:
        """Say how many there are, and were."""
        idle = sum(not connection.busy for connection in self._taking)
        open_ = len(self.live) + (self._opening is not None)
        return self._counts.told(open=open_, idle=idle, waiting=len(self._line))

    async def aclose(self) -> None:
        """Close every connection, those in use too, and wait until they are closed. May be called twice."""
        self._closed = True
        self._fail_line(self._shut_error())
        if self._opening is not None:
            self._opening.cancel()
        for connection in list(self.live):
            connection.shut(self._shut_error())
        while self.live:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    # A place, and the line for it.

    async def _place(self) -> _Place:
        """Reserve a place on a connection, in line if need be."""
        if not self._line:
            for connection in self._taking:
                if connection.room() > 0:
                    connection.reserved += 1
                    return _Place(connection, 0)
        if self._closed:
            raise self._shut_error()
        waiter: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._line[waiter] = None
        self._open_if_needed()
        try:
            async with asyncio.timeout(self._connect_s):
                return await waiter
        except TimeoutError as error:
            self._leave(waiter)
            full = len(self._taking) >= self._max_open
            what = f"kept all {self._max_open} connections busy" if full else "accepted no connection"
            raise PhaseTimeoutError(self.origin, "connect", f"{what} for {self._connect_s:g} s.") from error
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: "asyncio.Future[_Place]") -> None:
        self._line.pop(waiter, None)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            # Our turn came in the same step as the cancel: the next in line must have it, or nobody would.
            connection = waiter.result().connection
            connection.reserved -= 1
            self.freed(connection)
            if not connection.busy and not connection.reserved:
                connection.rest()
        if not self._line and self._opening is not None:
            self._opening.cancel()

    def _open_if_needed(self) -> None:
        if self._line and self._opening is None and len(self._taking) < self._max_open and not self._closed:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)

    async def _open(self) -> None:
        connection = await self._new()
        waited_ns, connection.connect_ns = connection.connect_ns, 0
        self._taking[connection] = None
        self._seat(connection, waited_ns)
        if not connection.busy and not connection.reserved:
            connection.rest()  # those who waited have left in this moment

    def _opened(self, task: "asyncio.Task[None]") -> None:
        self._opening = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail_line(error)
        self._open_if_needed()  # who came while it was being given up

    def _fail_line(self, error: BaseException) -> None:
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(error)

    async def _new(self) -> Connection:
        """Dial, and see that HTTP/2 is spoken there."""
        connection, began_ns = Connection(self), self._clock.mono_ns()
        try:
            await self._dial(lambda: connection, self.origin.host, self.origin.port, tls=self._tls)
            spoken = connection.protocol_spoken()
            if spoken != "h2":
                raise ConnectError(self.origin, "connect", 'does not speak HTTP/2. Write http = "1.1" for this target.')
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

    def freed(self, connection: Connection) -> None:
        """A connection may have room: the first in line get it."""
        if connection in self._taking:
            self._seat(connection, 0)

    def _seat(self, connection: Connection, connect_ns: int) -> None:
        while self._line and connection.room() > 0:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.done():
                connection.reserved += 1
                waiter.set_result(_Place(connection, connect_ns))

    def forget(self, connection: Connection) -> None:
        """A connection takes nothing new."""
        self._taking.pop(connection, None)
        self._open_if_needed()

    def lost(self, connection: Connection) -> None:
        """The socket of a connection is closed."""
        self.live.discard(connection)
        if self._emptied is not None and not self.live:
            self._emptied.set_result(None)
            self._emptied = None

    def _shut_error(self) -> HttpError:
        return ConnectError(self.origin, "connect", "is not called any more: its connection pool is closed.")
