"""The official client runs unchanged, and what happened is told in headers, streams and the ledger."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pydantic
import pytest

from trivet.testing.house import Gateway, house
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Tool, Upstream

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"

[aliases]
"gpt-4o" = "p"
"""
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@asynccontextmanager
async def open_house(
    a: Upstream, b: Upstream | None = None, store: Memory | None = None
) -> AsyncGenerator[tuple[Gateway, openai.AsyncOpenAI, httpx2.AsyncClient], None]:
    async with (
        a,
        b or Upstream("other") as second,
        house({"a": a.base_url, "b": second.base_url}, POLICY, store=store) as gateway,
        client_of(gateway) as client,
        httpx2.AsyncClient(base_url=gateway.url) as plain,
    ):
        yield gateway, client, plain


async def test_a_plain_chat() -> None:
    async with open_house(Upstream("Hello", " there")) as (gateway, client, _):
        answer = await client.chat.completions.create(model="a", **ASK)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 9
    assert "trivet" not in (answer.model_extra or {})
    assert [e.outcome.status for e in gateway.store.entries] == ["ok"]


async def test_a_streamed_chat_without_usage_has_none() -> None:
    async with open_house(Upstream("Hel", "lo")) as (gateway, client, _):
        stream = await client.chat.completions.create(model="a", stream=True, **ASK)
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello"
    assert all(c.usage is None and c.choices for c in chunks)
    assert all("trivet" not in (c.model_extra or {}) for c in chunks)
    assert gateway.store.entries[0].outcome.usage.output_tokens == 2


async def test_a_stream_is_relayed_byte_for_byte_but_for_usage() -> None:
    async with open_house(Upstream("Hel", "lo")) as (_, _, plain):
        body = {"model": "a", "stream": True, **ASK}
        bare = (await plain.post("/v1/chat/completions", json=body)).content
        whole = (
            await plain.post("/v1/chat/completions", json={**body, "stream_options": {"include_usage": True}})
        ).content
    assert b"usage" not in bare
    assert whole.count(b'"usage"') >= 1
    assert bare.endswith(b"data: [DONE]\n\n")
    assert whole.endswith(b"data: [DONE]\n\n")


async def test_the_streaming_helper_and_usage_when_asked_for() -> None:
    async with open_house(Upstream("Hel", "lo")) as (_, client, _):
        asked: dict[str, Any] = {"stream_options": {"include_usage": True}}
        async with client.chat.completions.stream(model="p", **ASK, **asked) as stream:
            final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello"
    assert final.usage is not None
    assert final.usage.total_tokens == 11


async def test_tool_calls_whole_and_streamed() -> None:
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    async with open_house(Upstream(tools=[Tool("add", '{"x": 1}')])) as (_, client, _):
        answer = await client.chat.completions.create(model="p", tools=tools, **ASK)
        async with client.chat.completions.stream(model="p", tools=tools, **ASK) as stream:
            final = await stream.get_final_completion()
    for message in (answer.choices[0].message, final.choices[0].message):
        (call,) = message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"x": 1})


class Person(pydantic.BaseModel):
    name: str
    age: int


async def test_structured_output_is_parsed_and_its_schema_reaches_the_target() -> None:
    upstream = Upstream('{"name": "Ada", "age": 36}')
    async with open_house(upstream) as (_, client, _):
        answer = await client.chat.completions.parse(model="a", response_format=Person, **ASK)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    assert upstream.requests[0].body["response_format"]["json_schema"]["name"] == "Person"


async def test_fields_nobody_knows_go_through_both_ways() -> None:
    said = b'{"id":"c","object":"chat.completion","x_vendor":{"a": [1.50]},"choices":[{"index":0,"message":\
{"role":"assistant","content":"x","x_more":1e2},"finish_reason":"stop"}]}'
    upstream = Upstream(events=[said])
    async with open_house(upstream) as (_, _, plain):
        body = (
            b'{"model":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}],\
"x_new":{"k": [1.0]},"logprobs":true,"seed":7}'
        )
        await plain.post("/v1/chat/completions", content=body, headers={"openai-beta": "b1"})
    raw = upstream.requests[0].raw
    assert b'"x_new":{"k": [1.0]}' in raw
    assert b'"image_url":{"url":"data:,"}' in raw
    assert upstream.requests[0].headers["openai-beta"] == "b1"
    assert upstream.requests[0].headers.get("authorization") is None


async def test_headers_tell_what_happened() -> None:
    async with open_house(Upstream("x")) as (gateway, _, plain):
        first = await plain.post("/v1/chat/completions", json={"model": "gpt-4o", **ASK})
        again = await plain.post("/v1/chat/completions", json={"model": "gpt-4o", **ASK})
    entry = gateway.store.entries[0]
    assert first.headers["x-trivet-id"] == entry.id
    assert first.headers["x-trivet-target"] == "a"
    assert (first.headers["x-trivet-decision"], first.headers["x-trivet-cache"]) == ("call", "miss")
    assert first.headers["x-trivet-cost-usd"] == "0.000011"
    assert {"auth", "cache", "route", "queue", "connect", "ttft"} == {
        span.split(";")[0] for span in first.headers["server-timing"].split(", ")
    }
    assert again.headers["x-trivet-cache"].startswith("hit; kind=exact; age=")
    assert (again.headers["x-trivet-cost-usd"], again.headers["x-trivet-saved-usd"]) == ("0", "0.000011")
    assert first.headers["cache-control"] == "no-store, private"
    assert first.json() == again.json()


async def test_the_report_comes_in_the_last_chunk_of_a_policy_and_on_request() -> None:
    async with open_house(Upstream("x")) as (_, client, plain):
        chunks = [c async for c in await client.chat.completions.create(model="p", stream=True, **ASK)]
        told = (chunks[-1].model_extra or {})["trivet"]
        assert told["cost_usd"] == "0.000011"
        assert told["target"] == "a"
        off = await plain.post(
            "/v1/chat/completions", json={"model": "p", "stream": True, **ASK}, headers={"x-trivet-report": "off"}
        )
        on = await plain.post("/v1/chat/completions", json={"model": "a", **ASK}, headers={"x-trivet-report": "on"})
    assert b"trivet" not in off.content
    assert on.json()["trivet"]["cost_usd"] == "0.000011"


async def test_errors_of_the_target_keep_status_code_words_and_headers() -> None:
    upstream = Upstream(status=429, headers={"retry-after": "7", "x-request-id": "up-1"})
    async with open_house(upstream) as (gateway, client, plain):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="a", **ASK)
        reply = await plain.post("/v1/chat/completions", json={"model": "a", **ASK})
    assert caught.value.code == "rate_limit_exceeded"
    assert reply.headers["retry-after"] == "7"
    assert reply.headers["x-request-id"] == "up-1"
    assert reply.headers["x-trivet-fault"] == "upstream"
    assert {e.outcome.http_status for e in gateway.store.entries} == {429}


async def test_our_own_errors_are_the_clients_exceptions() -> None:
    async with open_house(Upstream("x")) as (gateway, client, plain):
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await client.chat.completions.create(model="nobody", **ASK)
        with pytest.raises(openai.BadRequestError, match="messages"):
            await client.chat.completions.create(model="a", messages="hi")  # type: ignore[arg-type]  # on purpose
        broken = await plain.post("/v1/chat/completions", content=b"{")
    assert broken.status_code == 400
    assert broken.json()["error"]["code"] == "invalid_json"
    assert [e.outcome.status for e in gateway.store.entries] == ["refused"] * 3


async def test_an_error_in_the_middle_of_a_stream_raises_in_the_client() -> None:
    async with open_house(Upstream("Hel", "lo", error_after=1)) as (gateway, client, plain):
        with pytest.raises(openai.APIError):
            async for _ in await client.chat.completions.create(model="a", stream=True, **ASK):
                pass
        raw = (await plain.post("/v1/chat/completions", json={"model": "a", "stream": True, **ASK})).content
    assert b"[DONE]" not in raw
    assert [e.outcome.status for e in gateway.store.entries] == ["failed"] * 2


async def test_an_error_before_the_first_chunk_keeps_its_status_in_a_stream() -> None:
    async with open_house(Upstream(status=429)) as (_, client, _):
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="a", stream=True, **ASK)


async def test_a_target_that_is_not_there_is_a_502_that_says_so() -> None:
    async with house({"a": "http://127.0.0.1:9/v1"}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError, match=r"Target 'a'.*127\.0\.0\.1:9") as caught:
            await client.chat.completions.create(model="a", **ASK)
    assert caught.value.status_code == 502


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "slow",
    [
        Answer(pieces=("a", "b"), first_delay_s=60),
        Answer(pieces=("a", "b"), hang_after=0),
        Answer(pieces=("a", "b"), hang_after=1),
    ],
    ids=["before headers", "before the first token", "in the middle"],
)
async def test_a_client_that_leaves_closes_the_target_and_leaves_one_entry(slow: Answer, *, stream: bool) -> None:
    upstream = Upstream(script=lambda body: slow)
    async with open_house(upstream) as (gateway, _, plain):
        body = {"model": "a", "stream": stream, **ASK}
        call = asyncio.ensure_future(plain.post("/v1/chat/completions", json=body))
        async with asyncio.timeout(5):
            while not upstream.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(upstream.hung_up.wait(), 5)
        async with asyncio.timeout(5):
            while not gateway.store.entries:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert [e.outcome.status for e in gateway.store.entries] == ["cancelled"]


async def test_a_client_that_leaves_with_half_a_body_leaves_one_entry() -> None:
    async with open_house(Upstream("x")) as (gateway, _, _):
        host, port = gateway.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while not gateway.store.entries:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert [e.outcome.status for e in gateway.store.entries] == ["cancelled"]


async def test_a_slow_client_does_not_fill_the_memory() -> None:
    """Pieces of 64 KB, 200 of them: what the client has not taken stays in the target's hands."""
    piece = "x" * 65_536
    upstream = Upstream(*[piece] * 200)
    async with open_house(upstream) as (gateway, _, _):
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=65_536)
        body = json.dumps({"model": "a", "stream": True, **ASK}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        assert not gateway.store.entries  # 13 MB cannot have gone through a reader that stopped
        async with asyncio.timeout(20):
            while b"[DONE]" not in await reader.read(1_000_000):
                pass
            while not gateway.store.entries:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()
    assert [e.outcome.status for e in gateway.store.entries] == ["ok"]


async def test_bodies_over_the_limit_are_refused() -> None:
    async with open_house(Upstream("x")) as (gateway, _, plain):
        body = json.dumps({"model": "a", "messages": [{"role": "user", "content": "x" * 50_000_000}]}).encode()
        reply = await plain.post("/v1/chat/completions", content=body)
    assert reply.status_code == 413
    assert [e.outcome.http_status for e in gateway.store.entries] == [413]
