"""The thread: taken in turns, bounded, cancelled, failing and closed, with an encoder that waits when it is told to."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from trivet.embed.batches import MAX_CHARACTERS, MAX_TEXTS, MAX_WAITING, Batches
from trivet.errors import EmbedderError
from trivet.seams import Vectors

pytestmark = pytest.mark.anyio


class Letters:
    """Makes of each text how often each letter is in it."""

    width = 26

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        """The lengths of the texts of each run."""
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        return [ord(c) - 97 for c in text if c.islower()][:100], len(text) > 100

    def rows(self, ids: Sequence[Sequence[int]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        self.entered.set()
        assert self.gate.wait(10)
        self.runs.append([len(one) for one in ids])
        if any(one and one[0] == 25 for one in ids):
            raise RuntimeError("it cannot do z")
        return np.stack([np.bincount(one, minlength=26).astype(np.float32) for one in ids])


@pytest.fixture
def letters() -> Letters:
    return Letters()


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def test_each_text_has_its_own_row_whatever_its_place_and_length(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    texts = ["abc", "a" * 100, "", "b" * 150, "c"] * 30
    told = await batches.embed(texts)
    expected = [np.bincount(letters.read(t)[0], minlength=26) for t in texts]
    assert np.array_equal(told.rows, np.stack(expected).astype(np.float32))
    assert told.tokens == (3, 100, 0, 100, 1) * 30
    assert told.cut == (False, False, False, True, False) * 30
    await batches.aclose()


async def test_texts_in_one_run_are_about_as_long_as_each_other(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    await batches.embed(["a" * n for n in (1, 2, 90, 95, 3, 10)])
    assert letters.runs == [[1, 2, 3, 10], [90, 95]]
    await batches.aclose()


async def test_requests_that_wait_are_put_together_up_to_a_bound(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    letters.gate.clear()
    first = asyncio.ensure_future(batches.embed(["a"]))
    await until(letters.entered)
    more = [asyncio.ensure_future(batches.embed(["b"])) for _ in range(MAX_TEXTS + 1)]
    await asyncio.sleep(0)
    letters.gate.set()
    await asyncio.gather(first, *more)
    assert [len(run) for run in letters.runs] == [1, MAX_TEXTS, 1]
    letters.runs.clear()
    await batches.embed(["a" * (MAX_CHARACTERS // 2)] * 4)
    assert [len(run) for run in letters.runs] == [2, 2]
    await batches.aclose()


async def test_one_text_is_not_held_up_by_a_request_of_many(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    letters.gate.clear()
    many = asyncio.ensure_future(batches.embed(["a" * 50] * 1000))
    await until(letters.entered)
    one = asyncio.ensure_future(batches.embed(["b" * 49]))
    await asyncio.sleep(0)
    letters.gate.set()
    await asyncio.gather(one, many)
    assert [49 in run for run in letters.runs][:2] == [False, True]
    assert len(letters.runs) > 30
    await batches.aclose()


async def test_more_than_may_wait_is_refused_and_a_cancelled_request_makes_room(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    letters.gate.clear()
    running = asyncio.ensure_future(batches.embed(["a"]))
    await until(letters.entered)
    waiting = asyncio.ensure_future(batches.embed(["b"] * MAX_WAITING))
    await asyncio.sleep(0)
    with pytest.raises(EmbedderError, match=f"{MAX_WAITING} texts are waiting") as caught:
        await batches.embed(["c"])
    assert caught.value.retry_after_s
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    later = asyncio.ensure_future(batches.embed(["c"]))
    await asyncio.sleep(0)
    letters.gate.set()
    assert isinstance(await running, Vectors)
    assert (await later).rows[0, 2] == 1
    assert letters.runs == [[1], [1]]
    await batches.aclose()


async def test_a_run_that_fails_tells_its_requests_and_the_next_one_works(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    with pytest.raises(EmbedderError, match="RuntimeError: it cannot do z"):
        await batches.embed(["z"])
    with pytest.raises(EmbedderError, match="cannot do z"):
        await batches.embed(["z" * 50] * 200)
    assert (await batches.embed(["a"])).rows[0, 0] == 1
    await batches.aclose()


async def test_what_waits_when_it_is_closed_is_told(letters: Letters) -> None:
    batches = Batches(letters, name="letters")
    letters.gate.clear()
    running = asyncio.ensure_future(batches.embed(["a"]))
    await until(letters.entered)
    waiting = asyncio.ensure_future(batches.embed(["b"]))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(batches.aclose())
    with pytest.raises(EmbedderError, match="was closed"):
        await waiting
    letters.gate.set()
    await closing
    assert (await running).rows[0, 0] == 1
    with pytest.raises(EmbedderError, match="is closed"):
        await batches.embed(["a"])
    assert not [t for t in threading.enumerate() if t.name == "embedder letters"]


def test_a_loop_that_is_gone_is_no_trouble_for_the_next(letters: Letters) -> None:
    batches = Batches(letters, name="letters")

    async def leave() -> None:
        letters.gate.clear()
        task = asyncio.ensure_future(batches.embed(["a"]))
        await until(letters.entered)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(leave())
    letters.gate.set()
    told = asyncio.run(batches.embed(["b"]))
    assert told.rows[0, 1] == 1
    asyncio.run(batches.aclose())
