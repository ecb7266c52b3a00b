"""`POST /v1/embeddings` without a key and without a network, asked by the official client through a whole gateway."""

from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from trivet.testing.house import house
from trivet.testing.memory import Memory
from trivet.types import Usage

pytestmark = pytest.mark.anyio

FILE = """
[targets.embedded]
provider = "embedder"
model = "builtin"
region = "local"
price = { hour = "$0.08" }

[aliases]
"text-embedding-3-small" = "embedded"
"""


async def test_the_official_client_gets_vectors_that_mean_something_and_an_entry_is_left() -> None:
    store = Memory()
    async with (
        house({}, FILE, store=store) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
    ):
        texts = ["How do I reset my password?", "I forgot my password.", "What is the capital of France?"]
        told = await client.embeddings.create(model="text-embedding-3-small", input=texts)
        rows = np.array([row.embedding for row in told.data])
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1
        assert told.usage.prompt_tokens == 7 + 5 + 7
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="embedded", messages=[{"role": "user", "content": "hi"}])
        assert refused.value.code == "unsupported_by_target"
        listed: Any = {row.id: row.model_dump()["trivet"] for row in (await client.models.list()).data}
    entry, chat = store.entries
    assert (entry.kind, entry.outcome.status, entry.outcome.target) == ("embeddings", "ok", "embedded")
    assert entry.outcome.usage == Usage(input_tokens=19, output_tokens=0)
    assert entry.outcome.model == "trivet-static-1"
    assert entry.outcome.cost_nanos
    assert (chat.kind, chat.outcome.status) == ("chat", "failed")
    assert listed["embedded"]["asks"] == ["embeddings"]
    assert (listed["embedded"]["dimensions"], listed["embedded"]["context_tokens"]) == (256, 8192)
    assert listed["text-embedding-3-small"]["of"] == "embedded"


async def test_a_policy_keeps_embeddings_of_the_embedder_too() -> None:
    store = Memory()
    policy = '[policies.p]\npool = ["embedded"]\n[policies.p.cache]\nmode = "exact"\n'
    async with (
        house({}, FILE + policy, store=store) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
    ):
        first = await client.embeddings.create(model="p", input="x")
        again = await client.embeddings.create(model="p", input="x")
        assert first.data == again.data
    assert [entry.cache for entry in store.entries] == ["miss", "exact"]


@pytest.mark.parametrize(("more", "status"), [("", 200), ('[targets.m]\nprovider = "llamacpp"\nmodel = "NAME"\n', 503)])
async def test_an_embedder_makes_a_gateway_ready_only_where_nothing_else_is_waited_for(more: str, status: int) -> None:
    more = more.replace("NAME", "smollm2-135m-instruct")
    async with house({}, FILE + more) as gateway, httpx2.AsyncClient(base_url=gateway.url) as client:
        await client.post("/v1/embeddings", json={"model": "embedded", "input": "a text"})  # loads it
        told = await client.get("/readyz")
    assert told.json()["targets"]["embedded"] == "ready"
    assert told.status_code == status
