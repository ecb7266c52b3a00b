"""What training says it learned is told from what was left out, and is what one would count oneself."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.pool.words import outcomes
from trivet.errors import ConfigError
from trivet.routing.learned import learned, report
from trivet.routing.learned.data import Outcomes, read_outcomes


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return read_outcomes(outcomes(tmp_path_factory.mktemp("outcomes")))


@pytest.fixture(scope="module")
def router(read: Outcomes) -> learned.Learned:
    return learned.train(read, date="2026-11-23")


def test_models_are_told_of_with_their_labels_and_how_true_their_chances_are(router: learned.Learned) -> None:
    told = {model.name: model for model in report.models(router)}
    assert set(told) == {"tiny", "small", "middle", "large"}
    for model in told.values():
        assert model.labels == 600
        assert model.brier < model.brier_of_mean + 0.01
        assert model.error < 0.1
        assert model.error_unseen is not None
    assert told["tiny"].brier < told["tiny"].brier_of_mean - 0.05, "hard words and easy ones are told apart"
    assert told["tiny"].score < told["large"].score


def test_the_calibration_error_is_how_far_chances_are_from_what_came_true() -> None:
    right = np.repeat([0.0, 1.0], 50)
    assert report.calibration_error(np.full(100, 0.5), np.tile([0.0, 1.0], 50)) == pytest.approx(0)
    assert report.calibration_error(right, right) == 0
    assert report.calibration_error(1 - right, right) == pytest.approx(1)
    assert report.calibration_error(np.array([0.25]), np.array([1.0])) == pytest.approx(0.75)


def test_a_pair_is_told_of_with_what_more_labels_would_bring(router: learned.Learned, read: Outcomes) -> None:
    (pair,) = report.pairs(router, read, [("small", "large")])
    assert pair.prompts == 600
    assert pair.gap > 0.2
    assert pair.seen is not None
    assert pair.seen > 0.65
    assert pair.seen_interval is not None
    assert pair.seen_interval[0] < pair.seen < pair.seen_interval[1]
    assert pair.halved is not None
    assert pair.doubled is not None
    assert (pair.doubled - pair.seen) == pytest.approx((pair.seen - pair.halved) / 2**0.5)


def test_without_being_asked_each_model_is_in_a_pair_the_worse_first(router: learned.Learned) -> None:
    found = report.usual_pairs(router)
    assert len(found) == len(set(found)) == 6
    assert {name for pair in found[:2] for name in pair} == {"tiny", "small", "middle", "large"}
    scores = {model.name: model.score for model in report.models(router)}
    assert all(scores[small] <= scores[large] for small, large in found)


def test_few_prompts_say_nothing_of_halves_and_none_in_common_is_an_error(tmp_path: Path) -> None:
    folder = outcomes(tmp_path / "few", n=60, models=("small", "large"))
    read = read_outcomes(folder)
    (pair,) = report.pairs(learned.train(read, date="2026-11-23"), read, [("small", "large")])
    assert (pair.halved, pair.doubled) == (None, None)
    lines = (folder / "outcomes.jsonl").read_text().splitlines()
    apart = [line for i, line in enumerate(lines) if (i // 2 < 30) == ("small" in line)]
    (folder / "outcomes.jsonl").write_text("\n".join(apart))
    read = read_outcomes(folder)
    router = learned.train(read, date="2026-11-23")
    assert report.usual_pairs(router) == []
    with pytest.raises(ConfigError, match="No prompt was answered by both small and large"):
        report.pairs(router, read, [("small", "large")])
