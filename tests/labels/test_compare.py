"""Two answers say the same, or not, or nobody can say: by the word that the policy has for it."""

import json
from collections.abc import Sequence

import pytest

from tests.cache.semantic.hashed import Hashed
from tests.cache.semantic.test_tier import said
from trivet.errors import EmbedderError
from trivet.labels.compare import Asks, Verdict, compared, heard
from trivet.seams import Embedder, Vectors

pytestmark = pytest.mark.anyio
ONE, OTHER = said("the tallest mountain on earth is everest"), said("everest is the tallest mountain on earth")
ELSE = said("boil the egg for seven minutes")


class Broken(Hashed):
    """An embedder that fails."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        raise EmbedderError("broken")


async def by(word: str, one: bytes, other: bytes, embedder: Embedder | None = None) -> Verdict | Asks | None:
    return await compared(one, other, by=word, question="which is it?", embedder=embedder)


@pytest.mark.parametrize("word", ["equality", "likeness", "grader"])
async def test_what_needs_no_meaning_is_settled_by_every_judge(word: str) -> None:
    assert await by(word, ONE, said("The tallest  mountain on earth is Everest")) == Verdict(same=True)
    assert await by(word, said("it is 4"), said("it is 5")) == Verdict(same=False)
    assert await by(word, ONE, b"no answer") is None


async def test_prose_is_compared_as_the_policy_says() -> None:
    assert await by("equality", ONE, OTHER) == Verdict(same=False)
    alike = await by("likeness", ONE, OTHER, Hashed())
    assert isinstance(alike, Verdict)
    assert (alike.same, alike.source) == (True, "shadow")
    assert alike.likeness == pytest.approx(1.0)
    unlike = await by("likeness", ONE, ELSE, Hashed())
    assert isinstance(unlike, Verdict)
    assert (unlike.same, (unlike.likeness or 1.0) < 0.8) == (False, True)


async def test_without_an_embedder_nothing_is_said_by_likeness() -> None:
    assert await by("likeness", ONE, OTHER) is None
    assert await by("likeness", ONE, OTHER, Broken()) is None


async def test_a_model_is_asked_in_both_orders_and_counts_where_it_agrees_with_itself() -> None:
    asks = await by("grader", ONE, OTHER)
    assert isinstance(asks, Asks)
    assert len(asks.fields) == 2
    assert b"which is it?" in bytes(asks.fields[0]["messages"])
    assert heard([said("SAME"), said("SAME.")], asks) == Verdict(same=True, source="judge")
    assert heard([said("DIFFERENT"), said("DIFFERENT")], asks) == Verdict(same=False, source="judge")
    unclear: list[list[bytes | None]] = [[said("SAME"), said("DIFFERENT")], [said("SAME")], [None]]
    assert [heard(bodies, asks) for bodies in unclear] == [None] * 3
    assert await by("grader", ONE, said("x" * 5000)) is None  # too long to be shown to anybody


async def test_json_is_compared_as_a_value() -> None:
    one, other = (said(json.dumps(value)) for value in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}))
    assert await by("equality", one, other) == Verdict(same=True)
