"""The section: what is written is read back, damage is told, and sets that were never seen have stand-ins."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.cascade.world import answers, file, router
from trivet.errors import ConfigError
from trivet.routing.cascade import section
from trivet.routing.cascade.section import NAME, agree
from trivet.routing.learned import learned
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.file import Section


def test_it_is_read_back_as_it_was_learned(tmp_path: Path) -> None:
    known = section.load(router(tmp_path))
    read = read_outcomes(answers(tmp_path / "train", n=1200))
    assert known.models == read.models
    assert np.array_equal(known.scores, read.matrix())
    assert np.allclose(known.costs, read.matrix("cost_usd"))
    same = np.array([read.answers[i] == read.answers[i + 1] != "" for i in range(0, len(read.answers), 5)])
    pair = known.codes[:, 0] == known.codes[:, 1]
    assert np.array_equal(pair & (known.codes[:, 0] >= 0), same)


def test_no_text_and_no_answer_is_in_it(tmp_path: Path) -> None:
    found = learned.load(file(tmp_path)).others[NAME]
    assert set(found.facts) == {"models"}
    assert all(array.dtype.kind in "fi" for array in found.arrays.values())


def test_a_file_without_it_and_a_damaged_one_are_errors(tmp_path: Path) -> None:
    asked = router(tmp_path)
    whole = asked.others.pop(NAME)
    with pytest.raises(ConfigError, match=r"no cascade.*Train it again"):
        section.load(asked)
    for broken in (
        Section(whole.facts, {k: v for k, v in whole.arrays.items() if k != "luck"}),
        Section(whole.facts, whole.arrays | {"codes": whole.arrays["codes"][1:]}),
        Section({"models": ["a"]}, whole.arrays),
    ):
        asked.others[NAME] = broken
        with pytest.raises(ConfigError, match="damaged"):
            section.load(asked)


def test_outcomes_without_answers_are_an_error(tmp_path: Path) -> None:
    asked = router(tmp_path)
    read = read_outcomes(answers(tmp_path / "train", n=1200, ans=False))
    with pytest.raises(ConfigError, match="no answers"):
        section.learn(asked, read)


def test_a_set_of_models_is_tried_on_what_they_answered(tmp_path: Path) -> None:
    known = section.load(router(tmp_path))
    trial = known.trial(("b", "large"), agreement=None, foreign=False)
    assert trial is not None
    assert trial.groups is None
    assert np.array_equal(trial.scores, known.scores[:, [1, 4]][: len(trial.scores)]) or len(trial.scores) < 1200


def test_sets_that_agree_as_often_stand_in_for_strange_models(tmp_path: Path) -> None:
    known = section.load(router(tmp_path))
    trial = known.trial(("x", "y", "large"), agreement=0.5, foreign=True)
    assert trial is not None
    assert trial.groups is not None
    assert len(np.unique(trial.groups)) > 1
    assert (trial.answers.levels[:, :2] == 0).all()
    assert (trial.answers.levels[:, 2] != 0).all()
    assert np.isfinite(trial.answers.odds).all()
    assert trial.scores[:, 2].mean() > trial.scores[:, :2].mean()
    assert known.trial(tuple("uvwxyz"), agreement=0.5, foreign=True) is None


def test_agreement_is_the_mean_of_pairs() -> None:
    assert agree(np.array([[1, 1, 2], [3, -1, -1]])) == pytest.approx(1 / 6)
    assert agree(np.array([[1], [2]])) == 1.0
