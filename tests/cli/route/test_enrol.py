import json
from pathlib import Path

from click.testing import CliRunner

from tests.routing.pool.words import outcomes, router
from trivet.cli.main import cli


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["route", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_a_model_is_added_and_then_chosen_from(tmp_path: Path) -> None:
    path = router(tmp_path)
    labels = outcomes(tmp_path / "labels", n=60, models=("middle", "small"), seed=5)
    out = tmp_path / "grown.trv"
    code, stdout, _ = run("enrol", path, labels, "--model", "middle", "--out", out, "--json")
    assert code == 0
    told = json.loads(stdout)
    assert told["kinds"][0]["labels"] == told["kinds"][0]["compared"] == 60
    assert told["kinds"][0]["low"] < told["kinds"][0]["quality"] < told["kinds"][0]["high"]
    csv = tmp_path / "chosen.csv"
    code, _, _ = run(
        "decide", out, labels / "prompts.jsonl", "--pool", "middle,large", "--quality", "0.9", "--out", csv
    )
    assert code == 0
    assert len(csv.read_text().splitlines()) == 61


def test_one_label_is_taken_and_shown_to_be_worth_little(tmp_path: Path) -> None:
    path = router(tmp_path)
    labels = tmp_path / "one.jsonl"
    labels.write_text('{"pid": "a", "model": "new", "score": 1, "prompt": "About a tensor?"}\n')
    code, stdout, stderr = run("enrol", path, labels, "--model", "new", "--out", tmp_path / "o.trv")
    assert code == 0
    assert "LABELS" in stdout
    assert "cost_usd" in stderr


def test_a_model_without_outcomes_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    path = router(tmp_path)
    labels = outcomes(tmp_path / "labels", n=5, models=("middle",), seed=5)
    code, _, stderr = run("enrol", path, labels, "--model", "gpt", "--out", tmp_path / "o.trv")
    assert code == 2
    assert "'gpt'; it has some of middle" in stderr
    assert not (tmp_path / "o.trv").exists()


def test_nan_and_contradictions_are_errors_with_the_row(tmp_path: Path) -> None:
    path = router(tmp_path)
    labels = tmp_path / "bad.jsonl"
    row = '{"pid": "a", "model": "new", "score": %s, "prompt": "About a tensor?"}\n'
    labels.write_text(row % "1" + row % "0")
    code, _, stderr = run("enrol", path, labels, "--model", "new", "--out", tmp_path / "o.trv")
    assert code == 2
    assert "row 2" in stderr
    labels.write_text(row % "null")
    code, _, stderr = run("enrol", path, labels, "--model", "new", "--out", tmp_path / "o.trv")
    assert code == 2
    assert "missing or NaN" in stderr
