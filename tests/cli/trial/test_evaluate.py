"""`trivet cache eval` on small files, with the builtin embedder."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from trivet.cli.main import cli

KEYS = [
    "requests", "hits", "wrong", "hit_rate", "error_rate", "wrong_of_hits", "audits", "decision_ms_p50", "embed_ms_p50",
]  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", "eval", *arguments], prog_name="trivet")


def stream(folder: Path, rows: int = 60) -> str:
    asked = (
        "where is my card",
        "where is my credit card",
        "how do I boil an egg",
        "how to boil an egg",
        "cheap flights",
    )
    lines = [
        {"id": str(i), "text": asked[i % 5], "cls": ("card", "card", "egg", "egg", "fly")[i % 5]} for i in range(rows)
    ]
    file = folder / "stream.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return str(file)


def test_json_has_the_promised_numbers_and_nothing_else(home: Path, tmp_path: Path) -> None:
    for decider in ("static", "vcache", "verified"):
        done = run(stream(tmp_path), "--decider", decider, "--embedder", "builtin", "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert list(told) == KEYS
        assert told["requests"] == 60
        assert told["hits"] >= 55  # all repeats, word by word
        assert told["hit_rate"] == told["hits"] / 60


def test_the_threshold_the_limit_and_the_seed_do_what_they_say(home: Path, tmp_path: Path) -> None:
    file = stream(tmp_path)

    def wrong(threshold: str) -> int:
        arguments = (
            file,
            "--decider",
            "static",
            "--threshold",
            threshold,
            "--embedder",
            "builtin",
            "--json",
            "--limit",
            "5",
        )
        told = json.loads(run(*arguments).stdout)
        assert told["requests"] == 5
        return int(told["wrong"])

    assert wrong("-1") == 3
    assert wrong("1") == 0
    one, other = (json.loads(run(file, "--embedder", "builtin", "--seed", "4", "--json").stdout) for _ in range(2))
    assert {k: v for k, v in one.items() if "ms" not in k} == {k: v for k, v in other.items() if "ms" not in k}


def test_a_table_is_for_people(home: Path, tmp_path: Path) -> None:
    done = run(stream(tmp_path), "--embedder", "builtin")
    assert done.exit_code == 0
    assert "wrong hits" in done.stdout
    assert "95 % INTERVAL" in done.stdout


def test_pairs_are_counted_by_kind(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    said = [{"role": "user", "content": "who runs Nokia?"}, {"role": "assistant", "content": "ok"}]
    ask = {"role": "user", "content": "how old is he?"}
    lines = [
        {"a": "17 * 23", "b": "17 * 24", "y": 0, "kind": "number"},
        {"a": "where is my card", "b": "where is my card", "y": 1, "kind": "same"},
        {"a": [*said, ask], "b": [ask], "y": 0, "kind": "context dropped"},
        {"a": [*said, ask], "b": [*said, ask], "y": 1, "kind": "same"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    told = json.loads(run("--pairs", str(file), "--embedder", "builtin", "--json").stdout)
    assert (told["recall"], told["false_hits"], told["false_hit_rate"]) == (1.0, 0, 0.0)
    assert told["kinds"]["same"]["hits"] == 2
    assert told["kinds"]["number"]["recall"] is None
    assert "number" in run("--pairs", str(file), "--embedder", "builtin").stdout


def test_what_cannot_be_used_is_said_with_its_line(home: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a", "cls": "x"}\n{"text": 5}\n')
    done = run(str(bad), "--embedder", "builtin")
    assert done.exit_code == 2
    assert "line 2" in done.stderr
    assert run().exit_code == 2
    assert run(str(bad), "--pairs", str(bad)).exit_code == 2
    assert run(str(tmp_path / "none"), "--embedder", "builtin").exit_code == 2
    assert run(str(bad), "--max-error", "2").exit_code == 2
