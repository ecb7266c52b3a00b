"""The scripted model: what it calls, writes and refuses. How that is sent: `tests/testing/test_upstream.py`."""

import json
from typing import Any

import pytest

from tests.compat.model import script
from trivet.types import Usage


def tool(name: str, **properties: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("add", a="integer", b="integer"), tool("get_weather", place="string"), tool("now")]


def ask(text: str, *more: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}, *more], **members}


def called(body: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in script(body).tools]


@pytest.mark.parametrize(
    ("text", "members", "calls"),
    [
        ("Hello", {}, []),
        ("What is add(1, b=2)?", {}, [("add", {"a": 1, "b": 2})]),
        ("add(1, 2) and add(3, 4)", {}, [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]),
        ("add(1, 2) and add(3, 4)", {"parallel_tool_calls": False}, [("add", {"a": 1, "b": 2})]),
        ("add(1)", {}, [("add", {"a": 1, "b": 1})]),
        ("How is the weather in Oslo?", {}, [("get_weather", {"place": "Oslo"})]),
        ("How is the weather in Oslo?", {"tool_choice": "none"}, []),
        ("Use now() and get_weather in Rome", {}, [("get_weather", {"place": "Rome"}), ("now", {})]),
        ("Hello", {"tool_choice": "required"}, [("add", {"a": 1, "b": 1})]),
        ("Hello", {"tool_choice": {"type": "function", "function": {"name": "now"}}}, [("now", {})]),
    ],
)
def test_tools_are_called_by_prompt_and_choice(text: str, members: dict[str, Any], calls: list[Any]) -> None:
    assert called(ask(text, tools=TOOLS, **members)) == calls


def test_a_tool_that_has_answered_is_not_called_again_until_the_next_prompt() -> None:
    asked = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": "{}"}}]}
    body = ask("Use now()", asked, {"role": "tool", "tool_call_id": "c", "content": "noon"}, tools=TOOLS)
    assert script(body).pieces == ("The ", "tools ", "say: ", "noon")
    assert called({**body, "tool_choice": "required"}) == [("add", {"a": 1, "b": 1})]
    body["messages"].append({"role": "user", "content": "now() again"})
    assert called(body) == [("now", {})]


def test_a_document_is_of_its_schema_and_one_without_a_schema_of_the_keys_in_quotes() -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    strict = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    loose = {"type": "json_object"}
    assert "".join(script(ask("age: 41", response_format=strict)).pieces) == '{"age": 41}'
    assert "".join(script(ask(f"JSON like {json.dumps(schema)}: 41", response_format=loose)).pieces) == '{"age": 41}'
    assert "".join(script(ask("JSON with 'who'", response_format=loose)).pieces) == '{"who": "who"}'


def test_stops_and_lengths_are_kept_and_tokens_counted() -> None:
    assert script(ask("one two")).usage == Usage(input_tokens=5, output_tokens=4)
    assert script(ask("one two", stop=["two"])).pieces == ("You ", "said: ", "one ")
    cut = script(ask("one two", max_tokens=2))
    assert (cut.pieces, cut.finish) == (("You ", "said: "), "length")
    long = script(ask("word " * 1100)).usage
    assert isinstance(long, Usage)
    assert (long.input_tokens, long.cached_tokens) == (1103, 1024)


def image(url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]


def test_images_are_counted() -> None:
    answer = script({"messages": [{"role": "user", "content": image("data:image/png;base64,aGk=")}]})
    assert "".join(answer.pieces) == "You said: look I see 1 image."
    assert isinstance(answer.usage, Usage)
    assert answer.usage.input_tokens == 89


CALL = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": "{}"}}]}
USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [USER, {"role": "tool", "tool_call_id": "x", "content": ""}]}, "no tool call"),
        ({"messages": [USER, CALL, USER]}, "have no answer"),
        ({"messages": [USER, CALL]}, "have no answer"),
        ({"messages": [USER], "response_format": {"type": "json_object"}}, "the word 'json'"),
        ({"messages": [{"role": "user", "content": image("data:image/png;base64,?")}]}, "base64"),
        ({"messages": [{"role": "user", "content": image("cat.png")}]}, "image URL"),
    ],
)
def test_what_openai_refuses_is_refused(body: dict[str, Any], why: str) -> None:
    answer = script(body)
    assert answer.status == 400
    assert answer.error is not None
    assert why in answer.error["message"]
