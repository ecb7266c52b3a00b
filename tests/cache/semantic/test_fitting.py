"""A prior that is fitted tells right from wrong, the same each time, and starts a decider better than none."""

import random

import numpy as np

from tests.cache.semantic.test_trial import places, traffic
from trivet.build import SystemClock
from trivet.cache.semantic.features import NAMES
from trivet.cache.semantic.fitting import Stream, beginning, fit, logistic
from trivet.cache.semantic.priors import Prior
from trivet.cache.semantic.trial import Foreseen, replay
from trivet.cache.semantic.verified import Verified


def fitted(seed: int = 0) -> Prior:
    questions, vectors = traffic(1200, spread=0.6, seed=seed)
    stream = Stream(questions, Foreseen(vectors), places(questions))
    pairs = [("what is your return policy", "tell me your return policy", 0.9, True), ("red", "blue", 0.9, False)]
    return fit([stream], pairs, name="made", made_from="tests", clock=SystemClock())


def test_the_same_questions_give_the_same_prior() -> None:
    assert fitted() == fitted()


def test_a_fitted_prior_serves_more_from_the_start_than_a_bare_one() -> None:
    questions, vectors = traffic(500, spread=0.6, seed=7)
    hits = []
    for prior in (fitted(), beginning("bare")):
        verified = Verified(prior, 0.05)
        result = replay(
            questions,
            Foreseen(vectors),
            verified,
            rows=places(questions),
            random=random.Random(0),
            clock=SystemClock(),
        )
        hits.append(result.hits)
        assert result.wrong <= 0.05 * 500 + 2 * (0.05 * 500) ** 0.5
    assert hits[0] > hits[1]


def test_a_prior_has_all_numbers_and_risks_from_low_to_high() -> None:
    made = fitted()
    assert [n.name for n in made.numbers] == list(NAMES)
    assert list(made.typical) == sorted(made.typical)


def test_the_regression_finds_the_weights_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3))
    truth = np.array([1.0, -2.0, 0.5])
    y = (rng.random(20_000) < 1 / (1 + np.exp(-x @ truth))).astype(float)
    weight, curvature = logistic(x, y, ridge=1.0)
    assert np.abs(weight - truth).max() < 0.1
    assert np.linalg.eigvalsh(curvature).min() > 0
