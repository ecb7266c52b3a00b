"""What a router file says of a pool: by heads, by skills, and with whose labels and costs."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.routing.pool.words import outcomes
from tests.routing.triangle.world import EASY, HARD, router
from trivet.errors import ConfigError
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.learned import Learned
from trivet.routing.pool import clusters
from trivet.routing.pool.pool import load
from trivet.routing.triangle.basis import basis
from trivet.routing.triangle.calibration import NAME, section
from trivet.seams import Profile

PAIR = {"a": "tiny", "b": "large"}


def enrolled(asked: Learned, folder: Path) -> Learned:
    """Add `middle`, with 60 labels."""
    read = read_outcomes(outcomes(folder / "labels", n=60, models=("middle", "large"), seed=7))
    texts = list(read.prompts.texts)
    at = read.models.index("middle")
    grown, _ = load(asked.others).enrol(
        "middle",
        asked.space.dense(texts).astype(float),
        texts,
        read.matrix()[:, at],
        read.matrix("cost_usd")[:, at],
        others={"large": read.matrix()[:, read.models.index("large")]},
    )
    asked.others |= grown.sections()
    known = clusters.load(asked.others).added("middle", asked.space.dense(texts).astype(float), read.matrix()[:, at])
    asked.others[clusters.NAME] = known.section(asked.others[clusters.NAME].arrays["seen"])
    return asked


def test_targets_are_known_by_their_own_name_or_their_models(tmp_path: Path) -> None:
    asked = router(tmp_path)
    by_model, by_name = basis(asked, PAIR, {}), basis(asked, {"tiny": "x", "large": "y"}, {})
    assert by_model.names == ("a", "b")
    assert by_model.read(HARD)[0] == by_name.read(HARD)[0]
    with pytest.raises(ConfigError, match=r"does not know 'nobody'.*'strange'"):
        basis(asked, {"a": "tiny", "nobody": "strange"}, {})


def test_a_hard_text_is_one_for_the_large_model(tmp_path: Path) -> None:
    for models in (PAIR, {"a": "tiny", "b": "large", "c": "small"}):
        found = basis(router(tmp_path), models, {})
        easy, hard = found.read(EASY)[0], found.read(HARD)[0]
        assert hard[1] - hard[0] > easy[1] - easy[0] + 0.3
        assert len(easy) == len(models)
        assert found.read(EASY)[1] == 1.0
        assert found.read("Wie spät ist es jetzt bei euch drüben?")[1] < 0.7
        assert found.read("")[1] == 0.0


def test_the_evidence_is_what_all_of_the_pool_was_tried_on_and_was_not_seen(tmp_path: Path) -> None:
    asked = router(tmp_path)
    found = basis(asked, PAIR, {}).evidence
    assert found.scores.shape == found.estimates.shape == found.costs.shape == (900, 2)
    assert set(np.unique(found.scores)) == {0.0, 1.0}
    assert found.groups is not None
    assert len(set(found.groups.tolist())) == 10
    # What was predicted without a label is as right as what it predicts says: on average, in both halves.
    for column in (0, 1):
        low = found.estimates[:, column] < np.median(found.estimates[:, column])
        for half in (low, ~low):
            assert found.estimates[half, column].mean() == pytest.approx(found.scores[half, column].mean(), abs=0.06)


def test_a_model_that_was_enrolled_has_all_estimated_by_skills(tmp_path: Path) -> None:
    asked = enrolled(router(tmp_path), tmp_path)
    found = basis(asked, {"m": "middle", "l": "large"}, {})
    wanted, _ = load(asked.others).estimates(asked.space.dense([EASY, HARD]).astype(float), ("middle", "large"))
    assert np.array([found.read(EASY)[0], found.read(HARD)[0]]) == pytest.approx(wanted, abs=1e-4)
    assert found.read("")[0] == pytest.approx(
        load(asked.others).estimates(asked.space.dense([""]).astype(float), ("middle", "large"))[0][0], abs=1e-4
    )
    assert found.evidence.doubts is not None
    assert found.of == "the outcomes of training"


def test_labels_of_ones_own_come_before_those_of_training(tmp_path: Path) -> None:
    asked = router(tmp_path)
    asked.others[NAME], _ = section(
        asked, read_outcomes(outcomes(tmp_path / "own", n=50, models=("tiny", "large"), seed=4))
    )
    found = basis(asked, PAIR, {})
    assert (found.of, len(found.evidence.scores), found.evidence.groups) == ("calibration", 50, None)
    other = basis(asked, {"a": "tiny", "b": "small"}, {})
    assert (other.of, len(other.evidence.scores)) == ("the outcomes of training", 900)


def test_costs_come_from_one_source_for_all(tmp_path: Path) -> None:
    asked = router(tmp_path)
    assert basis(asked, PAIR, {}).evidence.costs[0] == pytest.approx([1e-5, 2e-3])
    profiles = {"a": Profile(ttfts_s=(0.1, 0.2), cost_usd=3e-4), "b": Profile(cost_usd=5e-3)}
    assert basis(asked, PAIR, profiles).evidence.costs[0] == pytest.approx([1e-5, 2e-3])
    assert basis(asked, PAIR, profiles).evidence.ttfts["a"] == (0.1, 0.2)
    asked.others = {}  # no pool, so no costs of training
    assert basis(asked, PAIR, profiles).evidence.costs[0] == pytest.approx([3e-4, 5e-3])
    assert math.isnan(basis(asked, PAIR, {"a": profiles["a"]}).evidence.costs[0, 1])


def test_clusters_estimate_too_and_promise_by_what_they_had_not_seen(tmp_path: Path) -> None:
    asked = router(tmp_path)
    found = basis(asked, PAIR, {}, by="clusters")
    wanted = clusters.load(asked.others).estimates(asked.space.dense([EASY, HARD]).astype(float), ("tiny", "large"))
    assert np.array([found.read(EASY)[0], found.read(HARD)[0]]) == pytest.approx(wanted, abs=1e-3)
    assert wanted[0, 0] > wanted[1, 0] + 0.3
    assert found.evidence.scores.shape == found.evidence.estimates.shape == (900, 2)
    for column in (0, 1):
        assert found.evidence.estimates[:, column].mean() == pytest.approx(
            found.evidence.scores[:, column].mean(), abs=0.03
        )


def test_of_an_enrolled_model_clusters_promise_nothing_without_labels_of_all(tmp_path: Path) -> None:
    asked = enrolled(router(tmp_path), tmp_path)
    with pytest.raises(ConfigError, match=r"No prompt of training was answered by all of middle, large.*calibrate"):
        basis(asked, {"m": "middle", "l": "large"}, {}, by="clusters")
    asked.others[NAME], _ = section(
        asked, read_outcomes(outcomes(tmp_path / "own", n=50, models=("middle", "large"), seed=4))
    )
    found = basis(asked, {"m": "middle", "l": "large"}, {}, by="clusters")
    assert (found.of, len(found.evidence.scores)) == ("calibration", 50)
    assert found.read(HARD)[0][1] > found.read(HARD)[0][0]
