"""Calibration: chances that come true, an order that is kept, and nothing infinite from few labels."""

import numpy as np
import pytest

from trivet.routing.learned.calibrate import CLEARLY, View, logistic, pair_rule, sense


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


def test_the_ease_counts_where_it_tells_what_the_sum_does_not() -> None:
    random = np.random.default_rng(0)
    sums, ease = random.normal(0.6, 0.1, 5000), random.normal(0, 0.3, 5000)
    p = 1 / (1 + np.exp(-(-2 + 4 * sums + 3 * ease)))
    made = sense(sums, ease, (random.random(5000) < p).astype(float), np.ones(5000))
    assert np.abs(made.at(sums, ease) - p).max() < 0.06
    opposite = sense(-sums, np.zeros(5000), (random.random(5000) < p).astype(float), np.ones(5000))
    assert (opposite.b, opposite.ease) == (0, 0)


def pair(*, eased: bool) -> View:
    """Make scores of a pair, and sums and ease of which the first or the second tell something."""
    random = np.random.default_rng(0)
    topic, noise = random.normal(0, 0.2, 3000), random.normal(0, 0.2, (3000, 2))
    scores = np.stack([random.random(3000) < 0.6 + 1.5 * topic, random.random(3000) < 0.9], 1).astype(float)
    sums = 0.6 + noise if eased else np.stack([0.6 + 1.5 * topic, np.full(3000, 0.9)], 1)
    return View(sums, topic if eased else noise[:, 0], scores)


def rows(view: View, n: int) -> View:
    return View(*(part[:n] for part in view))


@pytest.mark.parametrize("eased", [False, True])
def test_a_pair_is_ordered_without_the_ease_unless_that_is_clearly_better(*, eased: bool) -> None:
    view = pair(eased=eased)
    rule = pair_rule(view, rows(view, 0))
    assert rule.eased is eased
    assert rule.apgr_seen is not None
    assert rule.apgr_seen > 0.6
    assert rule.apgr_unseen is None
    assert 0 < CLEARLY < 0.05
    expected = rule.a + rule.b * rule.order(view.sums, view.ease)
    assert expected.mean() == pytest.approx((view.scores[:, 0] - view.scores[:, 1]).mean(), abs=1e-6)


def test_a_prompt_that_both_models_are_sure_of_is_no_gain_however_far_their_sums_are_apart() -> None:
    """Sums have no end, chances have: what is won where both are right is nothing."""
    random = np.random.default_rng(1)
    ease = random.uniform(-0.5, 2.5, 4000)
    sums = np.stack([ease, 0.3 + 1.3 * ease], 1)
    chances = 1 / (1 + np.exp(-(4 * sums - 2)))
    scores = (random.random((4000, 2)) < chances).astype(float)
    view = View(sums, np.zeros(4000), scores)
    rule = pair_rule(view, view)
    sure, unsure = rule.order(np.array([[2.5, 3.55], [0.3, 0.69]]), np.zeros(2))
    assert sure > unsure + 0.15


def test_an_order_that_told_nothing_is_kept_and_said_to_tell_nothing() -> None:
    random = np.random.default_rng(0)
    scores, sums = (random.random((500, 2)) < 0.5).astype(float), random.random((500, 2))
    view = View(sums, random.random(500), scores)
    rule = pair_rule(view, view)
    apart = rule.b * np.ptp(rule.order(view.sums, view.ease))
    assert 0 < apart < 0.2
    assert rule.prompts == 500


def test_a_pair_that_no_prompt_has_in_common_has_a_rule_that_says_so() -> None:
    none = View(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)))
    rule = pair_rule(none, none)
    assert (rule.prompts, rule.apgr_seen, rule.apgr_unseen) == (0, None, None)
    assert rule.order(np.array([[0.9, 0.5], [0.5, 0.9]]), np.zeros(2))[0] > 0
