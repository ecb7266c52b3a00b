"""`trivet route score`: a line for each prompt, of a pair that was trained or enrolled."""

import csv
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
    done = run("train", outcomes(folder / "data", models=("tiny", "small", "large")), "--out", folder / "r.trv")
    assert done.exit_code == 0, done.output
    return folder / "r.trv"


def prompts(folder: Path) -> Path:
    file = folder / "p.csv"
    file.write_text('pid,prompt\neasy,"cat, river"\nhard,tensor quantum\nnone,\n')
    return file


def test_what_is_hard_gains_less_from_the_small_model(router: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    done = run("score", router, prompts(tmp_path), "--small", "small", "--large", "large", "--out", out)
    assert done.exit_code == 0, done.output
    rows = {row["pid"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert list(rows) == ["easy", "hard", "none"]
    assert float(rows["easy"]["gain"]) > float(rows["none"]["gain"]) > float(rows["hard"]["gain"])
    assert float(rows["easy"]["p_small_ok"]) > float(rows["hard"]["p_small_ok"])
    shown = run("score", router, prompts(tmp_path), "--small", "small", "--large", "large", "--out", "-")
    assert shown.stdout == out.read_text()


def test_a_model_that_was_enrolled_is_scored_too(router: Path, tmp_path: Path) -> None:
    labels = outcomes(tmp_path / "labels", n=60, models=("middle",), seed=5)
    grown = tmp_path / "grown.trv"
    assert run("enrol", router, labels, "--model", "middle", "--out", grown).exit_code == 0
    done = run("score", grown, prompts(tmp_path), "--small", "middle", "--large", "large", "--out", "-")
    assert done.exit_code == 0, done.output
    rows = {row["pid"]: float(row["gain"]) for row in csv.DictReader(done.stdout.splitlines())}
    assert rows["easy"] > rows["hard"]


def test_an_unknown_model_or_a_damaged_router_is_an_error(router: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    done = run("score", router, prompts(tmp_path), "--small", "smalll", "--large", "large", "--out", out)
    assert done.exit_code == 2
    assert "Did you mean 'small'?" in done.stderr
    cut = tmp_path / "cut.trv"
    cut.write_bytes(router.read_bytes()[:-100])
    done = run("score", cut, prompts(tmp_path), "--small", "small", "--large", "large", "--out", out)
    assert done.exit_code == 2
    assert "truncated or was changed" in done.stderr
    assert not out.exists()
    done = run("score", router, prompts(tmp_path), "--small", "small", "--large", "large", "--out", tmp_path)
    assert done.exit_code == 2
    assert "Cannot write" in done.stderr
