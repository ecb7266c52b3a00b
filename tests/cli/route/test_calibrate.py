import json
from pathlib import Path

from tests.cli.route.test_enrol import run
from tests.routing.pool.words import outcomes
from tests.routing.triangle.world import file
from trivet.routing.learned import learned
from trivet.routing.triangle.calibration import NAME


def test_labels_are_put_beside_what_was_trained(tmp_path: Path) -> None:
    path, out = file(tmp_path), tmp_path / "out.trv"
    own = outcomes(tmp_path / "own", n=70, models=("tiny", "large"), seed=8)
    code, stdout, _ = run("calibrate", path, own, "--out", out)
    assert code == 0
    assert "70 prompts, 70 answered by all of these." in stdout
    code, stdout, _ = run("calibrate", out, own, "--out", out, "--json")
    told = json.loads(stdout)
    assert told["labels"] == {"large": 70, "tiny": 70}
    assert learned.load(out).digest == told["digest"]
    assert NAME in learned.load(out).others
    assert NAME not in learned.load(path).others


def test_unknown_models_are_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    own = outcomes(tmp_path / "own", n=20, models=("middle",), seed=8)
    code, _, stderr = run("calibrate", file(tmp_path), own, "--out", tmp_path / "out.trv")
    assert code == 2
    assert "does not know 'middle'" in stderr
    assert not (tmp_path / "out.trv").exists()
