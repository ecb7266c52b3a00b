"""When to stop: every call counted, a floor that holds on fresh prompts, and no proof, no cascade."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.cascade.world import answers, router
from trivet.routing.cascade import section
from trivet.routing.cascade.signals import NONE
from trivet.routing.cascade.stop import AT_ONCE, Seen, Shape, Stages, calls, capped, choose, paid, path, see, stages
from trivet.routing.learned.data import read_outcomes

NAMES = ("a", "b", "c", "large")
COSTS = np.array([1e-5, 2e-5, 2e-5, 1e-3])
SEEN = Seen(
    gains=np.array([[-0.1, 0.3, 0.3, np.inf], [-0.2, 0.05, 0.4, np.inf]]),
    best=np.array([[0, 0, 0, 0], [0, 1, 1, 0]]),
    final=np.array([2, 2, 0, 2]),
    hope=np.array([0.9, 0.8, 0.7, 0.1]),
)


def test_a_prompt_ends_where_the_gain_is_small_enough() -> None:
    made = stages(SEEN, Shape((0, 1), 0.0, 0.0, vote=True), 0.1)
    assert made.stage.tolist() == [1, 2, 3, 3]
    assert made.served.tolist() == [0, 1, 0, 2]
    alone = stages(SEEN, Shape((0, 1), np.inf, 0.5, vote=False), 0.1)
    assert alone.stage.tolist() == [2, 2, 3, AT_ONCE]
    assert alone.served.tolist() == [0, 1, 2, 2]
    assert (stages(SEEN, Shape((0, 1), 0.0, 0.0, vote=True), -np.inf).stage == AT_ONCE).all()


def test_without_an_answer_the_large_model_is_asked_however_bold() -> None:
    assert stages(SEEN, Shape((0, 1), 0.0, 0.0, vote=False), 1e9).stage.tolist() == [1, 1, 1, 3]


def test_every_call_is_named_and_paid() -> None:
    assert [calls(stage, (1, 0)) for stage in range(4)] == [(2,), (1,), (1, 0), (1, 0, 2)]
    made = Stages(np.array([0, 1, 2, 3]), np.array([2, 1, 1, 2]))
    assert paid(made, (1, 0), np.array([1.0, 10.0, 100.0])).tolist() == [100.0, 10.0, 11.0, 111.0]


def test_a_path_begins_with_the_large_model_alone_and_gets_bolder() -> None:
    told = path(SEEN)
    assert told[0] == -np.inf
    assert (np.diff(told[1:]) > 0).all()
    dear = [(stages(SEEN, Shape((0, 1), 0.0, 0.0, vote=False), float(t)).stage % 3 == 0).sum() for t in told]
    assert dear == sorted(dear, reverse=True)
    assert path(SEEN._replace(gains=np.full((2, 4), np.inf))).tolist() == [-np.inf]


@pytest.mark.parametrize("quality", [0.9, 0.95])
def test_the_floor_holds_on_fresh_prompts_for_less(tmp_path: Path, quality: float) -> None:
    asked = router(tmp_path)
    known = section.load(asked)
    trial = known.trial(NAMES, agreement=None, foreign=False)
    assert trial is not None
    assert trial.groups is None
    rule = choose(known.votes, trial.answers, trial.scores, costs=COSTS, quality=quality, confidence=0.9)
    assert rule.held.at_least >= quality
    assert rule.cost < 0.8
    read = read_outcomes(answers(tmp_path / "fresh", n=3000, seed=5))
    made = stages(
        see(known.votes, section.fresh(asked, known, read, NAMES), rule.shape.order), rule.shape, rule.threshold
    )
    at = [read.models.index(name) for name in NAMES]
    scores = read.matrix()[:, at]
    assert scores[np.arange(3000), made.served].mean() >= quality * scores[:, -1].mean()
    assert paid(made, rule.shape.order, COSTS).mean() / COSTS[-1] == pytest.approx(rule.cost, abs=0.08)


def test_without_proof_all_goes_to_the_large_model(tmp_path: Path) -> None:
    known = section.load(router(tmp_path))
    trial = known.trial(NAMES, agreement=None, foreign=False)
    assert trial is not None
    few = np.arange(15)
    rule = choose(known.votes, trial.answers.rows(few), trial.scores[few], costs=COSTS, quality=0.999, confidence=0.99)
    assert rule.threshold == -np.inf
    assert (rule.cost, rule.held.step) == (1.0, 0)
    dear = choose(known.votes, trial.answers, trial.scores, costs=np.ones(4) * 9, quality=0.5, confidence=0.9)
    assert dear.cost <= 1.0


def test_where_things_are_strange_all_cheap_models_are_asked_and_the_foreseen_loss_is_within_the_floor(
    tmp_path: Path,
) -> None:
    known = section.load(router(tmp_path))
    trial = known.trial(NAMES, agreement=None, foreign=True)
    assert trial is not None
    rule = choose(
        known.votes, trial.answers, trial.scores, costs=COSTS, quality=0.9, confidence=0.9, strange=True
    )  # fmt: skip
    assert rule.shape.early == np.inf
    assert not rule.shape.vote
    tame = capped(known.votes, trial.answers, rule, quality=1.0)
    assert tame.threshold <= 0.0
    assert capped(known.votes, trial.answers, rule, quality=0.0).threshold == rule.threshold
    silent = trial.answers._replace(codes=np.full_like(trial.answers.codes, NONE))
    assert capped(known.votes, silent, rule, quality=0.9).threshold == -np.inf
