"""How an embedder is loaded: once, again after it failed, and never after it was closed."""

import asyncio
import threading
from pathlib import Path

import pytest

from tests.embed.test_batches import Letters
from trivet.embed.resident import RETRY_S, Model, Resident, Tell
from trivet.errors import EmbedderError, WeightsError
from trivet.testing.cache_suite import Hands
from trivet.testing.house import kit

pytestmark = pytest.mark.anyio


class Loads:
    """A load that does what it is told, and counts."""

    def __init__(self) -> None:
        self.count, self.error = 0, ""
        self.began, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, tell: Tell) -> Letters:
        self.count += 1
        self.began.set()
        tell("fetching 7 % from a place")
        assert self.gate.wait(10)
        tell("loading")
        if self.error:
            raise WeightsError(self.error)
        return Letters()


def resident(loads: Loads, folder: Path, *, clock: Hands, told: list[str] | None = None) -> Resident:
    model = Model(kind="letters", name="letters-1", digest="d" * 64, width=26, max_tokens=100, load=loads)
    return Resident(model, kit(folder, clock=clock, tell=(told if told is not None else []).append))


async def test_it_is_loaded_once_by_whoever_comes_first(tmp_path: Path) -> None:
    loads, told = Loads(), list[str]()
    embedder = resident(loads, tmp_path, clock=Hands(), told=told)
    assert embedder.ready() == "not started"
    loads.gate.clear()
    asked = [asyncio.ensure_future(embedder.embed(["abc"])) for _ in range(5)]
    while embedder.ready() != "fetching 7 % from a place":  # noqa: ASYNC110  # its state is words, as people see them
        await asyncio.sleep(0.01)
    asked[0].cancel()
    loads.gate.set()
    answers = await asyncio.gather(*asked[1:])
    assert [answer.tokens for answer in answers] == [(3,)] * 4
    assert (loads.count, embedder.ready()) == (1, "")
    assert told == ["embedder letters: fetching 7 % from a place", "embedder letters: loading"]
    await embedder.aclose()


async def test_a_load_that_failed_is_told_and_tried_again_after_a_while(tmp_path: Path) -> None:
    loads, clock, told = Loads(), Hands(), list[str]()
    loads.error = "no network"
    embedder = resident(loads, tmp_path, clock=clock, told=told)
    for _ in range(3):
        with pytest.raises(EmbedderError, match="not ready: failed: no network"):
            await embedder.embed(["a"])
    assert loads.count == 1
    assert told[-1] == "embedder letters: failed: no network"
    loads.error = ""
    clock.ns += int((RETRY_S + 1) * 1e9)
    assert (await embedder.embed(["a"])).tokens == (1,)
    assert (loads.count, embedder.ready()) == (2, "")
    await embedder.aclose()


async def test_closing_ends_a_fetch(tmp_path: Path) -> None:
    loads = Loads()
    embedder = resident(loads, tmp_path, clock=Hands())
    loads.gate.clear()
    await embedder.start()
    await asyncio.to_thread(loads.began.wait, 10)
    closing = asyncio.ensure_future(embedder.aclose())
    await asyncio.sleep(0)
    loads.gate.set()
    await closing
    assert embedder.ready() == "closed"
    with pytest.raises(EmbedderError):
        await embedder.embed(["a"])
    await embedder.start()
    assert loads.count == 1
