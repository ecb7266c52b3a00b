"""Time to first byte on a link of 30 ms, over TLS: a new connection for each call against one that is used again.

    python bench/reuse.py [--rounds 30] [--out bench/results/YYYY-MM-DD-reuse]

A TLS server (granian: Rust, HTTP/1.1 and HTTP/2) on loopback, behind a relay of ours that keeps every byte back for
15 ms each way: that is a link of 30 ms, with nothing lost and no limit on its rate. TCP's own handshake is made with
the relay and so takes no time; the relay waits one round trip before it takes a connection's bytes, in its place.

Asked are our two ways out (`trivet.upstream`) and, if it is installed, httpx2 with HTTP/2. All kinds of call are made
in turn in every round. What others do on the machine matters little: the delays are what is measured.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import trustme

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/reuse.py` looks beside the file only

from bench.machine import described, free_port

from trivet.build import SystemClock
from trivet.config import TargetSettings, TargetTlsSettings
from trivet.upstream.http import dial
from trivet.upstream.out import way_to
from trivet.upstream.reply import Origin

ONE_WAY_S = 0.015
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 900}]}).encode()
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"accept-encoding: identity\r\nauthorization: Bearer sk-0123456789\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)
APP = """
async def app(scope, receive, send):
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: [DONE]\\n\\n"})
"""

Call = Callable[[], Awaitable[float]]
"""Asks once; gives the milliseconds to the first byte of the body."""


class _Relay(asyncio.Protocol):
    """One end of a link: what comes in goes out at the other end, `ONE_WAY_S` later and in order."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.other: _Relay | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.other is None:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        await asyncio.sleep(2 * ONE_WAY_S)  # SYN and its answer, which loopback has spared
        other = _Relay(0)
        other.other = self
        await self._loop.create_connection(lambda: other, "127.0.0.1", self._port)
        self.other = other
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self._loop.call_later(ONE_WAY_S, self.other.write, data)

    def write(self, data: bytes) -> None:
        """Let it out at this end."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self.other is not None:
            self._loop.call_later(ONE_WAY_S, self.other.close)

    def close(self) -> None:
        """End this end."""
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def link(folder: Path) -> AsyncGenerator[tuple[int, Path], None]:
    """A TLS server behind a link: the port to connect to, and the authority to trust."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "served.py").write_text(APP)
    port = free_port()
    words = ["-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--no-ws"]
    words += ["--ssl-certificate", "cert.pem", "--ssl-keyfile", "key.pem", "--http", "auto", "served:app"]
    log = (folder / "log").open("wb")
    server = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=folder, stdout=log, stderr=log)
    listener = await asyncio.get_running_loop().create_server(lambda: _Relay(port), "127.0.0.1", 0)
    try:
        for _ in range(200):
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield listener.sockets[0].getsockname()[1], folder / "ca.pem"
    finally:
        listener.close()
        server.terminate()
        await server.wait()
        log.close()


async def calls(port: int, ca: Path, opened: AsyncExitStack) -> dict[str, Call]:
    """Every kind of call."""
    found: dict[str, Call] = {}
    versions: tuple[Literal["1.1", "2"], ...] = ("1.1", "2")
    for version in versions:
        target = TargetSettings(provider="openai", http=version, tls=TargetTlsSettings(ca=str(ca)))
        found |= _ours(f"trivet, HTTP/{version}", Origin("https", "localhost", port), target, opened)
    try:
        import h2  # noqa: F401
        import httpx2
    except ImportError:
        return found
    context = ssl.create_default_context(cafile=ca)
    client = await opened.enter_async_context(httpx2.AsyncClient(http2=True, verify=context))

    async def httpx(client: httpx2.AsyncClient) -> float:
        began = time.perf_counter()
        async with client.stream("POST", f"https://localhost:{port}/v1/chat/completions", content=BODY) as reply:
            async for _ in reply.aiter_raw():
                took = (time.perf_counter() - began) * 1000
        assert reply.http_version == "HTTP/2"
        return took

    async def anew() -> float:
        async with httpx2.AsyncClient(http2=True, verify=context) as fresh:
            return await httpx(fresh)

    return found | {"httpx2, HTTP/2, new": anew, "httpx2, HTTP/2, reused": lambda: httpx(client)}


def _ours(name: str, origin: Origin, target: TargetSettings, opened: AsyncExitStack) -> dict[str, Call]:
    way = way_to(origin, target, dial=dial, clock=SystemClock())
    opened.push_async_callback(way.aclose)

    async def again() -> float:
        began = time.perf_counter()
        reply = await way.send(HEAD, BODY)
        await reply.read()
        took = (time.perf_counter() - began) * 1000
        await reply.read_all(1000)
        return took

    async def anew() -> float:
        fresh = way_to(origin, target, dial=dial, clock=SystemClock())  # reads its certificates, before the clock runs
        began = time.perf_counter()
        reply = await fresh.send(HEAD, BODY)
        await reply.read()
        took = (time.perf_counter() - began) * 1000
        await reply.read_all(1000)
        await fresh.aclose()
        return took

    return {f"{name}, new": anew, f"{name}, reused": again}


async def measured(rounds: int) -> dict[str, list[float]]:
    """Make every kind of call in every round; the first round warms up and does not count."""
    took: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        async with link(Path(folder)) as (port, ca), AsyncExitStack() as opened:
            kinds = await calls(port, ca, opened)
            for round_ in range(rounds + 1):
                for name, call in kinds.items():
                    ms = await call()
                    if round_:
                        took.setdefault(name, []).append(round(ms, 2))
    return took


def as_markdown(result: dict[str, object], took: dict[str, list[float]]) -> str:
    """Write the table."""
    rows = [
        f"| {name} | {statistics.median(ms):.1f} | {min(ms):.1f} | {max(ms):.1f} | "
        f"{statistics.median(ms) / (2000 * ONE_WAY_S):.1f} |"
        for name, ms in took.items()
    ]
    machine, link_ms = result["machine"], f"{2000 * ONE_WAY_S:.0f} ms"
    assert isinstance(machine, dict)
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}."
    how = f"over TLS 1.3 on a link of {link_ms}, {result['rounds']} interleaved rounds"
    parts = [
        f"# A connection used again, {result['at']}",
        f"    {result['command']}",
        f"{where} Other people used the machine meanwhile; the delays are what counts.",
        f"Time to the first byte of an answer {how}.",
        "\n".join(["| | median ms | least | most | round trips |", "| --- | ---: | ---: | ---: | ---: |", *rows]),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="without .json and .md; printed if not given")
    given = parser.parse_args()
    took = asyncio.run(measured(given.rounds))
    result: dict[str, object] = {
        "at": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": f"python {' '.join(sys.argv)}",
        "machine": described(),
        "rounds": given.rounds,
        "round_trip_ms": 2000 * ONE_WAY_S,
        "median_ms": {name: round(statistics.median(ms), 2) for name, ms in took.items()},
        "ms": took,
    }
    text = as_markdown(result, took)
    if given.out is None:
        print(text)
        return
    given.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
