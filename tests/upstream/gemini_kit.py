"""A scripted server for languages that are not OpenAI's, on a real loopback port: it notes what it was asked, and
answers with the bytes that the test gives it. Gemini's own answers are made here too."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parents[1] / "wire" / "golden" / "gemini"
Json = dict[str, Any]


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Lower-case names."""
    body: Any


class Reply(NamedTuple):
    """What to answer."""

    pieces: Sequence[bytes]
    status: int = 200
    kind: str = "application/json"
    hang: bool = False
    """After the pieces: silence until the client leaves."""
    headers: Sequence[tuple[str, str]] = ()


Script = Callable[[Asked], Reply]


class Scripted:
    """The server, once it listens."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Asked] = []
        self.hung_up = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = await _asked(reader)
                self.requests.append(asked)
                reply = self.script(asked)
                head = [
                    f"HTTP/1.1 {reply.status} Scripted",
                    f"content-type: {reply.kind}",
                    "transfer-encoding: chunked",
                ]
                head += [f"{name}: {value}" for name, value in reply.headers]
                writer.write("\r\n".join([*head, "", ""]).encode())
                for piece in reply.pieces:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                if reply.hang:
                    if not await reader.read(1):
                        self.hung_up.set()
                    break
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        writer.close()


async def _asked(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = head[0].split(" ")
    return Asked(method, path, headers, json.loads(raw) if raw else None)


@asynccontextmanager
async def scripted(script: Script) -> AsyncGenerator[Scripted, None]:
    """Listen on a free port; every connection is closed at the end."""
    made = Scripted(script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 24)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await asyncio.sleep(0)  # connections whose other side is closed come to their end
        await server.wait_closed()


def golden(name: str) -> Reply:
    """Answer with a transcript, each event of a stream as a piece of its own."""
    raw = (GOLDEN / name).read_bytes()
    if name.endswith(".json"):
        return Reply([raw])
    return Reply([event + b"\r\n\r\n" for event in raw.split(b"\r\n\r\n") if event], kind="text/event-stream")


def failure(name: str, status: int, *headers: tuple[str, str]) -> Reply:
    """Answer with an error."""
    return Reply([(GOLDEN / name).read_bytes()], status=status, headers=headers)


def either(name: str, *, hang_after: int | None = None) -> Script:
    """Answer with `name` whole or as a stream, as it is asked for; `hang_after`: that many events, then silence."""

    def script(asked: Asked) -> Reply:
        if ":streamGenerateContent" not in asked.path:
            return golden(f"{name}.json")
        reply = golden(f"{name}.sse")
        return reply if hang_after is None else reply._replace(pieces=reply.pieces[:hang_after], hang=True)

    return script
