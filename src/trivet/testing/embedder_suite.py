"""What every Embedder must do: `class TestMine(EmbedderSuite)`, and say how yours is built."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
import pytest

from trivet.errors import EmbedderError
from trivet.seams import Embedder

NEAR = 1e-3
"""Between the numbers of one text alone and among others: sums of float32 in another order differ by less."""

TEXTS = (
    "How do I reset my password?",
    "I forgot my password and need a new one.",
    "What is the capital of France?",
    "Turn dark mode on",
    "naïve café, Straße, ÅNGSTRÖM",
    "你好, 世界",
    "مرحبا بالعالم",
    "👩‍👩‍👧 emoji \U0001f600",
    "a\u0301 combining, zero\u200bwidth, nul\x00byte, lone \ud800 surrogate",
    "x",
    "[CLS] [SEP] [PAD] ##ing",
    "3.14159 + 2.71828 = 5.85987",
)


class EmbedderSuite:
    """Inherit, and build yours in `make`; the model's file may be fetched."""

    pytestmark = pytest.mark.anyio

    def make(self) -> Embedder:
        """Build one that is not started."""
        raise NotImplementedError

    @pytest.fixture
    async def embedder(self) -> AsyncGenerator[Embedder, None]:
        embedder = self.make()
        async with aclosing(embedder):
            await _started(embedder)
            yield embedder

    async def test_rows_are_float32_of_its_width_and_of_unit_length(self, embedder: Embedder) -> None:
        rows, tokens, cut = await embedder.embed(TEXTS)
        assert rows.shape == (len(TEXTS), embedder.width)
        assert rows.dtype == np.float32
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
        assert len(tokens) == len(TEXTS)
        assert min(tokens) >= 1
        assert cut == (False,) * len(TEXTS)

    async def test_a_text_has_one_vector_alone_among_others_and_again(self, embedder: Embedder) -> None:
        together = (await embedder.embed([*TEXTS, *TEXTS])).rows
        again = (await embedder.embed([*TEXTS, *TEXTS])).rows
        alone = np.concatenate([(await embedder.embed([text])).rows for text in TEXTS])
        assert np.array_equal(together, again)
        for rows in (together[: len(TEXTS)], together[len(TEXTS) :]):
            assert np.abs(rows - alone).max() < NEAR

    async def test_a_text_beside_one_that_is_far_longer_keeps_its_vector(self, embedder: Embedder) -> None:
        alone = (await embedder.embed(TEXTS[:1])).rows[0]
        beside = (await embedder.embed([TEXTS[0], "so " * 90, TEXTS[0]])).rows
        assert np.abs(beside[[0, 2]] - alone).max() < NEAR

    async def test_what_means_the_same_is_nearer_than_what_does_not(self, embedder: Embedder) -> None:
        rows = (await embedder.embed(TEXTS[:3])).rows
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1

    async def test_a_text_without_a_token_is_zeros(self, embedder: Embedder) -> None:
        rows, tokens, cut = await embedder.embed(["", " \n", TEXTS[0]])
        assert not rows[:2].any()
        assert rows[2].any()
        assert (tokens[:2], cut) == ((0, 0), (False,) * 3)

    async def test_no_texts_are_no_rows(self, embedder: Embedder) -> None:
        rows, tokens, cut = await embedder.embed([])
        assert (rows.shape, tokens, cut) == ((0, embedder.width), (), ())

    async def test_what_is_left_out_of_a_long_text_is_told(self, embedder: Embedder) -> None:
        whole, longer = "word " * embedder.max_tokens, "word " * (embedder.max_tokens + 5)
        rows, tokens, cut = await embedder.embed([whole, longer, longer + "something else"])
        assert tokens == (embedder.max_tokens,) * 3
        assert cut == (False, True, True)
        assert np.abs(rows[1:] - rows[0]).max() < NEAR

    async def test_a_shorter_vector_is_still_one(self, embedder: Embedder) -> None:
        assert 1 <= embedder.min_width <= embedder.width
        rows = (await embedder.embed(TEXTS[:3])).rows[:, : embedder.min_width]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1

    async def test_its_name_is_known_before_the_start_and_its_digest_then_or_when_it_is_ready(
        self, embedder: Embedder
    ) -> None:
        other = self.make()
        async with aclosing(other):
            assert other.name == embedder.name != ""
            assert (other.digest == "") == (other.width == 0)
            if not other.digest:
                await _started(other)
            assert (other.digest, other.width) == (embedder.digest, embedder.width)
            assert other.max_tokens == embedder.max_tokens
            assert len(other.digest) >= 32

    async def test_many_at_once_do_not_mix(self, embedder: Embedder) -> None:
        expected = (await embedder.embed(TEXTS)).rows
        sizes = [1 + i % len(TEXTS) for i in range(40)]
        answers = await asyncio.gather(*(embedder.embed(TEXTS[:size]) for size in sizes))
        for size, answer in zip(sizes, answers, strict=True):
            assert np.abs(answer.rows - expected[:size]).max() < NEAR

    async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(self, embedder: Embedder) -> None:
        expected = (await embedder.embed(TEXTS)).rows
        tasks = [asyncio.ensure_future(embedder.embed([*TEXTS] * 20)) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [answer for answer in done if not isinstance(answer, BaseException)]
        assert len(answers) >= 3
        assert all(np.abs(answer.rows[: len(TEXTS)] - expected).max() < NEAR for answer in answers)

    async def test_it_can_be_started_twice_and_closed_twice_and_then_says_so(self, embedder: Embedder) -> None:
        await embedder.start()
        assert embedder.ready() == ""
        await embedder.aclose()
        await embedder.aclose()
        assert embedder.ready()
        with pytest.raises(EmbedderError):
            await embedder.embed(TEXTS[:1])

    async def test_one_that_was_never_started_can_be_closed(self) -> None:
        await self.make().aclose()


async def _started(embedder: Embedder) -> None:
    await embedder.start()
    async with asyncio.timeout(300):
        while words := embedder.ready():
            assert not words.startswith("failed"), words
            await asyncio.sleep(0.02)
