import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.online.bound import Running


def test_a_bound_is_never_left_but_with_the_error_that_is_said() -> None:
    """Looked at after each of 500 numbers, in 300 runs: a tenth each side may leave it."""
    left = 0
    for seed in range(300):
        chance, running = random.Random(seed), Running()
        for _ in range(500):
            running.take(float(chance.random() < 0.3))
            if running.low(0.1) > 0.3:
                left += 1
                break
    assert left <= 30


def test_it_is_of_the_mean_of_means_that_change_on_the_way() -> None:
    chance, running, means = random.Random(1), Running(), 0.0
    for t in range(1, 2001):
        rate = 0.9 if t <= 1000 else 0.2
        means += rate
        running.take(float(chance.random() < rate))
        assert running.low(0.01) <= means / t <= running.high(0.01)


def test_it_closes_in_with_numbers_and_faster_where_they_vary_little() -> None:
    wide, close = Running(), Running()
    for t in range(1000):
        wide.take(float(t % 2))
        close.take(0.5)
    assert wide.high(0.05) - wide.low(0.05) < 0.2
    assert close.high(0.05) - close.low(0.05) < 0.02


def test_without_a_number_it_is_the_range() -> None:
    running = Running(-0.95, 1.0)
    assert (running.low(0.1), running.high(0.1)) == (-0.95, 1.0)
    assert running.mean == pytest.approx(0.025)


@settings(max_examples=60)
@given(st.lists(st.floats(-2, 3), min_size=1, max_size=100), st.floats(0.001, 0.4))
def test_the_mean_is_between_the_bounds_and_less_error_is_never_tighter(values: list[float], error: float) -> None:
    running = Running(-2.0, 3.0)
    for value in values:
        running.take(value)
    assert running.mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert -2.0 <= running.low(error / 2) <= running.low(error) <= running.mean + 1e-9
    assert running.mean - 1e-9 <= running.high(error) <= running.high(error / 2) <= 3.0


@pytest.mark.parametrize("value", [math.nan, 1.5, -0.5, math.inf])
def test_a_number_out_of_range_is_refused_and_changes_nothing(value: float) -> None:
    running = Running()
    with pytest.raises(ValueError, match="must be from 0"):
        running.take(value)
    assert running.count == 0


def test_ranges_and_errors_that_are_none_are_refused() -> None:
    for least, most in ((1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="range"):
            Running(least, most)
    running = Running()
    running.take(0.5)
    for error in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="error"):
            running.low(error)
