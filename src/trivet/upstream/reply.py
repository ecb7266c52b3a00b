"""An answer as it comes, whatever carries it: what a caller holds, and what can go wrong.

Not here: what carries it, HTTP/1.1 (`connection.py`) or HTTP/2 (`stream.py`), and who asks (`remote.py`).
Invariants: what came before an error is given before the error; after `close` nothing more is read.
"""

import asyncio
from typing import Literal, NamedTuple, Protocol

MAX_HEAD_BYTES = 65_536
"""Of one answer's head; also of bytes in a row that carry no content (interim answers, chunk extensions, trailers)."""
MAX_INTERIM = 8
"""1xx answers before the real one. Servers in use send one or two (100, 103)."""
KEEP_S = 60.0
"""An idle connection is closed after this: NATs forget a silent flow (Azure after 240 s) without telling us."""
EARLY_S = 0.001
"""Loops ring up to this early: uvloop counts in milliseconds."""
LINGER_S = 1.0
"""For the end of the framing after `finish`: it follows the last content by one write of the server, if at all."""

Phase = Literal["connect", "send", "first_byte", "idle"]


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
        unanswered: nothing had come on it since the request was sent.
    """

    def __init__(self, origin: Origin, phase: Phase, what: str, *, unanswered: bool) -> None:
        super().__init__(origin, phase, what)
        self.unanswered = unanswered


class UnservedError(LostError):
    """The server did nothing about this request: it can be sent again, whatever it was."""

    def __init__(self, origin: Origin, what: str) -> None:
        super().__init__(origin, "first_byte", what, unanswered=True)


LATE: dict[Phase, str] = {
    "send": "took nothing more of the request for {s:g} s.",
    "first_byte": "sent nothing of its answer within {s:g} s.",
    "idle": "fell silent for {s:g} s in the middle of its answer.",
}


class Carrier(Protocol):
    """What one exchange is on: a connection of HTTP/1.1, or a stream of HTTP/2."""

    @property
    def origin(self) -> Origin:
        """Whom it goes to."""
        ...

    def unhold(self, answer: "Answer") -> None:
        """The reader has taken what was there: let more come."""
        ...

    def leave(self, answer: "Answer") -> None:
        """The reader has all that he needs: wait for the end on nobody's behalf."""
        ...

    def abandon(self, answer: "Answer") -> None:
        """Nobody wants the rest: stop it now, if this answer is still on it."""
        ...


class Answer:
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

    def wait(self) -> "asyncio.Future[None]":
        """Give what to await until more is here."""
        assert self.waiter is None or self.waiter.done(), "two tasks read one answer"
        self.waiter = asyncio.get_running_loop().create_future()
        return self.waiter


class Reply:
    """An answer whose head is here. Its body comes by `read`; whoever has it must read it to the end or `close` it."""

    __slots__ = ("_answer", "_carrier", "connect_ns", "headers", "status")

    def __init__(self, answer: Answer, carrier: Carrier, *, connect_ns: int) -> None:
        self.status = answer.status
        self.headers = answer.headers
        """In order, names in lower case."""
        self.connect_ns = connect_ns
        """Name look-up, connect and TLS; 0 where an open connection was used again."""
        self._answer, self._carrier = answer, carrier

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
        return self._take()

    async def read_all(self, limit: int) -> bytes:
        """Give the whole body; one of more than `limit` bytes is a ProtocolError."""
        answer, pieces, size = self._answer, [], 0
        while answer.pieces or not answer.whole:
            piece = self._take() if answer.pieces else await self.read()
            size += len(piece)
            if size > limit:
                self.close()
                raise ProtocolError(self._carrier.origin, "idle", f"sent a body of more than {limit} bytes.")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self) -> bytes:
        """Give what is here, which is something."""
        answer = self._answer
        piece = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        answer.pieces.clear()
        answer.size = 0
        self._carrier.unhold(answer)
        return piece

    def finish(self) -> None:
        """Let go of a stream that has said its last word (`[DONE]`), without waiting for the end of its framing.

        Many servers send that in a packet of its own. If it comes soon, with no content before it, the connection is
        used again; if not, it is closed. `close` after this does nothing.
        """
        self._carrier.leave(self._answer)

    def close(self) -> None:
        """Let go: ends the exchange at once unless the whole answer has come. May be called at any time, twice too."""
        self._carrier.abandon(self._answer)
        self._answer.pieces.clear()
