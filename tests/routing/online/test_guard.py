import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.online.guard import Guard


def fed(guard: Guard, seed: int, chosen: float, reference: float, n: int) -> int | None:
    """Give labels with these chances to be right; says after how many it goes to the safe state."""
    chance = random.Random(seed)
    for at in range(1, n + 1):
        if guard.take(float(chance.random() < chosen), float(chance.random() < reference)):
            return at
    return None


def test_a_promise_that_is_kept_is_left_in_peace() -> None:
    """At the very floor, in 30 runs of 1,500 labels, at confidence .9."""
    went = [fed(Guard(quality=0.95, confidence=0.9), seed, 0.76, 0.8, 1500) for seed in range(30)]
    assert sum(at is not None for at in went) <= 3


def test_a_promise_that_is_broken_goes_to_the_safe_state_and_says_by_how_much() -> None:
    guard = Guard(quality=0.95, confidence=0.9)
    at = fed(guard, 1, 0.4, 0.8, 1000)
    assert at is not None
    assert at < 300
    assert guard.state == "safe"
    assert "under its floor by 0." in guard.why
    assert f"{at} labels" in guard.why or "labels" in guard.why


def test_a_long_good_time_does_not_hide_a_bad_day() -> None:
    guard = Guard(quality=0.9, confidence=0.9)
    assert fed(guard, 2, 0.85, 0.8, 5000) is None
    at = fed(guard, 3, 0.2, 0.8, 300)
    assert at is not None
    assert at < 100
    assert guard.standing().labels == 0  # the way back has to be shown anew


def test_an_alarm_goes_to_the_safe_state_at_once_and_only_once() -> None:
    guard = Guard(quality=0.95, confidence=0.9)
    assert guard.alarm("the small model agrees less")
    assert not guard.alarm("and its answers are longer")
    assert (guard.state, guard.why) == ("safe", "and its answers are longer")
    assert not guard.ready


def test_it_says_when_it_is_safe_to_come_back_and_does_not_come_by_itself() -> None:
    guard = Guard(quality=0.9, confidence=0.9)
    guard.alarm("a swap")
    with pytest.raises(ValueError, match="not shown"):
        guard.resume()
    assert fed(guard, 4, 0.82, 0.8, 3000) is None
    assert guard.ready
    assert guard.standing().low >= 0.0
    assert guard.state == "safe"
    guard.resume()
    assert (guard.state, guard.why) == ("on", "")
    assert guard.standing().labels == 0


def test_a_model_that_stays_bad_is_never_ready() -> None:
    ready = 0
    for seed in range(20):
        guard = Guard(quality=0.95, confidence=0.9)
        guard.alarm("a swap")
        chance = random.Random(seed)
        for _ in range(1000):
            guard.take(float(chance.random() < 0.72), float(chance.random() < 0.8))
            ready += guard.ready
    assert ready == 0


def test_a_new_plan_brings_it_back_without_more_labels() -> None:
    guard = Guard(quality=0.9, confidence=0.9)
    guard.alarm("a swap")
    guard.resume(replanned=True)
    assert guard.state == "on"
    with pytest.raises(ValueError, match="not shown"):
        guard.resume(replanned=True)


def test_an_alarm_in_the_safe_state_takes_back_what_was_shown() -> None:
    guard = Guard(quality=0.9, confidence=0.9)
    guard.alarm("a swap")
    fed(guard, 5, 0.9, 0.8, 2000)
    assert guard.ready
    guard.alarm("another swap")
    assert not guard.ready


def test_each_stretch_asks_for_more_than_the_one_before() -> None:
    """So that coming and going for ever is not a way to be wrong for sure."""
    first, later = Guard(quality=0.9, confidence=0.9), Guard(quality=0.9, confidence=0.9)
    for _ in range(10):
        later.alarm("again")
        later.resume(replanned=True)
    for guard in (first, later):
        fed(guard, 6, 0.8, 0.8, 200)
    assert later.standing().low < first.standing().low
    assert later.standing().high > first.standing().high


def test_without_labels_nothing_is_known_and_nothing_happens() -> None:
    standing = Guard(quality=0.9, confidence=0.9).standing()
    assert (standing.state, standing.labels, standing.low, standing.high) == ("on", 0, -0.9, 1.0)
    assert not standing.ready


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_numbers_out_of_range_are_refused_and_change_nothing(bad: float) -> None:
    guard = Guard(quality=0.9, confidence=0.9)
    for call in (
        lambda: Guard(quality=bad, confidence=0.9),
        lambda: Guard(quality=0.9, confidence=bad),
        lambda: guard.take(bad, 0.5),
        lambda: guard.take(0.5, bad),
    ):
        with pytest.raises(ValueError):
            call()
    assert guard.standing().labels == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=100), st.floats(0, 1))
def test_it_never_comes_back_by_itself(labels: list[tuple[float, float]], quality: float) -> None:
    guard, was = Guard(quality=quality, confidence=0.9), "on"
    for chosen, reference in labels:
        went = guard.take(chosen, reference)
        assert went == (was == "on" and guard.state == "safe")
        assert not (was == "safe" and guard.state == "on")
        was = guard.state
