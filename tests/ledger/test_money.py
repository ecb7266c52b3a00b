"""Exact money."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from trivet.ledger.money import dollars, half_even, usd
from trivet.types import Nanos


@given(st.integers(), st.integers(min_value=1))
def test_rounding_is_that_of_exact_fractions(numerator: int, denominator: int) -> None:
    assert half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_ties_go_to_the_even_number() -> None:
    assert [half_even(n, 2) for n in (-3, -1, 1, 3, 5)] == [-2, 0, 0, 2, 2]


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_an_amount_written_and_read_again_is_the_same(nanos: int) -> None:
    assert dollars("$" + usd(Nanos(nanos))) * 10**9 == nanos


def test_amounts_are_written_in_full_without_needless_zeros() -> None:
    assert [usd(Nanos(n)) for n in (151_200, 0, 1_000_000_000, -1, 12_340_000_000)] == [
        "0.0001512",
        "0",
        "1",
        "-0.000000001",
        "12.34",
    ]
