"""Signals: numbers of a set of answers that do not depend on names or on who was asked first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.routing.cascade.signals import MANY, NONE, WIDTH, Answers, candidates, codes, levels, luck, places, twins


def answers(rows: list[list[int]]) -> Answers:
    told = np.array(rows)
    shape = told.shape
    odds = np.broadcast_to(np.linspace(-1.0, 1.0, shape[1]), shape)
    return Answers(told, odds, odds / 2, np.full(shape, 0.5), np.full(shape[0], -2.0))


def test_equal_answers_have_equal_codes_and_none_is_none() -> None:
    told = codes(["x", "", "y", "x"])
    assert told[0] == told[3] != told[2]
    assert told[1] == NONE


@given(
    st.lists(st.lists(st.integers(-1, 3), min_size=3, max_size=3), min_size=1, max_size=20), st.permutations(range(3))
)
def test_the_order_of_models_changes_nothing(rows: list[list[int]], order: list[int]) -> None:
    told = answers(rows)
    made = candidates(told)
    assert made.shape == (len(rows), 3, WIDTH)
    assert np.isfinite(made).all()
    assert np.allclose(made[:, order], candidates(told.of(order)))


def test_models_that_agree_have_the_same_signals_and_a_silent_one_supports_nobody() -> None:
    made = candidates(answers([[5, 5, NONE]]))[0]
    assert np.allclose(made[0], made[1])
    alone = candidates(answers([[NONE, NONE, NONE]]))[0]
    assert (alone[:, 2] == 0).all()  # support


def test_a_length_is_told_by_its_place_in_its_domain_where_there_are_enough() -> None:
    lengths = np.concatenate([np.arange(40.0), 1000 + np.arange(40.0), [500.0]])[:, None]
    domains = np.repeat([0, 1, 2], [40, 40, 1])
    made = places(np.column_stack([lengths, np.full(81, np.nan)]), domains)
    assert made[0, 0] == made[40, 0] < 0.05  # the shortest of each domain
    assert made[80, 0] == pytest.approx(0.5, abs=0.02)  # alone in its domain: among all
    assert (made[:, 1] == 0.5).all()


def test_letters_are_alike_by_chance_more_often_than_numbers() -> None:
    random = np.random.default_rng(0)
    told = np.concatenate([random.integers(0, 5, (100, 2)), 10 + random.integers(0, 5000, (100, 2))])
    made = luck(told, np.repeat([0, 1], 100))
    assert made[0] == pytest.approx(np.log10(0.2), abs=0.1)
    assert made[150] <= -2.5


def test_levels_are_of_the_same_prompts() -> None:
    scores = np.full((400, 3), np.nan)
    random = np.random.default_rng(0)
    scores[:200, 0], scores[:200, 1] = random.random(200) < 0.9, random.random(200) < 0.5
    scores[200:, 1], scores[200:, 2] = random.random(200) < 0.1, random.random(200) < 0.1
    told = levels(scores)
    assert told[0] > 0.5 > abs(told[2])  # 0.1 right where all fail is no worse than the others
    assert levels(np.full((4, 2), np.nan)).tolist() == [0.0, 0.0]


def test_one_model_under_two_names_is_found() -> None:
    random = np.random.default_rng(0)
    told = random.integers(0, 9, (30, 1)).repeat(3, 1)
    lengths = random.random((30, 3))
    lengths[:, 2] = lengths[:, 0]
    assert twins(told, lengths) == [(0, 2)]  # 1 agrees too, but on few prompts and at other lengths
    many = random.integers(0, 9, (MANY, 1)).repeat(2, 1)
    assert twins(many, random.random((MANY, 2))) == [(0, 1)]
    many[0, 0] += 1
    assert twins(many, random.random((MANY, 2))) == []
    assert twins(np.full((5, 2), NONE), np.ones((5, 2))) == []
