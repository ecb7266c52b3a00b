"""The engine: a child that is kept answering, whatever happens to it."""

import asyncio
import functools
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.upstream.engine_room import SMOLLM, alive, ask, chat, kit_at, seen_from_outside, smollm, until
from trivet.config import EngineSettings
from trivet.seams import Kit
from trivet.upstream.engine import PACE, Engine, Pace
from trivet.upstream.engine_child import NICENESS
from trivet.weights import Model, Store
from trivet.weights.catalog import Hub

SMALL = EngineSettings(context=512, slots=2, threads=2)
BRISK = Pace(first_wait_s=0.1, probe_every_s=0.2, probe_timeout_s=1.0, probes=2)


@asynccontextmanager
async def engine(
    weights: Model | Path, kit: Kit, *, name: str = "small", pace: Pace = PACE
) -> AsyncGenerator[Engine, None]:
    one = Engine(name, weights, SMALL, served_as="smol", kit=kit, pace=pace)
    one.start()
    try:
        yield one
    finally:
        await one.aclose()


def has(told: list[str], count: int) -> bool:
    return len(told) == count


async def answers(one: Engine) -> bool:
    assert one.address is not None
    url, key = one.address
    status, _ = await asyncio.to_thread(ask, url, "/v1/chat/completions", chat("Hello"), key=key.reveal())
    return status == 200


@pytest.mark.slow
def test_it_becomes_ready_answers_and_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[str] = []
        async with engine(smollm(), kit_at(tmp_path, told)) as one:
            assert one.state.words
            await until(lambda: one.address)
            assert one.state.words == ""
            assert await answers(one)
            assert one.pid is not None
            pid = one.pid
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
            assert one.address is not None
            assert one.address.key.reveal().encode() not in seen_from_outside(pid)
        assert not alive(pid)
        assert one.state.failed
        await one.aclose()
        assert "listening on http://127.0.0.1:" in (tmp_path / "engines" / "small.log").read_text()
        assert any(line.startswith("small: ready after ") for line in told)

    asyncio.run(main())


@pytest.mark.slow
def test_a_child_that_is_killed_is_replaced_and_the_new_one_has_another_key(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[str] = []
        async with engine(smollm(), kit_at(tmp_path, told), pace=BRISK) as one:
            await until(lambda: one.address)
            first, address = one.pid, one.address
            assert first is not None
            assert address is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: one.address is None)
            await until(lambda: one.address)
            assert one.pid != first
            assert one.address is not None
            assert one.address.key != address.key
            assert await answers(one)
        assert any("restarting in 0.1 s: it was killed by SIGKILL" in line for line in told)

    asyncio.run(main())


@pytest.mark.slow
def test_a_child_that_is_stuck_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[str] = []
        async with engine(smollm(), kit_at(tmp_path, told), pace=BRISK) as one:
            await until(lambda: one.address)
            first = one.pid
            assert first is not None
            os.kill(first, signal.SIGSTOP)
            await until(lambda: one.address is not None and one.pid != first)
            assert not alive(first)
            assert await answers(one)
        assert any("did not answer /health 2 times in a row" in line for line in told)

    asyncio.run(main())


def test_waits_between_restarts_grow_up_to_the_longest(tmp_path: Path) -> None:
    """A child that ends at once, again and again: here because the kernel kills it while it loads."""

    async def main() -> None:
        told: list[str] = []
        pace = Pace(first_wait_s=0.2, longest_wait_s=0.4)
        os.mkfifo(tmp_path / "fifo.gguf")  # opening it never returns, so it is always loading when it is killed
        async with engine(tmp_path / "fifo.gguf", kit_at(tmp_path, told), pace=pace) as one:
            for tries in range(1, 4):
                await until(lambda: one.pid is not None)
                assert one.pid is not None
                os.kill(one.pid, signal.SIGKILL)
                await until(functools.partial(has, told, tries))
                assert one.state.words.startswith("restarting in ") or one.state.words == "loading"
        waits = [float(line.split("restarting in ")[1].split(" s")[0]) for line in told]
        assert 0.1 <= waits[0] <= 0.2
        assert all(0.2 <= wait <= 0.4 for wait in waits[1:])
        assert "while it was loading" in told[0]

    asyncio.run(main())


def test_a_file_that_is_no_model_fails_for_good_with_the_words_of_the_log(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "bad.gguf").write_bytes(b"no model at all")
        async with engine(tmp_path / "bad.gguf", kit_at(tmp_path)) as one:
            await until(lambda: one.state.failed)
            assert one.state.words.startswith("failed: ")
            assert "failed to load model" in one.state.words
            assert one.address is None

    asyncio.run(main())


def test_weights_that_cannot_be_had_fail_with_each_source(tmp_path: Path) -> None:
    async def main() -> None:
        model = msgspec.structs.replace(SMOLLM, sources=(), sha256="0" * 64)
        async with engine(model, kit_at(tmp_path)) as one:
            await until(lambda: one.state.failed)
            assert "no source is known for it" in one.state.words

    asyncio.run(main())


@asynccontextmanager
async def hub_of(content: bytes, gate: asyncio.Event) -> AsyncGenerator[str, None]:
    """A hub that gives the first 40 % of a file, and the rest when the gate opens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content))
            writer.write(content[: len(content) * 2 // 5])
            await writer.drain()
            await gate.wait()
            writer.write(content[len(content) * 2 // 5 :])
            await writer.drain()
        except OSError:
            pass  # it was left
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        gate.set()
        server.close()
        await server.wait_closed()


@pytest.mark.slow
def test_the_small_one_answers_while_the_large_one_is_still_being_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        told: list[str] = []
        gate = asyncio.Event()
        large = msgspec.structs.replace(SMOLLM, sources=(Hub(repository="a/b", file="c.gguf"),))
        kit = kit_at(tmp_path, told)
        async with hub_of(smollm().read_bytes(), gate) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            async with (
                engine(smollm(), kit) as first,
                engine(large, kit, name="large") as second,
            ):
                await until(lambda: first.address and "fetching 3" in second.state.words)
                assert await answers(first)
                assert second.address is None
                gate.set()
                await until(lambda: second.address)
                assert await answers(first)
                assert await answers(second)
        percents = [line for line in told if line.startswith("large: fetching ")]
        assert 2 <= len(percents) <= 22  # a line for each 5 %
        assert Store(tmp_path / "models").find(large)

    asyncio.run(main())


@pytest.mark.slow
def test_an_engine_that_is_closed_in_mid_fetch_stops_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate, content = asyncio.Event(), os.urandom(1 << 22)
        model = msgspec.structs.replace(
            SMOLLM, sources=(Hub(repository="a/b", file="c.gguf"),), size_bytes=len(content), sha256="0" * 64
        )
        async with hub_of(content, gate) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            async with engine(model, kit_at(tmp_path)) as one:
                await until(lambda: one.state.words.startswith("fetching "))
            assert one.state.words == "stopped"
        assert Store(tmp_path / "models").find(model) is None

    asyncio.run(main())
