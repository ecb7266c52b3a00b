"""Costs added up, against exact fractions."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from trivet.ledger.rates import Tiers, hour_rate, rates, time_cost, token_cost
from trivet.types import Usage

NANOS = 10**9
amounts = st.integers(min_value=0, max_value=10**15).map(lambda n: Fraction(n, 10**12))
tokens = st.integers(min_value=0, max_value=10**9)


def tier(**dollars_a_million: str) -> Tiers:
    return ((-1, rates({k: Fraction(v) / 10**6 for k, v in dollars_a_million.items()})),)


@given(amounts, amounts, amounts, tokens, tokens, tokens)
def test_a_cost_is_the_exact_sum_rounded_once(
    each_in: Fraction, each_out: Fraction, each_cached: Fraction, fresh: int, cached: int, out: int
) -> None:
    prices = {"input": each_in / 10**6, "output": each_out / 10**6, "cached": each_cached / 10**6}
    usage = Usage(input_tokens=fresh + cached, output_tokens=out, cached_tokens=cached)
    exact = fresh * prices["input"] + cached * prices["cached"] + out * prices["output"]
    assert token_cost(((-1, rates(prices)),), usage) == round(exact * NANOS)


@given(amounts, amounts, st.lists(st.tuples(tokens, tokens), min_size=1, max_size=20))
def test_the_sum_of_many_costs_is_off_by_at_most_half_a_nano_dollar_each(
    each_in: Fraction, each_out: Fraction, asked: list[tuple[int, int]]
) -> None:
    compiled = rates({"input": each_in / 10**6, "output": each_out / 10**6})
    parts = [token_cost(((-1, compiled),), Usage(input_tokens=i, output_tokens=o)) for i, o in asked]
    known = [part for part in parts if not isinstance(part, str)]
    exact = sum((i * each_in + o * each_out for i, o in asked), start=Fraction(0)) * 1000
    assert len(known) == len(asked)
    assert abs(sum(known) - exact) <= Fraction(len(asked), 2)


@given(st.integers(min_value=0, max_value=10**6), tokens, tokens)
def test_where_nothing_rounds_costs_add_up(nanos_each: int, a: int, b: int) -> None:
    compiled = rates({"input": Fraction(nanos_each, NANOS), "output": Fraction(nanos_each, NANOS)})
    costs = [token_cost(((-1, compiled),), Usage(input_tokens=n, output_tokens=n)) for n in (a, b, a + b)]
    one, two, both = (cost for cost in costs if not isinstance(cost, str))
    assert both == one + two


@given(amounts, st.integers(min_value=1, max_value=64), st.integers(min_value=0, max_value=10**15))
def test_an_hour_is_paid_by_the_nanosecond_and_the_slot(an_hour: Fraction, slots: int, took_ns: int) -> None:
    exact = an_hour * NANOS * took_ns / (3600 * 10**9) / slots
    assert time_cost(hour_rate(an_hour, slots=slots), took_ns) == round(exact)


def test_prices_below_a_femto_dollar_a_token_are_exact_too() -> None:
    assert token_cost(tier(input="0.000000000001", output="0"), Usage(input_tokens=10**9, output_tokens=0)) == 1


def test_what_is_cached_for_an_hour_costs_more_than_what_is_cached_for_five_minutes() -> None:
    usage = Usage(input_tokens=100, output_tokens=0, cache_write_tokens=60, cache_write_1h_tokens=40)
    prices = tier(input="1000", output="0", cache_write="1250", cache_write_1h="2000")
    assert token_cost(prices, usage) == 40 * 1000_000 + 20 * 1250_000 + 40 * 2000_000
    assert token_cost(tier(input="1000", output="0"), usage) == 100 * 1000_000  # a price of your own, without parts
    assert "for an hour" in str(token_cost(tier(input="1000", output="0", cache_write="1250"), usage))
    more = Usage(input_tokens=100, output_tokens=0, cache_write_tokens=60, cache_write_1h_tokens=61)
    assert "60 tokens written" in str(token_cost(prices, more))


def test_the_tier_of_the_length_prices_the_whole_request() -> None:
    long, short = rates({"input": Fraction(2, 10**9)}), rates({"input": Fraction(1, 10**9)})
    tiers: Tiers = ((200_000, long), (-1, short))
    costs = [token_cost(tiers, Usage(input_tokens=n, output_tokens=0)) for n in (200_000, 200_001)]
    assert costs == [200_000, 400_002]


def test_parts_larger_than_their_whole_have_no_cost_but_a_reason() -> None:
    prices = tier(input="1", output="2", cached="0.5", reasoning="3")
    for usage in (
        Usage(input_tokens=10, output_tokens=5, cached_tokens=11),
        Usage(input_tokens=10, output_tokens=5, reasoning_tokens=6),
    ):
        cost = token_cost(prices, usage)
        assert isinstance(cost, str)
        assert "add up to" in cost


def test_a_token_without_a_price_makes_the_cost_unknown() -> None:
    assert token_cost(tier(input="1"), Usage(input_tokens=1, output_tokens=0)) == 1000
    assert token_cost(tier(input="1"), Usage(input_tokens=1, output_tokens=1)) == "there is no price for output tokens"
    assert token_cost(tier(output="1"), Usage(input_tokens=1, output_tokens=1)) == "there is no price for input tokens"


def test_a_negative_number_of_tokens_has_no_cost() -> None:
    assert token_cost(tier(input="1", output="1"), Usage(input_tokens=-1, output_tokens=1)) == (
        "a number of tokens is below zero"
    )
