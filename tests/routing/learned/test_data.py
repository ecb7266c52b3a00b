"""Outcomes read from files: three formats, the same numbers; what cannot be used is named."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivet.errors import ConfigError
from trivet.routing.learned.data import read_outcomes, read_prompts

PROMPTS: list[dict[str, Any]] = [
    {"pid": "p1", "ds": "mmlu", "domain": "law", "prompt": "who?"},
    {"pid": "p2", "domain": "math", "prompt": "1 + 1", "more": [1]},
    {"pid": "p3", "prompt": ""},
]
OUTCOMES: list[dict[str, Any]] = [
    {"pid": "p1", "model": "small", "score": 0, "ans": "x"},
    {"pid": "p1", "model": "large", "score": 1.0, "cost_usd": 0.5},
    {"pid": "p3", "model": "large", "score": 0.5, "ans": None},
]


def folder(at: Path, prompts: Sequence[Mapping[str, Any]], outcomes: Sequence[Mapping[str, Any]]) -> Path:
    (at / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    (at / "outcomes.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, outcomes)).encode()))
    return at


def test_outcomes_become_a_matrix(tmp_path: Path) -> None:
    read = read_outcomes(folder(tmp_path, PROMPTS, OUTCOMES))
    assert read.models == ("large", "small")
    assert read.prompts.domains == ("mmlu/law", "math", "")
    np.testing.assert_array_equal(read.matrix(), [[1, 0], [np.nan, np.nan], [0.5, np.nan]])
    assert read.answers == ("x", "", "")
    assert read.numbers["cost_usd"][1] == 0.5


def test_parquet_says_the_same(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    before = read_outcomes(folder(tmp_path, PROMPTS, OUTCOMES))
    other = tmp_path / "other"
    other.mkdir()
    parquet.write_table(
        pa.Table.from_pylist([{"ds": None, "domain": None, **p} for p in PROMPTS]), other / "prompts.parquet"
    )
    table = pa.Table.from_pylist(
        OUTCOMES,
        schema=pa.schema(
            {
                "pid": pa.string(),
                "model": pa.string(),
                "score": pa.float32(),
                "cost_usd": pa.float64(),
                "ans": pa.string(),
            }
        ),
    )
    parquet.write_table(
        table.set_column(1, "model", table.column("model").dictionary_encode()), other / "outcomes.parquet"
    )
    read = read_outcomes(other)
    np.testing.assert_array_equal(read.matrix(), before.matrix())
    assert read.prompts == before.prompts
    assert read.answers == before.answers
    (other / "outcomes.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match=r"outcomes.parquet cannot be read"):
        read_outcomes(other)


def test_one_file_with_prompts_in_it_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text('pid,prompt,model,score\na,"one, two",m,1\na,"one, two",n,0\nb,three,m,0.25\n')
    read = read_outcomes(file)
    assert read.prompts.texts == ("one, two", "three")
    np.testing.assert_array_equal(read.matrix(), [[1, 0], [0.25, np.nan]])


def test_scores_are_asked_for_only_where_they_are_needed(tmp_path: Path) -> None:
    at = folder(tmp_path, PROMPTS, [{"pid": "p1", "model": "m", "ans": "x"}])
    assert read_outcomes(at, need_score=False).answers == ("x",)
    with pytest.raises(ConfigError, match=r"has no column `score`; it has `pid`, `model`, `ans`"):
        read_outcomes(at)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"pid": "p1", "model": "small", "score": 1}, r"row 4: the score is 1; row 1 says 0 for the same"),
        ({"pid": "p9", "model": "small", "score": 1}, r"row 4: no prompt has the pid 'p9'"),
        ({"pid": "p2", "model": "small", "score": 1.5}, r"row 4: the score is 1.5. Write a number from 0"),
        ({"pid": "p2", "model": "small"}, r"row 4: the score is missing or NaN"),
        ({"pid": "p2", "model": "small", "score": "good"}, r"row 4: `score` is 'good'"),
        ({"pid": "p2", "model": "", "score": 1}, r"row 4: `model` is ''"),
        ({"pid": "p2", "model": None, "score": 1}, r"row 4: `model` is missing"),
        ({"pid": "p2", "model": "m", "score": 1, "cost_usd": "inf"}, r"`cost_usd` is infinite"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_outcomes(folder(tmp_path, PROMPTS, [*OUTCOMES, row]))


def test_nan_is_no_score(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    file.write_text("pid,prompt,model,score\na,x,m,nan\n")
    with pytest.raises(ConfigError, match=r"row 2: the score is missing or NaN"):
        read_outcomes(file)


def test_a_row_that_says_the_same_again_counts_once(tmp_path: Path) -> None:
    assert len(read_outcomes(folder(tmp_path, PROMPTS, [*OUTCOMES, OUTCOMES[0]])).prompt) == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"pid": "a", "prompt": "x"}\n{"pid"', r"a.jsonl, row 2"),
        ("a.jsonl", b"\n\n", r"has no row"),
        ("a.jsonl", b'{"pid": "a", "prompt": "x"}\n{"pid": "a", "prompt": "y"}', r"row 2: the pid 'a' had another"),
        ("a.jsonl", b'{"pid": "a", "prompt": null}', r"`prompt` is missing"),
        ("a.jsonl", b'{"prompt": "x"}', r"no column `pid`"),
        ("a.csv", b"pid,prompt\na\n", r"row 2: it has not as many fields"),
        ("a.csv", b"pid,prompt\na,\xff\n", r"no CSV in UTF-8"),
        ("a.txt", b"x", r"its name does not say what it is"),
        ("a.jsonl.gz", b"\x1f\x8bnothing", r"cannot be read"),
    ],
)  # fmt: skip
def test_a_file_of_prompts_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_prompts(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("gone", "gone.jsonl", "gone.parquet"):
        with pytest.raises(ConfigError, match=rf"There is no .*{name}\.$"):
            read_outcomes(tmp_path / name)
    with pytest.raises(ConfigError, match=r"has no outcomes file. Write one of outcomes.parquet"):
        read_outcomes(tmp_path)
    with pytest.raises(ConfigError, match=r"There is no .*none\.jsonl"):
        read_prompts(tmp_path / "none.jsonl")
