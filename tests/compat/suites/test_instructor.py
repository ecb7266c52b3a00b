"""instructor: typed answers in the modes TOOLS and JSON, whole, in part, and many."""

import asyncio
from collections.abc import Iterator
from typing import Literal

import instructor
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from conftest import Gateway

PROMPT = [{"role": "user", "content": "The owner is Mia, whose age is 41; she has a dog called Rex."}]


class Pet(BaseModel):
    name: str
    kind: Literal["cat", "dog"]


class Owner(BaseModel):
    name: str
    age: int
    pets: list[Pet]


OWNER = {"name": "Mia", "age": 41, "pets": [{"name": "Rex", "kind": "dog"}]}


@pytest.fixture(params=[instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA])
def mode(request: pytest.FixtureRequest) -> instructor.Mode:
    return request.param


@pytest.fixture
def client(gateway: Gateway, mode: instructor.Mode) -> Iterator[instructor.Instructor]:
    with OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield instructor.from_openai(client, mode=mode)


def test_an_answer_is_of_the_type_that_was_asked_for(client: instructor.Instructor, gateway: Gateway) -> None:
    owner = client.chat.completions.create(model=gateway.model, response_model=Owner, messages=PROMPT)
    assert owner.model_dump() == OWNER  # a class of instructor's own, below `Owner`


def test_the_completion_comes_with_it(client: instructor.Instructor, gateway: Gateway) -> None:
    owner, raw = client.chat.completions.create_with_completion(
        model=gateway.model, response_model=Owner, messages=PROMPT
    )
    assert owner.model_dump() == OWNER  # a class of instructor's own, below `Owner`
    assert raw.usage.total_tokens > 0


def test_an_answer_streams_in_part_until_it_is_whole(client: instructor.Instructor, gateway: Gateway) -> None:
    parts = list(client.chat.completions.create_partial(model=gateway.model, response_model=Owner, messages=PROMPT))
    assert parts[-1].model_dump() == OWNER


def test_an_asynchronous_client_has_the_same_answer(gateway: Gateway, mode: instructor.Mode) -> None:
    async def ask() -> Owner:
        async with AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as plain:
            client = instructor.from_openai(plain, mode=mode)
            return await client.chat.completions.create(model=gateway.model, response_model=Owner, messages=PROMPT)

    assert asyncio.run(ask()).model_dump() == OWNER
