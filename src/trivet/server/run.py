"""One process that serves: the socket, the signals, the start and the end.

Not here: routes (`server/app.py`), HTTP (`server/http.py`). Invariants: without a key only loopback is bound; the end
is orderly: no new connections, running answers get their grace, then everything that was opened is closed.
"""

import asyncio
import ipaddress
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from trivet.config import ClientTimeouts, ServerSettings, TlsSettings, seconds
from trivet.errors import ConfigError, LedgerError
from trivet.ledger.keys import KeyRing
from trivet.server.app import App
from trivet.server.http import BACKLOG, Server, Times
from trivet.server.reload import Reload

KEYS_EVERY_S = 0.5
"""A revoked key stops working within this time (P18 of the promises: at most one second)."""

FILES = 65_536
"""Open files that are asked for. A request in flight takes two, the connection of its client and that to its target;
most systems begin at 1,024, which a thousand streams use up."""


def allow_files(wanted: int = FILES) -> int:
    """Raise how many files this process may open, as far as the system lets it; say how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has a second limit, which is told nowhere
        return soft
    return most


def bind(host: str, port: int, *, has_keys: bool, shared: bool = False, listen: bool = True) -> socket.socket:
    """Open the listening socket, with TCP_NODELAY inherited by every connection.

    Args:
        shared: other processes of this user may listen on the same port, and the kernel shares connections out.
        listen: without, the port is only held.

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
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        if listen:
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


def url(sock: socket.socket, *, tls: bool = False) -> str:
    """Say where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def serve(
    app: App,
    sock: socket.socket,
    *,
    ring: KeyRing,
    settings: ServerSettings,
    reload: Reload | None,
    listening: Callable[[], None],
    tell: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; `listening` is called once connections are answered. SIGHUP reloads.

    The first signal lets running answers end within the grace of the settings; a second one cancels them.

    Raises:
        ConfigError: the certificate cannot be used.
    """
    times, tls = settings.timeouts, settings.tls
    server, asked = Server(app, times=client_times(times)), asyncio.Event()
    context = certificate(tls) if tls is not None else None
    if reload is not None and tls is not None and context is not None:
        reload.beside = lambda: load_certificate(context, tls)

    def signalled() -> None:
        if asked.is_set():
            server.cut()
        asked.set()

    beside = [asyncio.ensure_future(_refresh(ring, tell))]
    if app.shared is not None:
        beside.append(asyncio.ensure_future(app.shared.keep_writing(app.metrics)))
    if reload is not None:
        beside.append(asyncio.ensure_future(reload.watch()))
    with _signals(signalled, hup=reload.ask if reload is not None else None):
        try:
            await server.start(sock, tls=context)
            listening()
            await asked.wait()
        finally:
            await server.stop(seconds(times.grace))
            for task in beside:
                task.cancel()


def client_times(timeouts: ClientTimeouts) -> Times:
    """Say how long clients may take."""
    return Times(head_s=seconds(timeouts.head), idle_s=seconds(timeouts.idle), stall_s=seconds(timeouts.stall))


def certificate(tls: TlsSettings) -> ssl.SSLContext:
    """Make the context for a certificate. Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, tls)
    return context


def load_certificate(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Read a certificate, for the connections that come from now on. Raises ConfigError."""
    try:
        context.load_cert_chain(Path(tls.cert).expanduser(), Path(tls.key).expanduser())
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        raise ConfigError(f"server.tls: {tls.cert} with {tls.key} cannot be used: {why}.") from error


@contextmanager
def _signals(call: Callable[[], None], *, hup: Callable[[], None] | None) -> Generator[None, None, None]:
    """Have the signals that ask for an end; without the first of them the process would end in the middle of things."""
    loop, calls = asyncio.get_running_loop(), {signal.SIGINT: call, signal.SIGTERM: call}
    if hup is not None:
        calls[signal.SIGHUP] = hup
    for kind, called in calls.items():
        loop.add_signal_handler(kind, called)
    try:
        yield
    finally:
        for kind in calls:
            loop.remove_signal_handler(kind)


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
