"""`trivet route train`: a router file from outcomes, or an error that says what to write."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from tests.routing.pool.words import outcomes
from trivet.cli.main import cli


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


def test_one_model_alone_is_trained_and_the_pool_said_to_be_missing(tmp_path: Path) -> None:
    done = run(outcomes(tmp_path / "data", n=60, models=("small",)), "--out", tmp_path / "r.trv")
    assert done.exit_code == 0
    assert "The router has no pool" in done.stderr


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
