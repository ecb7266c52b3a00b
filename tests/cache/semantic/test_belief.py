"""One logistic model for all: it learns what a fit of all at once would say, and survives being saved."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from trivet.cache.semantic.belief import Belief, Learned
from trivet.cache.semantic.features import NAMES
from trivet.cache.semantic.fitting import logistic
from trivet.cache.semantic.priors import Number, Prior

Floats = NDArray[np.float64]
SIZE = len(NAMES)


def taught(count: int, seed: int = 0) -> tuple[Belief, Floats, Floats, Floats]:
    """Give a belief that saw verdicts of a known curve, what it saw, and the curve's weights."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(SIZE)
    truth[:3] = (0.5, 1.5, -1.0)
    x = rng.normal(size=(count, SIZE))
    x[:, 0] = 1.0
    y = (rng.random(count) < 1 / (1 + np.exp(-x @ truth))).astype(float)
    belief = Belief(plain())
    for row, right in zip(x, y, strict=True):
        belief.learn(row.tolist(), right=bool(right))
    return belief, x, y, truth


def plain() -> Prior:
    """Give a prior that knows nothing: each weight 0, give or take 1."""
    numbers = (Number(name=name, mean=0.0, scale=1.0, weight=0.0, variance=1.0) for name in NAMES)
    return Prior(name="none", version=1, made_from="", typical=(0.0,), numbers=tuple(numbers))


def test_one_verdict_after_another_comes_to_what_all_at_once_come_to() -> None:
    belief, x, y, _ = taught(6000)
    at_once, _ = logistic(x, y, ridge=1.0)
    learned = np.array(belief.save().weight)
    assert np.abs(learned - at_once).max() < 0.08
    assert belief.verdicts == 6000


def test_little_evidence_means_a_probability_nearer_to_a_half() -> None:
    row = [1.0, 3.0, *[0.0] * (SIZE - 2)]
    few, many = taught(300, seed=3)[0], taught(6000, seed=3)[0]
    assert 0.5 < few.probability(row) < 1
    assert abs(many.probability(row) - 1 / (1 + np.exp(-5.0))) < 0.02


def test_what_was_saved_goes_on_as_if_nothing_had_happened() -> None:
    belief, x, *_ = taught(200)
    again = Belief(plain())
    again.restore(belief.save())
    belief.learn(x[0].tolist(), right=True)
    again.learn(x[0].tolist(), right=True)
    assert belief.save() == again.save()


@pytest.mark.parametrize(
    ("weight", "covariance"),
    [
        ([0.0] * 3, [[1.0] * 3] * 3),
        ([0.0] * SIZE, [[0.0] * SIZE] * (SIZE - 1)),
        ([float("nan")] * SIZE, np.eye(SIZE).tolist()),
        ([0.0] * SIZE, (-np.eye(SIZE)).tolist()),
        ([0.0] * SIZE, np.triu(np.ones((SIZE, SIZE))).tolist()),
    ],
)
def test_what_is_no_distribution_is_refused_and_changes_nothing(
    weight: list[float], covariance: list[list[float]]
) -> None:
    belief = Belief(plain())
    before = belief.save()
    with pytest.raises(ValueError, match=r"other numbers|damaged"):
        belief.restore(Learned(weight, covariance, 1))
    assert belief.save() == before


def test_verdicts_without_end_leave_a_sound_covariance() -> None:
    belief = Belief(plain())
    for i in range(20_000):
        belief.learn([1.0, float(i % 2) * 1e3, *[1.0] * (SIZE - 2)], right=bool(i % 3))
    saved = belief.save()
    assert json.dumps(saved.weight)
    assert np.linalg.eigvalsh(np.array(saved.covariance)).min() > -1e-9
    assert 0 < belief.probability([1.0] * SIZE) < 1
