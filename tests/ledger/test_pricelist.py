"""Compiled list prices, against genai-prices' own arithmetic."""

from datetime import UTC, datetime
from decimal import localcontext
from fractions import Fraction

import genai_prices
import pytest
from genai_prices import data_snapshot

from trivet.ledger.pricelist import Listed, find, provider_of
from trivet.ledger.rates import token_cost
from trivet.types import Usage

AT = datetime(2026, 11, 22, 16, 30, tzinfo=UTC)
AT_NS = int(AT.timestamp()) * 10**9
USAGES = (
    Usage(input_tokens=1200, output_tokens=80, cached_tokens=1024),
    Usage(input_tokens=300_000, output_tokens=5_000, cached_tokens=100_000, cache_write_tokens=50_000),
    Usage(input_tokens=5_000, output_tokens=80, cache_write_tokens=3_000, cache_write_1h_tokens=1_000),
    Usage(input_tokens=900, output_tokens=700, reasoning_tokens=600, input_audio_tokens=300, output_audio_tokens=50),
    Usage(input_tokens=0, output_tokens=1),
)


def theirs(usage: Usage, listed: Listed, provider: genai_prices.types.Provider) -> Fraction:
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    with localcontext(prec=60):
        return Fraction(listed.model.calc_price(counted, provider, genai_request_timestamp=AT).total_price)


def test_vertex_names_the_publisher_and_the_price_is_the_same() -> None:
    provider = provider_of(
        "openai", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi"
    )
    assert provider is not None
    with_publisher, bare = find(provider, "google/gemini-2.5-pro"), find(provider, "gemini-2.5-pro")
    assert isinstance(with_publisher, Listed)
    assert isinstance(bare, Listed)
    assert with_publisher.at(AT_NS) == bare.at(AT_NS)


def test_every_model_costs_what_genai_prices_says_to_the_nano_dollar() -> None:
    """All models of all providers; what we do not price must be for one of the stated reasons."""
    compared = unknown = 0
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            every = find(provider, model.id)
            if isinstance(every, str) or every.model is not model:
                continue  # its id matches another model first, which has its own turn
            tiers = every.at(AT_NS)
            for usage in USAGES:
                cost = tiers if isinstance(tiers, str) else token_cost(tiers, usage)
                if isinstance(cost, str):
                    unknown += 1
                    assert any(w in cost for w in ("without a price", "sold by", "no price for"))
                else:
                    compared += 1
                    assert cost == round(theirs(usage, every, provider) * 10**9), (provider.id, model.id, usage)
    assert compared > 7000
    assert unknown < compared / 5


def test_cached_audio_whose_amount_is_not_reported_has_no_known_cost() -> None:
    """Usage tells how much was cached and how much was audio; not how much of it was both."""
    google = provider_of("gemini", "")
    assert google is not None
    every = [find(google, model.id) for model in google.models]
    priced = [t for listed in every if not isinstance(listed, str) and not isinstance(t := listed.at(AT_NS), str)]
    tiers = next(t for t in priced if t[-1][1].cached_audio)
    both, either = Usage(input_tokens=9, output_tokens=1, cached_tokens=2, input_audio_tokens=3), USAGES[0]
    assert "how much of the audio was cached" in str(token_cost(tiers, both))
    assert not isinstance(token_cost(tiers, either), str)


@pytest.mark.parametrize(
    ("name", "base_url", "found"),
    [
        ("openai", "", "openai"),
        ("gemini", "", "google"),
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "https://openrouter.ai/api/v1", "openrouter"),
        ("openai", "https://me.openai.azure.com/openai/v1", "azure"),
        ("openai", "https://api.openai.com.example.org/v1", None),
        ("openai", "https://llm.example.org/v1", None),
        ("my-openai-thing", "", None),
    ],
)
def test_the_list_is_chosen_by_where_requests_go(name: str, base_url: str, found: str | None) -> None:
    provider = provider_of(name, base_url)
    assert (provider.id if provider else None) == found


def test_the_price_of_the_day_applies() -> None:
    """Models whose prices changed cost one thing before that day and another after."""
    changed = 0
    for each in data_snapshot.get_snapshot().providers:
        for model in each.models:
            found = find(each, model.id)
            if isinstance(found, str) or found.model is not model or len(found.compiled) < 2:
                continue
            changed += found.at(0) != found.at(AT_NS)
    assert changed > 50
