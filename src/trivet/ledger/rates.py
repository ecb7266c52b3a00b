"""What a token or a second costs, compiled to whole numbers, and the one place where a cost is added up.

Not here: which rates a target has (`prices.py`) and where list prices come from (`pricelist.py`).
Invariants: prices are exact: integers in units of 1/`per_nano` nano-dollars, the largest in which all are whole, so
"$0.075 per million tokens" is 75 a token; a cost is rounded once; what is not known is said, never zero.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from trivet.ledger.money import PER_DOLLAR, half_even
from trivet.types import Nanos, Usage

PER_MILLION = 1_000_000


class Rates(NamedTuple):
    """Prices of one token. A part (cached, reasoning, ...) holds what it *adds* to the price of its whole."""

    per_nano: int
    """The unit: this many make a nano-dollar."""
    request: int = 0
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None
    reasoning: int | None = None
    cached_audio: bool = False
    """Audio read from the provider's cache has a price of its own; how much that is, no usage tells."""


class HourRate(NamedTuple):
    """A machine paid by the hour, as an exact fraction of nano-dollars a nanosecond; already divided by its slots."""

    numerator: int
    denominator: int


Tiers = tuple[tuple[int, Rates], ...]
"""(tokens, rates), highest first: the first whose number is below `input_tokens`, else the last, prices
the whole request."""

_PARTS = {
    "cached": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "input_audio": "input",
    "output_audio": "output",
    "reasoning": "output",
}


def rates(dollars_each: Mapping[str, Fraction], *, cached_audio: bool = False) -> Rates:
    """Compile prices in dollars per token (and per `request`), named as the fields of `Rates`."""
    nanos = {name: price * PER_DOLLAR for name, price in dollars_each.items()}
    per_nano = lcm(*(price.denominator for price in nanos.values()))
    unit = {name: int(price * per_nano) for name, price in nanos.items()}
    added = {name: unit[name] - unit.get(_PARTS[name], 0) if name in _PARTS else unit[name] for name in unit}
    return Rates(per_nano=per_nano, cached_audio=cached_audio, **added)


def hour_rate(dollars_an_hour: Fraction, *, slots: int) -> HourRate:
    """Compile a price in dollars per hour of a machine that does `slots` requests at a time."""
    # 3600e9 nanoseconds in an hour, 1e9 nano-dollars in a dollar.
    exact = dollars_an_hour / (3600 * slots)
    return HourRate(exact.numerator, exact.denominator)


def time_cost(rate: HourRate, took_ns: int) -> Nanos:
    """Price the time of one request."""
    return Nanos(half_even(rate.numerator * took_ns, rate.denominator))


def token_cost(tiers: Tiers, usage: Usage) -> Nanos | str:
    """Price the tokens of one request; where that cannot be known, say why."""
    if len(tiers) > 1:
        for start, found in tiers[:-1]:
            if usage.input_tokens > start:
                return _cost(found, usage)
    return _cost(tiers[-1][1], usage)


def _cost(r: Rates, u: Usage) -> Nanos | str:
    into, out = u.input_tokens, u.output_tokens
    parts = u.cached_tokens | u.cache_write_tokens | u.reasoning_tokens | u.input_audio_tokens | u.output_audio_tokens
    if parts == 0 <= into and r.input is not None and out >= 0 and r.output is not None:  # nearly every answer
        total = r.request + r.input * into + r.output * out
        return Nanos(total if r.per_nano == 1 else half_even(total, r.per_nano))
    return _cost_of_parts(r, u)


def _cost_of_parts(r: Rates, u: Usage) -> Nanos | str:
    if r.input is None and u.input_tokens:
        return "there is no price for input tokens"
    if r.output is None and u.output_tokens:
        return "there is no price for output tokens"
    if min(u.input_tokens, u.output_tokens, u.cached_tokens, u.cache_write_1h_tokens, u.reasoning_tokens) < 0:
        return "a number of tokens is below zero"
    if u.cache_write_tokens < u.cache_write_1h_tokens:
        return f"of its {u.cache_write_tokens} tokens written to the cache {u.cache_write_1h_tokens} are for an hour"
    total = r.request + (r.input or 0) * u.input_tokens + (r.output or 0) * u.output_tokens
    if u.cache_write_1h_tokens and r.cache_write is not None:
        if r.cache_write_1h is None:
            return "there is no price for what is kept in the provider's cache for an hour"
        total += r.cache_write_1h * u.cache_write_1h_tokens
    inside = 0
    for added, tokens in (
        (r.cached, u.cached_tokens),
        (r.cache_write, u.cache_write_tokens),
        (r.input_audio, u.input_audio_tokens),
    ):
        if added is not None and tokens:
            total += added * tokens
            inside += tokens
    if inside > u.input_tokens:
        return f"the parts of its {u.input_tokens} input tokens add up to {inside}"
    inside = 0
    for added, tokens in ((r.output_audio, u.output_audio_tokens), (r.reasoning, u.reasoning_tokens)):
        if added is not None and tokens:
            total += added * tokens
            inside += tokens
    if inside > u.output_tokens:
        return f"the parts of its {u.output_tokens} output tokens add up to {inside}"
    if r.cached_audio and u.cached_tokens and u.input_audio_tokens:
        return "cached audio has its own price, and how much of the audio was cached is not reported"
    return Nanos(half_even(total, r.per_nano))
