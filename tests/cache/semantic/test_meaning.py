"""What a question means, as a vector: of the text, or of text and context; and what an embedder does wrong."""

import math

import numpy as np
import pytest

from tests.cache.semantic.hashed import WIDTH, Hashed
from trivet.cache.key import Question
from trivet.cache.semantic.meaning import MAX_CHARACTERS, Troubles, text_of, vector_of

pytestmark = pytest.mark.anyio


async def means(text: str, context: str = "", embedder: Hashed | None = None) -> "np.ndarray":
    found = await vector_of(Question(b"", text, context), embedder or Hashed(), Troubles(print))
    assert found.vector is not None
    return found.vector


async def test_the_cosine_of_two_with_contexts_is_the_mean_of_both_cosines() -> None:
    one, other = await means("a b", "c d"), await means("a b", "c e")
    assert one.shape == (2 * WIDTH,)
    assert one.dtype == np.float32
    assert float(one @ one) == pytest.approx(1.0, abs=1e-5)
    assert float(one @ other) == pytest.approx((1.0 + 0.5) / 2, abs=1e-5)
    assert (await means("a b")).shape == (WIDTH,)


@pytest.mark.parametrize(
    ("text", "context"),
    [("?!", ""), ("a", "?!"), ("a " * 65, ""), ("a", "b " * 65), ("a" * (MAX_CHARACTERS // 2), "b" * MAX_CHARACTERS)],
    ids=["nothing", "nothing before", "long", "long before", "megabytes"],
)
async def test_what_is_not_read_as_a_whole_has_no_vector_and_that_is_no_trouble(text: str, context: str) -> None:
    troubles = Troubles(print)
    assert await vector_of(Question(b"", text, context), Hashed(), troubles) == (None, False)
    assert not troubles.counts.total()


@pytest.mark.parametrize(
    ("kind", "how"), [("not_ready", "unready"), ("failed", "fails"), ("slow", "hangs"), ("shape", "wide")]
)
async def test_what_an_embedder_does_wrong_is_counted_and_told_once_until_it_works_again(kind: str, how: str) -> None:
    told: list[str] = []
    embedder, troubles = Hashed(), Troubles(told.append)
    whole = getattr(embedder, how)
    for count in (1, 2):
        setattr(embedder, how, 3 if how == "wide" else "so it is")
        for _ in range(2):
            found = await vector_of(Question(b"", "a", "b"), embedder, troubles, patience_s=0.01)
            assert found == (None, True)
        setattr(embedder, how, whole)
        assert (await vector_of(Question(b"", "a", "b"), embedder, troubles)).vector is not None
        assert (troubles.counts[kind], len(told)) == (2 * count, count)
    assert math.prod(f"({kind})" in line for line in told)


async def test_the_text_alone_has_the_vector_that_it_has_without_a_context() -> None:
    asked = Question(b"", "a b", "c d")
    both = await means("a b", "c d")
    assert text_of(both, asked) == pytest.approx(await means("a b"), abs=1e-6)
    assert text_of(both, asked).dtype == np.float32
    alone = await means("a b")
    assert text_of(alone, Question(b"", "a b")) is alone
