"""The list of names, as the official client reads it, and what is known of each."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from trivet.config import parse
from trivet.server.models import listed
from trivet.testing.house import house, kit, stages
from trivet.testing.memory import Memory
from trivet.types import Permit

pytestmark = pytest.mark.anyio
ANYTHING = Permit()
FILE = """
[targets.small]
provider = "llamacpp"
model = "qwen2.5-coder-0.5b-instruct"
region = "local"
price = { hour = "$0.08", slots = 2 }
engine = { context = 2048 }

[targets.tiny]
provider = "llamacpp"
model = "smollm2-135m-instruct"
engine = { context = 100_000 }

[targets.gpt]
provider = "openai"
model = "gpt-4o-mini"
api_key = "file:KEY"
region = "us"

[targets.claude]
provider = "anthropic"
model = "claude-sonnet-4-5"
api_key = "file:KEY"

[targets.any]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"

[targets.mine]
provider = "openai"
model = "m"
base_url = "http://127.0.0.1:9/v1"
price = { input = "$0.075", output = "$1", cached = "$0.01" }

[policies.support]
pool = ["small", "gpt"]
[policies.support.cache]
mode = "exact"

[aliases]
"gpt-4o" = "support"
"""


@asynccontextmanager
async def described(folder: Path, permit: Permit = ANYTHING) -> AsyncGenerator[dict[str, Any]]:
    (folder / "key").write_text("sk-" + "x" * 30)
    settings = parse(FILE.replace("KEY", str(folder / "key")), source="t")
    async with stages(settings, kit(folder), Memory()) as made:
        yield {row["id"]: row["trivet"] for row in listed(made, permit)}


async def test_each_name_tells_what_it_is(tmp_path: Path) -> None:
    async with described(tmp_path) as told:
        assert list(told) == ["small", "tiny", "gpt", "claude", "mine", "support", "gpt-4o", "any/*"]
        assert told["small"] == {
            "kind": "target", "provider": "llamacpp", "model": "qwen2.5-coder-0.5b-instruct", "region": "local",
            "asks": ["chat", "completions"], "context_tokens": 2048, "price": {"hour": "0.08"}, "ready": False,
        }  # fmt: skip
        assert told["tiny"]["context_tokens"] == 8192  # the most that the model can use
        gpt = told["gpt"]
        assert (gpt["price"]["input"], gpt["price"]["output"]) == ("0.15", "0.6")
        assert gpt["context_tokens"] == 128_000
        assert gpt["asks"] == ["chat", "completions", "embeddings", "moderations"]
        assert told["claude"]["asks"] == ["chat"]
        assert told["mine"]["price"] == {"input": "0.075", "output": "1", "cached": "0.01"}
        assert "context_tokens" not in told["mine"]
        assert "region" not in told["mine"]
        assert told["support"] == {
            "kind": "policy", "pool": ["small", "gpt"], "route": "fixed", "cache": "exact", "baseline": "gpt",
            "asks": ["chat", "completions", "embeddings", "moderations"],
        }  # fmt: skip
        assert told["gpt-4o"] == {**told["support"], "kind": "alias", "of": "support"}
        assert (told["any/*"]["kind"], told["any/*"]["model"], "price" in told["any/*"]) == ("wildcard", "*", False)


async def test_a_key_sees_what_it_may_ask_for_and_be_answered_by(tmp_path: Path) -> None:
    async with described(tmp_path, Permit(models=("support", "gpt", "any/m-1"), targets=("small", "any"))) as told:
        assert list(told) == ["support", "gpt-4o", "any/m-1"]  # the alias of what it may ask for, too
        assert (told["support"]["pool"], told["any/m-1"]["model"]) == (["small"], "m-1")


async def test_the_official_client_reads_the_list_and_one_of_it() -> None:
    more = '[targets.any]\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
    async with (
        house({"a": "http://127.0.0.1:9/v1"}, more) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
    ):
        assert [model.id async for model in client.models.list()] == ["a", "any/*"]
        one = await client.models.retrieve("a")
        assert (one.id, one.owned_by, one.trivet["model"]) == ("a", "openai", "a-1")  # type: ignore[attr-defined]
        assert (await client.models.retrieve("any/some/model")).trivet["model"] == "some/model"  # type: ignore[attr-defined]
    async with (
        house({"a": "http://127.0.0.1:9/v1"}) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client,
    ):
        with pytest.raises(openai.NotFoundError, match="nobody"):
            await client.models.retrieve("nobody")
