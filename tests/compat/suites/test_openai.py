"""OpenAI's own client: every way it has of asking for a chat completion."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from conftest import Gateway

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PASS = os.environ["COMPAT_PASS"]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
SUBTRACT = {"type": "function", "function": {**ADD["function"], "name": "subtract"}}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


def user(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


class Pet(BaseModel):
    name: str
    kind: Literal["cat", "dog"]


class Owner(BaseModel):
    """Has definitions of its own (`$defs`) and a reference to them."""

    name: str
    age: int = Field(ge=0, le=150)
    pets: list[Pet]


def test_the_model_is_listed(client: OpenAI, gateway: Gateway) -> None:
    assert gateway.model in [model.id for model in client.models.list()]


def test_an_answer_has_its_text_its_end_and_its_usage(client: OpenAI, gateway: Gateway) -> None:
    answer = client.chat.completions.create(model=gateway.model, messages=user("good morning"))
    assert answer.choices[0].message.content == "You said: good morning"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 4, 9)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None


def test_tokens_that_the_provider_had_cached_are_told(client: OpenAI, gateway: Gateway) -> None:
    answer = client.chat.completions.create(model=gateway.model, messages=user("word " * 1100), max_tokens=5)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1024


def test_a_stream_has_the_same_text_and_no_usage_that_was_not_asked_for(client: OpenAI, gateway: Gateway) -> None:
    chunks = list(client.chat.completions.create(model=gateway.model, messages=user("in pieces"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "You said: in pieces"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {c.usage for c in chunks} == {None}
    assert len({c.id for c in chunks}) == 1


def test_a_stream_ends_with_the_usage_that_was_asked_for(client: OpenAI, gateway: Gateway) -> None:
    chunks = list(
        client.chat.completions.create(
            model=gateway.model, messages=user("and counted"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9


def test_the_stream_helper_gathers_what_it_heard(client: OpenAI, gateway: Gateway) -> None:
    with client.chat.completions.stream(model=gateway.model, messages=user("with helper")) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "You said: with helper"
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_a_stream_can_be_left_and_the_next_request_is_answered(client: OpenAI, gateway: Gateway) -> None:
    with client.chat.completions.create(model=gateway.model, messages=user("left early"), stream=True) as stream:
        next(iter(stream))
    answer = client.chat.completions.create(model=gateway.model, messages=user("after that"))
    assert answer.choices[0].message.content == "You said: after that"


def test_several_answers_come_side_by_side(client: OpenAI, gateway: Gateway) -> None:
    answer = client.chat.completions.create(model=gateway.model, messages=user("thrice"), n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    chunks = client.chat.completions.create(model=gateway.model, messages=user("thrice"), n=3, stream=True)
    told = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            told[choice.index] += choice.delta.content or ""
    assert told == ["You said: thrice"] * 3


def test_an_answer_that_is_cut_says_so(client: OpenAI, gateway: Gateway) -> None:
    answer = client.chat.completions.create(model=gateway.model, messages=user("too long"), max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "You said: "
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=gateway.model, messages=user("Mia"), response_format=Owner, max_completion_tokens=2
        )


def test_tools_are_called_with_their_arguments_and_their_results_are_heard(client: OpenAI, gateway: Gateway) -> None:
    messages = user("What are add(1, 2) and add(3, 4)?")
    asked = client.chat.completions.create(model=gateway.model, messages=messages, tools=[ADD])
    calls = asked.choices[0].message.tool_calls
    assert asked.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert [json.loads(call.function.arguments) for call in calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    results = [{"role": "tool", "tool_call_id": c.id, "content": text} for c, text in zip(calls, "37", strict=True)]
    messages = [*messages, asked.choices[0].message.model_dump(exclude_none=True), *results]
    told = client.chat.completions.create(model=gateway.model, messages=messages, tools=[ADD])
    assert told.choices[0].message.content == "The tools say: 3; 7"


def test_tool_calls_stream_in_pieces_that_the_helper_joins(client: OpenAI, gateway: Gateway) -> None:
    tools = [openai.pydantic_function_tool(Owner, name="owner")]
    prompt = user("Call owner for Mia, age 41, who has a dog called Rex.")
    with client.chat.completions.stream(model=gateway.model, messages=prompt, tools=tools) as stream:
        pieces = [e for e in stream if e.type == "tool_calls.function.arguments.delta"]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert len(pieces) > 1 or PASS == "hit"  # a kept answer comes in as few pieces as it likes
    assert call.function.parsed_arguments == Owner(name="Mia", age=41, pets=[Pet(name="Rex", kind="dog")])


@pytest.mark.parametrize("choice", ["none", "auto", "required", "named", "single"])
def test_the_choice_of_tools_is_obeyed(client: OpenAI, gateway: Gateway, choice: str) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "named": {"tool_choice": {"type": "function", "function": {"name": "subtract"}}},
        "single": {"parallel_tool_calls": False},
    }
    prompt = "add(5, 6) and add(7, 8)" if choice == "single" else "good evening"
    answer = client.chat.completions.create(
        model=gateway.model,
        messages=user(prompt),
        tools=[ADD, SUBTRACT],
        **wanted.get(choice, {"tool_choice": choice}),
    )
    called = [call.function.name for call in answer.choices[0].message.tool_calls or ()]
    assert called == {"none": [], "auto": [], "required": ["add"], "named": ["subtract"], "single": ["add"]}[choice]


def test_an_answer_is_parsed_into_a_type(client: OpenAI, gateway: Gateway) -> None:
    prompt = user("Tell me of Mia, whose age is 41, and of her dog Rex.")
    answer = client.chat.completions.parse(model=gateway.model, messages=prompt, response_format=Owner)
    assert answer.choices[0].message.parsed == Owner(name="Mia", age=41, pets=[Pet(name="Rex", kind="dog")])


def test_json_without_a_schema_is_an_object(client: OpenAI, gateway: Gateway) -> None:
    prompt = user("Answer in JSON with the keys 'setup' and 'punchline'.")
    answer = client.chat.completions.create(
        model=gateway.model, messages=prompt, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "").keys() == {"setup", "punchline"}


@pytest.mark.parametrize("url", [f"data:image/png;base64,{PIXEL}", "https://example.com/cat.png"])
def test_images_reach_the_model(client: OpenAI, gateway: Gateway, url: str) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
    answer = client.chat.completions.create(model=gateway.model, messages=user(parts))
    assert answer.choices[0].message.content == "You said: look I see 1 image."


def test_what_the_model_refuses_is_a_bad_request_with_its_words(client: OpenAI, gateway: Gateway) -> None:
    lost = [*user("hi"), {"role": "tool", "tool_call_id": "call_of_nobody", "content": "3"}]
    with pytest.raises(openai.BadRequestError, match="no tool call of the message before has it") as refused:
        client.chat.completions.create(model=gateway.model, messages=lost)
    assert refused.value.code == "invalid_value"
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        client.chat.completions.create(
            model=gateway.model, messages=user("hi"), response_format={"type": "json_object"}, stream=True
        )


@pytest.mark.skipif(PASS == "direct", reason="the scripted model knows no keys and takes any name")
def test_a_wrong_key_and_a_wrong_model_are_the_errors_that_programs_catch(client: OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model=gateway.model, messages=user("hi"))
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=user("hi"))


def test_the_raw_response_has_the_headers_of_trivet(client: OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model=gateway.model, messages=user("headers"))
    assert raw.parse().choices[0].message.content == "You said: headers"
    if PASS != "direct":
        assert raw.headers["x-trivet-target"] == "scripted-1"
        wanted = {"off": "off", "miss": "miss", "hit": "hit"}[PASS]
        assert raw.headers["x-trivet-cache"].split(";")[0] == wanted


def test_the_asynchronous_client_has_forty_answers_at_once(gateway: Gateway) -> None:
    async def ask(client: AsyncOpenAI, number: int) -> str:
        text, stream = f"number {number}", number % 2 == 0
        answer: Any = await client.chat.completions.create(model=gateway.model, messages=user(text), stream=stream)
        if stream:
            return "".join([c.choices[0].delta.content or "" async for c in answer])
        return str(answer.choices[0].message.content)

    async def every() -> list[str]:
        async with AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(40)))

    assert asyncio.run(every()) == [f"You said: number {number}" for number in range(40)]
