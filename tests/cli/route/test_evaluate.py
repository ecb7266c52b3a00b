"""`trivet route eval`: the curve beside chance and hindsight, and when it says nothing."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.routing.pool.words import outcomes
from trivet.cli.main import cli


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["route", *map(str, arguments)], prog_name="trivet")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("router")
    assert run("train", outcomes(folder / "data"), "--out", folder / "r.trv").exit_code == 0
    return folder / "r.trv"


def test_it_is_better_than_chance_and_worse_than_hindsight(router: Path, tmp_path: Path) -> None:
    fresh, picture = outcomes(tmp_path / "fresh", seed=9), tmp_path / "curve.svg"
    words = ("eval", router, fresh, "--small", "small", "--large", "large")
    done = run(*words, "--picture", picture, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    ours, chance, oracle = (told["methods"][name] for name in ("this router", "random", "oracle"))
    assert chance["apgr"] == pytest.approx(0.5)
    assert 0.6 < ours["apgr"] < oracle["apgr"]
    assert ours["apgr_interval"][0] < ours["apgr"] < ours["apgr_interval"][1]
    assert ours["cost_at"]["95%"] < chance["cost_at"]["95%"]
    assert told["costs"] == "cost_usd"
    assert told["in_training_too"] == 0
    assert len(told["domains"]) == 10
    assert told["curve"][0]["quality"] == pytest.approx(told["quality"]["small"])
    assert told["curve"][-1]["cost"] == pytest.approx(1.0)
    assert ET.parse(picture).getroot().tag.endswith("svg")
    shown = run(*words)
    assert "this router" in shown.stdout
    assert "GAIN EXPECTED" in shown.stdout


def test_too_few_prompts_or_equal_models_end_with_4(router: Path, tmp_path: Path) -> None:
    few = outcomes(tmp_path / "few", n=50, seed=9)
    done = run("eval", router, few, "--small", "small", "--large", "large")
    assert done.exit_code == 4
    assert "50 prompts; 200 are the least" in done.stderr
    equal = outcomes(tmp_path / "equal", n=300, seed=10)
    rows = [json.loads(line) for line in (equal / "outcomes.jsonl").read_text().splitlines()]
    lines = (json.dumps({k: v for k, v in row.items() if k != "cost_usd"} | {"score": 1}) for row in rows)
    (equal / "outcomes.jsonl").write_text("\n".join(lines))
    done = run("eval", router, equal, "--small", "small", "--large", "large")
    assert done.exit_code == 4
    assert "equally well" in done.stderr


def test_prompts_of_the_training_are_counted(router: Path, tmp_path: Path) -> None:
    again = outcomes(tmp_path / "again")  # the same seed as the training
    done = run("eval", router, again, "--small", "small", "--large", "large")
    assert "600 of the 600 prompts were trained on" in done.stderr


def test_outcomes_that_lack_the_pair_are_an_error(router: Path, tmp_path: Path) -> None:
    fresh = outcomes(tmp_path / "fresh", n=20, models=("tiny", "small"), seed=9)
    done = run("eval", router, fresh, "--small", "small", "--large", "large")
    assert done.exit_code == 2
    assert "none of large. They have: small, tiny" in done.stderr
