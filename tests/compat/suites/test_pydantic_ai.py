"""pydantic-ai: an agent's text, stream, tool loop, and typed output in its three modes."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelSettings, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from conftest import Gateway

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")


class Pet(BaseModel):
    name: str
    kind: Literal["cat", "dog"]


class Owner(BaseModel):
    name: str
    age: int
    pets: list[Pet]


PROMPT = "The owner is Mia, whose age is 41; she has a dog called Rex."
OWNER = Owner(name="Mia", age=41, pets=[Pet(name="Rex", kind="dog")])


@pytest.fixture
def model(gateway: Gateway) -> OpenAIChatModel:
    return OpenAIChatModel(gateway.model, provider=OpenAIProvider(base_url=gateway.url, api_key=gateway.key))


def test_an_agent_answers_in_text_and_counts_its_tokens(model: OpenAIChatModel) -> None:
    done = Agent(model, instructions="Be brief.").run_sync("good morning")
    assert done.output == "You said: good morning"
    assert (done.usage.input_tokens, done.usage.output_tokens) == (10, 4)


def test_a_conversation_goes_on(model: OpenAIChatModel) -> None:
    agent = Agent(model)
    first = agent.run_sync("first")
    second = agent.run_sync("second", message_history=first.all_messages())
    assert second.output == "You said: second"
    assert len(second.all_messages()) == 4


def test_an_agent_streams_its_text(model: OpenAIChatModel) -> None:
    async def stream() -> tuple[list[str], int]:
        async with Agent(model).run_stream("in pieces") as done:
            return [piece async for piece in done.stream_text(delta=True, debounce_by=None)], done.usage.output_tokens

    pieces, tokens = asyncio.run(stream())
    assert "".join(pieces) == "You said: in pieces"
    assert tokens == 4


def test_an_agent_loops_over_its_tools(model: OpenAIChatModel) -> None:
    agent, seen = Agent(model), list[tuple[int, int]]()

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        seen.append((a, b))
        return a + b

    done = agent.run_sync("What are add(1, 2) and add(3, 4)?")
    assert sorted(seen) == [(1, 2), (3, 4)]
    assert done.output == "The tools say: 3; 7"
    assert done.usage.requests == 2


@pytest.mark.parametrize("mode", [ToolOutput, NativeOutput, PromptedOutput])
def test_an_answer_is_of_the_type_that_was_asked_for(model: OpenAIChatModel, mode: Callable[[Any], Any]) -> None:
    assert Agent(model, output_type=mode(Owner)).run_sync(PROMPT).output == OWNER


def test_a_typed_answer_comes_after_the_tools_it_needs(model: OpenAIChatModel) -> None:
    agent = Agent(model, output_type=Owner)

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is known."

    done = agent.run_sync(f"Use look_up. {PROMPT}")
    assert done.output == OWNER
    assert [part.tool_name for m in done.all_messages() for part in m.parts if part.part_kind == "tool-call"] == [
        "look_up",
        "final_result",
    ]


def test_a_typed_answer_streams(model: OpenAIChatModel) -> None:
    async def stream() -> list[Owner]:
        async with Agent(model, output_type=NativeOutput(Owner)).run_stream(PROMPT) as done:
            return [done_so_far async for done_so_far in done.stream_output(debounce_by=None)]

    assert asyncio.run(stream())[-1] == OWNER


def test_an_image_reaches_the_model(model: OpenAIChatModel) -> None:
    done = Agent(model).run_sync(["look", BinaryContent(PIXEL, media_type="image/png")])
    assert done.output == "You said: look I see 1 image."


def test_settings_reach_the_model(model: OpenAIChatModel) -> None:
    settings = ModelSettings(max_tokens=3, temperature=0.0, seed=1)
    assert Agent(model).run_sync("too long for that", model_settings=settings).output == "You said: too "
