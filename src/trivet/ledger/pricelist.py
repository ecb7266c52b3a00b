"""List prices: `genai-prices`, found by provider and model, and compiled to whole numbers.

Importing this module imports genai-prices and pydantic (about 17 MiB, 0.3 s), so `prices.py` does it only when a
target needs a list price. Not here: prices from trivet.toml. A request is priced by the rates of its time of day and
date, and by the tier of its length. A model that is (also) sold by something that no usage tells (hours of audio,
pages, pictures) has no known price; extra fees that chat requests may cause beyond tokens (web searches) are not seen.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from genai_prices import __version__, data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from trivet.ledger.rates import PER_MILLION, Rates, Tiers, rates

VERSION = f"genai-prices {__version__}"

_ALIASES = {"gemini": "google"}
"""Our names of providers, where theirs differ."""

_FIELDS = {
    "input_mtok": ("input", PER_MILLION),
    "output_mtok": ("output", PER_MILLION),
    "cache_read_mtok": ("cached", PER_MILLION),
    "cache_write_mtok": ("cache_write", PER_MILLION),
    "cache_write_1h_mtok": ("cache_write_1h", PER_MILLION),
    "input_audio_mtok": ("input_audio", PER_MILLION),
    "output_audio_mtok": ("output_audio", PER_MILLION),
    "output_reasoning_mtok": ("reasoning", PER_MILLION),
    "requests_kcount": ("request", 1000),
}
_UNSEEN = {"web_searches_kcount", "storage_searches_kcount", "cache_audio_read_mtok"}


class Listed(NamedTuple):
    """A model of the list, with the rates of all its times."""

    model: ModelInfo
    compiled: Mapping[int, Tiers | str]
    """By `id` of the `ModelPrice`, which lives as long as the model does."""

    def at(self, at_ns: int) -> Tiers | str:
        """Give the rates in force at a time of day, or why there are none."""
        prices = self.model.prices
        if not isinstance(prices, ModelPrice):
            prices = self.model.get_prices(datetime.fromtimestamp(at_ns / 1e9, UTC))
        return self.compiled[id(prices)]


def provider_of(name: str, base_url: str) -> Provider | None:
    """Find whose list applies: by where requests go, or by the provider's name if it goes to its usual place."""
    providers = data_snapshot.get_snapshot().providers
    if base_url:
        return next((p for p in providers if _is_at(p.api_pattern, base_url)), None)
    return next((p for p in providers if p.id == _ALIASES.get(name, name)), None)


def _is_at(pattern: str, url: str) -> bool:
    # The patterns match beginnings: "https://api.openai.com.example.org" is somebody else.
    found = re.match(pattern, url)
    return found is not None and (found[0].endswith((".", "/")) or url[found.end() :][:1] in ("", "/", ":", "?"))


def find(provider: Provider, model: str) -> Listed | str:
    """Find a model in a provider's list; where it has no usable price, say why."""
    if provider.id == "google":  # where it speaks OpenAI's protocol, Vertex AI wants the publisher in the name
        model = model.removeprefix("google/")
    found = provider.find_model(model, all_providers=data_snapshot.get_snapshot().providers)
    if found is None:
        return f"{VERSION} does not know the model {model[:200]!r} of {provider.name}"
    every = [found.prices] if isinstance(found.prices, ModelPrice) else [c.prices for c in found.prices]
    return Listed(found, {id(price): _compile(price) for price in every})


def _compile(price: ModelPrice) -> Tiers | str:
    given = {name: value for name, value in vars(price).items() if value is not None}
    if not given:
        return f"{VERSION} lists it without a price: free, or not known"
    strange = sorted(given.keys() - _FIELDS.keys() - _UNSEEN)
    if strange:
        return f"it is sold by {', '.join(strange)} too, which is not counted"
    starts = {tier.start for value in given.values() if isinstance(value, TieredPrices) for tier in value.tiers}
    return tuple((start, _rates_above(given, start)) for start in sorted({-1, *starts}, reverse=True))


def _rates_above(given: Mapping[str, Decimal | TieredPrices], start: int) -> Rates:
    each = {}
    for name, (field, per) in _FIELDS.items():
        value = given.get(name)
        if isinstance(value, TieredPrices):
            value = next((tier.price for tier in reversed(value.tiers) if tier.start <= start), value.base)
        if value is not None:
            each[field] = Fraction(value) / per
    return rates(each, cached_audio="cache_audio_read_mtok" in given)
