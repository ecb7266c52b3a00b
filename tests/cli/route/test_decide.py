import json
from pathlib import Path

from tests.cli.route.test_enrol import run
from tests.routing.pool.words import outcomes, router


def test_each_prompt_gets_a_model_and_the_promise_is_told(tmp_path: Path) -> None:
    path = router(tmp_path, n=1500)
    prompts = outcomes(tmp_path / "fresh", n=200, seed=3) / "prompts.jsonl"
    words = ("decide", path, prompts, "--pool", "tiny, small,large", "--quality", "0.9", "--out", tmp_path / "c.csv")
    code, stdout, _ = run(*words)
    assert code == 0
    assert "of the quality of large, 90% sure" in stdout
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "pid,model"
    assert [line.split(",")[0] for line in lines[1:]] == [f"3-{i}" for i in range(200)]
    code, stdout, _ = run(*words, "--json")
    told = json.loads(stdout)
    assert told["at_least"] >= 0.9
    assert told["labels"] == 1500
    assert told["cost_of_reference"] < 1


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
