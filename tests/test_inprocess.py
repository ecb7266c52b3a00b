"""OpenAI's own clients over the engine: the same answers, errors and entries as through a server, and nothing left."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import openai
import pytest

import trivet
from tests.edge_kit import POLICY
from trivet.errors import ConfigError
from trivet.inprocess import MAX_WAITING_BYTES, Engine
from trivet.ledger.report import entries as read_entries
from trivet.testing.upstream import Answer, Upstream
from trivet.types import Entry

ASK: Any = [{"role": "user", "content": "hi"}]
WAIT_S = 10
pytestmark = pytest.mark.anyio


class Elsewhere:
    """A scripted upstream that serves in a thread of its own, for clients that block theirs."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._there, self._stop = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self.upstream:
            self._there.set()
            await self._stop.wait()

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._there.wait(WAIT_S)
        return self.upstream

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def configured(folder: Path, upstream: Upstream) -> Path:
    path = folder / "trivet.toml"
    path.write_text(f'[targets.a]\nprovider = "openai"\nmodel = "m"\nbase_url = "{upstream.base_url}"\n{POLICY}')
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    monkeypatch.setenv("TRIVET_HOME", str(tmp_path / "home"))
    before = threading.active_count()
    yield tmp_path / "home"
    assert threading.active_count() == before, "a thread was left behind"


def entries(home: Path) -> list[Entry]:
    kept = read_entries(home / "ledger", since_ns=0, until_ns=2**62, limit=1000, tell=print)
    return sorted(kept, key=lambda entry: entry.at_ns)


def until(true: Any) -> None:
    by_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < by_s
        time.sleep(0.005)


def test_a_blocking_client_is_openais_own_and_leaves_the_same_entries(tmp_path: Path, home: Path) -> None:
    with Elsewhere(Upstream("Hel", "lo")) as upstream:
        with trivet.openai(configured(tmp_path, upstream)) as client:
            assert type(client) is openai.OpenAI
            raw = client.chat.completions.with_raw_response.create(model="p", messages=ASK)
            assert raw.parse().choices[0].message.content == "Hello"
            assert (raw.headers["x-trivet-cache"], raw.headers["x-trivet-target"]) == ("miss", "a")
            stream = client.chat.completions.create(model="p", messages=ASK, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"
            assert [model.id for model in client.models.list()] == ["a", "p"]
            assert len(client.embeddings.create(model="a", input=["x", "y"]).data) == 2
        assert len(upstream.requests) == 2
    kept = entries(home)
    assert sorted((e.kind, e.cache, e.tenant) for e in kept) == [
        ("chat", "exact", "local"), ("chat", "miss", "local"), ("embeddings", "off", "local")]  # fmt: skip


async def test_an_async_client_works_in_any_loop_and_many_at_once(tmp_path: Path, home: Path) -> None:
    async with Upstream("Hel", "lo") as upstream:
        with await asyncio.to_thread(Engine, configured(tmp_path, upstream), tenant="acme") as engine:
            async with engine.async_openai() as client:
                asked = (
                    client.chat.completions.create(model="a", messages=ASK, seed=i, stream=False) for i in range(50)
                )
                answers = await asyncio.gather(*asked)
                assert {a.choices[0].message.content for a in answers} == {"Hello"}

                async def again() -> str | None:
                    answer = await client.chat.completions.create(model="a", messages=ASK)
                    return answer.choices[0].message.content

                assert await asyncio.to_thread(asyncio.run, again()) == "Hello"
            with engine.openai(max_retries=0) as blocking:  # the other client is closed, the engine is not
                assert await asyncio.to_thread(lambda: blocking.models.list().data[0].id) == "a"
            await asyncio.to_thread(engine.close)
    kept = entries(home)
    assert len(kept) == 51
    assert {e.tenant for e in kept} == {"acme"}


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_openais_own(tmp_path: Path, home: Path, *, stream: bool) -> None:
    async with Upstream(status=429, error={"message": "Slow down."}) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        client = engine.async_openai(max_retries=0)
        with pytest.raises(openai.RateLimitError, match=r"Slow down\."):
            await client.chat.completions.create(model="a", messages=ASK, stream=stream)
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await client.chat.completions.create(model="nobody", messages=ASK, stream=stream)
        with pytest.raises(openai.NotFoundError, match="/v1/images"):
            await client.images.generate(prompt="x")
        await asyncio.to_thread(engine.close)
    assert [e.outcome.status for e in entries(home)] == ["failed", "refused"]


async def test_a_stream_that_is_left_is_cancelled_at_the_target(tmp_path: Path, home: Path) -> None:
    async with Upstream("Hel", "lo", hang_after=1) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        client = engine.async_openai()
        stream = await client.chat.completions.create(model="a", messages=ASK, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await asyncio.wait_for(upstream.hung_up.wait(), WAIT_S)
        await asyncio.to_thread(engine.close)
    assert [e.outcome.status for e in entries(home)] == ["cancelled"]


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_timeout_of_the_client_ends_the_request(tmp_path: Path, home: Path, *, blocking: bool) -> None:
    async with Upstream("x", first_delay_s=60) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        more: Any = {"model": "a", "messages": ASK, "timeout": 0.2}
        waiting, blocked = engine.async_openai(max_retries=0), engine.openai(max_retries=0)
        asked = (
            asyncio.to_thread(lambda: blocked.chat.completions.create(**more))
            if blocking
            else waiting.chat.completions.create(**more)
        )
        with pytest.raises(openai.APITimeoutError):
            await asked
        await asyncio.wait_for(upstream.hung_up.wait(), WAIT_S)
        await asyncio.to_thread(engine.close)
    assert [e.outcome.status for e in entries(home)] == ["cancelled"]


async def test_a_reader_that_takes_nothing_holds_the_target_back(tmp_path: Path) -> None:
    piece = "x" * 100_000
    async with Upstream(script=lambda _: Answer(pieces=(piece,) * 200)) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        stream = await engine.async_openai().chat.completions.create(model="a", messages=ASK, stream=True)
        await asyncio.sleep(0.3)
        held = sum(len(p) for a in gc.get_objects() if type(a).__name__ == "Answer" and hasattr(a, "_pieces")
                   for p in a._pieces)  # fmt: skip
        assert 0 < held <= MAX_WAITING_BYTES + 400_000
        got = 0
        async for chunk in stream:
            got += len(chunk.choices[0].delta.content or "") if chunk.choices else 0
        assert got == 20_000_000
        await asyncio.to_thread(engine.close)


async def test_closing_ends_what_is_running_and_refuses_what_comes_after(tmp_path: Path, home: Path) -> None:
    async with Upstream("x", hang_after=0) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        client = engine.async_openai(max_retries=0)
        asking = asyncio.ensure_future(client.chat.completions.create(model="a", messages=ASK))
        await asyncio.to_thread(until, lambda: upstream.requests)
        await asyncio.to_thread(engine.close)
        with pytest.raises(openai.APIConnectionError):
            await asking
        with pytest.raises(openai.APIConnectionError):
            await client.models.list()
        engine.close()
    assert [e.outcome.status for e in entries(home)] == ["cancelled"]


async def test_a_reader_that_leaves_at_once_leaves_one_cancelled_entry(tmp_path: Path, home: Path) -> None:
    body = json.dumps({"model": "a", "messages": ASK, "stream": True}).encode()
    async with Upstream("Hel", "lo", hang_after=1) as upstream:
        engine = await asyncio.to_thread(Engine, configured(tmp_path, upstream))
        for _ in range(20):
            engine.ask("POST", "/v1/chat/completions", [], body).leave()
        await asyncio.to_thread(engine.close)
        assert not upstream.open
    assert [e.outcome.status for e in entries(home)] == ["cancelled"] * 20


def test_a_file_that_cannot_be_read_is_an_error_where_the_client_is_made(tmp_path: Path) -> None:
    path = tmp_path / "trivet.toml"
    path.write_text("[targets.a]\nmodle = 1\n")
    with pytest.raises(ConfigError, match=r"trivet\.toml:2"):
        trivet.openai(path)


BUILTIN = """
[embedder]
kind = "builtin"
"""
PROGRAM = """
import sys, trivet
client = trivet.openai(sys.argv[1])
answer = client.chat.completions.create(model="p", messages=[{"role": "user", "content": "hi"}])
print(answer.choices[0].message.content)
"""


@pytest.mark.parametrize("mode", ["exact", "verified"])
def test_a_program_that_never_closes_ends_by_itself_with_its_entries_kept(
    tmp_path: Path, home: Path, mode: str
) -> None:
    with Elsewhere(Upstream("Hel", "lo")) as upstream:
        path = configured(tmp_path, upstream)
        path.write_text(path.read_text().replace('mode = "exact"', f'mode = "{mode}"') + BUILTIN)
        argv = [sys.executable, "-c", PROGRAM, str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout, done.returncode) == ("Hello\n", 0), done.stderr
        assert done.stderr == ""
    assert [e.outcome.status for e in entries(home)] == ["ok"]
    assert not list((home / "ledger" / "journal").glob("*.log"))


def test_importing_trivet_imports_nothing_heavy() -> None:
    code = "import json, sys; import trivet; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"asyncio", "msgspec", "openai", "httptools", "sqlite3", "ssl"}.isdisjoint(json.loads(done.stdout))
