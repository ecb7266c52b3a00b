import numpy as np
import pytest

from tests.routing.pool.world import world
from trivet.errors import ConfigError
from trivet.routing.pool.skills import learn


def test_chances_are_nearer_to_outcomes_than_each_models_mean() -> None:
    of = world()
    train, fresh = np.arange(900) < 600, np.arange(900) >= 600
    learned = learn(of.features[train], of.scores[train], of.costs[train])
    rows = learned.skills.of(of.features[fresh])
    made = np.column_stack([learned.skills.chances(rows, model) for model in learned.models])
    ours = ((made - of.scores[fresh]) ** 2).mean()
    assert ours < ((of.scores[train].mean(axis=0) - of.scores[fresh]) ** 2).mean() - 0.01
    assert made.mean(axis=0) == pytest.approx(of.scores[fresh].mean(axis=0), abs=0.08)


def test_the_same_outcomes_give_the_same_skills() -> None:
    of = world(n=300)
    one, other = (learn(of.features, of.scores, of.costs) for _ in range(2))
    assert (one.skills.reading == other.skills.reading).all()
    assert (one.rows == other.rows).all()


def test_a_dearer_model_is_thought_better_before_any_label() -> None:
    of = world()
    skills = learn(of.features, of.scores, of.costs).skills
    cheap, dear = skills.prior(-1.0), skills.prior(1.0)
    assert dear.mean[0] > cheap.mean[0]
    unknown = skills.prior(float("nan"))
    assert unknown.covariance[0, 0] > dear.covariance[0, 0]


def test_the_ease_of_a_prompt_is_seen_from_who_was_right_on_it() -> None:
    of = world()
    learned = learn(of.features, of.scores, of.costs)
    rows = learned.skills.of(of.features)
    ease = learned.skills.ease(rows, of.scores, learned.models)
    right = of.scores.mean(axis=1) - of.true.mean(axis=1)
    assert np.corrcoef(ease, right)[0, 1] > 0.7
    none = learned.skills.ease(rows[:3], np.full((3, 12), np.nan), learned.models)
    assert np.isnan(none).all()


def test_outcomes_without_costs_are_enough() -> None:
    of = world(n=300)
    learned = learn(of.features, of.scores, np.full_like(of.costs, np.nan))
    assert all(np.isnan(model.price) for model in learned.models)
    assert np.isfinite(learned.skills.prior(float("nan")).mean).all()


def test_too_few_models_are_an_error_that_counts_them() -> None:
    of = world(n=300, models=3)
    of.scores[:, 1:] = np.nan
    with pytest.raises(ConfigError, match="1 models have 50 outcomes"):
        learn(of.features, of.scores, of.costs)
