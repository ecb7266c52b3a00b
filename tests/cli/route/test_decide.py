import json
from pathlib import Path

from tests.cli.route.test_enrol import run
from tests.routing.pool.words import outcomes, router
from tests.routing.triangle.world import file


def test_each_prompt_gets_a_model_and_the_promise_is_told(tmp_path: Path) -> None:
    path = router(tmp_path, n=1500)
    prompts = outcomes(tmp_path / "fresh", n=200, seed=3) / "prompts.jsonl"
    words = ("decide", path, prompts, "--pool", "tiny, small,large", "--quality", "0.9", "--out", tmp_path / "c.csv")
    code, stdout, _ = run(*words)
    assert code == 0
    assert "of the quality of large, 90% sure" in stdout
    assert "What more labels like these would buy, as the cost of large alone: now, 1,500 labels: 0." in stdout
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "pid,model"
    assert [line.split(",")[0] for line in lines[1:]] == [f"3-{i}" for i in range(200)]
    code, stdout, _ = run(*words, "--json")
    told = json.loads(stdout)
    assert told["at_least"] >= 0.9
    assert told["labels"] == 1500
    assert told["cost_of_reference"] < 1
    more = told["with_more_labels"]
    assert [point["labels"] for point in more] == [3000, 7500, 15000]
    assert more[-1]["cost_of_reference"] <= more[0]["cost_of_reference"] <= told["cost_of_reference"]


def test_a_floor_that_the_labels_cannot_prove_sends_all_to_the_reference(tmp_path: Path) -> None:
    path = router(tmp_path, n=160)
    prompts = outcomes(tmp_path / "fresh", n=50, seed=3) / "prompts.jsonl"
    code, stdout, _ = run(
        "decide", path, prompts, "--pool", "tiny,large", "--quality", "0.999", "--confidence", "0.99", "--out",
        tmp_path / "c.csv",
    )  # fmt: skip
    assert code == 0
    assert "All to large" in stdout
    assert {line.split(",")[1] for line in (tmp_path / "c.csv").read_text().splitlines()[1:]} == {"large"}


def test_unknown_models_and_references_are_errors(tmp_path: Path) -> None:
    path = router(tmp_path)
    prompts = outcomes(tmp_path / "fresh", n=5, seed=3) / "prompts.jsonl"
    out = tmp_path / "c.csv"
    code, _, stderr = run("decide", path, prompts, "--pool", "tiny,gpt", "--quality", "0.9", "--out", out)
    assert code == 2
    assert "it knows large, small, tiny" in stderr
    assert "route enrol" in stderr
    code, _, stderr = run("decide", path, prompts, "--pool", ", ", "--quality", "0.9", "--out", out)
    assert code == 2
    assert "empty" in stderr
    code, _, stderr = run(
        "decide", path, prompts, "--pool", "tiny", "--reference", "large", "--quality", "0.9", "--out", out
    )
    assert code == 2
    assert "not in the pool" in stderr
    assert not out.exists()


def test_labels_of_ones_own_are_what_the_promise_rests_on(tmp_path: Path) -> None:
    own = outcomes(tmp_path / "own", n=400, models=("tiny", "large"), seed=8)
    calibrated, prompts = tmp_path / "c.trv", outcomes(tmp_path / "fresh", n=200, seed=3) / "prompts.jsonl"
    assert run("calibrate", file(tmp_path), own, "--out", calibrated)[0] == 0
    words = ("--pool", "tiny,large", "--quality", "0.9", "--out", tmp_path / "c.csv", "--json")
    told = json.loads(run("decide", calibrated, prompts, *words)[1])
    assert told["labels"] == 400
    assert 0.2 < told["shares"]["tiny"] < 0.8
    assert json.loads(run("decide", file(tmp_path), prompts, *words)[1])["labels"] == 900
