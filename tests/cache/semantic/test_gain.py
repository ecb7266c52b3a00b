"""Likeness is left alone where looking loses time and money, and comes back when it pays."""

import random

import pytest

from trivet.cache.semantic.gain import BACK, CORE_HOUR, LOOKS, MAX_SAVED, MAX_SPACES, TRIED, Gain, Gains, Space

MS = 1_000_000
SPACE = Space("acme", "")


def looks(gain: Gain, count: int, *, hits: int = 0, took_ns: int = 10 * MS, worth: int = 0) -> None:
    """Look so many times, `hits` of them to some use, spread evenly."""
    for i in range(count):
        if hits and i * hits % count < hits:
            gain.hit(worth)
        gain.look(took_ns)


def known(*, answer_ns: int = 1000 * MS) -> Gain:
    """A space in which the model is known to take a second."""
    gain = Gain()
    gain.answered(answer_ns)
    return gain


def test_where_nothing_is_ever_found_it_is_off_after_a_thousand_looks() -> None:
    gain = known()
    looks(gain, LOOKS - 1)
    assert gain.off == ""
    looks(gain, 1)
    assert gain.off == "of 632 looks 0 were hits: 6.32 s spent, 0.00 s saved; $0.000070 spent, $0.000000 saved"


@pytest.mark.parametrize(
    ("hits", "worth", "off"),
    [
        (30, 0, False),  # 30 s saved of 10 s spent
        (5, 0, True),  # 5 s, and nothing is known of money
        (5, 10, True),  # 50 nano-dollars saved; ten seconds of a core cost 111,111
        (5, 100_000, False),  # half a million saved
    ],
)
def test_it_is_off_only_if_it_loses_both_time_and_money(hits: int, worth: int, *, off: bool) -> None:
    gain = known()
    looks(gain, 2 * LOOKS, hits=2 * hits, worth=worth)
    assert bool(gain.off) is off


def test_a_core_costs_four_cents_an_hour() -> None:
    gain = Gain()
    gain.look(3_600_000_000_000)
    assert gain.work() == CORE_HOUR == 40_000_000


def test_what_audits_and_judges_cost_is_taken_off() -> None:
    gain = known()
    for _ in range(LOOKS):
        gain.hit(1000)
        gain.answered(1, spent=2000)
        gain.look(10 * MS)
    assert gain.off  # a model that takes no time, and audits that cost more than the hits saved


def test_it_comes_back_when_looks_pay_and_goes_off_again_when_they_do_not() -> None:
    gain = known()
    looks(gain, LOOKS)
    looks(gain, 10 * BACK)
    assert gain.off
    looks(gain, 1, hits=1)  # one alone is chance
    assert gain.off
    looks(gain, 3 * BACK, hits=BACK)
    assert gain.off == ""
    looks(gain, LOOKS // 2)
    assert gain.off == ""
    looks(gain, 4 * LOOKS)
    assert gain.off


def test_of_looks_that_do_not_pay_one_in_twenty_is_made() -> None:
    gains = Gains(random.Random(1))
    assert not any(gains.skips(SPACE) for _ in range(100))
    gains[SPACE].answered(1000 * MS)
    looks(gains[SPACE], LOOKS)
    made = sum(not gains.skips(SPACE) for _ in range(10_000))
    assert 0.8 < made * TRIED / 10_000 < 1.2
    assert not gains.skips(Space("globex", ""))
    assert not gains.skips(Space("acme", "other"))
    assert gains.off().keys() == {SPACE}


def test_spaces_are_bounded_and_those_asked_last_are_kept() -> None:
    gains = Gains(random.Random(1))
    for i in range(MAX_SPACES + 5):
        gains[Space(str(i), "")].off = "because"
    assert len(gains) == MAX_SPACES
    assert Space("4", "") not in gains.off()
    saved = gains.save()
    assert (len(saved), saved[-1][0].tenant) == (MAX_SAVED, str(MAX_SPACES + 4))
    again = Gains(random.Random(1))
    again.restore(saved)
    assert again.off().keys() == {space for space, _ in saved}
