"""Provider `llamacpp`: a model of this machine through the Provider seam, and what it says while it cannot answer."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.upstream.engine_room import SMOLLM, alive, chat, kit_at, smollm, until
from trivet.config import EngineSettings, TargetSettings
from trivet.errors import ConfigError, NotReadyError, UnsupportedError, UpstreamError
from trivet.seams import Provider, load
from trivet.types import Chunk, Request
from trivet.upstream.embedded import MISSING, Embedded, build
from trivet.upstream.remote import Remote

REPOSITORY = Path(__file__).parents[2]


def target(model: str, *, name: str = "small", context: int = 512, base_url: str = "") -> TargetSettings:
    engine = EngineSettings(context=context, slots=2, threads=2)
    return TargetSettings(provider="llamacpp", model=model, name=name, engine=engine, base_url=base_url)


def request(*, stream: bool = False, **body: Any) -> Request:
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in ({"stream": stream} | body).items()}
    return Request(id="r1", tenant="t", model="small", fields=fields, stream=stream)


async def answer(provider: Provider, asked: Request) -> list[Chunk]:
    async with aclosing(provider.stream(asked)) as chunks:
        return [chunk async for chunk in chunks]


@asynccontextmanager
async def embedded(settings: TargetSettings, folder: Path, *, models: Path) -> AsyncGenerator[Embedded, None]:
    provider = build(settings, kit_at(folder, models=models))
    assert isinstance(provider, Embedded)
    try:
        await provider.start()
        yield provider
    finally:
        await provider.aclose()
        await provider.aclose()


@pytest.mark.slow
def test_a_model_of_the_catalog_answers_whole_and_streamed_with_its_usage(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(target(SMOLLM.name), tmp_path, models=smollm().parent) as provider:
            await until(lambda: provider.ready() == "")
            [whole] = await answer(provider, request(**chat("Say hello.")))
            assert whole.model == SMOLLM.name
            assert whole.speaks
            assert whole.usage is not None
            assert whole.usage.output_tokens > 0
            assert whole.opened is not None
            pieces = await answer(provider, request(stream=True, **chat("Say hello.")))
            assert sum(piece.speaks for piece in pieces) > 1
            assert [piece.finish for piece in pieces if piece.finish]
            [usage] = [piece.usage for piece in pieces if piece.usage]
            assert usage.input_tokens == whole.usage.input_tokens

    asyncio.run(main())


@pytest.mark.slow
def test_a_prompt_longer_than_the_context_is_refused_with_400_and_is_not_asked_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(target(str(smollm())), tmp_path, models=tmp_path) as provider:
            await until(lambda: provider.ready() == "")
            for stream in (False, True):
                with pytest.raises(UpstreamError, match="exceeds the available context size") as caught:
                    await answer(provider, request(stream=stream, **chat("word " * 600)))
                assert (caught.value.status, caught.value.again) == (400, False)

    asyncio.run(main())


@pytest.mark.slow
def test_a_child_killed_in_mid_answer_is_an_error_and_the_next_child_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(target(str(smollm()), context=4096), tmp_path, models=tmp_path) as provider:
            await until(lambda: provider.ready() == "")
            long = request(stream=True, **chat("Tell a story.", max_tokens=2000, ignore_eos=True))
            with pytest.raises(UpstreamError):
                await answer_while_killing(provider, long)
            await until(lambda: provider.ready() != "")
            with pytest.raises(NotReadyError) as caught:
                await answer(provider, request(**chat("Hello")))
            assert caught.value.status == 503
            assert caught.value.retry_after_s
            await until(lambda: provider.ready() == "")
            assert await answer(provider, request(**chat("Hello")))

    asyncio.run(main())


def child_of(provider: Embedded) -> int:
    assert provider._engine is not None
    assert provider._engine.pid is not None
    return provider._engine.pid


async def answer_while_killing(provider: Embedded, asked: Request) -> None:
    """Read an answer to its end, and kill the child at the first piece of it."""
    pid: int | None = child_of(provider)
    async with aclosing(provider.stream(asked)) as chunks:
        async for chunk in chunks:
            if chunk.speaks and pid is not None:
                os.kill(pid, signal.SIGKILL)
                pid = None


@pytest.mark.slow
def test_a_caller_that_leaves_frees_the_slot(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(target(str(smollm()), context=4096), tmp_path, models=tmp_path) as provider:
            await until(lambda: provider.ready() == "")
            for _ in range(4):  # two slots: were they not freed, the third would wait for 4000 tokens
                long = request(stream=True, **chat("Tell a story.", max_tokens=4000, ignore_eos=True))
                async with aclosing(provider.stream(long)) as chunks:
                    async for chunk in chunks:
                        if chunk.speaks:
                            break
            async with asyncio.timeout(30):
                assert await answer(provider, request(**chat("Hello")))

    asyncio.run(main())


@pytest.mark.slow
def test_two_models_answer_at_the_same_time(tmp_path: Path) -> None:
    async def main() -> None:
        model = str(smollm())
        async with (
            embedded(target(model), tmp_path, models=tmp_path) as small,
            embedded(target(model, name="large"), tmp_path, models=tmp_path) as large,
        ):
            await until(lambda: small.ready() == large.ready() == "")
            assert child_of(small) != child_of(large)
            answers = await asyncio.gather(*(answer(p, request(**chat("Hello"))) for p in (small, large, small)))
            assert all(chunks[-1].usage for chunks in answers)

    asyncio.run(main())


def test_embeddings_are_refused_before_the_model_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "any.gguf").touch()
        provider = Embedded(target("any"), tmp_path / "any.gguf", kit_at(tmp_path))
        asked = msgspec.structs.replace(request(input="hello"), kind="embeddings")
        with pytest.raises(UnsupportedError, match='provider = "embedder"') as caught:
            await answer(provider, asked)
        assert (caught.value.status, caught.value.again) == (400, True)
        await provider.aclose()

    asyncio.run(main())


def test_before_it_is_ready_it_says_how_far_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        os.mkfifo(tmp_path / "slow.gguf")  # opening it waits for ever
        provider = Embedded(target("slow"), tmp_path / "slow.gguf", kit_at(tmp_path))
        assert provider.ready() == "not started"
        await provider.start()
        try:
            await until(lambda: provider.ready() == "loading")
            with pytest.raises(NotReadyError, match="Target 'small' is not ready: loading") as caught:
                await answer(provider, request(**chat("Hello")))
            assert (caught.value.status, caught.value.code) == (503, "model_loading")
        finally:
            await provider.aclose()
        with pytest.raises(UpstreamError, match="stopped"):
            await answer(provider, request(**chat("Hello")))

    asyncio.run(main())


def test_a_file_that_is_no_model_is_an_error_of_the_target_not_a_wait(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "bad.gguf").write_bytes(b"no model")
        async with embedded(target(str(tmp_path / "bad.gguf")), tmp_path, models=tmp_path) as provider:
            await until(lambda: provider.ready().startswith("failed: "))
            with pytest.raises(UpstreamError, match="failed to load model") as caught:
                await answer(provider, request(**chat("Hello")))
            assert (caught.value.status, caught.value.code) == (503, "model_unavailable")

    asyncio.run(main())


def test_with_a_base_url_it_is_somebodys_own_server(tmp_path: Path) -> None:
    async def main() -> None:
        provider = build(target("any", base_url="http://127.0.0.1:9/v1"), kit_at(tmp_path))
        assert isinstance(provider, Remote)
        await provider.aclose()

    asyncio.run(main())


def test_a_model_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"targets\.small: no embedded model is called 'gpt-4o'.*smollm2-135m"):
        build(target("gpt-4o"), kit_at(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no file .*/nothing\.gguf"):
        build(target(str(tmp_path / "nothing.gguf")), kit_at(tmp_path))


def test_it_is_registered_as_llamacpp() -> None:
    assert load("trivet.provider", "llamacpp") is build


WITHOUT_RUNTIME = """
import asyncio, pathlib, sys
sys.path[:0] = sys.argv[2:]
from tests.upstream import engine_room, test_embedded
from trivet.errors import UpstreamError
async def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "a.gguf").write_bytes(b"")
    provider = test_embedded.build(test_embedded.target(str(folder / "a.gguf")), engine_room.kit_at(folder))
    await provider.start()
    print(provider.ready())
    try:
        await test_embedded.answer(provider, test_embedded.request(**engine_room.chat("Hello")))
    except UpstreamError as error:
        print(error.status, error)
    await provider.aclose()
asyncio.run(main())
"""


def test_without_the_runtime_it_says_what_to_install(tmp_path: Path) -> None:
    """In an interpreter that has everything but the runtime."""
    site = tmp_path / "site"
    site.mkdir()
    for folder in {Path(module).parent for module in (msgspec.__file__, pytest.__file__)}:
        for package in folder.parent.iterdir():
            if "xllamacpp" not in package.name and not (site / package.name).exists():
                (site / package.name).symlink_to(package)
    source = Path(sys.modules["trivet"].__file__ or "").parents[1]
    done = subprocess.run(
        [sys.executable, "-S", "-c", WITHOUT_RUNTIME, *map(str, (tmp_path, site, source, REPOSITORY))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ready, refused = done.stdout.splitlines()
    assert ready == MISSING
    assert refused == f"503 Target 'small': {MISSING}"


GATEWAY = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[3])
from tests.upstream import engine_room, test_embedded
async def main():
    provider = test_embedded.build(test_embedded.target(sys.argv[1]), engine_room.kit_at(pathlib.Path(sys.argv[2])))
    await provider.start()
    await engine_room.until(lambda: provider.ready() == "")
    print(test_embedded.child_of(provider), flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_of_the_gateway_leaves_no_engine(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(smollm()), str(tmp_path), str(REPOSITORY)], stdout=subprocess.PIPE
    ) as gateway:
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        assert alive(pid)
        gateway.kill()
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
