"""LangChain's own standard tests of chat models, with `ChatOpenAI` unchanged.

The suite's tests of images, sound and PDF fetch their files from the internet, so they are left out; images of our own
stand in for them below.
"""

import os
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

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
