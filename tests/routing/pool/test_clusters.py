"""Clusters: prompts go together on which the same models are right, and few labels say little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import ConfigError
from trivet.routing.learned.file import Section
from trivet.routing.pool.clusters import FEWEST, NAME, SHRINK, Clusters, learn, load, rates, softmax


def world(n: int = 600, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make four kinds of prompts, of which each of two models can do two: features, scores, chances."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 4, n)
    features = np.eye(4)[kind] * 0.9 + random.normal(0, 0.1, (n, 4))
    chances = np.array([[0.9, 0.9], [0.9, 0.2], [0.2, 0.9], [0.2, 0.2]])[kind]
    return features, (random.random((n, 2)) < chances).astype(float), chances


def test_they_find_what_each_model_can_do() -> None:
    features, scores, chances = world()
    known, seen = learn(features, scores, ("a", "b"), size=8)
    assert np.abs(known.estimates(features, ("a", "b")) - chances).mean() < 0.08
    assert np.abs(seen - chances).mean() < 0.1
    # Without its own label, an estimate knows nothing of the noise in it: it is no better than the truth.
    assert ((seen - scores) ** 2).mean() >= ((chances - scores) ** 2).mean() - 1e-3
    assert known.labels == (600, 600)


def test_the_same_outcomes_and_seed_give_the_same() -> None:
    features, scores, _ = world()
    one, other = (learn(features, scores, ("a", "b"), seed=3, size=8)[0] for _ in range(2))
    assert np.array_equal(one.mapping, other.mapping)
    assert np.array_equal(one.rates, other.rates)


def test_a_model_that_is_added_has_its_mean_where_it_has_no_label() -> None:
    features, scores, _ = world()
    known, _ = learn(features, scores, ("a", "b"), size=8)
    grown = known.added("c", features[:1], np.array([1.0]))
    assert grown.labels == (600, 600, 1)
    assert (np.abs(grown.rates[2] - 2 / 3) <= (1 / 3) / (SHRINK + 1) + 1e-9).all()
    many = known.added("c", features, scores[:, 1])
    assert np.abs(many.rates[2] - known.rates[1]).max() < 1e-9
    again = many.added("a", features, 1 - scores[:, 0])
    assert again.names == ("a", "b", "c")
    assert (again.rates[0] + known.rates[0]).mean() == pytest.approx(1.0, abs=0.01)


@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=1, max_size=9),
)
def test_shares_sum_to_one_and_rates_are_chances(sums: list[float], labels: list[float]) -> None:
    shares = softmax(np.array([sums] * len(labels)))
    assert shares.sum(axis=1) == pytest.approx(1.0)
    made = rates(shares, np.array(labels)[:, None])
    assert ((made >= 0) & (made <= 1)).all()


def test_labels_that_are_all_equal_or_missing_are_taken() -> None:
    features, scores, _ = world(300)
    for told in (np.ones_like(scores), np.full_like(scores, np.nan), np.where(scores == 1, 1.0, np.nan)):
        known, seen = learn(features, told, ("a", "b"), size=8)
        assert np.isfinite(known.mapping).all()
        assert np.isfinite(known.rates).all()
        assert np.isfinite(seen).all()


def test_too_few_prompts_are_an_error() -> None:
    features, scores, _ = world(FEWEST - 1)
    with pytest.raises(ConfigError, match="too few for clusters"):
        learn(features, scores, ("a", "b"))


def test_a_section_is_read_back_or_said_to_be_damaged() -> None:
    features, scores, _ = world()
    known, seen = learn(features, scores, ("a", "b"), size=8)
    section = known.section(seen.ravel())
    back = load({NAME: section})
    assert isinstance(back, Clusters)
    assert np.abs(back.rates - known.rates).max() < 1e-6
    with pytest.raises(ConfigError, match=r"do not know 'x'.*enrol"):
        back.estimates(features, ("x",))
    with pytest.raises(ConfigError, match="has no clusters"):
        load({})
    for broken in (
        Section(section.facts, {k: v for k, v in section.arrays.items() if k != "rates"}),
        Section(section.facts, section.arrays | {"rates": section.arrays["rates"][:1]}),
        Section({"names": ["a"]}, section.arrays),
    ):
        with pytest.raises(ConfigError, match="damaged"):
            load({NAME: broken})
