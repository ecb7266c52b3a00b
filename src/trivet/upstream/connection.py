"""One connection of our HTTP/1.1 client: an exchange at a time, its answer read piece by piece.

Not here: which connection is asked, and how many there are (`upstream/http.py`).

    Connection.ask  ->  Reply.read ... read  ->  the connection goes back to its pool

Invariants:
- One exchange at a time on a socket. It is used again only when its last answer ended cleanly, by keep-alive, with
  nothing said after it; any other end closes it at once.
- A caller that is cancelled, or that closes a Reply early, closes the socket in that same step.
- What waits in memory of one answer is at most `high_water_bytes` and one read of the socket.

Source: RFC 9112; llhttp (strict, through httptools) reads the bytes.
"""

import asyncio
from typing import Literal, NamedTuple, Protocol, cast

import httptools

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

_KNOWN_CODINGS = frozenset(b"gzip x-gzip deflate br zstd compress identity chunked".split())


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


class Owner(Protocol):
    """The pool that a connection belongs to."""

    origin: Origin
    first_byte_s: float
    idle_s: float
    high_water_bytes: int
    live: "set[Connection]"
    """Those with a socket."""

    def write_soon(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send at the end of this turn of the loop."""
        ...

    def take_back(self, connection: "Connection") -> None:
        """It is ready for its next request."""
        ...

    def forget(self, connection: "Connection") -> None:
        """It is being closed: its place is free."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Its socket is closed."""
        ...


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

    def __init__(self, answer: _Answer, connection: "Connection", connect_ns: int) -> None:
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


class Connection(asyncio.Protocol):
    """One socket, and the parser's callbacks. `_answer` is set while an exchange is on, and belongs to it alone."""

    def __init__(self, pool: "Owner") -> None:
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
            coding = value.strip().lower()
            # Not as it came: it may be what we sent, with a key in it, and cut short it would not be known for one.
            self._wrong = f"{name.decode()} {coding.decode() if coding in _KNOWN_CODINGS else '(none that is known)'}"
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
