"""What this machine and its environment offer, and what they do not."""

import time
from collections.abc import Mapping

import pytest

from tests.cli.conftest import Upstream as Gateway
from tests.upstream.test_discover import OLLAMA, VLLM, server
from trivet import seams
from trivet.cli import offers
from trivet.cli.offers import CHAT_MODELS, Offers, lines, look, settings
from trivet.config import TargetSettings, parse
from trivet.ledger.prices import Prices
from trivet.types import Usage
from trivet.upstream import discover

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


async def with_keys(env: Mapping[str, str]) -> Offers:
    return await look(env, ports=())


@pytest.mark.anyio
async def test_engines_come_before_what_is_paid_and_the_first_that_is_paid_is_the_baseline() -> None:
    async with server(OLLAMA) as one, server(VLLM) as other:
        found = await look({"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}, ports=[one, other])
    made = settings(found)
    assert [f.kind for f in found.engines] == ["ollama", "vllm"]
    (policy,) = made.policies.values()
    assert policy.pool == ("qwen2.5:0.5b", "Qwen-Qwen2.5-7B", "gpt-4.1-mini", "claude-haiku-4-5")
    assert policy.baseline == "gpt-4.1-mini"
    assert {name for name, t in made.targets.items() if t.model == "*"} == {"openai", "anthropic"}
    assert KEY not in repr((found, made))


@pytest.mark.anyio
async def test_an_engine_without_a_model_is_told_and_not_used() -> None:
    async with server({"/v1/models": {"data": []}, "/api/tags": {"models": []}}) as port:
        found = await look({}, ports=[port])
    assert (found.used, [u.name for u in found.unused]) == ([], [f"ollama at http://127.0.0.1:{port}/v1"])


@pytest.mark.anyio
async def test_a_key_that_cannot_be_sent_is_not_used_and_it_says_why() -> None:
    found = await with_keys({"GEMINI_API_KEY": f"{KEY}\nand more"})
    assert found.used == []
    (unused,) = found.unused
    assert unused.name == "GEMINI_API_KEY"
    assert "one line" in unused.why
    assert KEY not in repr(found)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["AWS_BEARER_TOKEN_BEDROCK", "COHERE_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY"])
async def test_a_key_of_a_provider_that_this_version_does_not_have_is_told_with_the_reason(name: str) -> None:
    found = await with_keys({name: KEY})
    assert found.used == []
    assert [(u.name, bool(u.why)) for u in found.unused] == [(name, True)]


@pytest.mark.anyio
async def test_the_name_that_google_shares_is_not_told_where_geminis_own_is_set() -> None:
    found = await with_keys({"GOOGLE_API_KEY": KEY, "GEMINI_API_KEY": KEY})
    assert [f.kind for f in found.keys] == ["gemini"]
    assert found.unused == []


@pytest.mark.anyio
async def test_an_address_of_azure_goes_into_the_lines_that_are_offered_and_nothing_else_of_it() -> None:
    url = f"https://mine.openai.azure.com/?key={KEY}"
    (unused,) = (await with_keys({"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": url})).unused
    assert unused.target is not None
    assert unused.target.base_url == "https://mine.openai.azure.com/openai/v1"
    assert unused.target.provider in seams.names("trivet.provider")


@pytest.mark.anyio
async def test_the_key_of_openai_goes_where_openais_clients_would_send_it() -> None:
    found = await with_keys({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://10.0.0.5:8000/v1/"})
    assert [f.base_url for f in found.keys] == ["http://10.0.0.5:8000/v1"]
    made = settings(found)
    assert (list(made.targets), made.policies) == (["openai"], {}), "no model is known there"


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["nowhere", "http://h:99999/v1", f"http://me:{KEY}@h/v1", f"http://h/v1?key={KEY}"])
async def test_an_address_that_is_none_or_has_a_secret_in_it_is_not_taken(url: str) -> None:
    found = await with_keys({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url})
    assert found.used == []
    assert "OPENAI_BASE_URL" in found.unused[0].why
    assert KEY not in repr(found)


@pytest.mark.anyio
async def test_a_gateway_of_ours_does_not_become_its_own_target(upstream: Gateway) -> None:
    """As under `trivet run`, or where the keys of a gateway are exported."""
    upstream.readyz = {"status": "ready", "targets": {"small": "ready"}}
    found = await with_keys({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": upstream.url})
    assert "would ask itself" in found.unused[0].why
    found = await with_keys({"OPENAI_API_KEY": "sk-trivet-Zx81mQd0v7Yt2Lk9Zx81mQd0v7Yt"})
    assert "key of a Trivet gateway" in found.unused[0].why


def test_with_nothing_found_it_is_the_embedded_pool() -> None:
    assert settings(Offers([], [])) == discover.settings_from([])


def test_the_policy_has_a_name_that_no_model_has() -> None:
    found = discover.Found("vllm", "http://127.0.0.1:8000/v1", ("auto",))
    assert list(settings(Offers([found], [])).policies) == ["auto-2"]


def test_a_model_that_is_here_and_at_a_provider_is_two_targets() -> None:
    here = discover.Found("vllm", "http://127.0.0.1:8000/v1", ("gpt-4.1-mini",))
    there = discover.Found("openai", "https://api.openai.com/v1", key="env:OPENAI_API_KEY")
    (policy,) = settings(Offers([here, there], [])).policies.values()
    assert policy.pool == ("gpt-4.1-mini", "openai-gpt-4.1-mini")


def test_every_model_to_begin_with_has_a_price_and_every_address_has_one() -> None:
    targets = {url: TargetSettings(provider="openai", base_url=url, model=m) for url, m in CHAT_MODELS.items()}
    prices = Prices(targets)
    usage = Usage(input_tokens=1000, output_tokens=1000)
    costs = {u: prices.cost(u, model="", usage=usage, took_ns=1, at_ns=time.time_ns()) for u in targets}
    assert {url: cost.why_unknown for url, cost in costs.items() if cost.why_unknown} == {}
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")
    assert {f.base_url for f in discover.keys(dict.fromkeys(names, KEY))} == CHAT_MODELS.keys()


@pytest.mark.parametrize("name", ["a", "llama3.2:3b", 'quo"te', "new\nline", "del\x7f", "[x]"])
def test_a_target_is_written_so_that_it_is_read_back(name: str) -> None:
    target = TargetSettings(
        provider="openai", model=name, base_url="http://127.0.0.1:8000/v1", region="local", name="n"
    )
    assert parse("\n".join(lines("n", target)), source="t").targets == {"n": target}
    assert offers.quoted(name).count("\n") == 0
