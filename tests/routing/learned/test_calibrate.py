"""Calibration: chances that come true, an order that is kept, and nothing infinite from few labels."""

import numpy as np
import pytest

from trivet.routing.learned.calibrate import CLEARLY, logistic, pair_rule


def test_chances_come_true() -> None:
    random = np.random.default_rng(0)
    sums = random.normal(0.6, 0.2, 5000)
    p = 1 / (1 + np.exp(-(-2 + 6 * sums)))
    curve = logistic(sums, (random.random(5000) < p).astype(float), np.ones(5000))
    assert np.abs(curve.at(sums) - p).max() < 0.03


@pytest.mark.parametrize("score", [0.0, 1.0, 0.5])
def test_equal_labels_give_chances_that_are_not_certain(score: float) -> None:
    curve = logistic(np.linspace(0.4, 0.6, 20), np.full(20, score), np.ones(20))
    chances = curve.at(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite([curve.a, curve.b]).all()
    assert ((chances > 0) & (chances < 1)).all()
    assert abs(chances[1] - score) < 0.25


def test_sums_that_say_the_opposite_are_not_believed() -> None:
    sums = np.linspace(0, 1, 200)
    curve = logistic(sums, (sums < 0.5).astype(float), np.ones(200))
    assert curve.b == 0
    assert curve.at(sums)[0] == pytest.approx(0.5, abs=0.01)


def pair(*, gain_tells: bool) -> tuple[np.ndarray, np.ndarray]:
    """Make scores of a pair, and predictions of which the gain or the small model's alone tells something."""
    random = np.random.default_rng(0)
    topic, noise = random.normal(0, 0.1, 3000), random.normal(0, 0.3, 3000)
    small = (random.random(3000) < 0.6 + 2 * topic).astype(float)
    large = np.full(3000, 0.9)
    seen = np.stack([topic + noise, noise], 1) if gain_tells else np.stack([topic, noise], 1)
    return np.stack([small, large], 1), seen


def test_a_pair_is_ordered_by_the_gain_unless_the_small_model_alone_is_clearly_better() -> None:
    for gain_tells, mix in ((True, 1.0), (False, 0.0)):
        scores, seen = pair(gain_tells=gain_tells)
        rule = pair_rule(scores, seen, np.full_like(seen, np.nan))
        assert rule.mix == mix
        assert rule.apgr_seen is not None
        assert rule.apgr_seen > 0.6
        assert rule.apgr_unseen is None
        assert 0 < CLEARLY < 0.05
        expected = rule.a + rule.b * rule.order(seen[:, 0], seen[:, 1])
        assert expected.mean() == pytest.approx((scores[:, 0] - scores[:, 1]).mean(), abs=1e-6)


def test_an_order_that_told_nothing_is_kept_and_said_to_tell_nothing() -> None:
    random = np.random.default_rng(0)
    scores, seen = (random.random((500, 2)) < 0.5).astype(float), random.random((500, 2))
    rule = pair_rule(scores, seen, seen)
    assert 0 < rule.b < 0.2
    assert rule.prompts == 500


def test_a_pair_that_no_prompt_has_in_common_has_a_rule_that_says_so() -> None:
    none = np.zeros((0, 2))
    rule = pair_rule(none, none, none)
    assert (rule.prompts, rule.apgr_seen, rule.apgr_unseen) == (0, None, None)
