"""LangChain's own standard tests of chat models and embeddings, with `ChatOpenAI` and `OpenAIEmbeddings` unchanged.

The suite's tests of images, sound and PDF fetch their files from the internet, so they are left out; images of our own
stand in for them below.
"""

import os
from typing import Any

import openai
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from conftest import Gateway

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class TestChatOpenAI(ChatModelIntegrationTests):
    """Every test is LangChain's."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        names = ("COMPAT_BASE_URL", "COMPAT_API_KEY", "COMPAT_MODEL")
        url, key, model = (os.environ[name] for name in names)
        return {"base_url": url, "api_key": key, "model": model, "stream_usage": True, "max_retries": 0}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return False

    @property
    def model_override_value(self) -> str:
        return "scripted-1"  # the target, which answers under this name; its policy answers under it too


def embedder(**more: Any) -> dict[str, Any]:
    names = ("COMPAT_BASE_URL", "COMPAT_API_KEY", "COMPAT_EMBEDDER")
    url, key, model = (os.environ[name] for name in names)
    # Else it sends tokens of OpenAI's vocabulary in place of the text.
    return {"base_url": url, "api_key": key, "model": model, "check_embedding_ctx_length": False, **more}


needs_embedder = pytest.mark.skipif(not os.environ["COMPAT_EMBEDDER"], reason="the scripted model has none")


@needs_embedder
class TestOpenAIEmbeddings(EmbeddingsIntegrationTests):
    """Every test is LangChain's."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return embedder()


@needs_embedder
def test_likeness_is_in_the_vectors_and_fewer_dimensions_can_be_had() -> None:
    texts = ["How do I reset my password?", "I forgot my password.", "What is the capital of France?"]
    for made, width in ((OpenAIEmbeddings(**embedder()), 256), (OpenAIEmbeddings(**embedder(dimensions=64)), 64)):
        a, b, c = made.embed_documents(texts)
        assert len(a) == width
        assert sum(x * y for x, y in zip(a, b, strict=True)) > sum(x * y for x, y in zip(a, c, strict=True)) + 0.1


@needs_embedder
def test_tokens_in_place_of_text_are_refused_in_words_that_help() -> None:
    # As it does by default, where it knows the model's name and can fetch its vocabulary.
    asked = OpenAIEmbeddings(**embedder())
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as refused:
        asked.client.create(input=[[1, 2, 3]], model=asked.model)
    assert refused.value.code == "unsupported_by_target"


@pytest.fixture
def chat(gateway: Gateway) -> ChatOpenAI:
    return ChatOpenAI(base_url=gateway.url, api_key=gateway.key, model=gateway.model, max_retries=0)


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
        {"type": "image", "url": "https://example.com/cat.png"},
    ],
)
def test_an_image_reaches_the_model(chat: ChatOpenAI, image: dict[str, Any]) -> None:
    answer = chat.invoke([HumanMessage([{"type": "text", "text": "look"}, image])])
    assert answer.text == "You said: look I see 1 image."


def test_a_tool_loop_ends_with_what_the_tools_say(chat: ChatOpenAI) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    bound, said = chat.bind_tools([add]), HumanMessage("What are add(1, 2) and add(3, 4)?")
    asked = bound.invoke([said])
    assert isinstance(asked, AIMessage)
    assert [call["args"] for call in asked.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    results = [ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"]) for call in asked.tool_calls]
    assert bound.invoke([said, asked, *results]).text == "The tools say: 3; 7"
