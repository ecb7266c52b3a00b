"""One process that serves: the socket, the signals, the start and the end.

Not here: routes (`server/app.py`). Invariants: without a key only loopback is bound; the end is orderly: no new
connections, running answers get `GRACE_S`, then everything that was opened is closed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from trivet.errors import ConfigError, LedgerError
from trivet.ledger.keys import KeyRing
from trivet.server.app import App
from trivet.server.cork import CorkedProtocol

GRACE_S = 10
"""How long running answers may go on after SIGTERM: as long as container runtimes wait by default before SIGKILL."""

KEEP_ALIVE_S = 75
"""Idle time of a client's connection: nginx's default, longer than client pools keep theirs."""

KEYS_EVERY_S = 0.5
"""A revoked key stops working within this time (P18 of the promises: at most one second)."""

BACKLOG = 2048

MAX_HEAD_BYTES = 65_536
"""Of one request's line and headers; also of bytes in a row that are no content (trailers, chunk extensions). llhttp
and uvicorn have no bound of their own, so a head without an end would fill the memory before any key is looked at."""


def bind(host: str, port: int, *, has_keys: bool) -> socket.socket:
    """Open the listening socket, with TCP_NODELAY inherited by every connection.

    Raises:
        ConfigError: the address is not loopback while there is no key, is not ours, or is taken.
    """
    if not has_keys and not _is_loopback(host):
        raise ConfigError(
            f"Not listening on {host}: no key is configured, so anyone who reaches it could spend your money. "
            "Make a key first (`trivet keys create NAME --tenant TENANT`), or listen on 127.0.0.1."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. "
            "Choose another with `--port` or `server.port`; `--port 0` takes a free one."
        ) from error
    sock.setblocking(False)  # noqa: FBT003  # the standard library's shape
    return sock


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url(sock: socket.socket) -> str:
    """Say where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn, saying when it answers connections, and leaving the end of the process to us."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals():
            yield
            # Uvicorn would raise them again, and SIGTERM would end the process before the stages are closed.
            self._captured_signals.clear()


class Http(CorkedProtocol):
    """One client's connection, with a bound on what comes before a body."""

    _barren_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._barren_bytes += len(data)
        super().data_received(data)
        if self._barren_bytes > MAX_HEAD_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        if self._barren_bytes > MAX_HEAD_BYTES:  # it came in one piece with its body, or with others
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                raise ValueError(f"a head of {size} bytes")  # uvicorn answers 400 and closes
        self._barren_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._barren_bytes = 0
        super().on_body(body)


def uvicorn_config(app: App) -> uvicorn.Config:
    """Say how uvicorn is to run: nothing but HTTP/1.1 by httptools, and nothing logged for each request."""
    return uvicorn.Config(
        app,
        http=Http,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nobody is trusted to say where a request came from
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )


async def serve(
    app: App, sock: socket.socket, *, ring: KeyRing, listening: Callable[[], None], tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `listening` is called once connections are answered."""
    refreshing = asyncio.ensure_future(_refresh(ring, tell))
    try:
        await Server(uvicorn_config(app), listening).serve(sockets=[sock])
    finally:
        refreshing.cancel()


async def _refresh(ring: KeyRing, tell: Callable[[str], None]) -> None:
    said = ""
    while True:
        await asyncio.sleep(KEYS_EVERY_S)
        try:
            ring.refresh()
            said = ""
        except LedgerError as error:  # the ring keeps what it knew; the operator is told once
            if str(error) != said:
                tell(str(error))
            said = str(error)
