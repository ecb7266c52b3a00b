"""Cost against quality: chance is a half, hindsight the most, and the order of a file never counts."""

import numpy as np
import pytest

from trivet.routing.learned.curve import apgr, curve, interval

SMALL = np.array([1.0, 0.0, 1.0, 0.0])
LARGE = np.array([1.0, 1.0, 1.0, 1.0])


def test_equal_scores_are_chance_in_whatever_order_the_file_is() -> None:
    for order in (slice(None), slice(None, None, -1)):
        assert apgr(np.zeros(4), SMALL[order], LARGE[order]) == pytest.approx(0.5)


def test_hindsight_needs_the_large_model_only_where_it_is_better() -> None:
    drawn = curve(SMALL - LARGE, SMALL, LARGE)
    assert drawn.quality.tolist() == pytest.approx([0.5, 0.75, 1, 1, 1])
    assert drawn.apgr() == pytest.approx(0.75)
    assert drawn.cpt(0.5) == 0.25
    assert drawn.at_quality(1.0) == (0.5, 0.5)


def test_costs_are_those_of_the_calls_made() -> None:
    drawn = curve(SMALL - LARGE, SMALL, LARGE, costs=(np.full(4, 0.1), np.array([1.0, 2.0, 3.0, 4.0])))
    assert drawn.cost[0] == pytest.approx(0.04)
    assert drawn.cost[-1] == pytest.approx(1.0)
    # Both prompts that the large model is sent first cost 3 on average, less the small model's 0.1.
    assert drawn.cost[1] == pytest.approx((0.4 + 2.9) / 10)


def test_models_that_did_equally_well_have_no_apgr() -> None:
    assert apgr(np.arange(4.0), SMALL, SMALL) is None
    assert apgr(np.zeros(0), np.zeros(0), np.zeros(0)) is None
    assert interval(np.arange(4.0), SMALL, SMALL) is None


def test_the_interval_holds_the_apgr_and_narrows_with_more_prompts() -> None:
    random = np.random.default_rng(0)
    widths = []
    for n in (100, 2000):
        large = (random.random(n) < 0.9).astype(float)
        p = random.random(n)
        small = (random.random(n) < p).astype(float)
        low, high = interval(p, small, large) or (1.0, 0.0)
        value = apgr(p, small, large)
        assert value is not None
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
