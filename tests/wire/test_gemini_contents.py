"""Conversations in Gemini's words: roles, media, calls and their results, signatures; and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import encode

from trivet.errors import UpstreamError
from trivet.testing.cache_suite import ask
from trivet.wire.chat import error_body
from trivet.wire.gemini_answer import Answer
from trivet.wire.gemini_contents import UNSIGNED, Talk, read_messages

Json = dict[str, Any]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def talk(*messages: Json, signed: bool = False) -> Talk:
    found = read_messages(Raw(json.dumps(messages).encode()), signed=signed)
    return Talk(json.loads(encode(found.system)), json.loads(encode(found.contents)), found.low)


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def parts(*given: Json) -> list[Json]:
    return talk(user(*given)).contents[0]["parts"]  # type: ignore[no-any-return]  # JSON


def call(id: str = "c1", name: str = "weather", arguments: str = '{"city":"Paris"}', **more: Any) -> Json:  # noqa: A002  # the member's name
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def test_system_and_developer_messages_are_the_instruction_and_others_take_turns() -> None:
    found = talk(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "refusal": None},
        {"role": "user", "content": ""},
    )
    assert found.system == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert found.contents == [
        {"role": "user", "parts": [{"text": "2+2?"}]},
        {"role": "model", "parts": [{"text": "4"}]},
        {"role": "user", "parts": [{"text": ""}]},
    ]


def test_parts_of_all_kinds_keep_their_order() -> None:
    assert parts(
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "video_url", "video_url": "gs://bucket/b.mp4"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "JVBERg==", "filename": "x.pdf"}},
    ) == [
        {"text": "What is this?"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"fileUri": "gs://bucket/b.mp4", "mimeType": "video/mp4"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
    ]


@pytest.mark.parametrize(
    ("details", "low"), [(["low", "low"], True), (["high", "auto", None], False), (["low", "high"], False), ([], False)]
)
def test_low_detail_is_that_of_all_images(details: list[str | None], low: bool) -> None:  # noqa: FBT001  # a parameter of the test
    images = [{"type": "image_url", "image_url": {"url": PIXEL, "detail": detail}} for detail in details]
    assert talk(user({"type": "text", "text": "?"}, *images)).low is low


def test_results_are_known_by_name_and_stand_in_one_turn() -> None:
    found = talk(
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call(), call("c2", "now", "")]},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        {"role": "tool", "tool_call_id": "c1", "content": '{"sun": 1.50, "big": 123456789012345678901}'},
        {"role": "user", "content": "thanks"},
    )
    assert found.contents[1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Paris"}, "id": "c1"}},
                {"functionCall": {"name": "now", "args": {}, "id": "c2"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "now", "response": {"output": "noon"}, "id": "c2"}},
                {
                    "functionResponse": {
                        "name": "weather",
                        "response": {"sun": 1.5, "big": 123456789012345678901},
                        "id": "c1",
                    }
                },
            ],
        },
        {"role": "user", "parts": [{"text": "thanks"}]},
    ]


def test_objects_in_arguments_and_results_keep_their_bytes() -> None:
    odd = '{ "a" : 1.50, "b":1e2 }'
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [call(arguments=odd)]},
        {"role": "tool", "tool_call_id": "c1", "content": odd},
    ]
    found = encode(read_messages(Raw(json.dumps(messages).encode()), signed=False).contents)
    assert found.count(odd.encode()) == 2


def test_signatures_go_back_to_where_they_were() -> None:
    whole = {
        "responseId": "r",
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "I look.", "thoughtSignature": "dGV4dA=="},
                        {"inlineData": {"mimeType": "image/png", "data": "aQ=="}, "thoughtSignature": "aW1n"},
                        {"functionCall": {"name": "f", "args": {}, "id": "1"}, "thoughtSignature": "Y2FsbA=="},
                        {"functionCall": {"name": "g", "args": {}, "id": "2"}},
                    ],
                },
                "finishReason": "STOP",
            }
        ],
    }
    answer = json.loads(Answer(ask()).answer(json.dumps(whole).encode()).data)
    found = talk({"role": "user", "content": "?"}, answer["choices"][0]["message"], signed=True)
    assert found.contents[1] == whole["candidates"][0]["content"]  # type: ignore[index]  # JSON


def test_a_signature_without_text_stands_on_an_empty_one() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    for content in (None, ""):
        found = talk({"role": "user", "content": "?"}, {"role": "assistant", "content": content, **extra})
        assert found.contents[1]["parts"] == [{"text": "", "thoughtSignature": "c2ln"}]


def test_calls_of_other_models_are_marked_where_a_signature_is_wanted() -> None:
    messages: list[Json] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [call(), call("c2")]},
    ]
    signatures = [part.get("thoughtSignature") for part in talk(*messages, signed=True).contents[1]["parts"]]
    assert signatures == [UNSIGNED, None]
    assert not any("thoughtSignature" in part for part in talk(*messages).contents[1]["parts"])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "critic", "content": "x"}, "messages[1].role"),
        ({"role": "tool", "content": "x", "tool_call_id": "c9"}, "messages[1].tool_call_id"),
        ({"role": "function", "content": "x", "name": "f"}, "messages[1]"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, "messages[1]"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "assistant", "tool_calls": [call(arguments="[1]")]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [call(arguments="{oops")]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}, "messages[1].tool_calls[0]"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": PIXEL}]}, "messages[1].content[0]"),
        (user({"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}), "messages[1].content[0]"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}), "messages[1].content[0]"),
        (user({"type": "input_audio", "input_audio": {"data": "", "format": "pcm16"}}), "messages[1].content[0]"),
        (user({"type": "file", "file": {"file_id": "file-abc"}}), "messages[1].content[0]"),
        (user({"type": "file", "file": {"file_data": "JVBERg=="}}), "messages[1].content[0]"),
        (user({"type": "hologram"}), "messages[1].content[0]"),
        ({"role": "user", "content": 7}, "messages"),
    ],
)
def test_what_gemini_has_no_word_for_is_refused_and_another_target_may_be_asked(message: Json, param: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        talk({"role": "user", "content": "secret"}, message)
    error = caught.value
    assert (error.status, error.again, error.spent, error.whose) == (400, True, False, "client")
    shown = json.loads(error_body(error))["error"]
    assert (shown["type"], shown["param"]) == ("invalid_request_error", param)
    assert shown["message"].endswith(".")
    assert "secret" not in shown["message"]


def test_the_name_of_a_participant_is_left_out() -> None:
    assert talk({"role": "user", "content": "x", "name": "ann"}).contents == [
        {"role": "user", "parts": [{"text": "x"}]}
    ]


def test_a_conversation_needs_somebody_who_asks() -> None:
    with pytest.raises(UpstreamError, match="role `user`"):
        talk({"role": "system", "content": "x"})


TEXT = st.text(max_size=8)
CALLS = st.lists(
    st.builds(
        lambda name, args: call(f"id-{name}", name, json.dumps(args)),
        st.text("abc", min_size=1, max_size=2),
        st.dictionaries(TEXT, st.integers() | TEXT, max_size=2),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["id"],
)
PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.sampled_from([
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
    ]),
)  # fmt: skip
TURN = st.one_of(
    st.builds(lambda text: [{"role": "system", "content": text}], TEXT),
    st.builds(lambda text: [{"role": "user", "content": text}], TEXT | st.lists(PART, max_size=3)),
    st.builds(lambda text: [{"role": "assistant", "content": text}], st.none() | TEXT),
    st.builds(
        lambda text, calls, results: [
            {"role": "assistant", "content": text, "tool_calls": calls},
            *({"role": "tool", "tool_call_id": one["id"], "content": results} for one in calls),
        ],
        st.none() | TEXT,
        CALLS,
        TEXT,
    ),
)


@given(turns=st.lists(TURN, max_size=6), signed=st.booleans())
def test_every_conversation_converts_and_loses_no_turn(turns: list[list[Json]], *, signed: bool) -> None:
    messages = [*(message for turn in turns for message in turn), {"role": "user", "content": "end"}]
    found = talk(*messages, signed=signed)
    assert len(found.system) == sum(m["role"] == "system" for m in messages)
    said = [part for content in found.contents for part in content["parts"]]
    assert all(content["parts"] for content in found.contents)
    assert sum("functionCall" in part for part in said) == sum(len(m.get("tool_calls", ())) for m in messages)
    assert sum("functionResponse" in part for part in said) == sum(m["role"] == "tool" for m in messages)
    roles = [m["role"] for m in messages if m["role"] != "system"]
    assert sum(content["role"] == "model" for content in found.contents) == roles.count("assistant")
