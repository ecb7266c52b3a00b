import json
from pathlib import Path

from click.testing import CliRunner

from tests.routing.pool.words import outcomes
from trivet.cli.main import cli


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["route", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_a_router_is_trained_and_decides(tmp_path: Path) -> None:
    labels = outcomes(tmp_path / "labels", n=300, models=("small", "large"), seed=1)
    router, chosen = tmp_path / "router.trv", tmp_path / "chosen.csv"
    code, stdout, _ = run("train", labels, "--out", router, "--json")
    told = json.loads(stdout)
    assert (code, told["prompts"]) == (0, 300)
    assert {m["model"]: m["labels"] for m in told["models"]} == {"small": 300, "large": 300}
    code, _, _ = run(
        "decide", router, labels / "prompts.jsonl", "--pool", "small,large", "--quality", "0.9", "--out", chosen
    )
    assert code == 0
    assert {line.split(",")[1] for line in chosen.read_text().splitlines()[1:]} <= {"small", "large"}


def test_the_same_outcomes_give_the_same_file(tmp_path: Path) -> None:
    labels = outcomes(tmp_path / "labels", n=120, models=("small", "large"), seed=1)
    for name in ("one.trv", "two.trv"):
        assert run("train", labels, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "one.trv").read_bytes() == (tmp_path / "two.trv").read_bytes()


def test_a_folder_without_outcomes_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    code, _, stderr = run("train", tmp_path / "labels", "--out", tmp_path / "r.trv")
    assert code == 2
    assert "labels" in stderr
    assert not (tmp_path / "r.trv").exists()
