"""Both ways out against a server that shares no code with them: granian (Rust), over TLS, in a process of its own."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.upstream.http_kit import WAIT_S
from tests.upstream.tls_kit import Certificates
from trivet.config import Secret, TargetSettings, TargetTlsSettings
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.upstream.openai import remote
from trivet.upstream.remote import Remote

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

both = pytest.mark.parametrize("version", ["1.1", "2"])

APP = """
import asyncio
piece = b'data: {"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":%b}]}\\n\\n'
left = []
seen = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    headers = dict(scope["headers"])
    seen.append(scope["http_version"])
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    if scope["path"] == "/told/chat/completions":
        start["headers"] = [(b"content-type", b"application/json")]
        words = f"{scope['http_version']} {len(body)} {left} {headers[b'authorization'].decode()}"
        whole = b'{"choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}]}' % words.encode()
        await send(start)
        await send({"type": "http.response.body", "body": whole})
        return
    await send(start)
    endless = scope["path"] == "/endless/chat/completions"
    for i in range(10_000 if endless else 50):
        await send({"type": "http.response.body", "body": piece % (i, b"null"), "more_body": True})
        if endless:
            try:
                message = await asyncio.wait_for(receive(), 0.01)
                left.append(message["type"])
                return
            except asyncio.TimeoutError:
                pass
    await send({"type": "http.response.body", "body": piece % (50, b'"stop"') + b"data: [DONE]\\n\\n"})
"""


@asynccontextmanager
async def granian(folder: Path, certificates: Certificates) -> AsyncGenerator[int, None]:
    """The server; gives its port."""
    (folder / "served.py").write_text(APP)
    pem = certificates.server_pem.read_text()
    first = pem.index("-----BEGIN CERTIFICATE")
    (folder / "key.pem").write_text(pem[:first])
    (folder / "cert.pem").write_text(pem[first:])
    port = await _free_port()
    words = ["-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--no-ws"]
    words += ["--ssl-certificate", "cert.pem", "--ssl-keyfile", "key.pem", "--http", "auto", "served:app"]
    with (folder / "log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(WAIT_S * 60):
                if await _answers(port):
                    break
                await asyncio.sleep(0.05)
            yield port
        finally:
            server.terminate()
            await server.wait()


async def _free_port() -> int:
    listener = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port: int = listener.sockets[0].getsockname()[1]
    listener.close()
    return port


async def _answers(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        return True
    return False


@both
async def test_it_is_asked_streams_and_sees_a_caller_leave_in_its_own_version(
    version: Literal["1.1", "2"], certificates: Certificates, tmp_path: Path
) -> None:
    async with granian(tmp_path, certificates) as port:

        def target(path: str) -> Remote:
            settings = TargetSettings(
                provider="openai", model="m", name="t", http=version, tls=TargetTlsSettings(ca=str(certificates.ca))
            )
            base_url = f"https://127.0.0.1:{port}/{path}"
            return remote(settings, kit(tmp_path), base_url=base_url, key=Secret("sk-0123456789"))

        plain, endless, told = target("v1"), target("endless"), target("told")
        answers = await asyncio.gather(*(_all(plain, stream=True) for _ in range(20)))
        assert {len(chunks) for chunks in answers} == {51}
        assert plain.connections().opened == (1 if version == "2" else 20)
        async with aclosing(endless.stream(ask(stream=True))) as chunks:
            async for chunk in chunks:
                if b'"7"' in chunk.data:
                    break
        for _ in range(WAIT_S * 10):
            (chunk,) = await _all(told, stream=False)
            if b"http.disconnect" in chunk.data:
                break
            await asyncio.sleep(0.1)
        assert b"['http.disconnect']" in chunk.data
        assert f'"content":"{version} '.encode() in chunk.data
        assert endless.connections().open == (1 if version == "2" else 0)
        for way in (plain, endless, told):
            await way.aclose()


async def _all(provider: Remote, *, stream: bool) -> list[Any]:
    async with aclosing(provider.stream(ask(stream=stream))) as chunks:
        return [chunk async for chunk in chunks]
