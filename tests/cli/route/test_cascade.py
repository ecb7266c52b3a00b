"""`trivet route cascade`: who is asked and whose answer is served, from recorded answers without scores."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.route.test_enrol import run
from tests.routing.cascade.world import MODELS, answers, file
from tests.routing.pool.words import outcomes


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as opened:
        return list(csv.DictReader(opened))


def edit(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Path:
    """Rewrite the outcomes, row by row; None takes one out."""
    told = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    kept = [row for row in map(change, told) if row is not None]
    (folder / "outcomes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return folder


def cascade(router: Path, fresh: Path, *, small: str = "a,b,c", large: str = "large", quality: float = 0.93) -> Any:
    out = router.parent / "served.csv"
    out.unlink(missing_ok=True)
    code, stdout, stderr = run(
        "cascade", router, fresh, "--small", small, "--large", large, "--quality", quality, "--out", out, "--json"
    )
    assert code == 0, stderr
    return json.loads(stdout), rows(out)


def test_the_floor_is_kept_for_less_and_calls_are_in_order(tmp_path: Path) -> None:
    told, served = cascade(file(tmp_path), answers(tmp_path / "fresh", n=1500, seed=4, scores=False))
    truth = read_scores(answers(tmp_path / "truth", n=1500, seed=4))
    assert list(served[0]) == ["pid", "model", "calls"]
    assert [row["pid"] for row in served] == [f"4-{i}" for i in range(1500)]
    quality = sum(truth[row["pid"], row["model"]] for row in served)
    assert quality >= 0.93 * sum(truth[row["pid"], "large"] for row in served)
    cost = sum(MODELS[name][2] for row in served for name in row["calls"].split("+")) / 1500 / 1e-3
    assert told["cost_of_large"] == pytest.approx(cost, rel=1e-6)
    assert cost < 0.7
    assert told["labels"] == 1200
    assert told["at_least"] >= 0.93
    for row in served:
        assert row["model"] in row["calls"].split("+")
    assert told["called"]["large"] == pytest.approx(sum("large" in row["calls"] for row in served) / 1500)


def read_scores(folder: Path) -> dict[tuple[str, str], float]:
    told = map(json.loads, (folder / "outcomes.jsonl").read_text().splitlines())
    return {(row["pid"], row["model"]): row["score"] for row in told}


def test_scores_are_not_used_where_there_are_some(tmp_path: Path) -> None:
    path = file(tmp_path)
    _, without = cascade(path, answers(tmp_path / "one", n=300, seed=4, scores=False))
    wrong = edit(answers(tmp_path / "two", n=300, seed=4), lambda row: row | {"score": 1 - row["score"]})
    assert cascade(path, wrong)[1] == without


def test_a_large_answer_that_is_not_called_changes_nothing(tmp_path: Path) -> None:
    path, fresh = file(tmp_path), answers(tmp_path / "fresh", n=300, seed=4, scores=False)
    _, before = cascade(path, fresh)
    edit(fresh, lambda row: row | {"ans": "other"} if row["model"] == "large" else row)
    _, after = cascade(path, fresh)
    kept = [(x, y) for x, y in zip(before, after, strict=True) if "large" not in x["calls"]]
    assert kept
    assert all(x == y for x, y in kept)
    assert [row["calls"] for row in before] == [row["calls"] for row in after]


def test_models_and_domains_that_training_never_saw(tmp_path: Path) -> None:
    names = {"x": "a", "y": "b", "z": "large"}
    fresh = answers(tmp_path / "fresh", n=600, seed=6, scores=False, models=names, of="new")
    told, served = cascade(file(tmp_path), fresh, small="x,y", large="z", quality=0.8)
    assert told["stand_ins"]
    assert any("stand in" in note for note in told["notes"])
    assert any("domains that were not in training" in note for note in told["notes"])
    assert {row["calls"] for row in served} <= {"x+y", "y+x", "x+y+z", "y+x+z", "z"}
    truth = read_scores(answers(tmp_path / "truth", n=600, seed=6, models=names, of="new"))
    quality = sum(truth[row["pid"], row["model"]] for row in served)
    assert quality >= 0.8 * sum(truth[row["pid"], "z"] for row in served)


def test_where_cheap_models_cost_as_much_all_goes_to_the_large_one(tmp_path: Path) -> None:
    path, fresh = file(tmp_path), answers(tmp_path / "fresh", n=50, seed=4, scores=False)
    edit(fresh, lambda row: row | {"cost_usd": 1.0} if row["model"] == "d" else row)
    out = tmp_path / "c.csv"
    code, stdout, _ = run("cascade", path, fresh, "--small", "d", "--large", "large", "--quality", 1, "--out", out)
    assert code == 0
    assert "All to large" in stdout
    assert {(row["model"], row["calls"]) for row in rows(out)} == {("large", "large")}


def test_one_model_under_two_names_is_asked_once(tmp_path: Path) -> None:
    fresh = answers(tmp_path / "fresh", n=300, seed=4, scores=False)
    told = (fresh / "outcomes.jsonl").read_text()
    twin = [json.dumps(row | {"model": "twin"}) for row in map(json.loads, told.splitlines()) if row["model"] == "a"]
    (fresh / "outcomes.jsonl").write_text(told + "\n".join(twin) + "\n")
    made, served = cascade(file(tmp_path), fresh, small="a,twin,b")
    assert "twin" not in made["called"]
    assert any("twin answers as a does" in note for note in made["notes"])
    assert not any("twin" in row["calls"] for row in served)


def test_gaps_are_safe(tmp_path: Path) -> None:
    fresh = answers(tmp_path / "fresh", n=300, seed=4, scores=False)
    edit(fresh, lambda row: None if (row["pid"], row["model"]) in {("4-0", "large"), ("4-1", "b")} else row)
    edit(fresh, lambda row: row | {"ans": ""} if row["pid"] == "4-2" and row["model"] != "large" else row)
    made, served = cascade(file(tmp_path), fresh)
    assert served[0]["model"] == "large" or "large" not in served[0]["calls"]
    assert (served[1]["model"], served[1]["calls"]) == ("large", "large")
    assert served[2]["model"] == "large"
    assert len(made["notes"]) == 2


def test_a_cheap_model_without_answers_is_not_asked(tmp_path: Path) -> None:
    fresh = answers(tmp_path / "fresh", n=200, seed=4, scores=False)
    edit(fresh, lambda row: row | {"ans": ""} if row["model"] == "b" else row)
    made, _ = cascade(file(tmp_path), fresh)
    assert set(made["called"]) == {"a", "c", "large"}


@pytest.mark.parametrize(
    ("small", "large", "said"),
    [
        ("a,gpt", "large", "none of gpt"),
        ("a,b", "gpt", "none of gpt"),
        ("a,a", "large", "each model once"),
        ("a,large", "large", "each model once"),
        (" , ", "large", "at least one"),
    ],
)
def test_bad_names_are_errors(tmp_path: Path, small: str, large: str, said: str) -> None:
    path, fresh = file(tmp_path), answers(tmp_path / "fresh", n=20, seed=4, scores=False)
    out = tmp_path / "c.csv"
    code, _, stderr = run(
        "cascade", path, fresh, "--small", small, "--large", large, "--quality", 0.9, "--out", out
    )  # fmt: skip
    assert code == 2
    assert said in stderr
    assert not out.exists()


def test_no_answers_no_costs_and_old_files_are_errors(tmp_path: Path) -> None:
    words = ("--small", "x", "--large", "z", "--quality", 0.9, "--out", tmp_path / "c.csv")
    names = {"x": "a", "z": "large"}
    silent = answers(tmp_path / "silent", n=20, models=names, ans=False)
    code, _, stderr = run("cascade", file(tmp_path), silent, *words)
    assert code == 2
    assert "`ans` is missing, or empty everywhere" in stderr
    free = edit(answers(tmp_path / "free", n=20, models=names), lambda row: row | {"cost_usd": None})
    code, _, stderr = run("cascade", file(tmp_path), free, *words)
    assert code == 2
    assert "What a call to 'x' costs is not known" in stderr
    old = tmp_path / "old.trv"
    assert run("train", outcomes(tmp_path / "plain", n=100), "--out", old)[0] == 0
    code, _, stderr = run("cascade", old, answers(tmp_path / "fresh", n=20, models=names), *words)
    assert code == 2
    assert "The router has no cascade" in stderr
    assert "Train it again" in stderr
