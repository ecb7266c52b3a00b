"""Targets reached through a real proxy on a port of its own, over both versions of HTTP; what the environment says."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.upstream.http_kit import WAIT_S, ask, on_both_loops, until
from tests.upstream.tls_kit import Certificates
from tests.upstream.way_kit import hello, listening, pool1, pool2
from trivet.config import TargetTlsSettings
from trivet.upstream.http import dial
from trivet.upstream.out import tls_context
from trivet.upstream.proxy import proxy_of_environment, read_proxy, through
from trivet.upstream.reply import ConnectError, Origin, PhaseTimeoutError

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops

both = pytest.mark.parametrize("version", ["1.1", "2"])


class Proxy:
    """A small CONNECT proxy, which writes down what it was told."""

    def __init__(self) -> None:
        self.port = 0
        self.told: list[bytes] = []
        self.passed = b""
        """All that the client sent after its CONNECT."""
        self.answer = b"HTTP/1.1 200 Connection established\r\nvia: 1.1 test\r\n\r\n"
        self.tasks: set[asyncio.Task[Any]] = set()
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.told.append(head)
            writer.write(self.answer)
            if b" 200 " in self.answer:
                host, port = head.split(b" ")[1].rsplit(b":", 1)
                up_reader, up_writer = await asyncio.open_connection(host.strip(b"[]").decode(), int(port))
                try:
                    await asyncio.gather(self.pump(reader, up_writer, note=True), self.pump(up_reader, writer))
                finally:
                    up_writer.transport.abort()
            else:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.tasks.discard(task)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool = False) -> None:
        while data := await reader.read(65536):
            self.passed += data if note else b""
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxying(tls: Any = None) -> AsyncGenerator[Proxy, None]:
    proxy = Proxy()
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        for writer in proxy.writers:
            writer.transport.abort()
        await until(lambda: not proxy.tasks)


def way_over(version: str, port: int, proxy: Any, certificates: Certificates | None, **options: Any) -> Any:
    tls = None
    if certificates is not None:
        tls = tls_context(TargetTlsSettings(ca=str(certificates.ca)), alpn="h2" if version == "2" else "http/1.1")
    return (pool2 if version == "2" else pool1)(port, tls=tls, dial=through(proxy, dial, tls=None), **options)


@both
@pytest.mark.parametrize("secure", [True, False], ids=["https", "http"])
async def test_a_target_is_reached_through_a_proxy_that_sees_no_more_than_where(
    version: str,
    certificates: Certificates,
    *,
    secure: bool,
) -> None:
    server_tls = certificates.server() if secure else None
    async with listening(version, hello, tls=server_tls) as server, proxying() as proxy:
        url = f"http://user:p%40ss@127.0.0.1:{proxy.port}"
        way = way_over(version, server.port, read_proxy(url), certificates if secure else None)
        first = await ask(way, b"the secret body")
        assert (first, await ask(way, b"another")) == (b"hello", b"hello")
        assert server.connections == 1
        assert len(proxy.told) == 1  # the tunnel is used again
        assert proxy.told[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)
        assert b"\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n" in proxy.told[0]
        assert (b"secret" in proxy.passed) is not secure
        assert all(name != b"proxy-authorization" for name, _ in server.asked[0].headers)
        await way.aclose()


@both
async def test_a_caller_that_leaves_ends_the_exchange_behind_the_proxy_too(version: str) -> None:
    async def silence(asked: Any) -> None:
        await asked.body()
        await asyncio.Event().wait()

    async with listening(version, silence) as server, proxying() as proxy:
        way = way_over(version, server.port, read_proxy(f"http://127.0.0.1:{proxy.port}"), None)
        caller = asyncio.create_task(ask(way))
        await until(lambda: server.asked)
        caller.cancel()
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)
        await way.aclose()


@both
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 .* name and a password"),
        (b"HTTP/1.1 403 Forbidden by policy\r\ncontent-length: 2\r\n\r\nno", "403 Forbidden by policy"),
        (b"SSH-2.0-x\r\n\r\n", "did not answer CONNECT in HTTP"),
        (b"x" * 20_000, "did not answer CONNECT in HTTP"),
    ],
    ids=["407", "403", "noise", "endless"],
)
async def test_a_proxy_that_refuses_is_a_connect_error_without_our_password(
    version: str, answer: bytes, words: str
) -> None:
    async with proxying() as proxy:
        proxy.answer = answer
        way = way_over(version, 1, read_proxy(f"http://user:secret-word@127.0.0.1:{proxy.port}"), None)
        with pytest.raises(ConnectError, match=words) as caught:
            await ask(way)
        assert "secret-word" not in f"{caught.value!r} {caught.value}"
        assert way.connections().open == 0
        await way.aclose()


@both
async def test_a_proxy_that_says_nothing_ends_with_the_connect_timeout_and_keeps_no_socket(version: str) -> None:
    async with proxying() as proxy:
        proxy.answer = b""
        url = f"http://127.0.0.1:{proxy.port}"
        way = way_over(version, 1, read_proxy(url), None, connect_s=0.05)
        with pytest.raises(PhaseTimeoutError, match="accepted no connection"):
            await ask(way)
        await until(lambda: not proxy.tasks)
        await way.aclose()


async def test_a_proxy_that_is_not_there_is_named() -> None:
    way = way_over("1.1", 1, read_proxy("http://127.0.0.1:1"), None)
    with pytest.raises(ConnectError, match=r"the proxy http://127\.0\.0\.1:1 cannot be connected to"):
        await ask(way)
    await way.aclose()


@both
async def test_a_proxy_may_be_https_itself(version: str, certificates: Certificates) -> None:
    async with (
        listening(version, hello, tls=certificates.server()) as server,
        proxying(certificates.server()) as proxy,
    ):
        trusting = TargetTlsSettings(ca=str(certificates.ca))
        dialer = through(read_proxy(f"https://127.0.0.1:{proxy.port}"), dial, tls=tls_context(trusting))
        tls = tls_context(trusting, alpn="h2" if version == "2" else "http/1.1")
        way = (pool2 if version == "2" else pool1)(server.port, tls=tls, dial=dialer)
        assert await ask(way) == b"hello"
        await way.aclose()


@both
async def test_the_certificate_of_a_target_behind_a_proxy_is_checked(
    version: str,
    certificates: Certificates,
) -> None:
    async with listening(version, hello, tls=certificates.server()) as server, proxying() as proxy:
        stranger = certificates._replace(ca=certificates.stranger_ca)
        way = way_over(version, server.port, read_proxy(f"http://127.0.0.1:{proxy.port}"), stranger)
        with pytest.raises(ConnectError, match="certificate"):
            await ask(way)
        await way.aclose()


def test_a_tls_context_goes_with_an_https_proxy_only() -> None:
    with pytest.raises(ValueError, match="https proxy"):
        through(read_proxy("https://x"), dial, tls=None)


@pytest.mark.parametrize(
    "url", ["ftp://u:secret@x", "http://u:secret@", "secret:3128", "http://u:secret@[x", "http://u:secret@x:port"]
)
def test_what_is_no_proxy_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_proxy(url)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.__context__ if not caught.value.__suppress_context__ else "")


def test_a_proxy_shows_no_password() -> None:
    proxy = read_proxy("http://user:secret@h")
    assert repr(proxy) == "Proxy(http://h:80, with a password)"


HTTPS, HTTP = Origin("https", "api.example.com", 443), Origin("http", "10.1.2.3", 8000)


@pytest.mark.parametrize(
    ("env", "target", "url"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, HTTPS, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, HTTP, ""),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, HTTPS, "http://q:1"),
        ({"http_proxy": "p:3128"}, HTTP, "http://p:3128"),
        ({"ALL_PROXY": "http://a"}, HTTPS, "http://a"),
        ({"HTTPS_PROXY": ""}, HTTPS, ""),
        *[
            ({"ALL_PROXY": "http://a", "NO_PROXY": no}, HTTPS, "")
            for no in ("*", "example.com", ".example.com", "*.example.com", "x,api.example.com:443", "API.EXAMPLE.COM")
        ],
        *[
            ({"ALL_PROXY": "http://a", "no_proxy": no}, HTTPS, "http://a")
            for no in ("ample.com", "api.example.com:8443", "com.example", "", ".")
        ],
        *[({"ALL_PROXY": "http://a", "NO_PROXY": no}, HTTP, "") for no in ("10.1.2.3", "10.0.0.0/8", "10.1.2.3:8000")],
        ({"ALL_PROXY": "http://a", "NO_PROXY": "10.2.0.0/16"}, HTTP, "http://a"),
        ({"ALL_PROXY": "http://a", "NO_PROXY": "[::1]:8000,fd00::/8"}, Origin("http", "::1", 8000), ""),
        ({"ALL_PROXY": "http://a", "NO_PROXY": "::1"}, Origin("http", "::1", 8000), ""),
    ],
)  # fmt: skip
def test_the_environment_is_read_as_other_programs_read_it(env: dict[str, str], target: Origin, url: str) -> None:
    assert proxy_of_environment(target, env) == url
