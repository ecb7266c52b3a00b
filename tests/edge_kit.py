"""What the tests of the edge share: bytes on a raw socket, answers read back, gateways with keys, `trivet serve`."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from trivet.build import SystemClock
from trivet.ledger import keys
from trivet.server.exchange import Headers, HttpExchange
from trivet.types import Permit

_ANYTHING = Permit()

ASK: dict[str, Any] = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
POLICY = """
[policies.p]
pool = ["a"]
baseline = "a"
[policies.p.cache]
mode = "exact"
"""
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"


class Reply(NamedTuple):
    """The first answer on a connection, and how many there were."""

    status: int
    """0: the connection was closed, or stayed silent, without one."""
    headers: dict[str, str]
    body: bytes
    answers: int
    """On the whole connection."""
    raw: bytes


async def raw(url: str, data: bytes, *, wait_s: float = 10.0) -> Reply:
    """Send bytes on a connection of their own, and read until it ends, or for `wait_s`."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        async with asyncio.timeout(wait_s):
            writer.write(data)
            await writer.drain()
            while piece := await reader.read(65_536):
                got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    status = int(lines[0].split(" ")[1]) if got.startswith(b"HTTP/1.1 ") else 0
    return Reply(status, headers, body, len(re.findall(rb"HTTP/1\.1 [1-5]\d\d ", got)), got)


def get(path: str, *headers: tuple[str, bytes], method: str = "GET") -> bytes:
    """Write a request without a body."""
    lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in headers)
    return b"%b %b HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n%b\r\n" % (method.encode(), path.encode(), lines)


def post(body: Any, *headers: tuple[str, bytes], path: str = "/v1/chat/completions") -> bytes:
    """Write a request such as a chat completion; `body` as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in headers)
    head = b"POST %b HTTP/1.1\r\nhost: gateway\r\n" % path.encode()
    return head + b"connection: close\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(content), content)


def bearer(key: str) -> tuple[str, bytes]:
    """Write the header of a key."""
    return "authorization", b"Bearer " + key.encode()


def make_key(path: Path, tenant: str, *, name: str = "", permit: Permit = _ANYTHING) -> str:
    """Make a key, and the folder for it, and give it in the open."""
    path.parent.mkdir(exist_ok=True)
    made = keys.create(path, name=name or f"of-{tenant}", tenant=tenant, clock=SystemClock(), permit=permit)
    return made.secret.reveal()


async def until(true: Any, *, within_s: float = 60.0) -> None:
    """Wait until a condition holds: `await until(lambda: store.entries)`."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # it is made true by whoever is tested; nothing to set an event
            await asyncio.sleep(0.005)


class Child(NamedTuple):
    """`trivet serve`, as a process."""

    url: str
    home: Path
    process: asyncio.subprocess.Process
    said: Path
    """What it wrote to stderr and stdout."""

    def words(self) -> str:
        """Give what it has said so far."""
        return self.said.read_text()

    async def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def serving(
    folder: Path, config: str | Path, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Child, None]:
    """Run `trivet serve` on a free port until the block ends."""
    home, file, said = folder / "home", folder / "trivet.toml", folder / "said"
    _write(file, config)
    ours, its = os.pipe()
    command = ["-m", "trivet", "serve", "--config", str(file), "--port", "0", "--ready-fd", str(its), *arguments]
    with said.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            pass_fds=[its],
            env={**os.environ, "TRIVET_HOME": str(home), **(env or {})},
            stdout=output,
            stderr=output,
        )
    os.close(its)
    with os.fdopen(ours) as pipe:
        line = await asyncio.to_thread(pipe.readline)
    assert line, said.read_text()
    child = Child(json.loads(line)["url"], home, process, said)
    try:
        yield child
    finally:
        await child.stop()


def _write(file: Path, config: str | Path) -> None:
    file.write_text(config.read_text() if isinstance(config, Path) else config)


def toml(targets: Mapping[str, str], more: str = "") -> str:
    """Write a trivet.toml with one priced target for each base URL."""
    sections = [
        f'[targets.{name}]\nprovider = "openai"\nmodel = "{name}-1"\nbase_url = "{base}"\n'
        'price = { input = "$1", output = "$2" }\napi_key = "env:CANARY_KEY"\n'
        for name, base in targets.items()
    ]
    return "\n".join(sections) + more


class Tape:
    """The line of an exchange that is asked without a socket: what is written stays here."""

    def __init__(self, *, slow: bool = False) -> None:
        self.written = b""
        self.full = False
        self._slow = slow
        """The client takes each write a turn of the loop later, so that whoever sends has to wait."""
        self._exchange: HttpExchange | None = None

    def write(self, parts: list[bytes], *, size: int) -> None:
        self.written += b"".join(parts)
        if self._slow and self._exchange is not None:
            self.full = True
            asyncio.get_running_loop().call_soon(self._take, self._exchange)

    def _take(self, exchange: HttpExchange) -> None:
        self.full = False
        exchange.drained()

    def date(self) -> bytes:
        return b""

    def may_keep(self, exchange: HttpExchange) -> bool:
        return True

    def taken(self, exchange: HttpExchange) -> None:
        """Nothing waits."""

    def status(self) -> int:
        """Give the status that was written; 0: none."""
        return int(self.written.split(b" ", 2)[1]) if self.written else 0

    def exchange(self, method: str, path: str = "/", headers: Headers | None = None) -> HttpExchange:
        """Make an exchange on this line; `feed` it its body."""
        self._exchange = made = HttpExchange(self, method, keep=True, old=False, expects=False)
        made.path, made.headers = path, headers or []
        return made


def feed(exchange: HttpExchange, body: bytes, *, more: bool = False) -> None:
    """Give an exchange a piece of its request's body, as a connection does."""
    exchange.pieces.append(body)
    exchange.size += len(body)
    exchange.whole = not more
    exchange.wake()


def chat(tape: Tape, body: Any, headers: Headers | None = None) -> HttpExchange:
    """Make an exchange that asks for a chat completion, its body all there."""
    made = tape.exchange("POST", "/v1/chat/completions", headers)
    feed(made, json.dumps(body).encode())
    return made
