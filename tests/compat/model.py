"""The upstream of the compatibility suite: a scripted model that does what a prompt plainly asks, and no more.

    python -m tests.compat.model        # writes {"url": ...}, and answers until its stdin is closed

What it is: a server of OpenAI's chat completions on a real port (`trivet.testing.Upstream`), in a process of its own,
that answers streamed and whole, with usage and its details; calls tools with arguments made from their schema and from
the prompt; obeys `tool_choice`, `parallel_tool_calls`, `response_format`, `stop`, `max_tokens`, `n`; accepts images;
and refuses, with 400, what OpenAI refuses.
What it is not: a language model. It has a handful of rules, all below, and knows nothing. That a client works against
it shows that client, gateway and protocol fit together; it says nothing about what real models answer, about their
latency, or about providers whose protocol differs from OpenAI's.

Invariant: the same request gets the same answer, but for its `id`.
"""

import ast
import asyncio
import base64
import binascii
import json
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from tests.compat.schema import Reading, Schema, fill, resolved
from trivet.testing.upstream import Answer, Tool, Upstream
from trivet.types import Usage

Body = dict[str, Any]
MODEL = "scripted-1"

IMAGE_TOKENS = 85
"""What OpenAI counts for an image of low detail."""
CACHED_FROM = 1024
"""OpenAI caches prompts of this length and more, in steps of 128 tokens."""
_DULL = {"call", "find", "from", "function", "make", "tool", "with"}
"""Parts of tools' names that say nothing about what they are for."""


def script(body: Body) -> Answer:
    """Answer one request."""
    if refused := mistake(body):
        return Answer(status=400, error={"message": refused, "param": "messages", "code": "invalid_value"})
    if called := calls(body):
        return Answer(tools=called, usage=_usage(body, sum(len(_words(tool.arguments)) + 1 for tool in called)))
    text = document(body)
    text = spoken(body) if text is None else text
    text, finish = _stopped(text, body.get("stop")), "stop"
    pieces = _words(text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and len(pieces) > limit:
        pieces, finish = pieces[:limit], "length"
    return Answer(pieces=tuple(pieces), finish=finish, usage=_usage(body, len(pieces)))


# What is refused.


def mistake(body: Body) -> str | None:
    """Say what OpenAI would refuse in a request; None if nothing."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "Invalid 'messages': it must have at least one message."
    waiting: set[str] = set()
    for message in messages:
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in waiting:
                return "Invalid 'tool_call_id': no tool call of the message before has it."
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            return f"Invalid 'messages': the tool calls {sorted(waiting)} have no answer."
        waiting = {call["id"] for call in message.get("tool_calls") or ()}
    if waiting:
        return f"Invalid 'messages': the tool calls {sorted(waiting)} have no answer."
    if _format(body) == "json_object" and "json" not in "".join(map(text_of, messages)).lower():
        return "'messages' must contain the word 'json' to use 'response_format' of type 'json_object'."
    return next((why for message in messages for part in _parts(message) if (why := _unseen(part))), None)


def _unseen(part: dict[str, Any]) -> str | None:
    """Say why an image cannot be looked at."""
    if part.get("type") != "image_url":
        return None
    head, comma, data = part["image_url"]["url"].partition(";base64,")
    if not comma:
        return None if head.startswith(("http://", "https://")) else "Invalid image URL."
    try:
        return None if base64.b64decode(data, validate=True) else "The image is empty."
    except binascii.Error:
        return "Invalid base64 image data."


# Tools.


def calls(body: Body) -> tuple[Tool, ...]:
    """Choose the tools to call.

    Of the tools that were not called since the last prompt, those that it names; with `tool_choice` a tool is called
    whatever the prompt says. A tool is named by its name, by `NAME(ARGUMENTS)`, which may stand there several times,
    or, if no tool is, by a word of a name: "weather" for `get_weather`.
    """
    tools: list[Schema] = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return ()
    reading = Reading(prompt(body))
    done = _called(body)
    if isinstance(choice, dict):
        named = [tool for tool in tools if tool["name"] == choice["function"]["name"]]
    else:
        open_ = [tool for tool in tools if tool["name"] not in done]
        named = [tool for tool in open_ if reading.mentions(tool["name"])]
        named = named or [tool for tool in open_ if _hinted(tool["name"], reading.text)]
        if not named and choice == "required":
            named = (open_ or tools)[:1]
    made = [call for tool in named for call in _calls_of(tool, reading)]
    return tuple(made if body.get("parallel_tool_calls") is not False else made[:1])


def _called(body: Body) -> set[str]:
    """Name the tools that were called since the last prompt."""
    done: set[str] = set()
    for message in body["messages"]:
        done = set() if message["role"] == "user" else done
        done |= {call["function"]["name"] for call in message.get("tool_calls") or ()}
    return done


def _hinted(name: str, text: str) -> bool:
    words = {word for word in re.split(r"[_\W]+", name.lower()) if len(word) > 3} - _DULL
    return bool(words & set(re.findall(r"\w+", text.lower())))


def _calls_of(tool: Schema, reading: Reading) -> list[Tool]:
    schema: Schema = tool.get("parameters") or {"type": "object", "properties": {}}
    asked = re.findall(rf"(?<!\w){re.escape(tool['name'])}\(([^()]*)\)", reading.text)
    given = [arguments for text in asked if (arguments := _as_called(text, schema)) is not None]
    made = given or [fill(schema, reading)]
    return [Tool(tool["name"], json.dumps(arguments, ensure_ascii=False)) for arguments in made]


def _as_called(text: str, schema: Schema) -> dict[str, Any] | None:
    """Read `3, unit="C"` as arguments; None where it is not literals, or more or fewer than the schema wants."""
    schema = resolved(schema, schema)
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        given = dict(zip(schema.get("properties", {}), map(ast.literal_eval, call.args), strict=False))
        given |= {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError):
        return None
    return given if set(schema.get("required", ())) <= set(given) else None


# Documents and text.


def document(body: Body) -> str | None:
    """Write the JSON that `response_format` asks for; None where it asks for text.

    For `json_object` the schema is one that stands in a message; without any, the keys are those in quotes.
    """
    reading, kind = Reading(prompt(body)), _format(body)
    if kind == "json_schema":
        schema: Schema = body["response_format"]["json_schema"]["schema"]
    elif kind == "json_object":
        keys = re.findall(r"""["'`](\w+)["'`]""", reading.text)
        loose: Schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": keys}
        schema = next(_schemas("\n".join(map(text_of, body["messages"]))), loose)
        reading = Reading("") if schema is loose else reading  # the quoted words are its keys, no values
    else:
        return None
    return json.dumps(fill(schema, reading), ensure_ascii=False)


def _schemas(text: str) -> Iterator[Schema]:
    """Find the JSON schemas that stand in a text."""
    at = text.find("{")
    while at >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            found, end = None, at + 1
        if isinstance(found, dict) and "properties" in found:
            yield found
        at = text.find("{", end)


def spoken(body: Body) -> str:
    """Say back what was said, what tools answered, and how many images came."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        answers = list(takewhile(lambda message: message["role"] == "tool", reversed(body["messages"])))
        return f"The tools say: {'; '.join(text_of(message) for message in reversed(answers))}"
    images = sum(part.get("type") == "image_url" for message in body["messages"] for part in _parts(message))
    seen = f" I see {images} image{'s' if images > 1 else ''}." if images else ""
    return f"You said: {prompt(body)}{seen}"


def prompt(body: Body) -> str:
    """Give the text of the last message of the user."""
    return next((text_of(m) for m in reversed(body["messages"]) if m["role"] == "user"), "")


def text_of(message: dict[str, Any]) -> str:
    """Give the text of a message, without its images."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in _parts(message) if part.get("type") == "text")


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _format(body: Body) -> str:
    return str((body.get("response_format") or {}).get("type", "text"))


def _stopped(text: str, stop: str | list[str] | None) -> str:
    for word in [stop] if isinstance(stop, str) else stop or ():
        text = text.split(word)[0]
    return text


def _words(text: str) -> list[str]:
    """Cut a text into what stands for tokens: words with the space behind them."""
    return re.findall(r"\s*\S+\s*", text)


def _usage(body: Body, output: int) -> Usage:
    said = sum(len(_words(text_of(message))) + 3 for message in body["messages"])
    seen = sum(part.get("type") == "image_url" for message in body["messages"] for part in _parts(message))
    tokens = said + seen * IMAGE_TOKENS
    cached = tokens // 128 * 128 if tokens >= CACHED_FROM else 0
    return Usage(input_tokens=tokens, output_tokens=output, cached_tokens=cached)


async def main() -> None:
    """Answer on a free port until stdin is closed, so that it cannot outlive whoever started it."""
    async with Upstream(script=script, models=(MODEL,)) as upstream:
        print(json.dumps({"url": upstream.base_url}), flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main())
