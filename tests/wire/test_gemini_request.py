"""A chat completion request in Gemini's words: settings, tools, formats, what passes through and what is refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from trivet.errors import UpstreamError
from trivet.testing.cache_suite import ask
from trivet.wire.gemini_request import for_gemini, older

Json = dict[str, Any]
MODEL = "gemini-2.5-flash"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}


def body(model: str = MODEL, **members: Any) -> Json:
    return json.loads(for_gemini(ask(**members), model=model))  # type: ignore[no-any-return]  # JSON


def settings(model: str = MODEL, **members: Any) -> Json:
    return body(model, **members).get("generationConfig", {})  # type: ignore[no-any-return]  # JSON


def refused(model: str = MODEL, **members: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        body(model, **members)
    assert (caught.value.status, caught.value.again, caught.value.spent) == (400, True, False)
    return caught.value


def test_a_plain_request_is_its_contents_and_nothing_else() -> None:
    assert body(stream=True, stream_options={"include_usage": True}, user="u", metadata={"a": "b"}) == {
        "contents": [{"role": "user", "parts": [{"text": "2+2?"}]}]
    }


def test_settings_have_geminis_names() -> None:
    assert settings(
        temperature=0,
        top_p=0.5,
        max_tokens=9,
        stop="END",
        n=2,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logprobs=True,
        top_logprobs=3,
        modalities=["text", "image"],
    ) == {
        "temperature": 0,
        "topP": 0.5,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "candidateCount": 2,
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": -0.1,
        "responseLogprobs": True,
        "logprobs": 3,
        "responseModalities": ["TEXT", "IMAGE"],
    }
    assert settings(max_completion_tokens=5, max_tokens=9, stop=[], n=None, logprobs=False, modalities=["text"]) == {
        "maxOutputTokens": 5
    }


def test_the_instruction_is_apart() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]
    assert body(messages=messages)["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192}),
        ("gemini-live-2.5-flash", "low", {"thinkingBudget": 1024}),
        ("gemini-3-pro-preview", "high", {"thinkingLevel": "HIGH"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", "low", {"thinkingLevel": "LOW"}),
        ("gemini-4-argon", "xhigh", {"thinkingLevel": "XHIGH"}),
    ],
)
def test_effort_is_a_budget_before_gemini_3_and_a_level_since(model: str, effort: str, config: Json) -> None:
    assert settings(model, reasoning_effort=effort) == {"thinkingConfig": config}


def test_thoughts_can_be_asked_for_beside_an_effort() -> None:
    given: Json = {"reasoning_effort": "low", "thinkingConfig": {"includeThoughts": True}}
    assert settings(**given) == {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}


@pytest.mark.parametrize("model", ["gemini-1.5-pro", "gemini-pro-1.5", "models/gemini-2.0-flash", "gemini-2.5-pro"])
def test_older_models_are_known_by_their_number(model: str) -> None:
    assert older(model)
    assert not older("gemini-3.1-pro-preview")


def test_formats_are_a_type_and_a_schema() -> None:
    assert settings(response_format={"type": "text"}) == {}
    assert settings(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}
    assert settings(response_format=wanted) == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    wanted["json_schema"] = {"name": "place", "schema": SCHEMA, "description": "Where."}
    assert settings(response_format=wanted)["responseJsonSchema"] == {"description": "Where.", **SCHEMA}


def test_tools_and_the_choice_among_them_stand_at_the_top() -> None:
    found = body(tools=[TOOL], tool_choice="required")
    assert found["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == SCHEMA
    assert found["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}


def test_members_of_geminis_pass_through_with_their_bytes() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    found = body(
        safetySettings=safety,
        cached_content="cachedContents/abc",
        topK=5,
        media_resolution="MEDIA_RESOLUTION_LOW",
        generationConfig={"image_config": {"aspectRatio": "1:1"}},
        temperature=1,
        labels=None,
        something_new={"a": 1},
    )
    assert found["safetySettings"] == safety
    assert found["cachedContent"] == "cachedContents/abc"
    assert found["somethingNew"] == {"a": 1}
    assert found["generationConfig"] == {
        "temperature": 1,
        "topK": 5,
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "imageConfig": {"aspectRatio": "1:1"},
    }
    assert "labels" not in found


def test_what_clients_of_googles_own_endpoint_write_is_understood() -> None:
    found = body(extra_body={"google": {"thinking_config": {"include_thoughts": True}, "cached_content": "c"}})
    assert found["generationConfig"] == {"thinkingConfig": {"includeThoughts": True}}
    assert found["cachedContent"] == "c"


def test_images_of_low_detail_set_the_resolution() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    assert settings(messages=[{"role": "user", "content": [image]}]) == {"mediaResolution": "MEDIA_RESOLUTION_LOW"}


def test_service_tiers_have_the_same_names() -> None:
    assert body(service_tier="flex")["serviceTier"] == "flex"
    assert "serviceTier" not in body(service_tier="auto")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"parallel_tool_calls": False, "tools": [TOOL]}, "parallel_tool_calls"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "thinkingConfig": {"thinkingBudget": 9}}, "thinkingConfig.thinkingBudget"),
        ({"temperature": 1, "generationConfig": {"temperature": 0}}, "generationConfig.temperature"),
        ({"contents": []}, "contents"),
        ({"seed": "seven"}, "seed"),
        ({"generationConfig": 7}, ""),
    ],
)
def test_what_would_change_the_answer_and_cannot_be_said_is_refused(members: Json, param: str) -> None:
    error = refused(**members)
    assert error.param == param
    assert str(error).endswith(".")


def test_gemini_3_cannot_be_kept_from_thinking() -> None:
    assert "cannot be kept from thinking" in str(refused("gemini-3-pro-preview", reasoning_effort="none"))


def test_what_does_nothing_is_not_refused() -> None:
    assert body(logit_bias={}, parallel_tool_calls=False, verbosity="medium", tool_choice="none").keys() == {"contents"}


INSIDE = (
    "type function name parameters schema json_schema google role content text parts mode tools allowed_tools "
    "thinkingConfig thinking_level tool_calls id extra_content"
)
VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 2) | st.sampled_from([10**20, -(10**20), 1e300]),
        st.sampled_from(["auto", "none", "low", "json_schema", "function", "é\ud800", "gemini"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(INSIDE.split()),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
MEMBERS = (
    "messages temperature max_tokens stop n seed logprobs reasoning_effort response_format tools tool_choice "
    "modalities service_tier logit_bias generationConfig thinking_config toolConfig extra_body safety_settings _x"
)


@given(st.dictionaries(st.sampled_from(MEMBERS.split()), VALUE, max_size=4))
def test_whatever_is_asked_is_converted_or_refused(members: Json) -> None:
    request = ask()
    fields = {name: Raw(json.dumps(value).encode()) for name, value in members.items()}
    made = b"{}"
    with suppress(UpstreamError):  # and nothing else
        made = for_gemini(replace(request, fields={**request.fields, **fields}), model=MODEL)
    assert isinstance(json.loads(made), dict)
