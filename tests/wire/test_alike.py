"""Two answers say the same if they mean the same, as far as that can be told without asking anybody."""

import json
from typing import Any

import pytest

from tests.cache.semantic.hashed import Hashed
from trivet.wire.alike import same

pytestmark = pytest.mark.anyio

LONG = " ".join(f"step {i} is to turn the handle of the door" for i in range(60))


def said(content: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content, **more}}]}).encode()


def called(name: str, arguments: str) -> bytes:
    return said(None, tool_calls=[{"id": "any", "function": {"name": name, "arguments": arguments}}])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (said("It is  Paris.\n"), said("it is paris."), True),
        (said("the capital of france is paris"), said("paris is the capital of france"), True),
        (said("the capital of france is paris"), said("nobody has ever known such a thing"), False),
        (said("it costs 15 euros a month"), said("it costs 25 euros a month"), False),
        (said(LONG), said(LONG.replace("step 3 ", "step three ")), True),
        (said(""), said("something"), False),
        (said('{"a": 1, "b": [2]}'), said('{"b":[2],"a":1}'), True),
        (said('{"a": 1}'), said('{"a": 2}'), False),
        (said('{"a": 1}'), said("a is 1"), False),
        (called("f", '{"x": 1}'), called("f", '{ "x":1 }'), True),
        (called("f", '{"x": 1}'), called("g", '{"x": 1}'), False),
        (called("f", "{}"), said("f"), False),
        (said(None), said("a"), None),
        (b"not json", said("a"), None),
        (said("word " * 50_000), said("word " * 50_000), None),
        (said("word " * 3_000), said("word " * 2_999 + "end"), True),
        (said("x" * 9_000), said("y" * 9_000), False),
        (b'{"choices": []}', said("a"), None),
        (called("f", "{broken"), said("a"), None),
    ],
)
async def test_the_same_is_said_or_not(one: bytes, other: bytes, *, alike: bool | None) -> None:
    assert await same(one, other, Hashed()) is alike
    assert await same(other, one, Hashed()) is alike
