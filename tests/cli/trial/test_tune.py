"""`trivet cache tune`: what it recommends, on what evidence, and when it will not."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from click.testing import CliRunner, Result

from trivet.cli.main import cli
from trivet.cli.trial.tune import SETTINGS, recommended, why_none


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", "tune", *arguments], prog_name="trivet")


def log(folder: Path, rows: int) -> str:
    words = ("card", "egg", "flight", "shoe", "tax", "garden")
    ways = ("where is my {}", "my {}, where is it", "please find my {}", "I lost my {}")
    lines = [{"text": ways[i % 4].format(words[i % 6]), "cls": words[i % 6]} for i in range(rows)]
    file = folder / "log.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return str(file)


def test_it_says_what_to_set_and_draws_it(home: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    arguments = (log(tmp_path, 120), "--embedder", "builtin", "--max-error", "0.1", "--picture", str(picture))
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["labels"] == 120
    assert len(told["points"]) == sum(map(len, SETTINGS.values()))
    assert told["recommended"]["error_high"] <= 0.1
    assert ET.parse(picture).getroot().tag.endswith("svg")
    shown = run(*arguments)
    assert "On 120 labelled requests" in shown.stdout
    assert "Set: mode =" in shown.stdout


def test_with_too_few_labels_it_says_so_and_how_many_it_takes(home: Path, tmp_path: Path) -> None:
    done = run(log(tmp_path, 20), "--embedder", "builtin")
    assert done.exit_code == 4
    assert "with 20 requests" in done.stderr
    assert "385" in done.stderr


def test_nothing_is_recommended_that_could_be_above_what_may_be() -> None:
    points = [
        {"decider": "static", "setting": 0.9, "hit_rate": 0.9, "error_high": 0.03},
        {"decider": "verified", "setting": 0.005, "hit_rate": 0.5, "error_high": 0.009},
        {"decider": "verified", "setting": 0.01, "hit_rate": 0.6, "error_high": 0.01},
    ]
    best = recommended(points, 0.01)
    assert best is not None
    assert best["hit_rate"] == 0.6
    assert recommended(points, 0.001) is None
    assert "0.90%" in why_none(1_000_000, points, 0.001)


def test_a_promise_looser_than_was_asked_for_is_not_recommended_however_well_it_went() -> None:
    points = [
        {"decider": "verified", "setting": 0.01, "hit_rate": 0.6, "error_high": 0.004},
        {"decider": "verified", "setting": 0.05, "hit_rate": 0.7, "error_high": 0.004},
    ]
    best = recommended(points, 0.01)
    assert best is not None
    assert best["setting"] == 0.01


def test_a_picture_that_cannot_be_written_is_said(home: Path, tmp_path: Path) -> None:
    done = run(log(tmp_path, 24), "--embedder", "builtin", "--picture", str(tmp_path / "no" / "x.svg"))
    assert done.exit_code == 2
    assert "Cannot write" in done.stderr
