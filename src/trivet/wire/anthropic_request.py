"""A chat completion request, rewritten for Anthropic's Messages API.

Not here: its messages (`wire/anthropic_messages.py`), the answer (`wire/anthropic_answer.py`), HTTP.
Invariants: a member that would change the answer is said in Anthropic's words or refused, never dropped; members that
are not OpenAI's (`thinking`, `top_k`, `context_management`, ...) go through with their bytes, as the client's own words
for Anthropic. What maps to what: docs/providers.md.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw, Struct

from trivet.types import Request
from trivet.wire.anthropic_messages import NULL, Conversation, conversation, refused

_DEFAULT_MAX_TOKENS = (
    (re.compile(r"claude-(2|v1|instant|3-(opus|sonnet|haiku))"), 4_096),
    (re.compile(r"claude-3-5-"), 8_192),
    (re.compile(r"claude-"), 32_000),
)
"""Anthropic wants a number; OpenAI's clients mostly send none and mean "as many as it takes". These are what each
generation of models can write at least (Opus 4's limit is 32,000, later ones have more). The first that fits."""

_DEFAULT_OF_OTHERS = 8_192
"""For models that others serve in Anthropic's protocol: many refuse more than their whole context."""

_THINKS_BY_BUDGET = re.compile(
    r"claude-3-7-|claude-4-|claude-(opus|sonnet|haiku)-4(-[0-5])?(-latest|[-@]\d{8}.*)?$", re.ASCII
)
"""Models that think within a number of tokens. Those after them take `adaptive` and an effort; most take no number."""

_SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""Percent of `max_tokens` that an effort may think for, where that is a number: as OpenRouter documents its own."""

_LEAST_BUDGET = 1_024
"""Anthropic's lower limit for `budget_tokens`, which must be less than `max_tokens`."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}


class _Schema(Struct, gc=False):
    schema: dict[str, Raw] | None = None
    description: str | None = None


class _Format(Struct, gc=False):
    type: str
    json_schema: _Schema | None = None


class _Asked(Struct, gc=False):
    """Members of OpenAI's that mean something to Anthropic, in its own words or in none."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = NULL
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    response_format: _Format | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Raw] | None = None
    service_tier: str | None = None
    # Anthropic's own, which meet what is made of the above:
    thinking: Raw = NULL
    output_config: dict[str, Raw] | None = None
    # What Anthropic has no words for:
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    modalities: list[str] | None = None
    audio: Raw = NULL
    functions: Raw = NULL
    function_call: Raw = NULL
    web_search_options: Raw = NULL
    verbosity: str | None = None


_read_asked = msgspec.json.Decoder(_Asked).decode
_encode = msgspec.json.Encoder().encode

_READ = frozenset(_Asked.__struct_fields__)
_HANDLED = _READ | frozenset({
    "model", "messages", "stream", "n",
    # About keeping, caching and speed at OpenAI; the answer is the same without them.
    "stream_options", "store", "prediction", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
})  # fmt: skip


def for_anthropic(request: Request, *, model: str) -> bytes:
    """Write the body for `POST /v1/messages`.

    Raises:
        UnsupportedError: something in it cannot be said to Anthropic; says what, and what to do.
    """
    fields = request.fields
    asked = _asked(fields)
    for param, words in _inexpressible(asked, n=request.n):
        raise refused(words, param=param)
    max_tokens = asked.max_completion_tokens or asked.max_tokens or _default_max_tokens(model)
    said = conversation(fields["messages"])
    body: dict[str, object] = {"model": model, "max_tokens": max_tokens}
    body |= _written(asked, said, model=model, max_tokens=max_tokens)
    if request.stream:
        body["stream"] = True
    for name, raw in fields.items():
        if name not in _HANDLED:
            if name in body:
                raise refused(f"`{name[:64]}` says again what another member says. Leave one out.", param=name[:64])
            body[name] = raw
    return _encode({**body, "messages": said.turns})


def _asked(fields: Mapping[str, Raw]) -> _Asked:
    known = {name: raw for name, raw in fields.items() if name in _READ}
    try:
        return _read_asked(_encode(known))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"a member cannot be read: {error}.", param=str(error).partition("$.")[2].rstrip("`")) from error


def _inexpressible(asked: _Asked, *, n: int) -> Iterator[tuple[str, str]]:
    """Say what Anthropic has no words for, with what to do instead."""
    elsewhere = "Leave it out, or ask a target that speaks OpenAI's protocol."
    if n != 1:
        yield "n", f"`n` is {n}, and it gives one answer at a time. Ask {n} times."
    if asked.temperature is not None and not 0 <= asked.temperature <= 1:
        yield "temperature", f"`temperature` is {asked.temperature:g}, and its scale ends at 1. Write 0 to 1."
    if asked.logprobs or asked.top_logprobs:
        yield "logprobs", f"it tells no `logprobs`. {elsewhere}"
    for name in ("logit_bias", "frequency_penalty", "presence_penalty"):
        if getattr(asked, name):
            yield name, f"it has no `{name}`. {elsewhere}"
    if asked.seed is not None:
        yield "seed", f"it has no `seed`: no two answers are promised to be the same. {elsewhere}"
    if asked.audio != NULL or set(asked.modalities or ["text"]) != {"text"}:
        yield "modalities", f"it answers in text only. {elsewhere}"
    for name in ("functions", "function_call"):
        if getattr(asked, name) != NULL:
            yield name, f"`{name}` is the old way. Write `tools` and `tool_choice`."
    if asked.web_search_options != NULL:
        words = 'Add its tool instead: {"type": "web_search_20250305", "name": "web_search"} among `tools`.'
        yield "web_search_options", f"it has no `web_search_options`. {words}"
    if asked.verbosity not in (None, "medium"):
        yield "verbosity", "it has no `verbosity`. Say in the system message how long the answer should be."
    if asked.service_tier is not None and asked.service_tier not in _TIERS:
        yield "service_tier", f"it has no `service_tier` {asked.service_tier[:40]!r}. Write auto or default."


def _default_max_tokens(model: str) -> int:
    return next((limit for names, limit in _DEFAULT_MAX_TOKENS if names.search(model)), _DEFAULT_OF_OTHERS)


def _written(asked: _Asked, said: Conversation, *, model: str, max_tokens: int) -> dict[str, object]:
    """Write the members that have a counterpart; those that are not asked for are not there."""
    thinking, effort = _thinking(asked, model=model, max_tokens=max_tokens)
    tools = [_tool(raw) for raw in asked.tools or ()]
    written = {
        "system": said.system,
        "stop_sequences": [asked.stop] if isinstance(asked.stop, str) else asked.stop,
        # 1 is the default of both APIs. Newer models refuse any other number, and some refuse even that.
        "temperature": None if asked.temperature == 1 else asked.temperature,
        "top_p": None if asked.top_p == 1 else asked.top_p,
        "tools": tools,
        "tool_choice": _tool_choice(asked, tools=bool(tools)),
        "thinking": thinking,
        "output_config": _output_config(asked, effort),
        "metadata": _metadata(asked),
        "service_tier": asked.service_tier and _TIERS[asked.service_tier],
    }
    return {name: value for name, value in written.items() if value is not None and value not in ([], {}, "")}


def _metadata(asked: _Asked) -> dict[str, object] | None:
    """Say who asks. OpenAI's other metadata are labels of what it stores."""
    if asked.metadata and "user_id" in asked.metadata:
        return {"user_id": asked.metadata["user_id"]}
    user = asked.safety_identifier or asked.user
    return {"user_id": user} if user else None


def _thinking(asked: _Asked, *, model: str, max_tokens: int) -> tuple[object, str | None]:
    """Turn `reasoning_effort` into `thinking` and an effort; the client's own `thinking` stands as it is."""
    own = None if asked.thinking == NULL else asked.thinking
    effort = asked.reasoning_effort
    if effort is None:
        return own, None
    if effort == "none":
        return own or {"type": "disabled"}, None
    if effort not in _EFFORTS:
        words = f"`reasoning_effort` is {effort[:40]!r}. Write none, {', '.join(_EFFORTS)}."
        raise refused(words, param="reasoning_effort")
    if not _THINKS_BY_BUDGET.search(model):
        return own or {"type": "adaptive"}, _EFFORTS[effort]
    if own is not None:
        return own, None
    if max_tokens <= _LEAST_BUDGET:
        words = f"this model thinks for at least {_LEAST_BUDGET} tokens, and `max_tokens` is {max_tokens}. Allow more."
        raise refused(words, param="max_tokens")
    budget = max(_LEAST_BUDGET, max_tokens * _SHARES[effort] // 100)
    return {"type": "enabled", "budget_tokens": budget}, None


def _output_config(asked: _Asked, effort: str | None) -> dict[str, object]:
    config: dict[str, object] = {} if effort is None else {"effort": effort}
    wanted = asked.response_format
    if wanted is not None and wanted.type != "text":
        config["format"] = _format(wanted)
    return {**config, **(asked.output_config or {})}


def _format(wanted: _Format) -> dict[str, object]:
    given = wanted.json_schema
    if wanted.type != "json_schema" or given is None or given.schema is None:
        words = f"`response_format` is {wanted.type[:40]!r}, and it only promises JSON of a schema. Write json_schema."
        raise refused(words, param="response_format")
    schema: dict[str, object] = {**given.schema}
    if given.description:
        schema.setdefault("description", given.description)
    return {"type": "json_schema", "schema": schema}


# ---- tools ------------------------------------------------------------------------------------------------------


class _Function(Struct, gc=False):
    name: str
    description: str | None = None
    parameters: dict[str, Raw] | None = None
    strict: bool | None = None


_read_function = msgspec.json.Decoder(_Function).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode


def _tool(raw: Raw) -> object:
    """Rewrite a function; a tool of Anthropic's own (web search, computer use, `input_schema`) goes through."""
    try:
        members = _read_members(raw)
        if "function" in members:
            return _function(members)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"one of `tools` cannot be read: {error}.", param="tools") from error
    if "custom" in members:
        raise refused("a tool is `custom`, with free text as its input. Write a function.", param="tools")
    return raw


def _function(members: dict[str, Raw]) -> dict[str, object]:
    function = _read_function(members.pop("function"))
    members.pop("type", None)
    tool: dict[str, object] = {"name": function.name}
    if function.description:
        tool["description"] = function.description
    schema: dict[str, object] = {**(function.parameters or {"properties": Raw(b"{}")})}
    tool["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
    if function.strict:
        tool["strict"] = True
    return {**tool, **members}  # the rest is the client's own for Anthropic: cache_control, input_examples, ...


class _Named(Struct, gc=False):
    name: str


class _Choice(Struct, gc=False):
    type: str
    function: _Named | None = None
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_read_choice = msgspec.json.Decoder(str | _Choice | None).decode
_WORDS = {"auto": "auto", "required": "any", "none": "none"}


def _tool_choice(asked: _Asked, *, tools: bool) -> dict[str, object] | None:
    try:
        chosen = _read_choice(asked.tool_choice)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"`tool_choice` cannot be read: {error}.", param="tool_choice") from error
    alone = asked.parallel_tool_calls is False
    if isinstance(chosen, _Choice):
        choice = _chosen(chosen)
    elif chosen is None or chosen in _WORDS:
        if not tools and chosen != "required":
            return None  # it says nothing, and Anthropic refuses it without tools
        if chosen is None and not alone:
            return None
        choice = {"type": _WORDS[chosen or "auto"]}
    else:
        raise refused(f"`tool_choice` is {chosen[:40]!r}. Write auto, required or none.", param="tool_choice")
    return {**choice, "disable_parallel_tool_use": True} if alone and choice["type"] != "none" else choice


def _chosen(chosen: _Choice) -> dict[str, object]:
    if chosen.type == "function" and chosen.function is not None:
        return {"type": "tool", "name": chosen.function.name}
    if chosen.type in ("auto", "any", "tool", "none"):  # in Anthropic's words already
        rest = {"name": chosen.name, "disable_parallel_tool_use": chosen.disable_parallel_tool_use}
        return {"type": chosen.type, **{name: value for name, value in rest.items() if value is not None}}
    words = f"`tool_choice` is {chosen.type[:40]!r}. Name one function, or send only the tools that may be used."
    raise refused(words, param="tool_choice")
