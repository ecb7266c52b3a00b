"""Could `trivet serve` listen; and if not, who does?

Not here: listening (`server/run.py`, which is asked to, as `trivet serve` would).
"""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from trivet.cli import gateway
from trivet.cli.doctor.check import Check, bad, ok, warn
from trivet.cli.text import clean
from trivet.config import Settings, home
from trivet.errors import ConfigError, TrivetError
from trivet.ledger.keys import FILE, KeyRing
from trivet.server.run import allow_files, bind

_FEW_FILES = 4096
"""Two thousand requests in flight."""

_LISTENING = "0A"  # TCP_LISTEN in Linux's include/net/tcp_states.h, as /proc/net/tcp writes it


def files_check() -> Check:
    """Say how many requests there may be at a time, by the files that a process may open here."""
    files = allow_files()
    if files >= _FEW_FILES:
        return ok("open files", f"{files:,}, enough for {files // 2:,} requests at a time")
    words = f"this system allows {files:,}, so about {files // 2:,} requests at a time: each takes two"
    return warn("open files", words, "ulimit -Hn 65536  (as root, before the start; with systemd: LimitNOFILE=65536)")


def is_free(settings: Settings) -> bool:
    """Say whether the address that the settings name can be listened on."""
    try:
        bind(settings.server.host, settings.server.port, has_keys=True).close()
    except ConfigError:
        return False
    return True


def has_keys(env: Mapping[str, str]) -> bool:
    """Say whether the gateway will ask its clients for keys."""
    try:
        with closing(KeyRing(home(env) / FILE)) as ring:
            return ring.any
    except (TrivetError, OSError):  # `key_ring_check` says so
        return False


def key_ring_check(env: Mapping[str, str]) -> Check:
    """See that the keys of the clients can be read: `trivet serve` does not start otherwise."""
    path = home(env) / FILE
    try:
        with closing(KeyRing(path)) as ring:
            words = (
                "there are some: each request needs one" if ring.any else "none: open to this machine, to nobody else"
            )
            return ok("client keys", words)
    except (TrivetError, OSError) as error:
        return bad("client keys", str(error), f"Put {path} back from a copy; or delete it and make new keys.")


def port_check(settings: Settings, env: Mapping[str, str]) -> Check:
    """Listen for a moment, as `trivet serve` would, and say who is in the way."""
    host, port = settings.server.host, settings.server.port
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    try:
        bind(host, port, has_keys=True).close()
    except ConfigError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            return _taken(where, port)
        return bad(
            "port", str(error).partition(". ")[0], "Choose another address: trivet serve --host HOST --port PORT"
        )
    try:
        bind(host, port, has_keys=has_keys(env)).close()
    except ConfigError as error:
        return bad("port", str(error), "trivet keys create NAME --tenant TENANT")
    return ok("port", f"{where} is free")


def _taken(where: str, port: int) -> Check:
    near = where.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  # asked, not bound
    if gateway.ready(f"http://{near}") is not None:
        return ok("port", f"Trivet answers on {where} already{_by(port)}; it keeps the settings it was started with")
    fix = f"End it, or choose another: trivet serve --port 0\nWho it is: lsof -nP -iTCP:{port}"
    return bad("port", f"{where} is taken{_by(port)}", fix)


def _by(port: int) -> str:
    """Name the process that listens on a port; "" where this system does not tell (Linux does, of one's own)."""
    sockets = set(_sockets(port))
    if not sockets:
        return ""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # of another user, or gone
            for file in (folder / "fd").iterdir():
                with suppress(OSError):
                    if str(file.readlink()) in sockets:
                        # Its name alone: people write keys into command lines.
                        name = (folder / "comm").read_text(errors="replace").strip()
                        return f" by process {folder.name} ({clean(name)})"
    return " by a process of another user"


def _sockets(port: int) -> Iterator[str]:
    """List the sockets that listen on a port, as links in /proc/PID/fd name them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if re.fullmatch(rf"[0-9A-F]+:{port:04X}", fields[1]) and fields[3] == _LISTENING:
                    yield f"socket:[{fields[9]}]"
