"""Embeddings, completions and moderations through the gateway, asked by the official client, with one entry each."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.edge_kit import POLICY
from trivet.testing.documents import vector
from trivet.testing.house import house
from trivet.testing.memory import Memory
from trivet.testing.upstream import Upstream
from trivet.types import Usage

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def asking(upstream: Upstream, more: str = "", *, store: Memory | None = None) -> AsyncGenerator[Any]:
    """Give the official client of a gateway in front of this upstream."""
    async with (
        upstream,
        house({"a": upstream.base_url}, more, store=store or Memory()) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("asked", ["one text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
@pytest.mark.parametrize("form", [None, "float", "base64"])
async def test_embeddings_come_as_floats_and_as_base64(asked: Any, form: Any) -> None:
    store = Memory()
    upstream = Upstream()
    async with asking(upstream, store=store) as ask:
        more = {"encoding_format": form} if form else {}
        told = await ask.embeddings.create(model="a", input=asked, **more)
        plural = isinstance(asked, list) and not isinstance(asked[0], int)
        for row, text in zip(told.data, asked if plural else [asked], strict=True):
            if form != "base64":  # the client unpacks only what it asked for by itself
                assert row.embedding == pytest.approx(vector(text))
        assert upstream.requests[0].path == "/v1/embeddings"
    (entry,) = store.entries
    assert (entry.kind, entry.outcome.status) == ("embeddings", "ok")
    assert entry.outcome.usage == Usage(input_tokens=told.usage.prompt_tokens, output_tokens=0)


async def test_embeddings_are_kept_by_a_policy_whatever_its_temperature_and_apart_from_other_kinds() -> None:
    store, strict = Memory(), POLICY + "max_temperature = 0.0\n"
    upstream = Upstream()
    async with asking(upstream, strict, store=store) as ask:
        first = await ask.embeddings.create(model="p", input="x")
        again = await ask.embeddings.create(model="p", input="x")
        await ask.moderations.create(model="p", input="x")
        await ask.moderations.create(model="p", input="x")
        await ask.completions.create(model="p", prompt="x", temperature=0)
        await ask.completions.create(model="p", prompt="x", temperature=0)
        assert first.data == again.data
        assert len(upstream.requests) == 5
    kinds = [(entry.kind, entry.cache) for entry in store.entries]
    assert kinds == [("embeddings", "miss"), ("embeddings", "exact"), *[("moderations", "bypass")] * 2,
                     *[("completions", "bypass")] * 2]  # fmt: skip


async def test_an_older_completion_is_answered_whole_and_streamed_and_its_usage_counted() -> None:
    store = Memory()
    async with asking(Upstream("Hel", "lo"), store=store) as ask:
        whole = await ask.completions.create(model="a", prompt="Say", n=2)
        assert [choice.text for choice in whole.choices] == ["Hello", "Hello"]
        stream = await ask.completions.create(model="a", prompt="Say", stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Hello"
        assert all(chunk.usage is None for chunk in chunks)
    assert [(e.kind, e.stream, e.outcome.finish) for e in store.entries] == [
        ("completions", False, "stop"), ("completions", True, "stop")]  # fmt: skip
    assert all(e.outcome.usage == Usage(input_tokens=9, output_tokens=2) for e in store.entries)


async def test_moderations_report_no_tokens_and_cost_nothing() -> None:
    store = Memory()
    async with asking(Upstream(), store=store) as ask:
        told = await ask.moderations.create(model="a", input=["x", "y"])
        assert [result.flagged for result in told.results] == [False, False]
    (entry,) = store.entries
    assert (entry.outcome.usage, entry.outcome.cost_nanos, entry.outcome.cost_unknown) == (None, 0, "")


@pytest.mark.parametrize("kind", ["completions", "embeddings", "moderations"])
async def test_errors_of_every_kind_keep_their_status_and_leave_an_entry(kind: str) -> None:
    store, body = Memory(), {"model": "a", "prompt": "x", "input": "x"}
    error = {"message": "Too long.", "code": "context_length_exceeded"}
    async with asking(Upstream(status=400, error=error), store=store) as ask:
        with pytest.raises(openai.BadRequestError, match="Too long"):
            await ask.post(f"/{kind}", body=body, cast_to=object)
        with pytest.raises(openai.BadRequestError, match=r"prompt|input"):
            await ask.post(f"/{kind}", body={"model": "a"}, cast_to=object)
    assert [(e.kind, e.outcome.status) for e in store.entries] == [(kind, "failed"), (kind, "refused")]


async def test_what_is_asked_of_a_target_arrives_byte_for_byte() -> None:
    raw = b'{"model":"a", "input":[ "\\u00e9" ],"dimensions":64,"x_new":{"b":1.50}}'
    upstream = Upstream()
    async with asking(upstream) as ask:
        await ask._client.post("/embeddings", content=raw)
        assert b'"input":[ "\\u00e9" ]' in upstream.requests[0].raw
        assert json.loads(upstream.requests[0].raw) == {**json.loads(raw), "model": upstream.requests[0].body["model"]}
