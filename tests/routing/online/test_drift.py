import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.online.drift import (
    DOUBT,
    FALSE_EVERY,
    FEWEST,
    Alarm,
    Noticed,
    Watch,
    exactly,
    rank,
    reference,
)


def rates(seed: int, rate: float, n: int) -> list[float]:
    chance = random.Random(seed)
    return [float(chance.random() < rate) for _ in range(n)]


def first(alarm: Alarm | Watch, values: list[float]) -> tuple[int, Noticed] | None:
    """Give after how many values an alarm is raised, and what it says."""
    for at, value in enumerate(values, start=1):
        if (noticed := alarm.take(value)) is not None:
            return at, noticed
    return None


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_without_a_change_alarms_are_no_more_frequent_than_is_said(rate: float) -> None:
    """Made for one false alarm in 500 values, in 40,000 there may be 80; counted at the very edge, at the true rate."""
    alarm = Alarm(exactly(rate), false_every=500.0)
    found = sum(alarm.take(value) is not None for value in rates(1, rate, 40_000))
    assert 0 < found <= 80


def test_a_watch_with_what_it_gathered_itself_is_quiet_for_a_long_time() -> None:
    assert [first(Watch(), rates(seed, 0.7, 30_000)) for seed in range(3)] == [None] * 3


def test_a_swap_for_a_model_that_is_worse_by_a_fifth_is_noticed_within_300() -> None:
    took = []
    for seed in range(15):
        watch = Watch()
        assert first(watch, rates(seed, 0.8, 4000)) is None
        found = first(watch, rates(seed + 100, 0.6, 1000))
        assert found is not None
        took.append(found[0])
    assert sorted(took)[13] <= 300


def test_what_is_noticed_is_told_with_where_it_began() -> None:
    alarm = Alarm(reference(rates(1, 0.9, 2000)))
    assert first(alarm, rates(2, 0.9, 500)) is None
    found = first(alarm, rates(3, 0.4, 200))
    assert found is not None
    at, noticed = found
    assert noticed.towards == "down"
    assert 0 < noticed.since <= at + 20
    assert noticed.mean == pytest.approx(0.4, abs=0.2)
    assert noticed.reference == pytest.approx(0.9, abs=0.03)
    assert noticed.seen == 500 + at


@pytest.mark.parametrize(("towards", "rate", "told"), [("up", 0.7, "up"), ("both", 0.7, "up"), ("both", 0.1, "down")])
def test_a_rise_is_noticed_where_one_is_looked_for(towards: str, rate: float, told: str) -> None:
    alarm = Alarm(reference(rates(1, 0.4, 2000)), towards=towards)  # type: ignore[arg-type]  # a parameter of the test
    found = first(alarm, rates(2, rate, 1000))
    assert found is not None
    assert found[1].towards == told


def test_a_change_to_the_other_side_is_not_an_alarm() -> None:
    assert first(Alarm(exactly(0.5)), [1.0] * 5000) is None
    assert first(Alarm(exactly(0.5), towards="up"), [0.0] * 5000) is None


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_streams_that_never_vary_are_no_alarm_until_they_do(rate: float) -> None:
    watch = Watch(towards="both", collect=100)
    assert first(watch, [rate] * 3000) is None
    found = first(watch, [1.0 - rate] * 50)
    assert found is not None
    assert found[0] < 20


def test_contradictory_labels_are_a_rate_like_any_other() -> None:
    assert first(Watch(collect=100), [0.0, 1.0] * 10_000) is None


def test_scores_between_0_and_1_need_no_distribution() -> None:
    chance = random.Random(4)
    before = [chance.betavariate(8, 2) for _ in range(2000)]
    alarm = Alarm(reference(before))
    assert first(alarm, [chance.betavariate(8, 2) for _ in range(5000)]) is None
    found = first(alarm, [chance.betavariate(5, 5) for _ in range(300)])
    assert found is not None


def test_after_an_alarm_a_watch_takes_what_is_there_for_its_reference() -> None:
    watch = Watch(collect=200)
    first(watch, rates(1, 0.9, 1000))
    assert first(watch, rates(2, 0.5, 300)) is not None
    gathers = watch.alarm is None
    assert gathers
    assert first(watch, rates(3, 0.5, 5000)) is None
    assert watch.alarm is not None
    assert watch.alarm.reference.mean == pytest.approx(0.5, abs=0.06)


def test_a_longer_quiet_time_makes_a_watch_notice_sooner() -> None:
    young, old = Watch(collect=300), Watch(collect=300)
    first(young, rates(1, 0.7, 400))
    first(old, rates(1, 0.7, 9000))
    assert young.alarm
    assert old.alarm
    assert old.alarm.reference.values > 10 * young.alarm.reference.values
    late, soon = first(young, rates(2, 0.52, 5000)), first(old, rates(2, 0.52, 5000))
    assert soon is not None
    assert late is None or soon[0] < late[0]


def test_a_watch_that_is_told_of_a_change_begins_anew() -> None:
    watch = Watch(collect=50)
    first(watch, rates(1, 0.9, 100))
    watch.again()
    assert watch.alarm is None
    assert first(watch, rates(2, 0.2, 2000)) is None


def test_the_bound_of_a_reference_is_wrong_as_seldom_as_is_said() -> None:
    wrong = sum(reference(rates(seed, 0.7, 100)).low > 0.7 for seed in range(1000))
    assert wrong <= 1000 * DOUBT


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_what_is_not_from_0_to_1_is_refused_and_changes_nothing(value: float) -> None:
    alarm, watch = Alarm(exactly(0.5)), Watch(collect=FEWEST)
    for take in (alarm.take, watch.take, exactly):
        with pytest.raises(ValueError, match="from 0 to 1"):
            take(value)
    assert alarm.seen == 0
    with pytest.raises(ValueError, match="from 0 to 1"):
        reference([0.5] * 50 + [value])


def test_too_little_to_begin_with_is_refused() -> None:
    with pytest.raises(ValueError, match="reference of 19"):
        reference([1.0] * 19)
    with pytest.raises(ValueError, match="reference of 3"):
        Watch(collect=3)
    with pytest.raises(ValueError, match="false_every"):
        Alarm(exactly(0.5), false_every=1.0)


def test_a_rank_is_a_place_among_those_of_before() -> None:
    ordered = [1.0, 2.0, 2.0, 4.0]
    assert [rank(ordered, x) for x in (0.0, 1.0, 2.0, 3.0, 9.0)] == [0.0, 0.125, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="no rank"):
        rank(ordered, math.nan)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=200), st.floats(0.01, 0.99))
def test_the_same_values_give_the_same_alarms_and_evidence_stays_in_bounds(values: list[float], fair: float) -> None:
    one, other = (Alarm(exactly(fair), towards="both", false_every=50.0) for _ in range(2))
    for value in values:
        assert (one.take(value) is None) == (other.take(value) is None)
        assert 0.0 <= one.evidence < 1.0
    assert one.evidence == other.evidence


def test_the_usual_limit_allows_half_a_false_alarm_in_100_000() -> None:
    assert FALSE_EVERY >= 2 * 100_000
