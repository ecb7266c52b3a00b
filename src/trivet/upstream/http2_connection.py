"""One connection of HTTP/2: many exchanges at a time, each on a stream of its own.

Not here: which connection is asked, and how many there are (`http2.py`); what its caller holds (`reply.py`).

    Connection.ask  ->  Reply.read ... read  ->  the stream is over; the connection stays

Invariants:
- A caller that is cancelled, or that closes a Reply early, resets its stream in that same step, and no other.
- What waits in memory of one answer is at most `high_water_bytes`: that is its window, and it opens as the answer is
  read. The window of the connection opens as bytes come, so that a slow reader does not stop the others.
- A stream that the server says it never looked at (REFUSED_STREAM, GOAWAY) is an UnservedError.

Source: RFC 9113; h2 has the frames, the header compression and the states. httpx2, which is over h2 too, does not tell
the server when a caller leaves, and the bytes that still come then use up its connection's window (2.16).
"""

import asyncio
from typing import Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import FrameTooLargeError, H2Error, NoAvailableStreamIDError
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple

from trivet.upstream.reply import (
    EARLY_S,
    KEEP_S,
    LATE,
    LINGER_S,
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    Answer,
    HttpError,
    LostError,
    Origin,
    Phase,
    PhaseTimeoutError,
    ProtocolError,
    Reply,
    UnservedError,
)

WINDOW_BYTES = 1_048_576
"""Of the connection: what may be on its way to us at a time, over all streams. 30 ms away that is 280 Mbit/s."""
USUAL_STREAMS = 100
"""At a time, until the server says how many it takes: the least that it should (RFC 9113, 6.5.2)."""
MOST_STREAMS = 1000
"""At a time on one connection, for servers that set no limit."""
MAX_BACKLOG_BYTES = 1_048_576
"""Of answers to the server's pings and settings that it does not take: more is an attack."""

_OF_HTTP1 = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection"})
"""HTTP/2 says these otherwise, or not at all (RFC 9113, 8.2.2)."""
_KEYS = frozenset({b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key", b"cookie"})
"""Never put into the compressor's table, where a guess at them could be measured (RFC 7541, 7.1)."""
_GOAWAY = 7
_FRAME_HEAD_BYTES = 9


class Owner(Protocol):
    """The pool that a connection belongs to."""

    origin: Origin
    first_byte_s: float
    idle_s: float
    high_water_bytes: int
    live: "set[Connection]"
    """Those with a socket."""

    def freed(self, connection: "Connection") -> None:
        """It may have room for another stream."""
        ...

    def forget(self, connection: "Connection") -> None:
        """It takes no new streams any more."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Its socket is closed."""
        ...


class Exchange:
    """One stream, which is the Carrier of its Reply."""

    __slots__ = (
        "_connection", "_due", "_timer", "allowed_s", "answer", "begun", "heard", "id", "interims", "owed", "writing",
    )  # fmt: skip

    def __init__(self, connection: "Connection", id: int) -> None:  # noqa: A002  # as HTTP/2 calls it
        self.id, self.answer = id, Answer()
        self.begun = self.writing = False
        self.heard = connection.heard  # before it was sent
        self.interims = self.owed = 0  # owed: bytes of its window that the reader has not opened again
        self._connection = connection
        self._timer: asyncio.TimerHandle | None = None
        self._due = self.allowed_s = 0.0

    @property
    def origin(self) -> Origin:
        """Whom it goes to."""
        return self._connection.origin

    def unhold(self, answer: Answer) -> None:
        """Open the window again: the reader has taken what was there."""
        if self._connection.grant(self):
            self.expect(self._connection.pool.idle_s)

    def leave(self, answer: Answer) -> None:
        """Wait for the end of the stream for a moment."""
        if answer.whole or answer.error is not None:
            return
        if answer.pieces:  # not the last word, then
            self.abandon(answer)
            return
        answer.whole = answer.left = True
        self.expect(LINGER_S)

    def abandon(self, answer: Answer) -> None:
        """Reset the stream unless it is over."""
        if answer.left or not answer.whole:
            what = LostError(self.origin, "idle", "was hung up on by us.", unanswered=False)
            self._connection.end(self, what)

    # Time.

    def expect(self, delay_s: float) -> None:
        """Move the deadline. The one timer runs on and looks when it rings: moving costs no timer."""
        loop = asyncio.get_running_loop()
        self.allowed_s, self._due = delay_s, loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(self._due, self._ring)

    def stop_waiting(self) -> None:
        """Put the timer away."""
        if self._timer is not None:
            self._timer.cancel()

    def phase(self) -> Phase:
        """Say how far it is."""
        return "send" if self.writing else "idle" if self.begun else "first_byte"

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.answer.pieces:
            self._due = max(self._due, now + self._connection.pool.idle_s)  # its reader is slow, not the server
        if now < self._due - EARLY_S:
            self._timer = loop.call_at(self._due, self._ring)
            return
        self._timer = None
        phase = self.phase()
        what = LATE[phase].format(s=self.allowed_s)
        self._connection.late(self, PhaseTimeoutError(self.origin, phase, what))


class Connection(asyncio.Protocol):
    """One socket, and the exchanges on it."""

    def __init__(self, pool: Owner) -> None:
        self.pool = pool
        self.used = False  # it has answered, or lain open: it may have gone stale
        self.gone = False  # no new exchanges; those that are on may still come to their end
        self.connect_ns = 0
        self.heard = 0  # times that anything has come
        self.reserved = 0  # places promised to those who have not come for them yet
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._exchanges: dict[int, Exchange] = {}
        self._max_streams = USUAL_STREAMS
        self._closed = self._full = False
        self._unopened = 0  # bytes of the connection's window that have come and not been given back
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._held = b""
        self._left = 0  # bytes of the frame that is coming

    @property
    def origin(self) -> Origin:
        """Whom it goes to."""
        return self.pool.origin

    @property
    def busy(self) -> bool:
        """Whether anything is under way on it."""
        return bool(self._exchanges)

    def room(self) -> int:
        """Say how many more exchanges it takes."""
        return 0 if self.gone else self._max_streams - len(self._exchanges) - self.reserved

    # The exchange, as the pool drives it.

    async def ask(self, head: bytes, body: bytes, *, connect_ns: int) -> Reply:
        """Send one request and wait for the head of its answer."""
        exchange = self._begin(head, body)
        answer = exchange.answer
        try:
            if body:
                await self._write(exchange, body)
            if not answer.whole and answer.error is None:
                exchange.expect(self.pool.idle_s if exchange.begun else self.pool.first_byte_s)
            while not answer.status and answer.error is None:
                await answer.wait()
        except BaseException:
            exchange.abandon(answer)
            raise
        if not answer.status and answer.error is not None:
            raise answer.error
        return Reply(answer, exchange, connect_ns=connect_ns)

    def _begin(self, head: bytes, body: bytes) -> Exchange:
        if self.gone:
            raise UnservedError(self.origin, "closed the connection.")
        if len(self._exchanges) >= self._max_streams:  # it has said so since the place was reserved
            raise UnservedError(self.origin, "takes fewer streams than were asked of it.")
        try:
            exchange = Exchange(self, self._h2.get_next_available_stream_id())
        except NoAvailableStreamIDError as error:  # after 2^30 requests
            self.drain()
            raise UnservedError(self.origin, "has no number left for another stream on its connection.") from error
        try:
            self._h2.send_headers(exchange.id, _fields(head, self.origin), end_stream=not body)
        except H2Error as error:
            self.drain()
            raise ProtocolError(self.origin, "send", f"cannot be asked this in HTTP/2: {error}.") from error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._exchanges[exchange.id] = exchange
        self._flush()
        return exchange

    async def _write(self, exchange: Exchange, body: bytes) -> None:
        """Send a body as the server's windows and the socket take it; stop if the answer comes early."""
        exchange.writing, answer = True, exchange.answer
        view, at = memoryview(body), 0
        exchange.expect(self.pool.idle_s)
        while True:
            room = min(self._h2.local_flow_control_window(exchange.id), self._h2.max_outbound_frame_size)
            if room > 0 and not self._full:
                piece = view[at : at + room]
                at += len(piece)
                self._h2.send_data(exchange.id, bytes(piece), end_stream=at == len(body))
                self._flush()
                exchange.expect(self.pool.idle_s)
                if at == len(body):
                    exchange.writing = False
                    return
            else:
                await answer.wait()
            if answer.status or answer.error is not None:
                return

    def end(self, exchange: Exchange, error: HttpError | None = None, *, reset: bool = True) -> None:
        """Take an exchange off: with an error, or because its answer is whole. `reset`: the stream is not over."""
        if self._exchanges.pop(exchange.id, None) is None:
            return
        exchange.stop_waiting()
        answer = exchange.answer
        if error is not None:
            answer.error = error
        answer.wake()
        if reset and not self._closed:
            self._h2.reset_stream(exchange.id, ErrorCodes.CANCEL)
            self._flush()
        if self._exchanges or self._closed:
            self.pool.freed(self)
        elif self.gone:
            self.shut()
        else:
            self.rest()

    def rest(self) -> None:
        """Nothing is under way: wait for the next request, for as long as an idle connection is kept."""
        if self.gone:
            return
        self.used = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(KEEP_S, self._expire)
        self.pool.freed(self)

    def _expire(self) -> None:
        self._timer = None
        if not self._exchanges and not self.reserved:
            self.shut()

    def late(self, exchange: Exchange, error: PhaseTimeoutError) -> None:
        """End an exchange that took too long. If nothing at all came on this socket for half of that time, it may be a
        network that has forgotten it, and nobody else is sent there."""
        if not exchange.answer.left and self._heard_s < self._loop.time() - exchange.allowed_s / 2:
            self._retire()
        self.end(exchange, error)

    def grant(self, exchange: Exchange) -> bool:
        """Open the window of a stream by what its reader took; give whether that was much."""
        if exchange.owed * 2 < self.pool.high_water_bytes or exchange.id not in self._exchanges:
            return False
        self._h2.increment_flow_control_window(exchange.owed, exchange.id)
        exchange.owed = 0
        self._flush()
        return True

    def drain(self) -> None:
        """Take nothing new; close when the last exchange is over."""
        self._retire()
        if not self._exchanges:
            self.shut()

    def _retire(self) -> None:
        if not self.gone:
            self.gone = True
            self.pool.forget(self)

    def shut(self, error: HttpError | None = None) -> None:
        """Close the socket now, whatever is on its way, and leave the pool."""
        if self._closed:
            return
        self._closed = True
        self._retire()
        if self._timer is not None:
            self._timer.cancel()
        for exchange in list(self._exchanges.values()):
            lost = LostError(self.origin, exchange.phase(), "was hung up on by us.", unanswered=False)
            self.end(exchange, error or lost)
        if self._transport is not None:
            if not self._transport.is_closing():
                self._h2.close_connection()
                self._flush()
            self._transport.abort()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # What the socket does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods and not the base class
        self.pool.live.add(self)
        if self._closed:  # cancelled while it was being made
            self._transport.abort()
            return
        if self.protocol_spoken() != "h2":  # the pool says so
            return
        self._heard_s = self._loop.time()
        ours = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: self.pool.high_water_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
        }
        settings = self._h2.local_settings = Settings(client=True, initial_values=ours)
        del settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]  # for servers alone to say, and h2 says it by itself
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES - 65_535)
        self._flush()

    def protocol_spoken(self) -> str:
        """Say what TLS agreed on: "h2", or "" for nothing; without TLS it is "h2" by prior knowledge."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return "h2" if tls is None else tls.selected_alpn_protocol() or ""

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.heard += 1
        self._heard_s = self._loop.time()
        try:
            rest, goaways = self._without_goaways(data)
            for event in self._h2.receive_data(rest):
                self._take(event)
        except H2Error as error:
            self._flush()  # what h2 has to say about it
            self._break(f"did not answer in good HTTP/2: {error}")
            return
        for last, code in goaways:
            self._go_away(last, code)
        if self._unopened * 2 >= WINDOW_BYTES and not self._closed:
            self._h2.increment_flow_control_window(self._unopened)
            self._unopened = 0
        self._flush()
        backlog = self._transport.get_write_buffer_size() if self._full and self._transport is not None else 0
        if backlog > MAX_BACKLOG_BYTES:  # bodies wait while the socket is full
            self._break("asks for more acknowledgements than it takes")

    def _break(self, what: str) -> None:
        self._retire()
        for exchange in list(self._exchanges.values()):
            self.end(exchange, ProtocolError(self.origin, exchange.phase(), f"{what}."), reset=False)
        self.shut()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self.pool.lost(self)

    def _ended(self, cause: Exception | None) -> None:
        self._retire()
        what = f"closed the connection before the end of its answer{f' ({cause})' if cause else ''}."
        for exchange in list(self._exchanges.values()):
            # A server that said anything since was there when the request came: it may be at work on it.
            unanswered = not exchange.answer.status and exchange.heard == self.heard
            lost = LostError(self.origin, exchange.phase(), what, unanswered=unanswered)
            self.end(exchange, lost, reset=False)
        self.shut()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake_writers()

    def _wake_writers(self) -> None:
        for exchange in self._exchanges.values():
            if exchange.writing:
                exchange.answer.wake()

    # What the server says.

    def _take(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged():
                self._max_streams = min(self._h2.remote_settings.max_concurrent_streams, MOST_STREAMS)
                self._wake_writers()
                self.pool.freed(self)
            case WindowUpdated():
                self._wake_writers()
            case DataReceived():
                self._unopened += event.flow_controlled_length or 0
                if exchange := self._exchanges.get(event.stream_id or 0):
                    self._body(exchange, event.data or b"", event.flow_controlled_length or 0)
            case ResponseReceived() | InformationalResponseReceived():
                if exchange := self._exchanges.get(event.stream_id or 0):
                    self._head(exchange, event.headers or [])
            case StreamEnded():
                if exchange := self._exchanges.get(event.stream_id or 0):
                    exchange.answer.whole, exchange.answer.left = True, False
                    self.end(exchange, reset=exchange.writing)  # the rest of the request will never be sent
            case StreamReset():
                if exchange := self._exchanges.get(event.stream_id or 0):
                    self._was_reset(exchange, event.error_code)

    def _head(self, exchange: Exchange, headers: list[tuple[bytes, bytes]]) -> None:
        answer = exchange.answer
        status = next((int(value) for name, value in headers if name == b":status" and value.isdigit()), 0)
        if 100 <= status < 200:
            exchange.interims += 1
            if status == 101 or exchange.interims > MAX_INTERIM:
                self._refuse(exchange, f"status {status:03d} as interim answer number {exchange.interims}")
            return
        answer.headers.extend((bytes(name), bytes(value)) for name, value in headers if name[:1] != b":")
        coded = next((value for name, value in answer.headers if name == b"content-encoding"), b"identity")
        if status < 200:
            self._refuse(exchange, f"status {status:03d}")
        elif coded.strip().lower() != b"identity":
            self._refuse(exchange, f"content-encoding {coded[:40]!r}")
        else:
            answer.status = status
            answer.wake()

    def _body(self, exchange: Exchange, data: bytes, flow_bytes: int) -> None:
        answer = exchange.answer
        exchange.owed += flow_bytes
        if not data:  # an empty frame is no sign of life
            return
        if answer.left:
            exchange.abandon(answer)
            return
        exchange.begun = True
        answer.pieces.append(bytes(data))
        answer.size += len(data)
        if not exchange.writing:
            exchange.expect(self.pool.idle_s)
        answer.wake()

    def _was_reset(self, exchange: Exchange, code: int | None) -> None:
        answer, name = exchange.answer, _name(code)
        if code == ErrorCodes.REFUSED_STREAM and not answer.status:
            error: LostError = UnservedError(self.origin, "refused the stream.")
        else:
            what = f"ended the stream before the end of its answer ({name})."
            # It has looked at this one, so it is not asked again: that is for connections that were closed.
            error = LostError(self.origin, exchange.phase(), what, unanswered=False)
        self.end(exchange, error, reset=False)

    def _refuse(self, exchange: Exchange, what: str) -> None:
        words = f"did not answer in good HTTP/2: {what}."
        self.end(exchange, ProtocolError(self.origin, exchange.phase(), words))

    def _go_away(self, last: int, code: int) -> None:
        """The server takes nothing new: what it has not looked at can be asked elsewhere, the rest goes on."""
        self._retire()
        for exchange in list(self._exchanges.values()):
            if exchange.id > last:
                self.end(
                    exchange, UnservedError(self.origin, f"is closing the connection ({_name(code)})."), reset=False
                )
        self.drain()

    def _without_goaways(self, data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
        """Take GOAWAY frames out: h2 reads nothing after one, and servers go on with the streams that are open.

        Gives the other bytes, and of each GOAWAY the last stream that is served and why. Only the head of a frame, and
        a whole GOAWAY, are ever held back.
        """
        data, self._held = self._held + data, b""
        at, start, kept, found = self._left, 0, list[bytes](), list[tuple[int, int]]()
        while at + _FRAME_HEAD_BYTES <= len(data):
            size = int.from_bytes(data[at : at + 3])
            if size > self._h2.max_inbound_frame_size:  # h2 would wait for all of it before it says so
                raise FrameTooLargeError(f"a frame of {size} bytes")
            end = at + _FRAME_HEAD_BYTES + size
            if data[at + 3] == _GOAWAY:
                if end > len(data):
                    break
                kept.append(data[start:at])
                words = data[at + _FRAME_HEAD_BYTES : end]
                found.append((int.from_bytes(words[:4]) & 0x7FFF_FFFF, int.from_bytes(words[4:8])))
                start = end
            at = end
        if at < len(data):
            kept.append(data[start:at])
            self._left, self._held = 0, data[at:]
        else:
            kept.append(data[start:])
            self._left = at - len(data)
        return b"".join(kept), found


def _fields(head: bytes, origin: Origin) -> list[tuple[bytes, bytes]]:
    """Say a head of HTTP/1.1 in HTTP/2: the same names, values and order, but for what HTTP/2 says otherwise."""
    first, *lines = head[:-4].split(b"\r\n")
    method, path, _ = first.split(b" ")
    fields, authority = list[tuple[bytes, bytes]](), b""
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"host":
            authority = value
        elif name not in _OF_HTTP1:
            fields.append(NeverIndexedHeaderTuple(name, value) if name in _KEYS else (name, value))
    scheme = origin.scheme.encode()
    return [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path), *fields]


def _name(code: int | None) -> str:
    return ErrorCodes(code).name if code in set(ErrorCodes) else f"code {code}"
