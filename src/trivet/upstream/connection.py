"""One connection of our HTTP/1.1 client: an exchange at a time, its answer read piece by piece.

Not here: which connection is asked, and how many there are (`upstream/http.py`); what its caller
holds (`upstream/reply.py`).

    Connection.ask  ->  Reply.read ... read  ->  the connection goes back to its pool

Invariants:
- One exchange at a time on a socket. It is used again only when its last answer ended cleanly, by keep-alive, with
  nothing said after it; any other end closes it at once.
- A caller that is cancelled, or that closes a Reply early, closes the socket in that same step.
- What waits in memory of one answer is at most `high_water_bytes` and one read of the socket.

Source: RFC 9112; llhttp (strict, through httptools) reads the bytes.
"""

import asyncio
from typing import Protocol, cast

import httptools

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
)

SLICE_BYTES = 262_144
"""Of a request body handed to the socket at a time; smaller bodies go out in one write with their head."""
_CODINGS = {b"transfer-encoding": b"chunked", b"content-encoding": b"identity"}

_KNOWN_CODINGS = frozenset(b"gzip x-gzip deflate br zstd compress identity chunked".split())


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
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._allowed_s = 0.0
        self._full = self._held = False
        self._begun = self._writing = False  # of the exchange; a connection opened ahead has had none

    @property
    def origin(self) -> Origin:
        """Whom it goes to."""
        return self.pool.origin

    # The exchange, as the pool drives it.

    async def ask(self, head: bytes, body: bytes) -> Reply:
        """Send one request and wait for the head of its answer."""
        if self.gone or self._transport is None:
            raise LostError(self.pool.origin, "send", "closed the connection.", unanswered=True)
        answer = self._answer = Answer()
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
        return Reply(answer, self, connect_ns=connect_ns)

    async def _write(self, transport: asyncio.Transport, answer: Answer, head: bytes, body: bytes) -> None:
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

    def abandon(self, answer: Answer) -> None:
        """Close the socket if this answer is still on it; another's exchange may be by now."""
        if self._answer is answer:
            self.shut()

    def leave(self, answer: Answer) -> None:
        """Wait for the end of this answer on nobody's behalf."""
        if self._answer is not answer:
            return
        if answer.pieces:  # not the last word, then
            self.shut()
            return
        rest = self._answer = Answer()
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
            self.rest()
        else:
            self.shut()

    def rest(self) -> None:
        """Wait for the next request, for as long as an idle connection is kept."""
        if self.gone:
            return
        self.used = True
        self._expect(KEEP_S)
        self.pool.take_back(self)

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

    def unhold(self, answer: Answer) -> None:
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
        what = LATE[self._phase()].format(s=self._allowed_s)
        self.shut(PhaseTimeoutError(self.pool.origin, self._phase(), what))

    def _phase(self) -> Phase:
        return "send" if self._writing else "idle" if self._begun else "first_byte"


def _framed(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
