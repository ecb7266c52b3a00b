"""A scripted server of Anthropic's Messages API on a real loopback port, and a provider for it.

It answers with transcripts as they are (tests/wire/golden/anthropic) and checks nothing; what it was asked is in
`requests`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from tests.wire import anthropic_kit as golden
from trivet.config import TargetSettings
from trivet.testing.house import kit
from trivet.upstream.anthropic import build
from trivet.upstream.remote import Remote

KEY = "sk-ant-canary-0123456789abcdef"


class Asked(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Any


class Answer(NamedTuple):
    """What to answer."""

    body: bytes
    status: int = 200
    streamed: bool = False
    hang_after: int | None = None
    """Events of a stream; then silence until the client leaves."""


Script = Callable[[Any], Answer]


def transcript(name: str, *, hang_after: int | None = None) -> Script:
    """Answer with a golden transcript, streamed or not as it is asked for."""

    def answer(body: Any) -> Answer:
        if body.get("stream"):
            return Answer(golden.stream(name), streamed=True, hang_after=hang_after)
        return Answer(golden.whole(name))

    return answer


def failure(name: str, status: int) -> Script:
    """Answer with a golden error."""
    return lambda body: Answer(golden.whole(name), status=status)


class Messages:
    """The server."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Asked] = []
        self.connections = 0
        self.hung_up = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0

    @property
    def url(self) -> str:
        """Without `/v1`, as an `anthropic` client wants it."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self.connections += 1
        try:
            while (asked := await _read(reader)) is not None:
                self.requests.append(asked)
                await self._answer(self.script(asked.body), reader, writer)
        except ConnectionError:
            self.hung_up.set()
        finally:
            writer.transport.abort()
            del self._open[task]

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = f"HTTP/1.1 {answer.status} Scripted\r\nrequest-id: req_011CScripted\r\n"
        if not answer.streamed:
            lines += f"content-type: application/json\r\ncontent-length: {len(answer.body)}\r\n\r\n"
            writer.write(lines.encode() + answer.body)
            return await writer.drain()
        writer.write((lines + "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").encode())
        for at, event in enumerate(answer.body.removesuffix(b"\n\n").split(b"\n\n")):
            if at == answer.hang_after:
                await writer.drain()
                assert await reader.read() == b""  # until the client leaves
                raise ConnectionResetError
            writer.write(b"%x\r\n%b\n\n\r\n" % (len(event) + 2, event))
        writer.write(b"0\r\n\r\n")
        return await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(first.split(" ")[1], headers, json.loads(body) if body else None)


@asynccontextmanager
async def provider_over(messages: Messages, *, path: str = "/v1", **settings: Any) -> AsyncGenerator[Remote, None]:
    """The provider for that server, with a key out of a file."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "key"
        place.write_text(KEY)
        place.chmod(0o600)
        async with messages:
            target = TargetSettings(
                provider="anthropic",
                base_url=messages.url + path,
                api_key=f"file:{place}",
                name="t",
                **{"model": "claude-opus-4-6"} | settings,
            )
            provider = build(target, kit(Path(folder)))
            try:
                yield provider
            finally:
                await provider.aclose()
