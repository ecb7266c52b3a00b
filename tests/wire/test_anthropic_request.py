"""A chat completion request in Anthropic's words, member by member."""

import json
from typing import Any

import pytest
from anthropic.types import MessageCreateParams
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from pydantic import TypeAdapter

from trivet.errors import UpstreamError
from trivet.testing.cache_suite import ask
from trivet.wire.anthropic_request import for_anthropic
from trivet.wire.chat import error_body

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "Says f.", "parameters": SCHEMA}}
theirs: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)


def sent(*, model: str = "claude-opus-4-6", **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(for_anthropic(ask(**members), model=model))
    return body


def checked(value: Any) -> Any:
    """Go through what pydantic checks only while it is gone through: it takes lists for any iterable."""
    if isinstance(value, dict):
        return {name: checked(inner) for name, inner in value.items()}
    return value if isinstance(value, (str, int, float, type(None))) else [checked(inner) for inner in value]


def refusal(**members: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        sent(**members)
    error = caught.value
    assert (error.status, error.code, error.again, error.spent) == (400, "unsupported_by_target", True, False)
    return error


def test_the_least_request_has_model_messages_and_a_limit() -> None:
    assert sent() == {
        "model": "claude-opus-4-6",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}],
    }


def test_a_full_request_is_one_that_anthropics_own_types_take() -> None:
    body = sent(
        stream=True,
        messages=[
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a"}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "no", "is_error": True},
        ],
        tools=[TOOL, {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}],
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=500,
        stop=["END"],
        user="u-1",
        reasoning_effort="medium",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        service_tier="default",
    )
    assert checked(theirs.validate_python(body)) == body
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert body["tools"][0] == {"name": "f", "description": "Says f.", "input_schema": SCHEMA}
    assert body["output_config"] == {"effort": "medium", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert (body["max_tokens"], body["stop_sequences"], body["stream"]) == (500, ["END"], True)
    assert (body["metadata"], body["service_tier"]) == ({"user_id": "u-1"}, "standard_only")
    assert body["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": None, "temperature": None, "tools": None, "tool_choice": None, "user": None}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 1, "top_p": 1.0}, {}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"metadata": {"user_id": "m", "team": "x"}, "user": "u"}, {"metadata": {"user_id": "m"}}),
        ({"metadata": {"team": "x"}}, {}),
        ({"safety_identifier": "s", "user": "u"}, {"metadata": {"user_id": "s"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"response_format": {"type": "text"}, "n": 1, "verbosity": "medium", "modalities": ["text"]}, {}),
        ({"logprobs": False, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "seed": None}, {}),
        ({"store": True, "prompt_cache_key": "k", "prediction": {"type": "content"}, "stream_options": {}}, {}),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, {}),
    ],
)
def test_members_have_their_counterparts(members: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(**members) == sent() | expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "any"}, {"type": "any"}),
        ({"type": "tool", "name": "f"}, {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_tools(choice: Any, expected: dict[str, Any] | None) -> None:
    assert sent(tools=[TOOL], tool_choice=choice).get("tool_choice") == expected
    alone = sent(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)["tool_choice"]
    assert alone.pop("disable_parallel_tool_use", None) is (None if choice == "none" else True)
    assert alone == (expected or {"type": "auto"})


def test_tools_without_parameters_and_with_members_for_anthropic() -> None:
    bare = {"type": "function", "function": {"name": "g", "strict": True}, "cache_control": {"type": "ephemeral"}}
    typeless = {"type": "function", "function": {"name": "h", "parameters": {"properties": {}}, "strict": False}}
    assert sent(tools=[bare, typeless, {"name": "i", "input_schema": SCHEMA}])["tools"] == [
        {
            "name": "g",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"name": "h", "input_schema": {"type": "object", "properties": {}}},
        {"name": "i", "input_schema": SCHEMA},
    ]


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-3-7-sonnet-latest", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-fable-5-2", 32_000),
        ("kimi-k2", 8192),
    ],
)
def test_a_limit_is_sent_where_the_client_names_none(model: str, limit: int) -> None:
    assert sent(model=model)["max_tokens"] == limit
    assert sent(model=model, max_tokens=0)["max_tokens"] == limit


@pytest.mark.parametrize(
    ("model", "by_budget"),
    [
        ("claude-3-7-sonnet-20250219", True),
        ("claude-opus-4-20250514", True),
        ("claude-opus-4-0", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-opus-4-5", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-haiku-4-5@20251001", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-7-20260416", False),
        ("claude-sonnet-5", False),
        ("claude-opus-5-5", False),
        ("claude-haiku-5-5", False),
    ],
)
def test_effort_is_a_budget_for_older_models_and_an_effort_for_newer_ones(model: str, *, by_budget: bool) -> None:
    body = sent(model=model, reasoning_effort="high", max_tokens=10_000)
    if by_budget:
        assert body["thinking"] == {"type": "enabled", "budget_tokens": 8000}
        assert "output_config" not in body
    else:
        assert body["thinking"] == {"type": "adaptive"}
        assert body["output_config"] == {"effort": "high"}


@given(st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]), st.integers(1025, 200_000))
def test_a_budget_is_always_one_that_anthropic_takes(effort: str, max_tokens: int) -> None:
    body = sent(model="claude-sonnet-4-5", reasoning_effort=effort, max_tokens=max_tokens)
    assert 1024 <= body["thinking"]["budget_tokens"] < max_tokens


def test_the_clients_own_thinking_stands() -> None:
    own = {"type": "adaptive", "display": "summarized"}
    assert sent(thinking=own, reasoning_effort="low")["thinking"] == own
    assert sent(thinking=own, reasoning_effort="low")["output_config"] == {"effort": "low"}
    assert sent(thinking=own, reasoning_effort="none")["thinking"] == own
    enabled = {"type": "enabled", "budget_tokens": 2000}
    assert sent(model="claude-opus-4-1", thinking=enabled, reasoning_effort="low")["thinking"] == enabled
    assert sent(thinking=own)["thinking"] == own
    assert sent(reasoning_effort="none")["thinking"] == {"type": "disabled"}


def test_a_schema_goes_with_its_description_and_the_clients_own_output_config_counts() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "description": "A city."}}
    config = sent(response_format=wanted, output_config={"effort": "max"})["output_config"]
    assert config == {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA | {"description": "A city."}}}


def test_members_that_are_not_openais_go_through_with_their_bytes() -> None:
    request = ask(top_k=5, anthropic_beta=["a"], context_management={"edits": []}, cache_control={"type": "ephemeral"})
    raw = b'{"edits":  [{"type":"clear"}]}'
    request.fields["context_management"] = Raw(raw)
    body = for_anthropic(request, model="m")
    assert raw in body
    assert json.loads(body)["top_k"] == 5
    assert json.loads(body)["anthropic_beta"] == ["a"]
    assert json.loads(body)["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"n": 2}, "n", "Ask 2 times"),
        ({"temperature": 1.5}, "temperature", "Write 0 to 1"),
        ({"logprobs": True}, "logprobs", "Leave it out"),
        ({"top_logprobs": 3}, "logprobs", "Leave it out"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "Leave it out"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "Leave it out"),
        ({"presence_penalty": -0.5}, "presence_penalty", "Leave it out"),
        ({"seed": 1}, "seed", "Leave it out"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, "modalities", "text only"),
        ({"functions": [{"name": "f"}]}, "functions", "`tools`"),
        ({"function_call": "auto"}, "function_call", "`tools`"),
        ({"web_search_options": {}}, "web_search_options", "web_search_20250305"),
        ({"verbosity": "low"}, "verbosity", "system message"),
        ({"service_tier": "flex"}, "service_tier", "auto or default"),
        ({"response_format": {"type": "json_object"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "minimal"),
        ({"tool_choice": "sometimes"}, "tool_choice", "auto, required or none"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "send only the tools"),
        ({"tool_choice": 7}, "tool_choice", "cannot be read"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools", "Write a function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools", "cannot be read"),
        ({"max_tokens": "many"}, "max_tokens", "cannot be read"),
        ({"stop": "x", "stop_sequences": ["y"]}, "stop_sequences", "Leave one out"),
    ],
)
def test_what_has_no_words_is_refused_with_what_to_do(members: dict[str, Any], param: str, words: str) -> None:
    error = refusal(**members)
    told = json.loads(error_body(error))["error"]
    assert words in told["message"]
    assert (told["param"], told["type"]) == (param, "invalid_request_error")


def test_thinking_within_a_number_needs_room() -> None:
    with pytest.raises(UpstreamError, match="at least 1024 tokens"):
        sent(model="claude-opus-4-1", reasoning_effort="low", max_tokens=1024)


anything: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -2.5, "", "auto", "x", [], ["x"], [{}], {}, {"type": "function"}, {"a": 1}]
)
tool = st.fixed_dictionaries(
    {}, optional={"type": anything, "function": anything, "custom": anything, "name": anything}
)
members = st.dictionaries(
    st.sampled_from([
        "max_tokens", "stop", "temperature", "top_p", "tool_choice", "parallel_tool_calls", "reasoning_effort",
        "response_format", "user", "metadata", "service_tier", "thinking", "output_config", "modalities", "verbosity",
        "logit_bias", "top_k", "system",
    ]),
    anything,
    max_size=4,
)  # fmt: skip


@given(members, st.lists(tool | anything, max_size=2), anything)
def test_no_body_raises_anything_but_a_refusal(given: dict[str, Any], tools: list[Any], content: Any) -> None:
    messages = [{"role": "user", "content": content}]
    request = ask(**{"temperature": None} | {k: v for k, v in given.items() if k != "temperature"})
    fields = {
        name: Raw(json.dumps(value).encode()) for name, value in {**given, "tools": tools, "messages": messages}.items()
    }
    request.fields.update(fields)
    try:
        body = json.loads(for_anthropic(request, model="claude-opus-4-6"))
    except UpstreamError as error:
        assert error.status == 400  # noqa: PT017  # it may or may not raise
    else:
        assert body["max_tokens"] > 0
