"""Connections through a proxy: a Dialer over a Dialer, by `CONNECT`; and which proxy the environment asks for.

    make -> dial the proxy -> CONNECT host:port -> 200 -> TLS with the target itself, end to end

Not here: SOCKS; `http://` targets are reached by CONNECT too, so the proxy must allow their port.
Invariants: the proxy sees host and port of an https target and nothing else; what the proxy is told (its password) the
target is not, and no error repeats it.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from trivet.seams import Dialer
from trivet.upstream.reply import Origin

_MAX_GREETING_BYTES = 16_384
"""Of the proxy's answer: a status line, some headers, perhaps a page of HTML that nobody will see."""


class ProxyError(OSError):
    """The proxy did not let us through."""


class Proxy(NamedTuple):
    """Where a proxy is, and what it wants to hear."""

    origin: Origin
    authorization: str = ""
    """`Basic ...`, or nothing. Never shown."""

    def __repr__(self) -> str:
        return f"Proxy({self.origin}{', with a password' if self.authorization else ''})"


def read_proxy(url: str) -> Proxy:
    """Read `http://user:password@host:port`. Raises ValueError, which does not repeat it."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise ValueError("it is no web address") from None
    if scheme not in ("http", "https") or not host or port == 0:
        raise ValueError('a proxy is written such as "http://proxy.example:3128"')
    origin = Origin("https" if scheme == "https" else "http", host, port or (443 if scheme == "https" else 80))
    if parts.username is None:
        return Proxy(origin)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(origin, f"Basic {base64.b64encode(pair.encode()).decode()}")


def proxy_of_environment(target: Origin, env: Mapping[str, str]) -> str:
    """Give the URL that HTTPS_PROXY (for http targets HTTP_PROXY), else ALL_PROXY asks for; "" for none.

    The small-letter names come first, as curl has it; NO_PROXY is obeyed.
    """

    def read(name: str) -> str:
        return env.get(name.lower()) or env.get(name) or ""

    url = read(f"{target.scheme}_proxy".upper()) or read("ALL_PROXY")
    if not url or _bypassed(target, read("NO_PROXY")):
        return ""
    return url if "://" in url else f"http://{url}"


def _bypassed(target: Origin, no_proxy: str) -> bool:
    """Say whether NO_PROXY names the target: `*`, a domain and all below it, an address, a network; or with a port."""
    for word in no_proxy.replace(",", " ").split():
        if word == "*":
            return True
        name, _, port = word.rpartition(":")
        if name and port.isdigit() and (":" not in name or name.startswith("[")):
            if int(port) != target.port:
                continue
        else:
            name = word
        if _covers(name.strip("[]").lower(), target.host.lower()):
            return True
    return False


def _covers(name: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))


def through(proxy: Proxy, dial: Dialer, *, tls: ssl.SSLContext | None) -> Dialer:
    """Make a Dialer that reaches everything through `proxy`; `tls` is for the way to an https proxy itself."""
    if (proxy.origin.scheme == "https") != (tls is not None):
        raise ValueError("a TLS context goes with an https proxy, and only with it")
    to_proxy = tls

    async def dial_through(
        make: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        greeting = _Greeting()
        try:
            transport, _ = await dial(lambda: greeting, proxy.origin.host, proxy.origin.port, tls=to_proxy)
        except OSError as error:
            raise ProxyError(f"the proxy {proxy.origin} cannot be connected to: {error}") from error
        try:
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            lines = [f"CONNECT {name} HTTP/1.1", f"host: {name}"]
            if proxy.authorization:
                lines.append(f"proxy-authorization: {proxy.authorization}")
            transport.write("\r\n".join([*lines, "", ""]).encode())
            early = await greeting.heard(proxy.origin)
            held = _Held(early)
            if tls is None:
                transport.set_protocol(held)
            elif early:
                raise ProxyError(f"the proxy {proxy.origin} said more than an answer to CONNECT")
            else:
                made = await asyncio.get_running_loop().start_tls(transport, held, tls, server_hostname=host)
                if made is None:
                    raise ProxyError(f"the proxy {proxy.origin} closed the connection")
                transport = made
            protocol = make()
            held.hand_over(transport, protocol)
        except BaseException:
            transport.abort()
            raise
        return transport, protocol

    return dial_through


class _Greeting(asyncio.Protocol):
    """What the proxy answers to CONNECT."""

    def __init__(self) -> None:
        self._came = b""
        self._ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._ended.done() and (b"\r\n\r\n" in self._came or len(self._came) > _MAX_GREETING_BYTES):
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def heard(self, origin: Origin) -> bytes:
        """Wait for its whole answer, and give what came after it. Raises ProxyError unless it is 2xx."""
        await self._ended
        head, end, rest = self._came.partition(b"\r\n\r\n")
        line = head.split(b"\r\n")[0]
        words = line.decode("latin-1").split(" ", 2)
        if not end or len(words) < 2 or not words[0].startswith("HTTP/1."):
            raise ProxyError(f"the proxy {origin} did not answer CONNECT in HTTP")
        if not (len(words[1]) == 3 and words[1].startswith("2")):
            told = " ".join(words[1:])[:200]
            fix = "; it wants a name and a password: `proxy`" if words[1] == "407" else ""
            raise ProxyError(f"the proxy {origin} answered {told}{fix}")
        return rest


class _Held(asyncio.Protocol):
    """Holds what comes before the protocol that it is for is there: HTTP/2 servers speak first."""

    def __init__(self, early: bytes) -> None:
        self._came = [early] if early else []
        self._lost: tuple[Exception | None] | None = None

    def data_received(self, data: bytes) -> None:
        self._came.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = (exc,)

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Put the real protocol in our place and tell it all that happened."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._came:
            protocol.data_received(data)
        if self._lost is not None:
            asyncio.get_running_loop().call_soon(protocol.connection_lost, self._lost[0])
