"""Tools and the choice among them: declarations, modes, and what Gemini does not have."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.json import encode

from trivet.errors import UpstreamError
from trivet.wire.gemini_tools import Choice, tools

Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Json = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}


def body(*given: Json, tool_choice: Any = None) -> Json:
    choice = msgspec.convert(tool_choice, str | Choice | None)
    return json.loads(encode(tools([Raw(encode(one)) for one in given], choice)))  # type: ignore[no-any-return]  # JSON


def test_functions_are_declared_with_their_own_schema_and_googles_tools_stand_beside_them() -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    found = body(TOOL, bare, {"googleSearch": {}}, {"code_execution": {}})
    assert found["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Tells it.", "parametersJsonSchema": SCHEMA},
                {"name": "now"},
            ]
        },
        {"googleSearch": {}},
        {"code_execution": {}},
    ]
    assert "toolConfig" not in found
    assert body() == {}


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NAMED, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["weather"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
    ],
)
def test_the_choice_of_a_tool_is_a_mode(choice: Any, config: Json) -> None:
    assert body(TOOL, tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


def test_a_strict_tool_has_its_arguments_validated() -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    assert body(strict)["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}


def test_a_schema_keeps_its_bytes() -> None:
    odd = b'{ "type":"object", "maximum" : 1.50 }'
    raw = b'{"type":"function","function":{"name":"f","parameters":' + odd + b"}}"
    assert odd in encode(tools([Raw(raw)], None))


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ([{"type": "custom", "custom": {"name": "x"}}], None),
        ([], "required"),
        ([TOOL], "perhaps"),
        ([TOOL], {"type": "function", "function": {"name": "other"}}),
        ([TOOL], {"type": "custom", "custom": {"name": "weather"}}),
        ([TOOL], {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
    ],
)
def test_a_tool_or_choice_that_gemini_does_not_have_is_refused(given: list[Json], choice: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        body(*given, tool_choice=choice)
    assert (caught.value.status, caught.value.again) == (400, True)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_choice_that_asks_for_nothing_needs_no_function(choice: str) -> None:
    assert body({"googleSearch": {}}, tool_choice=choice) == {"tools": [{"googleSearch": {}}]}
