"""Whether an answer is well-formed: whole, of the form that was asked for, and calling tools that there are.

An answer that is not is never good enough, whatever other models say; one that is may still be wrong.

Not here: whether it is right (`router.py`). Invariants: nothing raises, whatever a target answered; what a request
asks for in a way that cannot be read is not asked for.
"""

from math import exp
from typing import Any

import msgspec

from trivet.types import Request
from trivet.wire.schema import misfit

MAX_BYTES = 1_000_000
"""Of an answer or a schema that is looked at; a longer one passes."""

_decode = msgspec.json.Decoder().decode


def flaw(request: Request, body: bytes, *, sure: float = 0.0) -> str:
    """Say in a few words why an answer cannot be good enough; "": it may be.

    Args:
        body: a whole `chat.completion`.
        sure: least geometric mean of its tokens' chances; an answer that does not tell them passes.
    """
    if len(body) > MAX_BYTES:
        return ""
    choice = _first(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        return "no answer"
    finish = choice.get("finish_reason")
    if finish in ("length", "content_filter"):
        return "cut off" if finish == "length" else "filtered"
    if message.get("refusal"):
        return "refused"
    calls = message.get("tool_calls")
    found = _flaw_of_calls(request, calls) if calls else _flaw_of_words(request, message.get("content"))
    if found or not sure:
        return found
    chance = certainty(choice)
    return f"unsure, {chance:.2f}" if chance is not None and chance < sure else ""


def certainty(choice: dict[str, Any]) -> float | None:
    """Give the geometric mean of the chances of an answer's tokens, in (0, 1]; None: it does not tell them."""
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else None
    if not isinstance(tokens, list):
        return None
    logs = [token["logprob"] for token in tokens if isinstance(token, dict) and _is_number(token.get("logprob"))]
    return exp(max(-700.0, min(0.0, sum(logs) / len(logs)))) if logs else None


def _first(body: bytes) -> dict[str, Any]:
    try:
        choice = _decode(body)["choices"][0]
    except (msgspec.MsgspecError, UnicodeError, RecursionError, LookupError, TypeError):
        return {}
    return choice if isinstance(choice, dict) else {}


def _flaw_of_words(request: Request, content: Any) -> str:
    if _read(request, "tool_choice") == "required" or isinstance(_read(request, "tool_choice"), dict):
        return "calls no tool"
    if not isinstance(content, str) or not content.strip():
        return "no answer"
    form = _read(request, "response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in ("json_object", "json_schema"):
        return ""
    try:
        value = _decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "no JSON"
    described = form.get("json_schema")
    schema = described.get("schema") if kind == "json_schema" and isinstance(described, dict) else True
    if kind == "json_object" and not isinstance(value, dict):
        return "no JSON object"
    wrong = misfit(value, schema)
    return f"JSON: {wrong[:80]}" if wrong else ""


def _flaw_of_calls(request: Request, calls: Any) -> str:
    tools = _tools(request)
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue  # another kind of tool: nothing is known of it
        name, said = function.get("name"), function.get("arguments")
        if name not in tools:
            return "calls no tool that there is"
        try:
            arguments = _decode(said) if said else {}
        except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError):
            return "arguments are no JSON"
        wrong = misfit(arguments, tools[name])
        if wrong or not isinstance(arguments, dict):
            return f"arguments: {wrong[:80] or 'no object'}"
    return ""


def _tools(request: Request) -> dict[Any, Any]:
    """Give the schema of each function that is offered, by name."""
    told = _read(request, "tools")
    functions = [tool.get("function") for tool in told if isinstance(tool, dict)] if isinstance(told, list) else []
    return {
        function["name"]: function.get("parameters", True)
        for function in functions
        if isinstance(function, dict) and isinstance(function.get("name"), str)
    }


def _read(request: Request, name: str) -> Any:
    raw = request.fields.get(name)
    if raw is None or memoryview(raw).nbytes > MAX_BYTES:
        return None
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
