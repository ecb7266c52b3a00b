"""What a request needs is read off its bytes, whatever they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.needs import ABILITIES, TOKENS_OF_AN_IMAGE, Needs
from trivet.testing.cache_suite import ask
from trivet.wire.request import read_request

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
TEXT = {"type": "text", "text": "what is this?"}


def said(content: Any, **more: Any) -> Needs:
    return Needs(ask(messages=[{"role": "user", "content": content}], **more))


@pytest.mark.parametrize(
    ("needs", "abilities"),
    [
        (said("2+2?"), set()),
        (said("2+2?", tools=[TOOL]), {"tools"}),
        (said("2+2?", tools=[]), set()),
        (said("2+2?", tools=None), set()),
        (said("2+2?", functions=[{"name": "f"}]), {"tools"}),
        (said([TEXT, IMAGE]), {"images"}),
        (said([TEXT, {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]), {"audio"}),
        (said("2+2?", response_format={"type": "json_schema", "json_schema": {"name": "n"}}), {"schema"}),
        (said("2+2?", response_format={"type": "json_object"}), set()),
        (said([TEXT, IMAGE], tools=[TOOL], response_format={"type": "json_schema"}), {"images", "tools", "schema"}),
    ],
)
def test_abilities(needs: Needs, abilities: set[str]) -> None:
    assert needs.abilities == abilities
    assert abilities <= set(ABILITIES)


def test_tokens_are_counted_off_the_text_and_not_off_the_bytes_of_a_picture() -> None:
    assert said("four" * 100).tokens == 100
    assert said([TEXT, IMAGE]).tokens == len(TEXT["text"]) // 4 + TOKENS_OF_AN_IMAGE
    assert said("four" * 100, max_tokens=50).room == 150
    assert said("four" * 100, max_completion_tokens=50, max_tokens=7).room == 150
    assert said("four" * 100, tools=[TOOL]).tokens > 100


def test_the_question_is_the_last_of_the_user_in_its_language() -> None:
    messages = [
        {"role": "user", "content": "what is the weather like where you are"},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": [{"type": "text", "text": "und wie ist das wetter auf dem mond"}]},
        {"role": "assistant", "content": None},
    ]
    needs = Needs(ask(messages=messages))
    assert (needs.question, needs.language) == ("und wie ist das wetter auf dem mond", "de")
    assert said("!").language == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(messages=JSON, tools=JSON, form=JSON, most=JSON)
def test_no_body_is_too_odd(messages: Any, tools: Any, form: Any, most: Any) -> None:
    body = {"model": "m", "messages": [], "tools": tools, "response_format": form, "max_tokens": most}
    request = read_request(json.dumps(body).encode(), (), id="r", tenant="t", key_id="", at_ns=0)
    request.fields["messages"] = json.dumps(messages).encode()  # type: ignore[assignment]
    needs = Needs(request)
    assert needs.tokens >= 0
    assert needs.most_room >= 0
    assert isinstance(needs.question + needs.language, str)
    assert needs.abilities <= set(ABILITIES)


@given(st.lists(st.text(), max_size=4), st.integers(0, 10**6))
def test_what_is_found_without_reading_is_never_too_little(texts: list[str], most: int) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": text}, IMAGE]} for text in texts]
    needs = Needs(ask(messages=messages, max_tokens=most))
    assert needs.most_room >= needs.room


@pytest.mark.parametrize(
    ("messages", "earlier"),
    [
        ([], (0, 0)),
        ([("system", "Be brief.")], (0, 0)),
        ([("user", "2+2?")], (0, 0)),
        ([("system", "Be brief."), ("user", "2+2?")], (0, 9)),
        (
            [("user", "2+2?"), ("assistant", "4"), ("user", [TEXT, IMAGE]), ("assistant", None), ("user", "why?")],
            (2, 18),
        ),
        ([("user", "2+2?"), ("assistant", ""), ("tool", "4")], (0, 0)),
    ],
)
def test_how_much_was_said_before_the_last_question(messages: list[tuple[str, Any]], earlier: tuple[int, int]) -> None:
    made = [{"role": role, "content": content} for role, content in messages]
    assert Needs(ask(messages=made)).earlier == earlier
