"""Votes: agreement is believed as much as it deserves, also of sets that were never seen."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.cascade.world import answers, router
from trivet.errors import ConfigError
from trivet.routing.cascade import section
from trivet.routing.cascade.signals import NONE
from trivet.routing.cascade.vote import MOST, Known, learn
from trivet.routing.learned.data import read_outcomes

CHEAP = ("a", "b", "c", "d")


def test_chances_are_what_happens_on_fresh_prompts(tmp_path: Path) -> None:
    asked = router(tmp_path)
    known = section.load(asked)
    read = read_outcomes(answers(tmp_path / "fresh", n=1500, seed=7))
    told = section.fresh(asked, known, read, CHEAP)
    scores = read.matrix()
    for size in (1, 2, 3, 4):
        place, p = known.votes.best(told.of(range(size)))
        right = scores[np.arange(len(p)), place]
        assert p.mean() == pytest.approx(right.mean(), abs=0.05)
        sure = p > np.quantile(p, 0.6)
        assert right[sure].mean() > right[~sure].mean() + 0.1
    agreed = (told.codes[:, 0] == told.codes[:, 1]) & (told.codes[:, 0] != NONE)
    _, p = known.votes.best(told.of((0, 1)))
    assert p[agreed].min() > 0.8
    assert p[agreed].mean() > p[~agreed].mean() + 0.3


def test_strange_models_that_agree_are_believed(tmp_path: Path) -> None:
    asked = router(tmp_path)
    known = section.load(asked)
    names = ("x", "y")
    read = read_outcomes(answers(tmp_path / "fresh", n=800, seed=9, models={"x": "a", "y": "b"}, of="new"))
    place, p = known.votes.best(section.fresh(asked, known, read, names))
    right = read.matrix()[np.arange(len(p)), place]
    assert right[p > 0.8].mean() > 0.85
    assert (p > 0.8).mean() > 0.3


def test_no_answer_is_never_the_best(tmp_path: Path) -> None:
    asked = router(tmp_path)
    known = section.load(asked)
    read = read_outcomes(answers(tmp_path / "fresh", n=50, seed=7))
    told = section.fresh(asked, known, read, CHEAP)
    silent = told._replace(codes=np.where(np.arange(4) == 2, told.codes, NONE))
    place, p = known.votes.best(silent)
    there = silent.codes[:, 2] != NONE
    assert (place[there] == 2).all()
    assert (p[~there] == 0).all()


def test_equal_outcomes_give_equal_weights_and_too_few_an_error(tmp_path: Path) -> None:
    known = section.load(router(tmp_path))
    told = known._answers(np.arange(300), range(5), range(5), foreign=False)
    some = Known(told, known.scores[:300], np.zeros(300, np.int64))
    one, other = learn(some, seed=3), learn(some, seed=3)
    assert np.array_equal(one.right, other.right)
    assert one.after.shape[0] == MOST + 1
    with pytest.raises(ConfigError, match="No two models have answers"):
        learn(Known(told.rows(np.arange(50)), known.scores[:50], np.zeros(50, np.int64)))
