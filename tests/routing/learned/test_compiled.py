"""What is compiled says the same as the matrices that it was made from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.learned.calibrate import Logistic, PairRule, Sense
from trivet.routing.learned.compiled import Pool, pair
from trivet.routing.learned.features import Space

SPACE = Space([b"law", b"sum", b"the"], frequent=0)
WEIGHTS = np.array([[0.3, -0.1], [-0.4, 0.2], [0.05, 0.0]], np.float32)
BIAS = np.array([0.5, 0.7], np.float32)
CURVES = (Logistic(-2.0, 4.0), Logistic(-1.0, 3.0))
ORDERS = (Logistic(-3.0, 6.0), Logistic(-2.0, 5.0))
TEXTS = ("the law, the LAW", "sum", "", "nothing of this", "the sum of the law")


def ruled(a: float, b: float) -> PairRule:
    small, large = (Sense(*order, 0.0) for order in ORDERS)
    return PairRule(small=small, large=large, eased=False, a=a, b=b, prompts=9, apgr_seen=None, apgr_unseen=None)


def test_a_pair_and_a_pool_say_what_the_matrices_say() -> None:
    rule = ruled(0.1, 0.4)
    two = pair(SPACE, WEIGHTS, BIAS, curves=CURVES, orders=ORDERS, rule=rule)
    pool = Pool(SPACE, WEIGHTS, BIAS, CURVES)
    sums = (SPACE.rows(TEXTS).dot(WEIGHTS) + BIAS).astype(float)
    chances = np.stack([curve.at(sums[:, i]) for i, curve in enumerate(CURVES)], 1)
    order = rule.order(sums, np.zeros(len(TEXTS)))
    for i, text in enumerate(TEXTS):
        told = two.estimate(text)
        assert told[:2] == pytest.approx(chances[i], abs=1e-6)
        assert told.gain == pytest.approx(0.1 + 0.4 * order[i], abs=1e-6)
        assert pool.estimate(text) == pytest.approx(chances[i], abs=1e-6)


def test_a_text_of_unknown_words_gets_the_mean() -> None:
    pool = Pool(SPACE, WEIGHTS, BIAS, CURVES)
    assert pool.estimate("xyz zyx") == pool.estimate("") == pytest.approx((0.5, 1 / (1 + np.exp(-1.1))), abs=1e-6)


@given(st.text())
def test_no_text_raises_and_all_is_in_range(text: str) -> None:
    told = pair(SPACE, WEIGHTS * 100, BIAS, curves=CURVES, orders=ORDERS, rule=ruled(0.0, 5.0)).estimate(text)
    assert 0 <= told.p_small <= 1
    assert 0 <= told.p_large <= 1
    assert -1 <= told.gain <= 1
