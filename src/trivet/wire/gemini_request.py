"""A chat completion request as Gemini's `generateContent` has it.

Not here: messages (`gemini_contents.py`), tools (`gemini_tools.py`), where it is sent (`upstream/gemini.py`).
Invariants: every member of the request is converted, or passed through with its bytes, or refused; the only ones left
out are those that do not change the answer (`_SILENT`). Nothing is said twice: a member of Gemini's that OpenAI's
already says is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from trivet.types import Request
from trivet.wire.gemini_contents import Json, read_messages
from trivet.wire.gemini_error import unsupported
from trivet.wire.gemini_tools import Choice, tools

_encode = msgspec.json.Encoder().encode

_SILENT = frozenset({
    "model", "messages", "stream", "stream_options", "user", "safety_identifier", "metadata", "prediction",
    "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
})  # fmt: skip
"""Read elsewhere, or about accounts, speed and caching: they do not change what is answered."""

_GENERATION = frozenset({
    "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "responseLogprobs", "logprobs",
    "presencePenalty", "frequencyPenalty", "seed", "responseMimeType", "responseSchema", "responseJsonSchema",
    "responseModalities", "mediaResolution", "speechConfig", "thinkingConfig", "imageConfig", "translationConfig",
    "enableEnhancedCivicAnswers", "audioTranscriptionConfig",
})  # fmt: skip
"""Members of `generationConfig`, taken at the top level too: there is where clients can put members of their own."""

_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Tokens to think with, before Gemini 3: the numbers of Google's own OpenAI-compatible endpoint."""
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH"}


class _JsonSchema(Struct):
    schema: Raw = Raw(b"null")
    description: str | None = None


class _Format(Struct):
    type: str
    json_schema: _JsonSchema | None = None


class _Asked(Struct):
    """The members of OpenAI's that are converted or refused."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    response_format: _Format | None = None
    tools: list[Raw] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[str] | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    logit_bias: dict[str, float] | None = None
    audio: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None


_OURS = frozenset(_Asked.__struct_fields__)
_read = msgspec.json.Decoder(_Asked).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode


def for_gemini(request: Request, *, model: str) -> bytes:
    """Write the body of `generateContent`, and of `streamGenerateContent`: they are the same.

    Raises:
        UnsupportedError: Gemini has no word for something that would change the answer.
    """
    fields = request.fields
    try:
        asked = _read(_encode({name: value for name, value in fields.items() if name in _OURS}))
        body = _converted(asked, fields, model)
        _pass_through(body, {n: v for n, v in fields.items() if n not in _OURS and n not in _SILENT})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        place = re.search(r"\$\.([A-Za-z_]+)", str(error))
        raise unsupported(f"{error}.", param=place[1] if place else "") from error
    return _encode(body)


def _converted(asked: _Asked, fields: Mapping[str, Raw], model: str) -> Json:
    _refuse(asked)
    talk = read_messages(fields["messages"], signed="gemini" in model and not older(model))
    body: Json = {"contents": talk.contents}
    if talk.system:
        body["systemInstruction"] = {"parts": talk.system}
    body |= tools(asked.tools or (), asked.tool_choice)
    settings = _settings(asked, model)
    if talk.low:
        settings["mediaResolution"] = "MEDIA_RESOLUTION_LOW"
    if settings:
        body["generationConfig"] = settings
    if asked.service_tier in ("flex", "priority"):
        body["serviceTier"] = asked.service_tier
    return body


_OLDER = re.compile(r"gemini-(?:live-|flash-|pro-)?[12]\.\d")


def older(model: str) -> bool:
    """Say that a model is from before Gemini 3, which thinks by a number of tokens and wants no signatures.

    Names without a number (`gemini-flash-latest`) mean the newest.
    """
    return _OLDER.search(model) is not None


def _refuse(asked: _Asked) -> None:
    """Refuse what would change the answer and has no counterpart."""
    called = bool(asked.tools) and asked.parallel_tool_calls is False
    for given, param, advice in (
        (asked.logit_bias, "logit_bias", "it has no bias for single tokens. Leave `logit_bias` out."),
        (asked.audio, "audio", "its voices are not OpenAI's. Send `speechConfig` and `responseModalities` instead."),
        (asked.web_search_options, "web_search_options", 'write {"googleSearch": {}} as one of `tools` instead.'),
        (asked.functions or asked.function_call, "functions", "write `tools` and `tool_choice` instead."),
        (called, "parallel_tool_calls", "it may always call several tools at once. Leave the member out."),
        (asked.verbosity not in (None, "medium"), "verbosity", "say in the system message how long answers are."),
        (
            asked.service_tier not in (None, "auto", "default", "standard", "flex", "priority"),
            "service_tier",
            "`service_tier` can be default, flex or priority.",
        ),
    ):
        if given:
            raise unsupported(advice, param=param)


def _settings(asked: _Asked, model: str) -> Json:
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop
    given = {
        "temperature": asked.temperature,
        "topP": asked.top_p,
        "maxOutputTokens": asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens,
        "stopSequences": stop or None,
        "candidateCount": asked.n,
        "seed": asked.seed,
        "presencePenalty": asked.presence_penalty,
        "frequencyPenalty": asked.frequency_penalty,
        "responseLogprobs": asked.logprobs or None,
        "logprobs": asked.top_logprobs or None,
        "thinkingConfig": _thinking(asked.reasoning_effort, model),
        "responseModalities": None if asked.modalities == ["text"] else [m.upper() for m in asked.modalities or ()],
    }
    return {name: value for name, value in given.items() if value not in (None, [])} | _format(asked.response_format)


def _thinking(effort: str | None, model: str) -> Json | None:
    if effort is None:
        return None
    newer = not older(model)
    known = {name: {"thinkingLevel": v} for name, v in _LEVELS.items()} if newer else {
        name: {"thinkingBudget": v} for name, v in _BUDGETS.items()
    }  # fmt: skip
    if effort not in known:
        raise unsupported(
            f"`reasoning_effort` can be {', '.join(known)} for this model"
            + (", which cannot be kept from thinking." if newer and effort == "none" else "."),
            param="reasoning_effort",
        )
    return dict(known[effort])


def _format(wanted: _Format | None) -> Json:
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"responseMimeType": "application/json"}
    if wanted.type != "json_schema" or wanted.json_schema is None or wanted.json_schema.schema == Raw(b"null"):
        raise unsupported(
            "`response_format` can be text, json_object, or json_schema with a schema in it.", param="response_format"
        )
    schema: Any = wanted.json_schema.schema
    described = wanted.json_schema.description
    if described:  # Gemini has one place for it: the schema
        members = _read_members(schema)
        schema = {"description": described, **members}
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _pass_through(body: Json, members: Mapping[str, Raw]) -> None:
    """Add members that are not OpenAI's, as they came: those of `generationConfig` there, others at the top."""
    for name, value in members.items():
        if bytes(value) == b"null":
            continue
        theirs = camel(name)
        if theirs == "extraBody":  # as clients of Google's OpenAI-compatible endpoint write it
            _pass_through(body, _read_members(_read_members(value).get("google", Raw(b"{}"))))
        elif theirs in _GENERATION:
            _merge(body.setdefault("generationConfig", {}), theirs, value, at=name)
        else:
            _merge(body, theirs, value, at=name)


_GROWS = frozenset({"generationConfig", "thinkingConfig", "toolConfig"})
"""Objects whose members may come partly from OpenAI's words and partly from Gemini's."""


def _merge(into: Json, name: str, value: Raw, *, at: str) -> None:
    if name in _GROWS:
        inner = into.setdefault(name, {})
        for member, given in _read_members(value).items():
            _merge(inner, camel(member), given, at=f"{at}.{member}")
    elif name in into:
        raise unsupported(f"`{at}` says again what another member of the request says. Leave one out.", param=at)
    else:
        into[name] = value


def camel(name: str) -> str:
    """Write a name as Gemini's JSON has it: `safety_settings` is `safetySettings`."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else name
