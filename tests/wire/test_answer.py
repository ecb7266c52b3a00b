"""Pieces make a whole answer, and a whole answer makes pieces that say the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UpstreamError
from trivet.types import Usage
from trivet.wire.answer import join, split

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1", "system_fingerprint": "f"}


def piece(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return json.dumps({**HEAD, "choices": [choice], "usage": None}).encode()


def test_text_is_put_together_with_its_usage() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = json.dumps({**HEAD, "choices": [], "usage": usage}).encode()
    whole = json.loads(
        join(
            [
                piece({"role": "assistant", "content": ""}),
                piece({"content": "Hel"}),
                piece({"content": "lo"}),
                piece({}, finish="stop"),
                last,
            ]
        )
    )
    assert whole["object"] == "chat.completion"
    assert whole["choices"] == [
        {"message": {"role": "assistant", "content": "Hello"}, "index": 0, "finish_reason": "stop"}
    ]
    assert whole["usage"] == usage
    assert (whole["id"], whole["model"], whole["system_fingerprint"]) == ("c1", "m-1", "f")


def test_tool_calls_are_put_together_by_their_index() -> None:
    def call(index: int, **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, **more}]}

    whole = json.loads(
        join(
            [
                piece({"role": "assistant", "content": None}),
                piece(call(0, id="a", type="function", function={"name": "f", "arguments": ""})),
                piece(call(1, id="b", type="function", function={"name": "g", "arguments": "{"})),
                piece(call(0, function={"arguments": '{"x":'})),
                piece(call(0, function={"arguments": "1}"})),
                piece(call(1, function={"arguments": "}"})),
                piece({}, finish="tool_calls"),
            ]
        )
    )
    message = whole["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_choices_that_interleave_stay_apart_and_logprobs_grow() -> None:
    def logs(token: str) -> dict[str, Any]:
        return {"logprobs": {"content": [{"token": token, "logprob": -1.0}], "refusal": None}}

    whole = json.loads(
        join(
            [
                piece({"content": "a"}, index=1, **logs("a")),
                piece({"content": "x", "reasoning_content": "h"}, **logs("x")),
                piece({"content": "b"}, index=1, finish="length", **logs("b")),
                piece({"content": "y", "reasoning_content": "m"}, finish="stop", **logs("y")),
            ]
        )
    )
    first, second = whole["choices"]
    assert (first["message"]["content"], first["message"]["reasoning_content"]) == ("xy", "hm")
    assert (second["message"]["content"], second["finish_reason"]) == ("ab", "length")
    assert [t["token"] for t in second["logprobs"]["content"]] == ["a", "b"]


MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.text(min_size=1)},
    optional={"reasoning_content": st.text(min_size=1), "annotations": st.lists(st.integers(), min_size=1)},
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text(min_size=1), "arguments": st.text()}),
        }
    ),
    min_size=1,
    max_size=3,
)


@given(MESSAGE, st.none() | CALLS, st.sampled_from(["stop", "tool_calls"]))
def test_what_is_split_is_joined_again(message: dict[str, Any], calls: list[Any] | None, finish: str) -> None:
    if calls:
        message = {**message, "tool_calls": calls}
    answer = {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "x_vendor": {"a": [1]},
    }
    chunks = split(json.dumps(answer).encode(), usage=True)
    joined = json.loads(join([chunk.data for chunk in chunks]))
    joined["choices"][0].pop("logprobs")
    assert joined == answer
    assert chunks[-1].usage == Usage(input_tokens=1, output_tokens=2)
    assert [chunk.speaks for chunk in chunks] == [False, True, *[True for _ in calls or ()], False, False]


def test_each_tool_call_is_a_delta_of_its_own() -> None:
    """As every model sends them: LlamaIndex's stream reads the first call of a delta and no other."""
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ("a", "b")]
    choice = {"index": 0, "message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}
    chunks = split(json.dumps({"id": "c", "choices": [choice]}).encode(), usage=False)
    deltas = [json.loads(chunk.data)["choices"][0]["delta"] for chunk in chunks]
    assert deltas[1:-1] == [{"tool_calls": [{"index": i, **call}]} for i, call in enumerate(calls)]


def test_usage_is_split_off_only_when_it_is_asked_for() -> None:
    answer = {"id": "a", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "usage": {}}
    documents = [json.loads(chunk.data) for chunk in split(json.dumps(answer).encode(), usage=False)]
    assert all("usage" not in document for document in documents)
    assert all(document["object"] == "chat.completion.chunk" for document in documents)


@pytest.mark.parametrize("value", [b"1e400", b"1.50", b'"\xff"', b'{"a":[1E+2]}'])
def test_what_cannot_be_decoded_is_told_in_pieces_with_its_bytes(value: bytes) -> None:
    """A kept answer that was relayed once must not be a defect of ours when it is asked for as a stream."""
    body = b'{"x":%b,"choices":[{"y":%b,"message":{"content":"hi","z":%b},"finish_reason":"stop"}]}' % (
        value,
        value,
        value,
    )
    told = b"".join(chunk.data for chunk in split(body, usage=True))
    assert told.count(b'"x":' + value) == 4
    assert told.count(b'"y":' + value) == told.count(b'"z":' + value) == 1


def test_a_message_whose_names_are_no_text_is_the_targets_fault() -> None:
    with pytest.raises(UpstreamError, match="in pieces"):
        split(b'{"choices":[{"message":{"\xff":1}}]}', usage=False)
