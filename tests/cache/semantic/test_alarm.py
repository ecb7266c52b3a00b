"""An alarm is raised when audits show more wrong hits than were promised, once, and again only after it was over."""

import random

import pytest

from trivet.cache.semantic.alarm import AUDITS, Alarm, wilson
from trivet.cache.semantic.verified import interval


def served(alarm: Alarm, share: float, requests: int = 5000) -> None:
    """Have that share of requests served by likeness."""
    rng = random.Random(1)
    for _ in range(requests):
        alarm.asked(served=rng.random() < share)


def test_without_audits_nothing_is_known_and_nothing_broken() -> None:
    alarm = Alarm(0.01)
    assert alarm.measured() == (0.0, 0.0, 1.0)
    served(alarm, 0.5)
    assert (alarm.measured(), alarm.broken, alarm.counts()) == ((0.0, 0.0, 1.0), False, (0, 0))


def test_what_is_measured_is_a_share_of_all_answers() -> None:
    alarm = Alarm(0.1)
    served(alarm, 0.4)
    for i in range(100):
        alarm.audited(0.02, wrong=i % 10 == 0)
    error, low, high = alarm.measured()
    share = alarm._served / alarm._requests
    assert error == pytest.approx(0.1 * share)
    assert share == pytest.approx(0.4, abs=0.03)
    assert (low / share, high / share) == pytest.approx(interval(10, 100))


def test_an_audit_counts_for_the_hits_that_it_stands_for() -> None:
    """Half of the hits are risky and one in five of them is wrong; they are audited five times as often."""
    rng = random.Random(3)
    alarm = Alarm(0.5)
    served(alarm, 1.0)
    for _ in range(20_000):
        risky = rng.random() < 0.5
        chance = 0.1 if risky else 0.02
        if rng.random() < chance:
            alarm.audited(chance, wrong=risky and rng.random() < 0.2)
    error, low, high = alarm.measured()
    audits, wrong = alarm.counts()
    assert audits == AUDITS
    assert wrong / audits > 0.14  # which is what naive counting says
    assert low < 0.1 < high
    assert error < 0.14


def test_it_is_told_once_and_again_only_after_it_was_over() -> None:
    alarm = Alarm(0.02)
    served(alarm, 0.5)
    told = [alarm.audited(0.5, wrong=i % 4 == 0) for i in range(200)]
    assert (sum(told), alarm.broken) == (1, True)
    told = [alarm.audited(0.5, wrong=False) for _ in range(AUDITS)]
    assert (sum(told), alarm.broken) == (0, False)
    told = [alarm.audited(0.5, wrong=True) for _ in range(60)]
    assert (sum(told), alarm.broken) == (1, True)


def test_at_nine_tenths_of_the_promise_it_is_seldom_raised_and_at_three_times_soon() -> None:
    false, needed = 0, []
    for seed in range(20):
        rng = random.Random(seed)
        alarm = Alarm(0.01)
        served(alarm, 0.4, 2000)
        false += any(alarm.audited(0.02, wrong=rng.random() < 0.9 * 0.01 / 0.4) for _ in range(2000))
        alarm.broken = False
        audits = (alarm.audited(0.02, wrong=rng.random() < 3 * 0.01 / 0.4) for _ in range(2000))
        needed.append(next(i for i, raised in enumerate(audits) if raised))
    assert false <= 3
    assert sorted(needed)[10] < 300


def test_another_promise_is_measured_against_from_then_on() -> None:
    alarm = Alarm(0.5)
    served(alarm, 1.0)
    for i in range(100):
        assert alarm.audited(0.5, wrong=i % 5 == 0) is False
    alarm.promise = 0.01
    assert alarm.audited(0.5, wrong=False) is True


def test_it_goes_on_from_what_was_saved() -> None:
    alarm, again = Alarm(0.02), Alarm(0.02)
    served(alarm, 0.5)
    for i in range(100):
        alarm.audited(0.3, wrong=i % 4 == 0)
    again.restore(alarm.save())
    assert (again.measured(), again.counts(), again.broken) == (alarm.measured(), alarm.counts(), True)


@pytest.mark.parametrize(("share", "count"), [(0.0, 1.0), (1.0, 0.5), (0.3, 1e6)])
def test_an_interval_is_within_bounds_and_holds_its_share(share: float, count: float) -> None:
    low, high = wilson(share, count, 3.0)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0
