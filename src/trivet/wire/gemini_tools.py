"""`tools` and `tool_choice` as Gemini's declarations and its modes of calling.

Not here: calls and their results in messages (`gemini_contents.py`). Invariant: a function's schema keeps its bytes.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from trivet.wire.gemini_error import unsupported

Json = dict[str, Any]

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class _Named(Struct):
    name: str


class _ToolNamed(Struct):
    type: str = "function"
    function: _Named | None = None


class _Allowed(Struct):
    mode: str
    tools: list[_ToolNamed]


class Choice(Struct):
    """`tool_choice`, where it is not a word."""

    type: str
    function: _Named | None = None
    allowed_tools: _Allowed | None = None


class _Declared(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"null")
    strict: bool | None = None


class _Tool(Struct):
    type: str = ""
    function: _Declared | None = None


_read_tool = msgspec.json.Decoder(_Tool).decode


def tools(given: Sequence[Raw], choice: str | Choice | None) -> Json:
    """Write the members `tools` and `toolConfig`, as far as there is something to say.

    Raises:
        UpstreamError: 400: a tool or a choice that Gemini does not have.
        msgspec.ValidationError: not OpenAI's shape.
    """
    declared: list[Json] = []
    others: list[Raw] = []
    strict = False
    for at, raw in enumerate(given):
        tool = _read_tool(raw)
        if tool.function is not None:
            declared.append(_declaration(tool.function))
            strict = strict or bool(tool.function.strict)
        elif not tool.type:  # one of Gemini's own: {"googleSearch": {}}
            others.append(raw)
        else:
            raise unsupported(f"tools[{at}] is of type {tool.type[:40]!r}. Declare a function.", param=f"tools[{at}]")
    config = _calling(choice, {d["name"] for d in declared}, strict=strict)
    body: Json = {"tools": [*([{"functionDeclarations": declared}] if declared else []), *others]}
    return {**(body if body["tools"] else {}), **({"toolConfig": {"functionCallingConfig": config}} if config else {})}


def _declaration(function: _Declared) -> Json:
    declared: Json = {"name": function.name}
    if function.description is not None:
        declared["description"] = function.description
    if bytes(function.parameters) not in (b"null", b"{}"):
        declared["parametersJsonSchema"] = function.parameters
    return declared


def _calling(choice: str | Choice | None, names: set[str], *, strict: bool) -> Json:
    """Convert `tool_choice`. VALIDATED is AUTO with arguments held to their schema: what `strict` asks for."""
    auto = "VALIDATED" if strict else "AUTO"
    if choice is None or choice == "auto":
        return {"mode": auto} if names and (choice or strict) else {}
    if isinstance(choice, str):
        mode, only = _MODES.get(choice), None
    elif choice.allowed_tools is not None:
        # AUTO takes no list of names; VALIDATED does.
        mode = {"auto": "VALIDATED", "required": "ANY"}.get(choice.allowed_tools.mode)
        only = [tool.function.name for tool in choice.allowed_tools.tools if tool.function]
    else:
        mode, only = "ANY", [choice.function.name] if choice.function else []
    if mode is None or (only is not None and (not only or not names.issuperset(only))):
        raise unsupported("`tool_choice` names no mode and no function of `tools`.", param="tool_choice")
    if not names:
        if mode == "NONE":
            return {}
        raise unsupported("`tool_choice` wants a call, and `tools` has no function.", param="tool_choice")
    return {"mode": mode} | ({"allowedFunctionNames": only} if only else {})
