"""Bytes on both sides of a gateway: a target that says any bytes, and a client that keeps what it got.

Not here: targets that behave (`trivet.testing.upstream`), what is asked and judged (the tests beside this).
Invariants: nothing is interpreted that a test may want to compare; every connection is closed when its block ends.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import httptools

Header = tuple[bytes, bytes]
RESET = "reset"
Step = bytes | float | str | None
"""Of what a target says: bytes in a write of their own; silence in seconds; None closes the connection, RESET resets
it."""


class Asked(NamedTuple):
    """A request, as the target got it."""

    line: bytes
    headers: list[Header]
    """In order, names in lower case."""
    body: bytes

    def header(self, name: bytes) -> bytes:
        """Give the last header of that name, or nothing."""
        return dict(self.headers).get(name, b"")


class Told(NamedTuple):
    """An answer, as the client got it."""

    status: int
    """0: the connection ended without one."""
    headers: list[Header]
    body: bytes
    whole: bool
    """It came to the end that its framing says."""

    def header(self, name: bytes) -> bytes:
        """Give the last header of that name, or nothing."""
        return dict(self.headers).get(name, b"")


class Target:
    """A target that says, to each request, the steps that `say` gives; then it reads the next request."""

    def __init__(self, say: Callable[[Asked], Sequence[Step] | Iterator[Step]]) -> None:
        self.say = say
        self.asked: list[Asked] = []
        self.open = 0
        self.connections = 0
        self.hang_ups = 0
        """Connections that were closed on it before it had said everything."""
        self.port = 0

    @property
    def base_url(self) -> str:
        """As a target's `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.open += 1
        self.connections += 1
        try:
            while (asked := await read_request(reader)) is not None:
                self.asked.append(asked)
                if not await self._play(self.say(asked), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hang_ups += 1
        finally:
            self.open -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _play(
        self, steps: Sequence[Step] | Iterator[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Say the steps, listening for a hang-up in every silence; False if the connection is over."""
        for step in steps:
            if step is None:
                return False
            if isinstance(step, str):
                assert step == RESET
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
                await asyncio.sleep(0)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(step):
                        if not await reader.read(1):
                            raise ConnectionResetError
        return True


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    """Read one request with a length; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head[:-4].split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return Asked(line, headers, await reader.readexactly(int(dict(headers).get(b"content-length", b"0"))))


@asynccontextmanager
async def listening(target: Target) -> AsyncGenerator[Target, None]:
    """Let a target listen on a free port until the block ends."""
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await target.answer(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=2**20)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Reading:
    """An answer being read by llhttp."""

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.body = bytearray()
        self.whole = False
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.parser.get_status_code() < 200:
            self.headers.clear()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = self.parser.get_status_code() >= 200


async def tell(url: str, data: bytes, *, within_s: float = 20.0) -> Told:
    """Send bytes on a connection of their own; give the first answer.

    Raises:
        TimeoutError: there is neither an answer nor an end: it hangs.
    """
    host, port = url.removeprefix("http://").split("/")[0].rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    reading, ended = _Reading(), False
    try:
        async with asyncio.timeout(within_s):
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
                while not reading.whole and (piece := await reader.read(65_536)):
                    reading.parser.feed_data(piece)
                ended = True
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    status = int(reading.parser.get_status_code()) if reading.headers or reading.whole else 0
    framed = {b"content-length", b"transfer-encoding"} & {name for name, _ in reading.headers}
    return Told(status, reading.headers, bytes(reading.body), reading.whole or (ended and bool(status) and not framed))


def request(path: str, body: bytes, headers: Sequence[Header] = ()) -> bytes:
    """Write a POST, headers in their order and spelling."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n" % path.encode()
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, lines, len(body), body)


def events(body: bytes) -> list[bytes]:
    """Read the data of each event of a stream, as a browser would (WHATWG HTML, 9.2.6)."""
    found: list[bytes] = []
    data: list[bytes] = []
    lines = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))
    for line in lines[:-1]:  # the last one has not ended
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            found.append(b"\n".join(data))
            data = []
    return found


def whole(body: bytes, *headers: Header, status: int = 200) -> bytes:
    """Write an answer with a length."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d Said\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines, len(body), body)


def chunks(pieces: Sequence[bytes]) -> list[bytes]:
    """Write pieces as chunks of HTTP, and their end."""
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]
