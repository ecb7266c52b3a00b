"""`trivet route train`: a router file from outcomes, or an error that says what to write."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from tests.routing.cascade.world import answers
from tests.routing.pool.words import outcomes
from trivet.cli.main import cli
from trivet.routing.cascade import section as cascade
from trivet.routing.learned import learned
from trivet.routing.pool import clusters


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["route", "train", *map(str, arguments)], prog_name="trivet")


def test_a_router_is_written_that_says_what_it_was_trained_on(tmp_path: Path) -> None:
    data, out = outcomes(tmp_path / "data", n=200), tmp_path / "r.trv"
    done = run(data, "--out", out)
    assert done.exit_code == 0, done.output
    assert "200 prompts of 10 domains, 800 outcomes" in done.stdout
    told = json.loads(run(data, "--out", out, "--json", "--seed", "3").stdout)
    assert told["models"] == {"large": 200, "middle": 200, "small": 200, "tiny": 200}
    assert told["seed"] == 3
    asked = learned.load(out)
    assert clusters.load(asked.others).names == asked.models
    assert len(asked.others[clusters.NAME].arrays["seen"]) == 800


def test_one_model_alone_is_trained_and_the_pool_said_to_be_missing(tmp_path: Path) -> None:
    done = run(outcomes(tmp_path / "data", n=60, models=("small",)), "--out", tmp_path / "r.trv")
    assert done.exit_code == 0
    assert "The router has no pool" in done.stderr
    assert "The router has no clusters. 60 prompts are too few" in done.stderr
    assert "The router has no cascade. The outcomes have no answers" in done.stderr


def test_outcomes_with_answers_teach_a_cascade(tmp_path: Path) -> None:
    done = run(answers(tmp_path / "data", n=200), "--out", tmp_path / "r.trv")
    assert done.exit_code == 0
    assert "no cascade" not in done.stderr
    assert cascade.load(learned.load(tmp_path / "r.trv")).models == ("a", "b", "c", "d", "large")


def test_bad_data_is_an_error_and_the_old_router_stays(tmp_path: Path) -> None:
    data, out = outcomes(tmp_path / "data", n=60), tmp_path / "r.trv"
    out.write_text("old")
    with (data / "outcomes.jsonl").open("a") as file:
        file.write('{"pid": "0-0", "model": "small", "score": NaN}\n')
    done = run(data, "--out", out)
    assert done.exit_code == 2
    assert "outcomes.jsonl, row 241" in done.stderr
    assert out.read_text() == "old"
    assert run(tmp_path / "none", "--out", out).exit_code == 2


def test_what_was_learned_is_told_of_models_and_of_the_pairs_that_are_asked_for(tmp_path: Path) -> None:
    data, out = outcomes(tmp_path / "data", n=300), tmp_path / "r.trv"
    done = run(data, "--out", out, "--pair", "small, large")
    assert done.exit_code == 0, done.output
    assert "CALIBRATION ERROR" in done.stdout
    assert "HALF THE LABELS" in done.stdout
    told = json.loads(run(data, "--out", out, "--pair", "small,large", "--json").stdout)
    (pair,) = told["pairs"]
    assert (pair["small"], pair["large"], pair["prompts"]) == ("small", "large", 300)
    assert pair["seen_interval"][0] < pair["seen"] < pair["seen_interval"][1]
    assert pair["order"] in ("gain", "gain, with ease")
    assert {model["name"] for model in told["learned"]} == {"tiny", "small", "middle", "large"}


def test_a_pair_that_is_none_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    data, out = outcomes(tmp_path / "data", n=60), tmp_path / "r.trv"
    for words in ("small", "small,gpt", "small,small", "small,large,tiny"):
        done = run(data, "--out", out, "--pair", words)
        assert done.exit_code == 2
        assert "is not two models of the outcomes" in done.stderr
    assert not out.exists()
