"""vCache step by step, against values worked out by hand."""

import random
from math import exp

import pytest

from trivet.cache.semantic.look import Kept, Look, Near
from trivet.cache.semantic.vcache import MOST_SEEN, SEEDED, VCache, explores, fit


def look(cosine: float, kept: Kept) -> Look:
    return Look("asked", [Near(kept, cosine)])


def test_an_empty_cache_asks_the_model() -> None:
    verdict = VCache(0.01, random.Random(0)).decide(Look("asked", ()))
    assert (verdict.serve, verdict.chosen) == (False, -1)


def test_nothing_is_served_before_four_verdicts_on_the_question() -> None:
    vcache, kept = VCache(0.5, random.Random(0)), Kept(text="kept", group=0)
    for count in range(4):
        verdict = vcache.decide(look(0.99, kept))
        assert not verdict.serve
        assert verdict.why == "few verdicts"
        vcache.learn(look(0.99, kept), verdict, same=True, audited=False)
        assert len(kept.seen) == count + 1
    assert any(vcache.decide(look(0.99, kept)).serve for _ in range(50))


def test_the_cosine_is_rounded_to_three_decimals() -> None:
    vcache, kept = VCache(0.1, random.Random(0)), Kept(text="kept", group=0)
    near = look(0.87654, kept)
    vcache.learn(near, vcache.decide(near), same=True, audited=False)
    assert kept.seen == ((0.877, True),)


def test_a_symmetric_fit_has_its_threshold_in_the_middle() -> None:
    seen = ((0.4, False), (0.6, True), (0.4, True), (0.6, False), (0.3, False), (0.7, True))
    steep, threshold, variance = fit(seen)
    assert threshold == pytest.approx(0.5)
    # The likelihood equation by hand: sum of (same - p) s = 0, with p = logistic(steep (s - 0.5)).
    assert sum((same - 1 / (1 + exp(-steep * (s - 0.5)))) * s for s, same in seen) == pytest.approx(0, abs=1e-6)
    # The delta method at the middle: by symmetry the variance is 1 / (steep^2 sum w).
    weights = sum((p := 1 / (1 + exp(-steep * (s - 0.5)))) * (1 - p) for s, _ in seen)
    assert variance == pytest.approx(1 / (steep**2 * weights), rel=1e-5)


def test_where_a_threshold_tells_all_apart_it_is_anywhere_in_the_gap() -> None:
    seen = (*SEEDED, (0.5, False), (0.9, True), (0.95, True), (0.4, False))
    steep, threshold, variance = fit(seen)
    assert steep > 10
    assert 0.5 < threshold < 0.9
    assert variance == pytest.approx(0.4**2 / 12)


def test_verdicts_the_wrong_way_round_leave_a_curve_that_is_all_but_flat() -> None:
    steep, threshold, _ = fit(((0.2, True), (0.3, True), (0.8, False), (0.9, False), (0.1, True), (0.95, False)))
    assert steep == 1e-6
    assert 0 <= threshold <= 1


def test_exploring_is_what_is_left_of_the_promise() -> None:
    # A curve without variance at its threshold is right with (1 - eps) / 2; the least exploring is at the first eps.
    right = 0.99 * 0.5
    assert explores(0.8, (50.0, 0.8, 0.0), 0.05) == pytest.approx(1 - 0.05 / (1 - right))
    # Far above: right with (1 - eps) alone.
    assert explores(1.0, (1e4, 0.5, 0.0), 0.005) == pytest.approx(1 - 0.005 / 0.01)
    assert explores(1.0, (1e4, 0.5, 0.0), 0.02) == 0.0
    assert explores(0.1, (1e4, 0.9, 0.0), 0.02) == pytest.approx(0.98)


def test_more_verdicts_explore_less() -> None:
    few = (*SEEDED, *((0.9, True),) * 4, (0.5, False))
    many = (*SEEDED, *((0.9, True),) * 4, (0.5, False), (0.7, False), (0.75, True), (0.72, False), (0.78, True))
    assert explores(0.95, fit(many), 0.02) < explores(0.95, fit(few), 0.02)


def test_a_question_keeps_only_its_newest_verdicts_and_all_are_with_it() -> None:
    vcache, kept = VCache(0.02, random.Random(0)), Kept(text="kept", group=0)
    for i in range(MOST_SEEN + 5):
        near = look(i / 100, kept)
        vcache.learn(near, vcache.decide(near), same=True, audited=False)
    assert len(kept.seen) == MOST_SEEN
    vcache.restore(vcache.save())
    with pytest.raises(ValueError, match="another decider"):
        vcache.restore(b"{}")


def test_the_same_seed_decides_the_same() -> None:
    kept = Kept(text="kept", group=0, seen=((0.8, True), (0.9, True), (0.5, False), (0.6, False), (0.7, True)))
    one, other = VCache(0.05, random.Random(7)), VCache(0.05, random.Random(7))
    assert [one.decide(look(0.85, kept)).serve for _ in range(40)] == [
        other.decide(look(0.85, kept)).serve for _ in range(40)
    ]


def test_a_request_may_ask_for_less_wrong_hits_and_not_for_more() -> None:
    kept = Kept(text="kept", group=0, seen=((0.95, True),) * 6 + ((0.3, False),) * 6)
    served = {
        asked: sum(
            VCache(0.2, random.Random(seed)).decide(look(0.95, kept)._replace(max_error=asked)).serve
            for seed in range(200)
        )
        for asked in (None, 0.9, 0.2, 0.05, 0.0)
    }
    assert served[None] == served[0.9] == served[0.2] > served[0.05] > served[0.0] == 0


def test_what_is_barred_is_explored_and_never_served() -> None:
    vcache, kept = VCache(0.5, random.Random(0)), Kept(text="kept", group=0, seen=((0.9, True),) * 40)
    assert any(vcache.decide(look(0.99, kept)).serve for _ in range(50))
    barred = Look("asked", [Near(kept, 0.99, barred="hub")])
    verdicts = [vcache.decide(barred) for _ in range(50)]
    assert {(v.serve, v.chosen, v.why) for v in verdicts} == {(False, 0, "hub")}
    vcache.learn(barred, verdicts[0], same=False, audited=False)
    assert kept.seen[-1] == (0.99, False)
