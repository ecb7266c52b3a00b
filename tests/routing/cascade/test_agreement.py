"""Which answers say the same: values, final answers, meanings."""

import asyncio
import json
from pathlib import Path

import pytest

from trivet.config import EmbedderSettings
from trivet.embed.builtin import build as build_embedder
from trivet.routing.cascade.agreement import Agreement
from trivet.testing.house import kit

pytestmark = pytest.mark.anyio

STEPS = "First there are 3 crates of 12, which are 36 bottles. Then 4 break. "


def said(content: str | None, **more: object) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def calls(arguments: str) -> bytes:
    return said(None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (said("Paris"), said("paris "), True),
        (said("Paris"), said("Lyon"), False),
        (said("B"), said("Because it is warm, the answer is (B)."), True),
        (said("B"), said("Because it is warm, the answer is (C)."), False),
        (said(STEPS + "So 32 are left."), said("32"), True),
        (said(STEPS + "So 32 are left."), said("#### 31"), False),
        (said(STEPS + "#### 32"), said("36 minus 4 is 32, so \\boxed{32}."), True),
        (said(STEPS + "So 32 are left."), said(STEPS + "So 33 are left."), False),
        (said('{"a": 1, "b": 2}'), said('{"b": 2, "a": 1}'), True),
        (said('{"a": 1}'), said('{"a": 2}'), False),
        (calls('{"x": 1, "y": 2}'), calls('{"y": 2, "x": 1}'), True),
        (calls('{"x": 1}'), calls('{"x": 2}'), False),
        (calls('{"x": 1}'), said("1"), False),
        (said("1/2"), said("0.5"), True),
        (said("$1,200"), said("The total is large. The answer is 1200."), True),
    ],
)
async def test_two_answers(one: bytes, other: bytes, *, same: bool) -> None:
    for pair in ([one, other], [other, one]):
        sides = await Agreement(None).sides(pair, compare="likeness")
        assert sides == ([[0, 1]] if same else [[0], [1]])


async def test_sides_are_in_the_order_of_their_first() -> None:
    answers = [said(word) for word in ("x", "y", "X", "z", "y")]
    assert await Agreement(None).sides(answers, compare="equality") == [[0, 2], [1, 4], [3]]
    assert await Agreement(None).sides([], compare="equality") == []


async def test_answers_in_prose_agree_by_their_meaning(tmp_path: Path) -> None:
    embedder = build_embedder(EmbedderSettings(), kit(tmp_path))
    await embedder.start()
    for _ in range(500):
        if not embedder.ready():
            break
        await asyncio.sleep(0.02)
    one = "The Treaty of Westphalia ended the Thirty Years' War in the Holy Roman Empire and was signed in Osnabrück."
    other = "It ended the Thirty Years' War in the Holy Roman Empire: the Treaty of Westphalia was signed in Osnabrück."
    far = "Sourdough bread needs a starter of flour and water that has fermented for several days in a warm place."
    agreement = Agreement(embedder)
    three = [said(one), said(other), said(far)]
    assert await agreement.sides(three, compare="likeness") == [[0, 1], [2]]
    assert await agreement.sides(three, compare="equality") == [[0], [1], [2]]
    await embedder.aclose()
    assert await agreement.sides(three, compare="likeness") == [[0], [1], [2]], "a lost embedder is no agreement"
