"""One request and its answer, as an endpoint sees them: read the body, then answer whole or piece by piece.

`Exchange` is what an endpoint may use; `HttpExchange` is one on a connection, and `inprocess.py` has one without any.
Not here: the socket and the parser (`server/http.py`), what is answered (`server/app.py`), what a head says
(`server/head.py`).
Invariants: how an answer is framed is decided here alone; whoever still holds an exchange after its end can do no harm
with it; an answer to a client that has left is dropped; an endpoint waits while its client takes nothing.

Source: RFC 9112; RFC 9110, section 15, for the answers that have no body.
"""

import asyncio
from http import HTTPStatus
from typing import Protocol

from trivet.errors import TooLargeError

Headers = list[tuple[bytes, bytes]]

LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_SILENT = frozenset({204, 304})


class ClientGoneError(Exception):
    """The client left while its request was still being read."""


class Exchange(Protocol):
    """One request and its answer."""

    method: str
    path: str
    headers: Headers
    """In order, names in lower case."""
    started: bool
    """The head of the answer is out."""
    left: bool
    """The client is gone."""
    runner: "asyncio.Task[None] | None"
    """The task that answers it, where the server knows: asking asyncio costs a microsecond."""
    task: "asyncio.Task[None] | None"
    """Set by who wants it cancelled when the client leaves, in that same step; until that is no news any more."""
    cancelled: bool
    """It was."""

    async def body(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            TooLargeError: it is larger than `limit` bytes; the rest is not read.
            ClientGoneError: the connection ended first.
        """
        ...

    async def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer. `head` is lines of headers (`server/head.py`), without those about its framing."""
        ...

    async def begin(self, status: int, head: bytes, piece: bytes) -> None:
        """Send the head of an answer whose length is not known yet, and the first piece of its body."""
        ...

    async def send(self, piece: bytes) -> None:
        """Send a further piece."""
        ...

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece, and that it was the last."""
        ...


class Line(Protocol):
    """The connection that an exchange is on."""

    full: bool
    """The socket takes no more for now."""

    def write(self, parts: list[bytes], *, size: int) -> None:
        """Send, of which `size` bytes are of a body."""
        ...

    def date(self) -> bytes:
        """Give the Date line."""
        ...

    def may_keep(self, exchange: "HttpExchange") -> bool:
        """Say whether a further request can be read after this one."""
        ...

    def taken(self, exchange: "HttpExchange") -> None:
        """What was here of the body is in other hands: read on."""
        ...


class HttpExchange:
    """An exchange on a connection that speaks HTTP/1.1."""

    # What most requests never set stands on the class.
    size = 0
    whole = False  # the body is all here
    started = answered = left = cancelled = False  # the answer's head, its end; the client
    reader: "asyncio.Future[None] | None" = None
    writer: "asyncio.Future[None] | None" = None
    runner: "asyncio.Task[None] | None" = None
    task: "asyncio.Task[None] | None" = None
    path = query = ""
    client: tuple[str, int] | None = None
    _chunked = _silent = False

    def __init__(self, line: Line, method: str, *, keep: bool, old: bool, expects: bool) -> None:
        self._line, self.method = line, method
        self.headers: Headers = []
        self.keep, self.last = keep, not keep  # whether another may follow; whether the client wants none
        self.old, self.expects = old, expects  # HTTP/1.0; holds its body back for a "100 Continue"
        self.pieces: list[bytes] = []  # of the body, not asked for yet

    # The request.

    async def body(self, limit: int) -> bytes:
        """Read the whole body: see `Exchange`."""
        if self.whole and len(self.pieces) == 1 and self.size <= limit and not (self.left or self.answered):
            return self._take()  # nearly always: it came in one piece with its head
        parts: list[bytes] = []
        size = 0
        while True:
            whole, piece = self.whole, await self.read()
            size += len(piece)
            if size > limit:
                raise TooLargeError(limit)
            if whole:
                return b"".join([*parts, piece]) if parts else piece
            parts.append(piece)

    async def read(self) -> bytes:
        """Give what is here of the body, waiting if that is nothing; `b""` at its end. Raises ClientGoneError."""
        while True:
            if self.left or self.answered:
                raise ClientGoneError
            if self.pieces:
                piece = self._take()
                if not self.whole:
                    self._line.taken(self)
                return piece
            if self.whole:
                return b""
            if self.expects and not self.started:
                self.expects = False
                self._line.write([b"HTTP/1.1 100 Continue\r\n\r\n"], size=0)
            if self.reader is not None and not self.reader.done():
                raise RuntimeError("two tasks read one request")
            self.reader = asyncio.get_running_loop().create_future()
            await self.reader

    def _take(self) -> bytes:
        piece = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        self.size = 0
        return piece

    # The answer.

    async def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer."""
        if self.left:
            return
        parts = self._open(status, head, length=len(body))
        if not self._silent:
            parts.append(body)
        self.answered = True
        self._line.write(parts, size=len(body))
        if self._line.full:
            await self._until_taken()

    async def begin(self, status: int, head: bytes, piece: bytes) -> None:
        """Send the head and the first piece."""
        if self.left:
            return
        parts = self._open(status, head, length=None)
        self._line.write(parts + self._framed(piece), size=len(piece))
        if self._line.full:
            await self._until_taken()

    async def send(self, piece: bytes) -> None:
        """Send a further piece."""
        if self.left:
            return
        if not self.started or self.answered:
            raise RuntimeError("a piece of an answer that has not begun, or is over")
        self._line.write(self._framed(piece), size=len(piece))
        if self._line.full:
            await self._until_taken()

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece, and that it was the last."""
        if self.left:
            return
        if not self.started or self.answered:
            raise RuntimeError("the end of an answer that has not begun, or is over")
        self.answered = True
        parts = self._framed(piece)
        if self._chunked:
            parts.append(b"0\r\n\r\n")
        self._line.write(parts, size=len(piece))
        if self._line.full:
            await self._until_taken()

    def _open(self, status: int, head: bytes, *, length: int | None) -> list[bytes]:
        """Make the head of the answer, with what says where it ends and how the connection goes on."""
        if self.started:
            raise RuntimeError("a second answer to one request")
        self.started = True
        self._silent = status in _SILENT or self.method == "HEAD"
        parts = [LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._line.date(), head]
        if length is not None and status not in _SILENT:
            parts.append(b"content-length: %d\r\n" % length)
        elif not self._silent and not self.old:
            self._chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        ends = length is not None or self._chunked or self._silent
        self.keep = self.keep and ends and self._line.may_keep(self)
        if not self.keep:
            parts.append(b"connection: close\r\n\r\n")
        elif self.old:
            parts.append(b"connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return parts

    def _framed(self, piece: bytes) -> list[bytes]:
        if not piece or self._silent:
            return []
        return [b"%x\r\n" % len(piece), piece, b"\r\n"] if self._chunked else [piece]

    async def _until_taken(self) -> None:
        while self._line.full and not self.left:
            self.writer = asyncio.get_running_loop().create_future()
            await self.writer

    # For its connection.

    def leave(self) -> None:
        """The client is gone: tell all who wait."""
        self.left = True
        self.wake()
        self.drained()
        task, self.task = self.task, None
        if task is not None and not self.answered:
            self.cancelled = True
            task.cancel()

    def wake(self) -> None:
        """Let the reader look again."""
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)

    def drained(self) -> None:
        """Let the writer look again."""
        if self.writer is not None and not self.writer.done():
            self.writer.set_result(None)
