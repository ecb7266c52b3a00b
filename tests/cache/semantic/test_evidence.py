"""One verdict moves a belief to where it is likeliest, however sure it was and however little is known."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trivet.cache.semantic.evidence import logistic, mode

ODDS = st.floats(-30, 30)
VARIANCE = st.floats(1e-9, 1e4)


@given(ODDS, VARIANCE, st.booleans())
@example(2.875, 4965.0, False)
def test_the_mode_is_where_prior_and_verdict_balance(odds: float, variance: float, yes: bool) -> None:  # noqa: FBT001
    at = mode(odds, variance, yes=yes)
    assert at - odds == pytest.approx(variance * (float(yes) - logistic(at)), abs=1e-5, rel=1e-5)
    assert (odds <= at <= odds + variance) if yes else (odds - variance <= at <= odds)


def test_a_surprise_where_little_is_known_ends_near_what_was_seen_and_not_far_beyond() -> None:
    after = mode(-7.8, 50.0, yes=True)
    assert 0.5 < logistic(after) < 0.95  # one step of Newton's ends at log odds of 40


def test_where_all_is_known_a_verdict_moves_nothing() -> None:
    assert mode(-2.0, 1e-9, yes=True) == pytest.approx(-2.0, abs=1e-6)


@pytest.mark.parametrize("odds", [-inf, -1e9, 0.0, 1e9, inf])
def test_probabilities_are_never_0_or_1(odds: float) -> None:
    assert 0.0 < logistic(odds) < 1.0
