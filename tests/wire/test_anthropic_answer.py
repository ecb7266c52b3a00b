"""Whole answers of Anthropic's, their usage and errors, in OpenAI's shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from tests.wire.anthropic_kit import CREATED, NAMES, whole
from trivet.errors import UpstreamError
from trivet.types import Usage
from trivet.wire.anthropic_answer import FINISH, STATUS, read_answer, read_error, usage_of


def answer(**members: Any) -> bytes:
    message = {"type": "message", "id": "msg_1", "model": "claude-x", "role": "assistant", "stop_reason": "end_turn"}
    return json.dumps(message | {"content": [], "usage": {"input_tokens": 1, "output_tokens": 1}} | members).encode()


def said(**members: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(read_answer(answer(**members), created=1).data)["choices"][0]["message"]
    return message


@pytest.mark.parametrize("name", NAMES)
def test_every_golden_answer_is_a_chat_completion_that_openais_types_take(name: str) -> None:
    chunk = read_answer(whole(name), created=CREATED)
    completion = ChatCompletion.model_validate_json(chunk.data)
    assert (completion.id, completion.model, completion.created) == (
        json.loads(whole(name))["id"],
        json.loads(whole(name))["model"],
        CREATED,
    )
    assert completion.usage is not None
    assert chunk.usage is not None
    assert completion.usage.prompt_tokens == chunk.usage.input_tokens
    assert (chunk.finish, chunk.model, chunk.speaks) == (completion.choices[0].finish_reason, completion.model, True)


def test_text_and_the_tokens_of_the_cache_are_added_up() -> None:
    chunk = read_answer(whole("text"), created=1)
    document = json.loads(chunk.data)
    assert document["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Three legs hold a pot: naïve, isn’t it? 🍲",  # noqa: RUF001  # as the model wrote it
        "refusal": None,
    }
    assert chunk.usage == Usage(input_tokens=3093, output_tokens=14, cached_tokens=2048, cache_write_tokens=1024)
    usage = document["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3093, 14, 3107)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2048, "cache_write_tokens": 1024}
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 1024, "ephemeral_1h_input_tokens": 0}


def test_calls_of_tools_have_the_arguments_as_they_came() -> None:
    block = b'{"type":"tool_use","id":"t1","name":"f","input":{"days": 1.0,  "b":"\\u00e9"}}'
    document = json.loads(read_answer(answer().replace(b"[]", b"[" + block + b"]"), created=1).data)
    (call,) = document["choices"][0]["message"]["tool_calls"]
    assert call == {
        "id": "t1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"days": 1.0,  "b":"\\u00e9"}'},
    }
    assert document["choices"][0]["message"]["content"] is None


def test_thinking_is_reasoning_content_and_the_blocks_are_kept_with_their_signatures() -> None:
    blocks = json.loads(whole("thinking"))["content"]
    chunk = read_answer(whole("thinking"), created=1)
    message = json.loads(chunk.data)["choices"][0]["message"]
    assert message["reasoning_content"] == "What is asked: the weather."
    assert message["content"] == "One moment."
    assert message["anthropic_content"] == blocks
    assert chunk.usage is not None
    assert chunk.usage.reasoning_tokens == 150


def test_citations_and_tools_that_ran_at_anthropic_are_kept() -> None:
    document = json.loads(read_answer(whole("search"), created=1).data)
    message = document["choices"][0]["message"]
    assert message["content"] == "A stand on three legs."
    assert "tool_calls" not in message
    assert message["anthropic_content"] == json.loads(whole("search"))["content"]
    assert document["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_a_refusal_is_a_content_filter_and_says_why() -> None:
    choice = json.loads(read_answer(whole("refusal"), created=1).data)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert (choice["stop_reason"], choice["stop_details"]["category"]) == ("refusal", "bio")


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ([{"type": "text", "text": "a"}], False),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "citations": []}], False),
        ([{"type": "text", "text": "a"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}], False),
        ([{"type": "tool_use", "id": "1", "name": "f", "input": {}, "caller": {"type": "direct"}}], False),
        ([{"type": "tool_use", "id": "1", "name": "f", "input": {}, "caller": {"type": "code_execution"}}], True),
        ([{"type": "tool_use", "id": "1", "name": "f", "input": {}, "toolset_name": "browser"}], True),
        ([{"type": "tool_use", "id": "1", "name": "f", "input": {}}, {"type": "text", "text": "a"}], True),
        ([{"type": "compaction", "content": "so far"}], True),
    ],
)
def test_blocks_are_kept_exactly_where_text_and_calls_do_not_say_it_all(content: list[Any], kept: bool) -> None:  # noqa: FBT001  # a parameter of the test
    message = said(content=content)
    assert ("anthropic_content" in message) is kept
    assert not kept or message["anthropic_content"] == content


@pytest.mark.parametrize(("theirs", "ours"), [*FINISH.items(), ("a_new_reason", "a_new_reason"), (None, None)])
def test_every_reason_has_a_word(theirs: str | None, ours: str | None) -> None:
    assert read_answer(answer(stop_reason=theirs), created=1).finish == ours


def test_an_answer_that_says_nothing_is_empty_text() -> None:
    assert said()["content"] == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not an answer"),
        (b"[]", "not an answer"),
        (b"{}", "not an answer"),
        (b'{"type":"message","content":7}', "not an answer"),
        (b'{"type":"message","content":[{"text":"x"}]}', "not an answer"),
        (b'{"type":"error","error":{"type":"api_error","message":"Internal"}}', "Internal"),
        (b'{"type":"error"}', "says nothing"),
    ],
)
def test_what_is_no_answer_is_an_error(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        read_answer(body, created=1)


counts = st.integers(0, 10**8)


@given(counts, counts, counts, counts)
def test_parts_are_never_more_than_their_whole(into: int, read: int, written: int, out: int) -> None:
    usage, told = usage_of(
        {
            "input_tokens": into,
            "output_tokens": out,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }
    )
    assert usage is not None
    assert told is not None
    assert usage.input_tokens == into + read + written == told["prompt_tokens"]
    assert usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens == into
    assert told["total_tokens"] == usage.input_tokens + out


@pytest.mark.parametrize(
    "spent", [{}, {"input_tokens": 3}, {"output_tokens": 3}, {"input_tokens": "3", "output_tokens": 1}]
)
def test_usage_that_says_nothing_sensible_is_none(spent: dict[str, Any]) -> None:
    assert usage_of(spent) == (None, None)


def test_usage_that_cannot_be_is_not_counted() -> None:
    usage, told = usage_of({"input_tokens": -5, "output_tokens": 1})
    assert usage is None
    assert told is not None


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("error_overloaded", 529, "overloaded_error"), ("error_invalid", 400, "invalid_request_error")],
)
def test_an_error_has_openais_shape_and_its_own_words(name: str, status: int, code: str) -> None:
    error = read_error(whole(name))
    assert error is not None
    assert (error.status, error.code) == (status, code)
    theirs, ours = json.loads(whole(name)), json.loads(error.body or b"")
    assert str(error) == ours["error"]["message"] == theirs["error"]["message"]
    assert (ours["error"]["type"], ours["error"]["code"], ours["error"]["param"]) == (code, code, None)
    assert ours["request_id"] == theirs["request_id"]
    assert theirs["error"]["message"] not in error.kept


@pytest.mark.parametrize("body", [b"", b"Bad gateway", b"{}", b"[1]", b'{"error":"x"}', b"\xff", b"[" * 100_000])
def test_what_is_no_error_of_theirs_is_none(body: bytes) -> None:
    assert read_error(body) is None


def test_every_kind_of_error_has_a_status_and_others_are_ours_to_own_up_to() -> None:
    for kind, status in STATUS.items():
        error = read_error(json.dumps({"type": "error", "error": {"type": kind, "message": "m"}}).encode())
        assert error is not None
        assert (error.status, error.code) == (status, kind)
    strange = read_error(b'{"error":{"type":"the prompt said: secret","message":""}}')
    assert strange is not None
    assert (strange.status, strange.code) == (502, "upstream_error")
    assert "secret" not in str(strange)
