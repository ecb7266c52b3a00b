"""A prior that is fitted tells right from wrong, the same each time, and starts a decider better than none."""

import random
from collections.abc import Sequence
from math import log

import numpy as np

from tests.cache.semantic.test_trial import places, traffic
from trivet.build import SystemClock
from trivet.cache.semantic.belief import Belief
from trivet.cache.semantic.features import NAMES
from trivet.cache.semantic.fitting import Stream, beginning, fit, logistic
from trivet.cache.semantic.look import Look, Verdict
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


class Listening(Verified):
    """It serves nothing, so that it hears of each."""

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior, 0.0)
        self.heard: list[tuple[Sequence[float], bool]] = []

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        if verdict.features:
            self.heard.append((verdict.features, same))
        super().learn(look, verdict, same=same, audited=audited)


def test_a_fitted_prior_knows_traffic_of_its_kind_better_than_a_bare_one() -> None:
    questions, vectors = traffic(500, spread=0.6, seed=7)
    listening = Listening(beginning("bare"))
    replay(
        questions,
        Foreseen(vectors),
        listening,
        rows=places(questions),
        random=random.Random(0),
        clock=SystemClock(),
    )
    assert len(listening.heard) > 100
    losses = []
    for prior in (fitted(), beginning("bare")):
        belief = Belief(prior)
        said = [(belief.probability(numbers), right) for numbers, right in listening.heard]
        losses.append(-sum(log(p if right else 1 - p) for p, right in said) / len(said))
    assert losses[0] < 0.8 * losses[1]


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
