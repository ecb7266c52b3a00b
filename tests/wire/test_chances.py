"""Chances of tokens: asked for, and taken out again."""

import json

import pytest

from trivet.testing.cache_suite import ask
from trivet.types import Chunk
from trivet.wire.chances import asking, without


def test_a_request_asks_for_them_once() -> None:
    plain = ask()
    asked = asking(plain)
    assert bytes(asked.fields["logprobs"]) == b"true"
    assert "logprobs" not in plain.fields
    assert asking(asked) is asked
    assert {n: v for n, v in asked.fields.items() if n != "logprobs"} == dict(plain.fields)


def test_all_but_them_goes_on_as_it_came() -> None:
    data = (
        b'{"id":"x","big":1e400,"choices":[{"index":0,"delta":{"content":"hi"},"logprobs":{"content":[1]}}],"new":{}}'
    )
    chunk = Chunk(data, speaks=True, finish="stop")
    bare = without(chunk)
    assert b'"big":1e400' in bare.data
    assert json.loads(bare.data)["choices"] == [{"index": 0, "delta": {"content": "hi"}, "logprobs": None}]
    assert (bare.speaks, bare.finish) == (True, "stop")


@pytest.mark.parametrize(
    "data", [b"{}", b'{"choices":[]}', b'"logprobs"', b'{"logprobs":1}', b'{"choices":[{"index":0}]}']
)
def test_what_has_none_is_left_alone(data: bytes) -> None:
    chunk = Chunk(data)
    assert json.loads(without(chunk).data) == json.loads(data)
