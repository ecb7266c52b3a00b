"""The socket, the bounds of a request's head, the signals; and `trivet serve` as the process that people run."""

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.edge_kit import ASK, CHAT, bearer, get, make_key, post, raw, serving, toml, until
from tests.upstream.engine_room import alive, smollm
from trivet.build import SystemClock
from trivet.errors import ConfigError
from trivet.ledger import keys
from trivet.ledger.report import entries as read_entries
from trivet.server.run import KEYS_EVERY_S, allow_files, bind, url
from trivet.testing.house import house
from trivet.testing.upstream import Upstream

ENV = {"CANARY_KEY": "sk-any-key-of-a-provider"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example", ""])
def test_without_keys_nothing_but_loopback_is_bound(host: str) -> None:
    """Attack 10."""
    with pytest.raises(ConfigError, match="trivet keys create"):
        bind(host, 0, has_keys=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8"])
def test_loopback_is_bound_without_keys(host: str) -> None:
    with bind(host, 0, has_keys=False) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getblocking()
        assert url(sock) == f"http://{sock.getsockname()[0]}:{sock.getsockname()[1]}"


def test_with_keys_every_address_may_be_bound() -> None:
    with bind("0.0.0.0", 0, has_keys=True) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"


def test_an_address_of_ip_version_6_is_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        sock = bind("::1", 0, has_keys=False)
    except ConfigError as error:
        pytest.skip(str(error))
    with sock:
        assert url(sock).startswith("http://[::1]:")


@pytest.mark.parametrize(("soft", "hard", "comes"), [(100, 200, 150), (100, 120, 120), (160, 200, 160)])
def test_as_many_files_may_be_open_as_the_system_allows(soft: int, hard: int, comes: int) -> None:
    """In a process of its own: a limit that was lowered stays so."""
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        "from trivet.server.run import allow_files;"
        "print(allow_files(150), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(comes), str(comes), str(hard)]


def test_the_gateway_asks_for_more_files_than_most_systems_begin_with() -> None:
    assert allow_files() == min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_a_port_that_is_taken_or_an_address_that_is_not_ours_is_an_error_with_a_way_out() -> None:
    with bind("127.0.0.1", 0, has_keys=False) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*Address already in use.*--port"):
            bind("127.0.0.1", port, has_keys=False)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:1"):
        bind("192.0.2.1", 1, has_keys=True)


@pytest.mark.anyio
async def test_a_head_without_an_end_is_cut_off_before_it_fills_the_memory() -> None:
    """Attack 33: also where it is one header, one name, the path, or what comes after a body."""
    chunked = CHAT + b"transfer-encoding: chunked\r\n\r\n"
    endless = b"a" * 300_000
    async with Upstream("x") as upstream, house({"a": upstream.base_url}) as gateway:
        for data in (
            CHAT + b"x: " + endless,
            CHAT + endless,
            CHAT + b"".join(b"x%d: y\r\n" % i for i in range(40_000)),
            b"GET /" + endless,
            CHAT + b"x: " + endless + b"\r\ncontent-length: 0\r\n\r\n",
            chunked + b"5;" + endless,
            chunked + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 40_000,
        ):
            reply = await raw(gateway.url, data)
            assert reply.status in (0, 400, 413, 414, 431)
        assert not upstream.requests
        head = b"x: " + b"a" * 60_000 + b"\r\n"
        content = json.dumps({**ASK, "pad": "x" * 300_000}).encode()
        fits = CHAT + head + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)
        assert (await raw(gateway.url, fits)).status == 200


@pytest.mark.slow
@pytest.mark.anyio
async def test_sigterm_lets_a_running_stream_finish_and_takes_no_new_one(tmp_path: Path) -> None:
    """Attack 69, in small."""
    async with (
        Upstream("one ", "two ", "three", delay_s=0.5) as upstream,
        serving(tmp_path, toml({"a": upstream.base_url}), env=ENV) as child,
    ):
        call = asyncio.ensure_future(raw(child.url, post({**ASK, "stream": True}), wait_s=30))
        await until(lambda: upstream.requests)
        child.process.send_signal(signal.SIGTERM)
        reply = await call
        assert await asyncio.wait_for(child.process.wait(), 30) == 0
        with pytest.raises(ConnectionError):
            await raw(child.url, get("/healthz"))
    assert (reply.status, b"three" in reply.body, b"data: [DONE]" in reply.body) == (200, True, True)
    kept = read_entries(child.home / "ledger", since_ns=0, until_ns=2**62, limit=10, tell=print)
    assert [entry.outcome.status for entry in kept] == ["ok"]
    assert "Traceback" not in child.words()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_key_that_is_revoked_stops_working_on_a_running_server(tmp_path: Path) -> None:
    """Attack 6, on one replica: the last success is at most a look at the file later."""
    path = tmp_path / "home" / keys.FILE
    one, other = make_key(path, "acme"), make_key(path, "globex")
    async with (
        Upstream("x") as upstream,
        serving(tmp_path, toml({"a": upstream.base_url}), env=ENV) as child,
    ):
        assert [(await raw(child.url, post(ASK, bearer(key)))).status for key in (one, other)] == [200, 200]
        keys.revoke(path, "of-acme", clock=SystemClock())
        tries = 0
        while (await raw(child.url, post(ASK, bearer(one)))).status == 200:
            tries += 1
            assert tries < 2000, f"it still works; the server looks every {KEYS_EVERY_S} s"
        assert (await raw(child.url, post(ASK, bearer(one)))).status == 401
        assert (await raw(child.url, post(ASK, bearer(other)))).status == 200
        third = make_key(path, "initech")
        async with asyncio.timeout(10):
            while (await raw(child.url, post(ASK, bearer(third)))).status != 200:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.anyio
async def test_serve_with_an_embedded_model_ends_on_sigterm_with_0_and_leaves_no_process(tmp_path: Path) -> None:
    config = (
        f'[targets.small]\nprovider = "llamacpp"\nmodel = {msgspec.json.encode(str(smollm())).decode()}\n'
        "engine = { context = 512, slots = 1 }\n"
    )
    async with serving(tmp_path, config) as child:
        async with asyncio.timeout(120):
            while (await raw(child.url, get("/readyz"))).status != 200:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)
        reply = await raw(child.url, post({**ASK, "model": "small", "max_tokens": 4}), wait_s=60)
        pids = children_of(child.process.pid)
        assert reply.status == 200
        assert pids
        assert await child.stop() == 0
        await until(lambda: not any(alive(pid) for pid in pids))
    assert "Traceback" not in child.words()


def children_of(pid: int) -> list[int]:
    """Give the processes that a process started, and that they started."""
    found = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return found + [grandchild for child in found for grandchild in children_of(child)]
