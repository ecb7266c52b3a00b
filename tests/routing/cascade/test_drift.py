"""Drift: an alarm is given once, holds, and is over when answers agree again as they did."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.cascade.drift import BACK, Drift
from trivet.routing.online.drift import COLLECTED


def _is_off(drift: Drift) -> bool:
    return drift.off


def settled(rate: float, chosen: random.Random) -> Drift:
    drift = Drift()
    for _ in range(COLLECTED):
        assert not drift.note(yes=chosen.random() < rate)
    assert drift.reference is not None
    return drift


@pytest.mark.parametrize(("before", "after"), [(0.8, 0.5), (0.9, 0.65), (0.6, 0.3), (0.7, 0.97)])
def test_a_model_that_was_swapped_is_noticed(before: float, after: float) -> None:
    delays = []
    for seed in range(20):
        chosen = random.Random(seed)
        drift = settled(before, chosen)
        assert not any(drift.note(yes=chosen.random() < before) for _ in range(500))
        delays.append(next((i for i in range(1, 2000) if drift.note(yes=chosen.random() < after)), 2000))
    assert sum(d <= 300 for d in delays) >= 17


def test_it_is_over_when_the_rate_is_as_it_was_for_some_time() -> None:
    chosen = random.Random(1)
    drift = settled(0.8, chosen)
    assert any(drift.note(yes=False) for _ in range(100))
    assert _is_off(drift)
    assert drift.lately().endswith("before") is False
    assert not any(drift.note(yes=False) for _ in range(3 * BACK)), "one alarm is told once"
    told = [i for i in range(3 * BACK) if drift.note(yes=chosen.random() < 0.8)]
    assert len(told) == 1
    assert not _is_off(drift)
    assert told[0] > BACK // 2
    assert drift.reference is None, "the rate is learned anew"


@given(st.lists(st.booleans(), max_size=300))
def test_before_the_rate_is_known_there_is_no_alarm(told: list[bool]) -> None:
    drift = Drift(collect=301)
    assert not any(drift.note(yes=yes) for yes in told)
    assert drift.lately() == "not known"
