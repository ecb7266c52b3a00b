"""Drift: noticed soon where it is large, late where it is small, and nearly never where there is none."""

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.cascade.drift import BACK, REFERENCE, Drift, interval


def settled(rate: float, chosen: random.Random) -> Drift:
    drift = Drift()
    for _ in range(REFERENCE):
        assert not drift.note(yes=chosen.random() < rate)
    assert drift.known
    return drift


def _is_off(drift: Drift) -> bool:
    return drift.off


def delay(before: float, after: float, seed: int) -> int:
    """Observations after the change until the alarm; 3,000 at most."""
    chosen = random.Random(seed)
    drift = settled(before, chosen)
    for _ in range(500):
        assert not drift.note(yes=chosen.random() < before)
    return next((i for i in range(1, 3000) if drift.note(yes=chosen.random() < after)), 3000)


@pytest.mark.parametrize(
    ("before", "after", "within"), [(0.8, 0.5, 300), (0.9, 0.7, 300), (0.6, 0.3, 300), (0.8, 0.95, 500)]
)
def test_a_model_that_was_swapped_is_noticed(before: float, after: float, within: int) -> None:
    delays = [delay(before, after, seed) for seed in range(40)]
    assert median(delays) < within
    assert sum(d <= within for d in delays) >= 36


def test_what_stays_as_it_was_gives_less_than_an_alarm_in_a_hundred_thousand() -> None:
    alarms = 0
    rates = (0.02, 0.3, 0.5, 0.8, 0.99)
    for seed, rate in enumerate(rates):
        chosen = random.Random(seed)
        drift = settled(rate, chosen)
        alarms += sum(drift.note(yes=chosen.random() < rate) and drift.off for _ in range(100_000))
    assert alarms < len(rates)


@pytest.mark.parametrize("always", [False, True])
def test_a_rate_of_nothing_or_all_has_a_reference_too(always: bool) -> None:  # noqa: FBT001  # pytest gives it by name
    chosen = random.Random(1)
    drift = settled(float(always), chosen)
    assert not any(drift.note(yes=always) for _ in range(20_000))
    assert any(drift.note(yes=not always) for _ in range(300))


def test_it_is_over_when_the_rate_is_as_it_was_for_some_time() -> None:
    chosen = random.Random(1)
    drift = settled(0.8, chosen)
    assert any(drift.note(yes=False) for _ in range(100))
    assert _is_off(drift)
    assert not any(drift.note(yes=False) for _ in range(3 * BACK)), "one alarm is told once"
    told = [i for i in range(3 * BACK) if drift.note(yes=chosen.random() < 0.8)]
    assert len(told) == 1
    assert not _is_off(drift)
    assert told[0] > BACK // 2


@given(st.lists(st.booleans(), max_size=300))
def test_before_the_reference_is_known_there_is_no_alarm(told: list[bool]) -> None:
    drift = Drift(reference=301)
    assert not any(drift.note(yes=yes) for yes in told)
    assert drift.lately()


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_has_its_rate_in_it(counts: tuple[int, int]) -> None:
    yes, seen = counts
    low, high = interval(yes, seen)
    assert 0.0 <= low <= yes / seen <= high <= 1.0
