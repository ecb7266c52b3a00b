"""Messages become turns that Anthropic takes: alternating, results first, nothing lost that changes an answer."""

import base64
import itertools
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.wire.anthropic_kit import whole
from trivet.errors import UpstreamError
from trivet.wire.anthropic_answer import read_answer
from trivet.wire.anthropic_messages import conversation
from trivet.wire.chat import error_body

encode = msgspec.json.encode
EPHEMERAL = {"type": "ephemeral"}
PIXEL = "iVBORw0KGgo="


def rewritten(*messages: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Give the system blocks and the turns."""
    said = conversation(Raw(json.dumps(messages).encode()))
    return json.loads(encode(said.system)), json.loads(encode(said.turns))


def user(*parts: Any) -> list[Any]:
    """Give the blocks of a user's message of these parts."""
    blocks: list[Any] = rewritten({"role": "user", "content": list(parts)})[1][0]["content"]
    return blocks


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def call(id_: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


def refusal(*messages: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        rewritten(*messages)
    error = caught.value
    assert (error.status, error.again, error.spent) == (400, True, False)
    told = json.loads(error_body(error))["error"]
    assert (told["type"], told["message"]) == ("invalid_request_error", str(error))
    assert (error.fault().kind, error.fault().whose) == ("invalid_request_error", "client")
    return error


def test_system_and_developer_messages_are_the_system_prompt_in_their_order() -> None:
    system, turns = rewritten(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind.", "cache_control": EPHEMERAL}]},
    )
    assert system == [text("Be brief."), text("Be kind.", cache_control=EPHEMERAL)]
    assert turns == [{"role": "user", "content": [text("Hi")]}]


def test_what_one_role_says_twice_in_a_row_is_one_turn() -> None:
    _, turns = rewritten(
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b")]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": " d"},
    )
    assert turns == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text(" d")]},  # the last: what it is to go on from
    ]


def test_results_of_parallel_calls_are_one_turn_and_come_first() -> None:
    _, turns = rewritten(
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call("a", '{"days": 1.0}'), call("b", "")]},
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "user", "content": "and hurry"},
        {"role": "tool", "tool_call_id": "b", "content": [text("no such city")], "is_error": True},
    )
    assert turns[1]["content"] == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"days": 1.0}},
        {"type": "tool_use", "id": "b", "name": "f", "input": {}},
    ]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "sun"},
        {"type": "tool_result", "tool_use_id": "b", "content": [text("no such city")], "is_error": True},
        text("and hurry"),
    ]


def test_arguments_keep_their_bytes() -> None:
    arguments = '{"b": 1.0,  "a": "\\u00e9"}'
    message = {"role": "assistant", "tool_calls": [call("a", arguments)]}
    turns = conversation(Raw(json.dumps([message]).encode())).turns
    assert arguments.encode() in encode(turns)


def test_ids_that_anthropic_would_refuse_are_made_fit_on_both_sides() -> None:
    _, turns = rewritten(
        {"role": "assistant", "tool_calls": [call("functions.f:0"), call("call_1-A")]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": ""},
        {"role": "tool", "tool_call_id": "call_1-A", "content": ""},
    )
    used = [block["id"] for block in turns[0]["content"]]
    assert used == ["functions_2e_f_3a_0", "call_1-A"]
    assert [block["tool_use_id"] for block in turns[1]["content"]] == used
    assert all("content" not in block for block in turns[1]["content"])


def test_cache_control_of_a_message_goes_on_its_last_block() -> None:
    _, turns = rewritten(
        {"role": "user", "content": [text("a"), {"type": "document", "x": 1}], "cache_control": EPHEMERAL},
        {"role": "assistant", "tool_calls": [call("a")], "cache_control": EPHEMERAL},
        {"role": "tool", "tool_call_id": "a", "content": "1", "cache_control": EPHEMERAL},
    )
    assert turns[0]["content"] == [text("a"), {"type": "document", "x": 1, "cache_control": EPHEMERAL}]
    assert turns[1]["content"][0]["cache_control"] == EPHEMERAL
    assert turns[2]["content"][0]["cache_control"] == EPHEMERAL


def test_images_are_sent_by_address_or_by_their_bytes() -> None:
    blocks = user(
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": f"data:image/JPG;base64,{PIXEL}", "cache_control": EPHEMERAL},
    )
    assert blocks == [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": PIXEL},
            "cache_control": EPHEMERAL,
        },
    ]


def test_files_are_documents() -> None:
    plain = base64.b64encode("naïve".encode()).decode()
    blocks = user(
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": f"data:text/plain;charset=utf-8;base64,{plain}"}},
        {"type": "file", "file": {"file_data": "https://example.org/a.pdf"}},
        {"type": "file", "file": {"file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}},
    )
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        {"type": "text", "media_type": "text/plain", "data": "naïve"},
        {"type": "url", "url": "https://example.org/a.pdf"},
        {"type": "file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"},
    ]
    assert blocks[0]["title"] == "a.pdf"


def test_blocks_of_anthropics_own_go_through_with_their_bytes() -> None:
    raw = b'{"type":"document",  "source":{"type":"text","data":"x"},"citations":{"enabled":true}}'
    turns = conversation(Raw(b'[{"role":"user","content":[' + raw + b"]}]")).turns
    assert raw in encode(turns)


@pytest.mark.parametrize("name", ["thinking", "search"])
def test_an_answer_that_was_kept_is_sent_back_exactly(name: str) -> None:
    message = json.loads(read_answer(whole(name), created=1).data)["choices"][0]["message"]
    _, turns = rewritten({"role": "user", "content": "?"}, message)
    assert turns[1]["content"] == json.loads(whole(name))["content"]


def test_empty_text_that_claude_said_is_not_sent_back() -> None:
    kept = [{"type": "thinking", "thinking": "", "signature": "s"}, text("")]
    _, turns = rewritten({"role": "assistant", "content": "", "anthropic_content": kept})
    assert turns[0]["content"] == kept[:1]


@pytest.mark.parametrize("name", ["text", "tools"])
def test_a_plain_answer_is_sent_back_with_the_same_blocks(name: str) -> None:
    message = json.loads(read_answer(whole(name), created=1).data)["choices"][0]["message"]
    _, turns = rewritten({"role": "user", "content": "?"}, message)
    assert turns[1]["content"] == json.loads(whole(name))["content"]


def test_a_refusal_is_something_that_was_said() -> None:
    _, turns = rewritten(
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"role": "user", "content": [text("  "), {"type": "refusal", "refusal": "No."}]},
    )
    assert [turn["content"] for turn in turns] == [[text("I cannot.")], [text("No.")]]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "audio"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}, "https URL"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}, "base64"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/tiff;base64,x"}]}, "image/tiff"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "neither"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "file-abc"}}]}, "file at OpenAI"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "data:a/b;base64,x"}}]}, "a/b"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/plain;base64,x"}}]}, "UTF-8"),
        ({"role": "user", "content": [7]}, r"messages\[0\]"),
        ({"role": "user", "content": {"a": 1}}, "cannot be read"),
        ({"role": "function", "name": "f", "content": "1"}, "role"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "tool_calls"),
        ({"role": "assistant", "audio": {"id": "a"}}, "transcript"),
        ({"role": "assistant", "tool_calls": [call("a", "{oops")]}, "JSON object"),
        ({"role": "assistant", "tool_calls": [call("a", "[1]")]}, "JSON object"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "c"}}]}, "custom"),
        ({"role": "system", "content": "Only this."}, "only system"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": ""}], "last message is empty"),
        ([{"role": "assistant", "content": "a"}, {"role": "system", "content": "b"}], "or the system's"),
    ],
)
def test_what_has_no_words_is_refused_with_what_to_do(message: Any, words: str) -> None:
    messages = message if isinstance(message, list) else [message]
    assert re.search(words, str(refusal(*messages)))


def test_no_refusal_repeats_the_prompt() -> None:
    secret = "the launch code is 0000"  # what a prompt might say
    for broken in (
        {"role": "user", "content": {secret: secret}},
        {"role": "assistant", "tool_calls": [call("a", secret)]},
    ):
        assert secret not in refusal({"role": "user", "content": secret}, broken).kept


part = st.sampled_from(
    [
        text("Hi"),
        text(" "),
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "search_result", "title": "t"},
    ]
)
content = st.sampled_from([None, "", " ", "Hello"]) | st.lists(part, max_size=3)
ids = st.sampled_from(["call_1", "functions.f:0", "ümlaut", ""])
message = st.one_of(
    st.builds(lambda c: {"role": "system", "content": c}, content),
    st.builds(lambda c: {"role": "user", "content": c}, content),
    st.builds(
        lambda c, i: {"role": "assistant", "content": c, "tool_calls": [call(x) for x in i]},
        content,
        st.lists(ids, max_size=3),
    ),
    st.builds(lambda c, i: {"role": "tool", "tool_call_id": i, "content": c}, content, ids),
)


@given(st.lists(message, max_size=12))
def test_any_conversation_becomes_turns_that_alternate_with_results_first(messages: list[dict[str, Any]]) -> None:
    messages = [*messages, {"role": "user", "content": "Go on."}]
    system, turns = rewritten(*messages)
    roles = [turn["role"] for turn in turns]
    assert all(one != next_ for one, next_ in itertools.pairwise(roles))
    assert set(roles) <= {"user", "assistant"}
    assert all(turn["content"] for turn in turns)
    for turn in turns:
        kinds = [block["type"] == "tool_result" for block in turn["content"]]
        assert kinds == sorted(kinds, reverse=True)
        assert all(block["text"].strip() for block in turn["content"] if block["type"] == "text")
    asked = [i for m in messages if m["role"] == "tool" for i in [m["tool_call_id"]]]
    assert len(asked) == sum(block["type"] == "tool_result" for turn in turns for block in turn["content"])
    assert all(block["type"] in ("text", "image", "document", "search_result") for block in system)
