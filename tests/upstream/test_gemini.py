"""Gemini in its own language: the suite of the seam, and the whole way from the `openai` client to the ledger."""

import asyncio
import json
import struct
from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
import pytest
from msgspec.structs import replace

from tests.upstream.gemini_kit import Asked, Reply, Script, Scripted, either, failure, golden, scripted
from trivet.config import TargetSettings, parse
from trivet.errors import ConfigError, UpstreamError
from trivet.ledger.prices import Prices
from trivet.testing.cache_suite import ask
from trivet.testing.house import Gateway, house, kit
from trivet.testing.provider_suite import ProviderSuite
from trivet.testing.upstream import Upstream
from trivet.types import Chunk, Usage
from trivet.upstream.discover import keys, settings_from
from trivet.upstream.gemini import BASE_URL, Gemini, build
from trivet.upstream.remote import Remote

KEY = "AIza-canary-0123456789abcdef"
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def provider_over(
    script: Script, *, model: str = "gemini-2.5-flash"
) -> AsyncGenerator[tuple[Remote, Scripted], None]:
    async with scripted(script) as server:
        with TemporaryDirectory() as folder:
            (Path(folder) / "key").write_text(KEY)
            target = TargetSettings(
                provider="gemini", model=model, name="g", base_url=f"{server.url}/v1beta", api_key=f"file:{folder}/key"
            )
            provider = build(target, kit(Path(folder)))
            try:
                yield provider, server
            finally:
                await provider.aclose()


async def all_of(provider: Remote, **members: Any) -> list[Chunk]:
    async with aclosing(provider.stream(ask(**members))) as chunks:
        return [chunk async for chunk in chunks]


class TestGemini(ProviderSuite):
    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[Remote, None]:
        async with provider_over(either("text")) as (provider, _):
            yield provider

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[Remote, None]:
        async with provider_over(lambda asked: failure("error_quota.json", 429)) as (provider, _):
            yield provider

    @asynccontextmanager
    async def endless(self) -> AsyncGenerator[tuple[Remote, asyncio.Event], None]:
        async with provider_over(either("text", hang_after=1)) as (provider, server):
            yield provider, server.hung_up


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-2.5-flash", False, "/models/gemini-2.5-flash:generateContent"),
        ("gemini-2.5-flash", True, "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        ("models/gemini-2.5-pro", False, "/models/gemini-2.5-pro:generateContent"),
        ("tunedModels/mine", False, "/tunedModels/mine:generateContent"),
        ("../../v1/x", False, "/models/..%2F..%2Fv1%2Fx:generateContent"),
        ("models/a?key=1#b", False, "/models/a%3Fkey%3D1%23b:generateContent"),
        ("a:countTokens\r\nx: y %2e", False, "/models/a%3AcountTokens%0D%0Ax%3A%20y%20%252e:generateContent"),
        ("models/", False, "/models/models%2F:generateContent"),
        ("é", False, "/models/%C3%A9:generateContent"),
    ],
)
def test_a_models_name_stays_in_its_place_in_the_path(model: str, stream: bool, path: str) -> None:  # noqa: FBT001  # a parameter of the test
    assert Gemini().path(ask(stream=stream), model=model).decode() == path


def test_embeddings_are_asked_for_in_a_batch() -> None:
    request = replace(ask(), kind="embeddings")
    for model in ("gemini-embedding-001", "models/gemini-embedding-001"):
        assert Gemini().path(request, model=model) == b"/models/gemini-embedding-001:batchEmbedContents"


async def test_the_key_goes_in_a_header_and_never_in_the_address() -> None:
    async with provider_over(either("text")) as (provider, server):
        await all_of(provider)
        await all_of(provider, stream=True)
    assert [asked.path for asked in server.requests] == [
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    ]
    assert {asked.headers["x-goog-api-key"] for asked in server.requests} == {KEY}
    assert not any("authorization" in asked.headers for asked in server.requests)


async def test_a_key_that_google_repeats_is_masked() -> None:
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": f"API key {KEY} expired."}}
    async with provider_over(lambda asked: Reply([json.dumps(body).encode()], status=400)) as (provider, _):
        with pytest.raises(UpstreamError) as caught:
            await all_of(provider)
    assert KEY not in str(caught.value)
    assert KEY.encode() not in (caught.value.body or b"")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_asked_costs_no_connection(stream: bool) -> None:  # noqa: FBT001  # a parameter of the test
    async with provider_over(either("text")) as (provider, server):
        with pytest.raises(UpstreamError) as caught:
            await all_of(provider, stream=stream, logit_bias={"1": 1})
    assert server.requests == []
    assert (caught.value.status, caught.value.again, caught.value.spent) == (400, True, False)


@pytest.mark.parametrize("kind", ["completions", "moderations"])
async def test_only_chat_and_embeddings_are_asked_of_it(kind: Any) -> None:
    async with provider_over(either("text")) as (provider, server):
        with pytest.raises(UpstreamError, match=kind) as caught:
            async with aclosing(provider.stream(replace(ask(), kind=kind))) as chunks:
                assert [chunk async for chunk in chunks] == []
    assert (caught.value.again, server.requests) == (True, [])


async def test_a_stream_that_ends_before_its_reason_is_an_error() -> None:
    def script(asked: Asked) -> Reply:
        reply = golden("text.sse")
        return reply._replace(pieces=reply.pieces[:2])

    async with provider_over(script) as (provider, _):
        with pytest.raises(UpstreamError, match="before the answer was whole"):
            await all_of(provider, stream=True)


async def test_a_whole_answer_to_a_stream_is_streamed() -> None:
    async with provider_over(lambda asked: golden("calls.json")) as (provider, _):
        chunks = await all_of(provider, stream=True)
    assert [chunk.finish for chunk in chunks if chunk.finish] == ["tool_calls"]
    assert chunks[-1].usage == Usage(input_tokens=61, output_tokens=120, reasoning_tokens=88)


@pytest.mark.parametrize(
    ("reply", "again"),
    [
        (failure("error_key.json", 400), True),  # the operator's fault: another target has another key
        (failure("error_field.json", 400), False),
        (failure("error_quota.json", 429), True),
        (Reply([b"<html>no</html>"], status=404), True),
    ],
)
async def test_errors_keep_their_status_and_say_whether_to_ask_elsewhere(reply: Reply, *, again: bool) -> None:
    async with provider_over(lambda asked: reply) as (provider, _):
        with pytest.raises(UpstreamError) as caught:
            await all_of(provider)
    assert (caught.value.status, caught.value.again) == (reply.status, again)


def test_the_openai_compatible_address_is_refused_with_what_to_write(tmp_path: Path) -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/openai/"
    with pytest.raises(ConfigError, match='provider = "openai"'):
        build(TargetSettings(provider="gemini", name="g", base_url=url), kit(tmp_path))


@pytest.mark.parametrize(("name", "found"), [("GEMINI_API_KEY", KEY), ("GOOGLE_API_KEY", KEY)])
async def test_the_usual_keys_are_found_for_googles_own_address_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    for usual in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(usual, raising=False)
    with pytest.raises(ConfigError, match="GEMINI_API_KEY"):
        build(TargetSettings(provider="gemini", name="g"), kit(tmp_path))
    monkeypatch.setenv(name, found)
    provider = build(TargetSettings(provider="gemini", name="g"), kit(tmp_path))
    await provider.aclose()
    async with scripted(either("text")) as server:
        target = TargetSettings(provider="gemini", name="g", model="m", base_url=server.url)
        elsewhere = build(target, kit(tmp_path))
        await all_of(elsewhere)
        await elsewhere.aclose()
    assert "x-goog-api-key" not in server.requests[0].headers


def test_a_key_in_the_environment_is_a_wildcard_target_without_a_file() -> None:
    target = settings_from(keys({"GEMINI_API_KEY": KEY})).targets["gemini"]
    assert (target.provider, target.model, target.base_url, target.api_key) == (
        "gemini",
        "*",
        BASE_URL,
        "env:GEMINI_API_KEY",
    )


def cost(model: str, usage: Usage) -> int | str:
    prices = Prices({"g": TargetSettings(provider="gemini", name="g")})
    # Friday 2026-01-02: a day on which all of these models were sold.
    found = prices.cost("g", model=model, usage=usage, took_ns=1, at_ns=1_767_312_000_000_000_000)
    return found.why_unknown or found.nanos or 0


def test_list_prices_know_cached_long_and_spoken_tokens() -> None:
    plain = Usage(input_tokens=1_000_000, output_tokens=0)
    flash = "gemini-2.5-flash"
    assert cost(flash, plain) == 300_000_000
    assert cost(flash, Usage(input_tokens=0, output_tokens=1_000_000, reasoning_tokens=400_000)) == 2_500_000_000
    assert cost(flash, Usage(input_tokens=1_000_000, output_tokens=0, cached_tokens=1_000_000)) == 30_000_000
    assert cost(flash, Usage(input_tokens=1_000_000, output_tokens=0, input_audio_tokens=1_000_000)) == 1_000_000_000
    assert cost("gemini-2.5-pro", Usage(input_tokens=200_000, output_tokens=0)) == 250_000_000
    assert cost("gemini-2.5-pro", Usage(input_tokens=200_001, output_tokens=0)) == 500_002_500
    both = Usage(input_tokens=10, output_tokens=0, cached_tokens=5, input_audio_tokens=5)
    assert "cached audio" in str(cost(flash, both))
    assert "output_image_mtok" in str(cost("gemini-2.5-flash-image", plain))


# ---- through the gateway, asked by the official client --------------------------------------------------------------

PRICE = 'price = { input = "$1", output = "$2", cached = "$0.1" }'


@asynccontextmanager
async def asked_through(script: Script, more: str = "", **targets: str) -> AsyncGenerator[Any, None]:
    async with scripted(script) as server:
        section = f'[targets.g]\nprovider = "gemini"\nmodel = "gemini-2.5-flash"\nbase_url = "{server.url}"\n{PRICE}\n'
        async with (
            house(targets, section + more) as gateway,
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
        ):
            yield client, server, gateway


def outcome(gateway: Gateway) -> Any:
    (entry,) = gateway.store.entries
    return entry.outcome


ASK: Any = [{"role": "user", "content": "How many legs?"}]


async def test_a_chat_and_its_cost() -> None:
    async with asked_through(either("text")) as (client, server, gateway):
        answer = await client.chat.completions.create(model="g", messages=ASK, temperature=0)
    assert answer.choices[0].message.content == "A trivet has three legs."
    assert answer.usage.total_tokens == 36
    assert server.requests[0].body["generationConfig"] == {"temperature": 0}
    kept = outcome(gateway)
    assert (kept.status, kept.model, kept.finish) == ("ok", "gemini-2.5-flash", "stop")
    assert kept.usage == Usage(input_tokens=8, output_tokens=28, reasoning_tokens=21)
    assert kept.cost_nanos == 8 * 1000 + 28 * 2000


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_stream_and_its_cost(*, wants_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    async with asked_through(either("text")) as (client, _, gateway):
        stream = await client.chat.completions.create(model="g", messages=ASK, stream=True, **options)
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "A trivet has three legs: ünï ✓."
    assert [c.usage.completion_tokens for c in chunks if c.usage] == ([32] if wants_usage else [])
    assert outcome(gateway).cost_nanos == 8 * 1000 + 32 * 2000
    assert not outcome(gateway).usage_estimated


WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_loop_of_tools_brings_signatures_and_ids_back(*, stream: bool) -> None:
    def script(asked: Asked) -> Reply:
        return either("calls" if len(asked.body["contents"]) == 1 else "text")(asked)

    async with asked_through(script) as (client, server, _):
        if stream:
            async with client.chat.completions.stream(model="g", messages=ASK, tools=[WEATHER]) as events:
                async for _event in events:
                    pass
                answer = await events.get_final_completion()
        else:
            answer = await client.chat.completions.create(model="g", messages=ASK, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        said = answer.choices[0].message
        messages = [*ASK, said.model_dump()]
        for call in said.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sun": city == "Paris"})})
        last = await client.chat.completions.create(model="g", messages=messages, tools=[WEATHER])
    assert last.choices[0].message.content == "A trivet has three legs."
    _, called, results = server.requests[1].body["contents"]
    calls = [part for part in called["parts"] if "functionCall" in part]
    assert [part["functionCall"]["id"] for part in calls] == ["wmq0e8p1", "x1k9b2aa"]
    assert [part.get("thoughtSignature") for part in calls] == ["CiQBcsjafA==", None]
    assert [part["functionResponse"] for part in results["parts"]] == [
        {"name": "weather", "response": {"sun": True}, "id": "wmq0e8p1"},
        {"name": "weather", "response": {"sun": False}, "id": "x1k9b2aa"},
    ]


async def test_a_structured_answer() -> None:
    schema = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
    text = {"candidates": [{"content": {"parts": [{"text": '{"legs": 3}'}]}, "finishReason": "STOP"}]}
    async with asked_through(lambda asked: Reply([json.dumps(text).encode()])) as (client, server, gateway):
        answer = await client.chat.completions.create(
            model="g",
            messages=ASK,
            response_format={"type": "json_schema", "json_schema": {"name": "legs", "schema": schema, "strict": True}},
        )
    assert json.loads(answer.choices[0].message.content) == {"legs": 3}
    assert server.requests[0].body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert outcome(gateway).usage_estimated  # it reported no tokens, so they are counted and said to be


async def test_an_image_goes_in_and_comes_out() -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    content: Any = [{"type": "text", "text": "Turn it."}, {"type": "image_url", "image_url": {"url": url}}]
    async with asked_through(lambda asked: golden("image.json")) as (client, server, _):
        answer = await client.chat.completions.create(model="g", messages=[{"role": "user", "content": content}])
    assert server.requests[0].body["contents"][0]["parts"][1] == {
        "inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}
    }
    assert answer.choices[0].message.extra_content["google"]["parts"][0]["inlineData"]["mimeType"] == "image/png"


async def test_thoughts_come_as_reasoning() -> None:
    async with asked_through(lambda asked: golden("thoughts.sse")) as (client, server, _):
        stream = await client.chat.completions.create(
            model="g", messages=ASK, stream=True, extra_body={"thinkingConfig": {"includeThoughts": True}}
        )
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    assert server.requests[0].body["generationConfig"] == {"thinkingConfig": {"includeThoughts": True}}
    assert "".join(getattr(d, "reasoning_content", "") for d in deltas).endswith("stands on three.")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_quota_is_a_rate_limit_error_with_the_time_to_wait(*, stream: bool) -> None:
    async with asked_through(lambda asked: failure("error_quota.json", 429)) as (client, _, gateway):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="g", messages=ASK, stream=stream)
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert "exceeded your current quota" in caught.value.message
    assert caught.value.response.headers["retry-after"] == "39"
    assert (outcome(gateway).status, outcome(gateway).http_status) == ("failed", 429)
    assert outcome(gateway).cost_nanos == 0


async def test_a_client_that_leaves_closes_googles_connection_and_is_charged_what_was_counted() -> None:
    async with asked_through(either("text", hang_after=2)) as (client, server, gateway):
        stream = await client.chat.completions.create(model="g", messages=ASK, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content == " has three":
                break
        await stream.close()
        await asyncio.wait_for(server.hung_up.wait(), 5)
    kept = outcome(gateway)
    assert kept.status == "cancelled"
    assert (kept.usage.input_tokens, kept.usage.output_tokens) == (8, 25)


async def test_what_gemini_cannot_be_asked_goes_to_the_next_target_of_a_policy() -> None:
    policy = '[policies.both]\npool = ["g", "other"]\n'
    async with (
        Upstream("Hel", "lo") as upstream,
        asked_through(either("text"), policy, other=upstream.base_url) as (client, server, gateway),
    ):
        answer = await client.chat.completions.create(model="both", messages=ASK, logit_bias={"1": -100})
    assert answer.choices[0].message.content == "Hello"
    assert server.requests == []
    assert [attempt.status for attempt in outcome(gateway).attempts] == ["failed", "ok"]
    assert not outcome(gateway).cost_unknown


async def test_a_clients_own_key_of_google_stays_here() -> None:
    async with asked_through(either("text")) as (client, server, _):
        await client.chat.completions.create(
            model="g", messages=ASK, extra_headers={"x-goog-api-key": KEY, "x-goog-request-params": "kept"}
        )
    assert "x-goog-api-key" not in server.requests[0].headers
    assert server.requests[0].headers["x-goog-request-params"] == "kept"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_kept_answer_is_given_again_the_other_way_with_its_signature(*, streamed: bool) -> None:
    part = {"text": "Three.", "thoughtSignature": "c2ln"}
    whole = {"candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP"}]}
    document = json.dumps(whole).encode()

    def script(asked: Asked) -> Reply:
        return Reply([b"data: " + document + b"\r\n\r\n"], kind="text/event-stream") if streamed else Reply([document])

    policy = '[policies.p]\npool = ["g"]\n[policies.p.cache]\nmode = "exact"\n'
    async with asked_through(script, policy) as (client, server, gateway):
        for stream in (streamed, not streamed):
            answer = await client.chat.completions.create(model="p", messages=ASK, stream=stream)
            said: list[Any] = [answer.choices[0].message] if not stream else []
            if stream:
                said = [chunk.choices[0].delta async for chunk in answer if chunk.choices]
            assert "".join(one.content or "" for one in said) == "Three."
            extra = [one.extra_content for one in said if getattr(one, "extra_content", None)]
            assert extra == [{"google": {"thought_signature": "c2ln"}}]
    assert len(server.requests) == 1
    assert [entry.cache for entry in gateway.store.entries] == ["miss", "exact"]


def test_the_file_takes_the_provider() -> None:
    settings = parse('[targets.g]\nprovider = "gemini"\nmodel = "gemini-2.5-flash"\n', source="trivet.toml")
    assert settings.targets["g"].provider == "gemini"


# ---- embeddings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_the_official_client_gets_vectors_and_their_cost(form: Any) -> None:
    async with asked_through(lambda asked: golden("embeddings.json")) as (client, server, gateway):
        told = await client.embeddings.create(
            model="g", input=["How many legs?", "Three."], dimensions=4, encoding_format=form
        )
    vector = told.data[1].embedding
    if form == "base64":  # the client unpacks what it asked to be packed by itself, and this it did not
        vector = list(struct.unpack("<4f", b64decode(vector)))
    assert vector == pytest.approx([-0.022664517, -0.0014379217, 0, -0.5], rel=1e-6)
    (asked,) = server.requests
    assert asked.path == "/models/gemini-2.5-flash:batchEmbedContents"
    assert [one["outputDimensionality"] for one in asked.body["requests"]] == [4, 4]
    assert told.usage.prompt_tokens == 11
    kept = outcome(gateway)
    assert (kept.status, kept.usage, kept.cost_nanos) == ("ok", Usage(input_tokens=11, output_tokens=0), 11 * 1000)


async def test_vectors_whose_tokens_nobody_counted_have_no_known_cost() -> None:
    async with asked_through(lambda asked: golden("embeddings_uncounted.json")) as (client, _, gateway):
        raw = await client.embeddings.with_raw_response.create(model="g", input="legs")
    assert raw.headers["x-trivet-cost-usd"] == "unknown"
    kept = outcome(gateway)
    assert (kept.usage, kept.cost_nanos) == (None, None)
    assert "did not report its tokens" in kept.cost_unknown


async def test_tokens_in_place_of_texts_go_to_the_next_target_of_a_policy() -> None:
    policy = '[policies.p]\npool = ["g", "a"]\n'
    async with (
        Upstream() as other,
        asked_through(lambda asked: golden("embeddings.json"), policy, a=other.base_url) as (client, server, _),
    ):
        with pytest.raises(openai.BadRequestError, match="texts and no tokens"):
            await client.embeddings.create(model="g", input=[1, 2, 3])
        told = await client.embeddings.create(model="p", input=[1, 2, 3])
    assert len(told.data) == 1
    assert not server.requests


def test_list_prices_know_googles_embeddings() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    assert cost("gemini-embedding-001", usage) == 150_000_000
