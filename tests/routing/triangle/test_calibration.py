"""Labels of one's own traffic in a router file: numbers alone, of prompts that were not trained on."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.pool.words import outcomes
from tests.routing.triangle.world import router
from trivet.errors import ConfigError
from trivet.routing.learned import learned
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.file import Section
from trivet.routing.triangle.calibration import FEWEST, NAME, labels, section


def test_labels_survive_the_file_and_are_estimated_by_weights_that_never_saw_them(tmp_path: Path) -> None:
    asked = router(tmp_path)
    read = read_outcomes(outcomes(tmp_path / "own", n=80, models=("tiny", "large"), seed=4))
    made, left_out = section(asked, read)
    assert left_out == 0
    asked.others[NAME] = made
    asked.save(tmp_path / "c.trv")
    asked = learned.load(tmp_path / "c.trv")
    found = labels(asked, ("tiny", "large"))
    assert found is not None
    assert found.scores.shape == found.estimates.shape == (80, 2)
    assert np.array_equal(found.scores, read.matrix()[:, [1, 0]])
    assert found.costs[:, 0] == pytest.approx(1e-5)
    hard = np.array(["tensor" in t or "quantum" in t or "entropy" in t for t in read.prompts.texts])
    assert found.estimates[hard, 0].mean() < found.estimates[~hard, 0].mean() - 0.3
    assert b"tensor" not in made.arrays["features"].tobytes()
    assert labels(asked, ("tiny", "small")) is None


def test_what_the_router_was_trained_on_is_left_out(tmp_path: Path) -> None:
    asked = router(tmp_path)
    same = read_outcomes(outcomes(tmp_path / "same", n=60, models=("tiny", "small", "large"), seed=0))
    with pytest.raises(ConfigError, match="trained on every one"):
        section(asked, same)


def test_a_model_that_is_not_known_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    read = read_outcomes(outcomes(tmp_path / "own", n=20, models=("middle", "large"), seed=4))
    with pytest.raises(ConfigError, match=r"does not know 'middle'.*route enrol"):
        section(router(tmp_path), read)


def test_too_few_labels_are_none(tmp_path: Path) -> None:
    asked = router(tmp_path)
    read = read_outcomes(outcomes(tmp_path / "own", n=FEWEST - 1, models=("tiny", "large"), seed=4))
    asked.others[NAME], _ = section(asked, read)
    assert labels(asked, ("tiny", "large")) is None


@pytest.mark.parametrize("name", ["features", "scores", "costs"])
def test_a_damaged_section_is_an_error(tmp_path: Path, name: str) -> None:
    asked = router(tmp_path)
    made, _ = section(asked, read_outcomes(outcomes(tmp_path / "own", n=20, models=("tiny", "large"), seed=4)))
    for arrays in (
        {k: v for k, v in made.arrays.items() if k != name},
        made.arrays | {name: made.arrays[name][:5]},
        made.arrays | {name: made.arrays[name][:, :1]},
    ):
        asked.others[NAME] = Section(made.facts, arrays)
        with pytest.raises(ConfigError, match="calibration is damaged"):
            labels(asked, ("tiny", "large"))
