"""The provider for Anthropic passes the suite of its seam, and through the gateway the official `openai` client has
what it expects: chat, streams, the loop of tools, schemas, images, errors, costs."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from anthropic import AsyncAnthropic
from msgspec.structs import replace

from tests.upstream.anthropic_kit import KEY, Answer, Messages, Script, failure, provider_over, transcript
from tests.wire import anthropic_kit as golden
from trivet.config import TargetSettings
from trivet.errors import ConfigError, UpstreamError
from trivet.ledger.prices import Prices
from trivet.testing.cache_suite import ask
from trivet.testing.house import Gateway, house, kit
from trivet.testing.provider_suite import ProviderSuite
from trivet.testing.upstream import Upstream
from trivet.types import Chunk, Entry, Usage
from trivet.upstream.anthropic import BASE_URL, VERSION, build
from trivet.upstream.discover import keys, settings_from
from trivet.upstream.remote import Remote

pytestmark = pytest.mark.anyio


class TestAnthropic(ProviderSuite):
    def answering(self) -> Any:
        return provider_over(Messages(transcript("text")))

    def failing(self) -> Any:
        return provider_over(Messages(failure("error_overloaded", 529)))

    @asynccontextmanager
    async def endless(self) -> AsyncGenerator[tuple[Remote, asyncio.Event], None]:
        messages = Messages(transcript("text", hang_after=4))
        async with provider_over(messages) as provider:
            yield provider, messages.hung_up


async def all_of(provider: Remote, **members: Any) -> list[Chunk]:
    async with aclosing(provider.stream(ask(**members))) as chunks:
        return [chunk async for chunk in chunks]


# What is sent.


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_in_v1_or_not(path: str) -> None:
    messages = Messages(transcript("text"))
    async with provider_over(messages, path=path) as provider:
        await all_of(provider)
    (asked,) = messages.requests
    assert asked.path == "/v1/messages"
    assert asked.body["model"] == "claude-opus-4-6"


async def test_key_version_and_betas_go_in_headers_and_a_client_cannot_say_ours_again() -> None:
    messages = Messages(transcript("text"))
    async with provider_over(messages) as provider:
        headers = [(b"anthropic-beta", b"context-1m-2025-08-07"), (b"anthropic-version", b"1999-01-01")]
        await all_of(provider, headers=headers)
    headers_sent = messages.requests[0].headers
    assert headers_sent["x-api-key"] == KEY
    assert headers_sent["anthropic-version"] == VERSION
    assert headers_sent["anthropic-beta"] == "context-1m-2025-08-07"


async def test_the_version_is_the_operators_to_change() -> None:
    messages = Messages(transcript("text"))
    async with provider_over(messages, headers={"Anthropic-Version": "2026-10-21"}) as provider:
        await all_of(provider, headers=[(b"anthropic-version", b"1999-01-01")])
    assert messages.requests[0].headers["anthropic-version"] == "2026-10-21"


async def test_a_request_that_cannot_be_said_is_never_sent() -> None:
    messages = Messages(transcript("text"))
    async with provider_over(messages) as provider:
        with pytest.raises(UpstreamError, match="Ask 2 times") as caught:
            await all_of(provider, n=2)
    assert (caught.value.status, caught.value.again, caught.value.spent) == (400, True, False)
    assert messages.connections == 0


async def test_there_are_no_embeddings() -> None:
    messages = Messages(transcript("text"))
    async with provider_over(messages) as provider:
        with pytest.raises(UpstreamError, match="cannot be asked for embeddings") as caught:
            async with aclosing(provider.stream(replace(ask(), kind="embeddings"))) as chunks:
                [chunk async for chunk in chunks]
    assert (caught.value.status, caught.value.again) == (400, True)
    assert messages.connections == 0


def test_the_key_of_the_environment_goes_to_anthropic_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        build(TargetSettings(provider="anthropic", name="t"), kit(tmp_path))
    build(TargetSettings(provider="anthropic", name="t", base_url="http://127.0.0.1:1"), kit(tmp_path))


def test_with_no_file_a_key_in_the_environment_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    target = settings_from(keys({"ANTHROPIC_API_KEY": KEY})).targets["anthropic"]
    assert build(target, kit(tmp_path)).ready() == ""
    assert (target.provider, target.model, target.base_url) == ("anthropic", "*", BASE_URL)


# What comes back.


@pytest.mark.parametrize("name", golden.NAMES)
async def test_anthropics_own_client_reads_every_golden_transcript_as_the_whole_answer(name: str) -> None:
    """So that the transcripts which our tests believe are ones that Anthropic's types describe."""
    question: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    async with (
        Messages(transcript(name)) as messages,
        AsyncAnthropic(base_url=messages.url, api_key="k", max_retries=0) as client,
    ):
        whole = await client.messages.create(**question)
        async with client.messages.stream(**question) as stream:
            gathered = await stream.get_final_message()
    said = json.loads(golden.whole(name))
    assert said.items() <= json.loads(whole.model_dump_json(exclude_unset=True)).items()
    assert gathered.to_dict()["content"] == said["content"]
    assert (gathered.stop_reason, gathered.usage.output_tokens) == (said["stop_reason"], said["usage"]["output_tokens"])


async def test_an_error_keeps_its_status_and_words_and_the_id_of_the_request() -> None:
    async with provider_over(Messages(failure("error_invalid", 400))) as provider:
        with pytest.raises(UpstreamError, match="max_tokens: 64000 > 8192") as caught:
            await all_of(provider, stream=True)
    error = caught.value
    assert (error.status, error.code, error.again, error.spent) == (400, "invalid_request_error", False, False)
    assert (b"request-id", b"req_011CScripted") in error.headers
    assert "64000" not in error.kept


async def test_an_error_that_is_not_anthropics_keeps_its_status_and_words() -> None:
    async with provider_over(Messages(lambda body: Answer(b"upstream connect error", 503))) as provider:
        with pytest.raises(UpstreamError, match="upstream connect error") as caught:
            await all_of(provider)
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"data: {oops}\n\n", "not an event"),
        (golden.stream("text").split(b"event: message_delta")[0], "before the answer was whole"),
        (golden.stream("overloaded"), "Overloaded"),
    ],
)
async def test_a_stream_that_is_no_answer_is_an_error(stream: bytes, words: str) -> None:
    async with provider_over(Messages(lambda body: Answer(stream, streamed=True))) as provider:
        with pytest.raises(UpstreamError, match=words):
            await all_of(provider, stream=True)


async def test_a_server_that_answers_whole_though_a_stream_was_asked_for_is_understood() -> None:
    async with provider_over(Messages(lambda body: Answer(golden.whole("tools")))) as provider:
        chunks = await all_of(provider, stream=True)
    assert [chunk.finish for chunk in chunks if chunk.finish] == ["tool_calls"]
    assert [chunk.usage for chunk in chunks if chunk.usage] == [Usage(input_tokens=403, output_tokens=96)]


# Through the gateway.


@asynccontextmanager
async def gateway_over(script: Script, more: str = "") -> AsyncGenerator[tuple[openai.AsyncOpenAI, Messages, Gateway]]:
    async with Messages(script) as messages:
        section = (
            f'[targets.claude]\nprovider = "anthropic"\nmodel = "claude-sonnet-4-5"\nbase_url = "{messages.url}"\n'
        )
        async with (
            house({}, section + more) as gateway,
            openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="none", max_retries=0) as client,
        ):
            yield client, messages, gateway


def entry_of(gateway: Gateway) -> Entry:
    entry: Entry = gateway.store.entries[-1]
    return entry


USER: Any = {"role": "user", "content": "Hi"}


async def test_chat_and_what_it_cost() -> None:
    async with gateway_over(transcript("text"), 'price = { input = "$3", output = "$15", cached = "$0.30" }') as all_:
        client, _, gateway = all_
        raw = await client.chat.completions.with_raw_response.create(model="claude", messages=[USER])
        answer = raw.parse()
    assert answer.choices[0].message.content == "Three legs hold a pot: naïve, isn’t it? 🍲"  # noqa: RUF001
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (3093, 2048)
    assert raw.headers["request-id"] == "req_011CScripted"
    outcome = entry_of(gateway).outcome
    assert outcome.usage == Usage(input_tokens=3093, output_tokens=14, cached_tokens=2048, cache_write_tokens=1024)
    # 21 + 1024 at $3, 2048 at $0.30, 14 at $15 a million
    assert outcome.cost_nanos == 1045 * 3000 + 2048 * 300 + 14 * 15000
    assert (outcome.status, outcome.finish, outcome.model) == ("ok", "stop", "claude-sonnet-4-5-20250929")


@pytest.mark.parametrize("base_url", ["", BASE_URL])
def test_list_prices_know_what_is_written_to_the_cache(base_url: str) -> None:
    """claude-sonnet-4-5: $3 in, $0.30 read from the cache, $3.75 written to it, $15 out a million (genai-prices)."""
    prices = Prices({"claude": TargetSettings(provider="anthropic", name="claude", base_url=base_url)})
    usage = Usage(input_tokens=3093, output_tokens=14, cached_tokens=2048, cache_write_tokens=1024)
    cost = prices.cost(
        "claude", model="claude-sonnet-4-5-20250929", usage=usage, took_ns=1, at_ns=1_790_000_000_000_000_000
    )
    assert cost.nanos == 21 * 3000 + 2048 * 300 + 1024 * 3750 + 14 * 15000
    assert not cost.why_unknown


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_written_to_the_cache_for_an_hour_is_told_and_has_its_own_price(*, stream: bool) -> None:
    async with gateway_over(transcript("hour"), "") as (client, _, gateway):
        answer: Any = await client.chat.completions.create(model="claude", messages=[USER], stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
    usage = entry_of(gateway).outcome.usage
    written = {"cache_write_tokens": 1024, "cache_write_1h_tokens": 1000}
    assert usage == Usage(input_tokens=3093, output_tokens=14, cached_tokens=2048, **written)
    prices = Prices({"claude": TargetSettings(provider="anthropic", name="claude")})
    model, at_ns = "claude-sonnet-4-5-20250929", 1_790_000_000_000_000_000
    cost = prices.cost("claude", model=model, usage=usage, took_ns=1, at_ns=at_ns)
    # claude-sonnet-4-5: $3.75 a million written for five minutes, $6 for an hour (genai-prices)
    assert cost.nanos == 21 * 3000 + 2048 * 300 + 24 * 3750 + 1000 * 6000 + 14 * 15000


async def test_a_stream_in_openais_own_helper() -> None:
    async with (
        gateway_over(transcript("thinking")) as (client, messages, gateway),
        client.chat.completions.stream(
            model="claude", messages=[USER], stream_options={"include_usage": True}
        ) as stream,
    ):
        completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert message.content == "One moment."
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city":"Bern"}'
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == "What is asked: the weather."
    assert message.model_extra["anthropic_content"] == json.loads(golden.whole("thinking"))["content"]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 210
    outcome = entry_of(gateway).outcome
    assert outcome.usage == Usage(input_tokens=88, output_tokens=210, reasoning_tokens=150)
    assert messages.requests[0].body["stream"] is True


async def test_the_loop_of_tools_with_signed_thinking_sent_back() -> None:
    def script(body: Any) -> Answer:
        first = len(body["messages"]) == 1
        return transcript("thinking" if first else "text")(body)

    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    async with gateway_over(script) as (client, messages, _):
        history: list[Any] = [USER]
        answer = await client.chat.completions.create(model="claude", messages=history, tools=[tool])
        assert answer.choices[0].finish_reason == "tool_calls"
        history.append(answer.choices[0].message)
        calls = answer.choices[0].message.tool_calls or []
        history += [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in calls]
        last = await client.chat.completions.create(model="claude", messages=history, tools=[tool])
        assert last.choices[0].finish_reason == "stop"
    _, asked, told = messages.requests[1].body["messages"]
    assert asked["content"] == json.loads(golden.whole("thinking"))["content"]  # the signatures among them
    assert told["content"] == [{"type": "tool_result", "tool_use_id": "toolu_01Wz", "content": "sun"}]


class City(pydantic.BaseModel):
    city: str
    days: int


async def test_structured_output_is_parsed() -> None:
    said = json.loads(golden.whole("text"))
    said["content"][0]["text"] = '{"city":"Bern","days":3}'
    async with gateway_over(lambda body: Answer(json.dumps(said).encode())) as (client, messages, _):
        answer = await client.chat.completions.parse(model="claude", messages=[USER], response_format=City)
    assert answer.choices[0].message.parsed == City(city="Bern", days=3)
    wanted = messages.requests[0].body["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert wanted["schema"]["required"] == ["city", "days"]
    assert wanted["schema"]["additionalProperties"] is False


async def test_an_image_goes_through() -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    async with gateway_over(transcript("text")) as (client, messages, _):
        parts: Any = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
        await client.chat.completions.create(model="claude", messages=[{"role": "user", "content": parts}])
    image = messages.requests[0].body["messages"][0]["content"][1]
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


async def test_a_client_adds_what_is_anthropics() -> None:
    async with gateway_over(transcript("text")) as (client, messages, _):
        thinking = {"type": "enabled", "budget_tokens": 1024}
        await client.chat.completions.create(
            model="claude",
            messages=[USER],
            extra_body={"thinking": thinking, "top_k": 3},
            extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14"},
        )
    (asked,) = messages.requests
    assert (asked.body["thinking"], asked.body["top_k"]) == (thinking, 3)
    assert asked.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"


async def test_an_overload_reaches_the_client_as_it_is() -> None:
    async with gateway_over(failure("error_overloaded", 529)) as (client, _, gateway):
        with pytest.raises(openai.APIStatusError, match="Overloaded") as caught:
            await client.chat.completions.create(model="claude", messages=[USER])
    assert caught.value.status_code == 529
    assert caught.value.code == "overloaded_error"
    assert caught.value.response.headers["request-id"] == "req_011CScripted"
    outcome = entry_of(gateway).outcome
    assert (outcome.status, outcome.http_status) == ("failed", 529)
    assert outcome.fault is not None
    assert outcome.fault.code == "overloaded_error"


async def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client() -> None:
    async with gateway_over(lambda body: Answer(golden.stream("overloaded"), streamed=True)) as (client, _, gateway):
        stream = await client.chat.completions.create(model="claude", messages=[USER], stream=True)
        with pytest.raises(openai.APIError, match="Overloaded"):
            async for _ in stream:
                pass
    assert entry_of(gateway).outcome.status == "failed"


async def test_what_cannot_be_asked_is_a_400_with_what_to_do() -> None:
    async with gateway_over(transcript("text")) as (client, messages, _):
        with pytest.raises(openai.BadRequestError, match="Ask 3 times") as caught:
            await client.chat.completions.create(model="claude", messages=[USER], n=3)
    assert caught.value.param == "n"
    assert messages.requests == []


async def test_what_anthropic_cannot_do_the_next_target_is_asked() -> None:
    async with Upstream("four") as other:
        more = (
            f'[targets.other]\nprovider = "openai"\nmodel = "o"\nbase_url = "{other.base_url}"\n'
            '[policies.both]\npool = ["claude", "other"]\n'
        )
        async with gateway_over(transcript("text"), more) as (client, messages, gateway):
            answer = await client.chat.completions.create(model="both", messages=[USER], seed=1)
    assert answer.choices[0].message.content == "four"
    assert messages.requests == []
    assert [(a.target, a.http_status) for a in entry_of(gateway).outcome.attempts] == [("claude", 400), ("other", 0)]


async def test_a_client_that_leaves_closes_the_connection() -> None:
    async with gateway_over(transcript("text", hang_after=4)) as (client, messages, gateway):
        stream = await client.chat.completions.create(model="claude", messages=[USER], stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
        await asyncio.wait_for(messages.hung_up.wait(), 5)
    assert entry_of(gateway).outcome.status == "cancelled"
