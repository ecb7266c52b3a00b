"""Well-formed answers: whole, of the form that was asked for, calling tools that there are."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.cascade.formed import certainty, flaw
from trivet.types import Request
from trivet.wire.request import read_request

SCHEMA = {"type": "json_schema", "json_schema": {"name": "p", "schema": {"required": ["name"]}}}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"required": ["city"]}}},
    {"type": "function", "function": {"name": "now"}},
]


def ask(**body: Any) -> Request:
    whole = {"model": "p", "messages": [{"role": "user", "content": "hi"}], **body}
    return read_request(json.dumps(whole).encode(), [], id="1", tenant="t", key_id="", at_ns=1)


def said(content: Any = None, *, finish: str = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


def calls(name: str, arguments: Any) -> bytes:
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return said(tool_calls=[call], finish="tool_calls")


@pytest.mark.parametrize(
    ("request_", "body", "words"),
    [
        (ask(), said("Paris"), ""),
        (ask(), said("  "), "no answer"),
        (ask(), said(), "no answer"),
        (ask(), b"{}", "no answer"),
        (ask(), b"not JSON", "no answer"),
        (ask(), b'{"choices":[3]}', "no answer"),
        (ask(), said("Par", finish="length"), "cut off"),
        (ask(), said("Par", finish="content_filter"), "filtered"),
        (ask(), said(refusal="I cannot."), "refused"),
        (ask(response_format={"type": "json_object"}), said('{"a": 1}'), ""),
        (ask(response_format={"type": "json_object"}), said("[1]"), "no JSON object"),
        (ask(response_format={"type": "json_object"}), said("Here: {}"), "no JSON"),
        (ask(response_format=SCHEMA), said('{"name": "Ada"}'), ""),
        (ask(response_format=SCHEMA), said("{}"), "JSON: $.name is missing"),
        (ask(response_format={"type": "text"}), said("{"), ""),
        (ask(tools=TOOLS), calls("weather", '{"city": "Rome"}'), ""),
        (ask(tools=TOOLS), calls("now", ""), ""),
        (ask(tools=TOOLS), calls("weather", "{}"), "arguments: $.city is missing"),
        (ask(tools=TOOLS), calls("weather", "city=Rome"), "arguments are no JSON"),
        (ask(tools=TOOLS), calls("now", "3"), "arguments: no object"),
        (ask(tools=TOOLS), calls("time", "{}"), "calls no tool that there is"),
        (ask(tools=TOOLS), said("It rains."), ""),
        (ask(tools=TOOLS, tool_choice="required"), said("It rains."), "calls no tool"),
    ],
)
def test_a_flaw_is_named(request_: Request, body: bytes, words: str) -> None:
    assert flaw(request_, body) == words


def test_an_answer_may_have_to_be_sure() -> None:
    told = json.loads(said("Paris"))
    told["choices"][0]["logprobs"] = {"content": [{"logprob": math.log(0.9)}, {"logprob": math.log(0.4)}]}
    body = json.dumps(told).encode()
    assert certainty(told["choices"][0]) == pytest.approx(0.6)
    assert flaw(ask(), body, sure=0.5) == ""
    assert flaw(ask(), body, sure=0.7) == "unsure, 0.60"
    assert flaw(ask(), said("Paris"), sure=0.7) == "", "who does not tell is not held to it"


@given(st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_whatever_a_target_answers_nothing_raises(value: Any) -> None:
    for document in (value, {"choices": value}, {"choices": [{"message": value, "logprobs": value}]}):
        body = json.dumps(document).encode()
        assert isinstance(flaw(ask(tools=TOOLS, response_format=SCHEMA), body, sure=0.5), str)
    assert isinstance(flaw(ask(), said(tool_calls=value)), str)
    if isinstance(value, (str, float)):
        assert isinstance(flaw(ask(tools=TOOLS), calls("weather", value)), str)
