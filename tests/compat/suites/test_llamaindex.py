"""LlamaIndex's `OpenAILike`: chat, stream, tools, an agent's step, structured answers; and an index over embeddings."""

import asyncio
from typing import Literal

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from conftest import Gateway

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")
PROMPT = "The owner is Mia, whose age is 41; she has a dog called Rex."


class Pet(BaseModel):
    name: str
    kind: Literal["cat", "dog"]


class Owner(BaseModel):
    """An owner of pets."""

    name: str
    age: int
    pets: list[Pet]


OWNER = Owner(name="Mia", age=41, pets=[Pet(name="Rex", kind="dog")])


@pytest.fixture
def llm(gateway: Gateway) -> OpenAILike:
    return OpenAILike(
        model=gateway.model,
        api_base=gateway.url,
        api_key=gateway.key,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_chat_and_completion_are_answered(llm: OpenAILike) -> None:
    answer = llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage(content="good morning")])
    assert answer.message.content == "You said: good morning"
    assert answer.raw.usage.total_tokens == 14
    assert llm.complete("one line").text == "You said: one line"


def test_a_stream_grows_to_the_whole(llm: OpenAILike) -> None:
    answers = list(llm.stream_chat([ChatMessage(content="in pieces")]))
    assert "".join(answer.delta or "" for answer in answers) == "You said: in pieces"
    assert answers[-1].message.content == "You said: in pieces"


def test_asynchronous_chat_and_stream_are_the_same(llm: OpenAILike) -> None:
    async def ask() -> tuple[str | None, str]:
        whole = await llm.achat([ChatMessage(content="later")])
        stream = await llm.astream_chat([ChatMessage(content="later")])
        return whole.message.content, "".join([answer.delta or "" async for answer in stream])

    assert asyncio.run(ask()) == ("You said: later", "You said: later")


def test_tools_are_called_with_their_arguments(llm: OpenAILike) -> None:
    tools = [FunctionTool.from_defaults(add)]
    prompt = "What are add(1, 2) and add(3, 4)?"
    answer = llm.chat_with_tools(tools, user_msg=prompt, allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(answer)
    assert [call.tool_kwargs for call in calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    *_, last = llm.stream_chat_with_tools(tools, user_msg=prompt, allow_parallel_tool_calls=True)
    assert [call.tool_kwargs for call in llm.get_tool_calls_from_response(last)] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_a_prediction_calls_its_tool(llm: OpenAILike) -> None:
    answer = llm.predict_and_call([FunctionTool.from_defaults(add)], user_msg="What is add(20, 22)?")
    assert str(answer) == "42"


def test_an_answer_is_of_the_type_that_was_asked_for(llm: OpenAILike) -> None:
    assert llm.structured_predict(Owner, PromptTemplate("{text}"), text=PROMPT) == OWNER
    assert llm.as_structured_llm(Owner).chat([ChatMessage(content=PROMPT)]).raw == OWNER


def test_a_structured_answer_streams_until_it_is_whole(llm: OpenAILike) -> None:
    *_, last = llm.stream_structured_predict(Owner, PromptTemplate("{text}"), text=PROMPT)
    assert Owner(**last.model_dump()) == OWNER


def test_an_image_reaches_the_model(llm: OpenAILike) -> None:
    said = ChatMessage(blocks=[TextBlock(text="look"), ImageBlock(image=PIXEL, image_mimetype="image/png")])
    assert llm.chat([said]).message.content == "You said: look I see 1 image."


@pytest.fixture
def embedding(gateway: Gateway) -> OpenAILikeEmbedding:
    if not gateway.embedder:
        pytest.skip("the scripted model makes no embeddings")
    return OpenAILikeEmbedding(
        model_name=gateway.embedder, api_base=gateway.url, api_key=gateway.key, embed_batch_size=3, max_retries=0
    )


def test_an_index_finds_the_text_that_a_question_is_about(embedding: OpenAILikeEmbedding) -> None:
    texts = [
        "To reset a forgotten password, follow the link in the mail.",
        "The capital of France is Paris.",
        "Parcels are delivered within three days.",
        "A refund is paid to the card that was used.",
    ]
    index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embedding)
    for question, text in [("How do I change my password?", texts[0]), ("When will my parcel be delivered?", texts[2])]:
        (found,) = index.as_retriever(similarity_top_k=1).retrieve(question)
        assert found.text == text


def test_asynchronous_embeddings_are_the_same(embedding: OpenAILikeEmbedding) -> None:
    async def ask() -> list[list[float]]:
        return await embedding.aget_text_embedding_batch(["one text", "another"])

    told = asyncio.run(ask())
    assert told == embedding.get_text_embedding_batch(["one text", "another"])
    assert embedding.similarity(*told) < 0.99
