"""Labelled files: plain and gzip, and what is said of a bad line."""

import gzip
from pathlib import Path

import pytest

from trivet.cli.trial.labelled import read_pairs, read_stream
from trivet.errors import ConfigError

STREAM = b'{"id": "1", "text": "a", "cls": "x"}\n\n{"id": "2", "text": "b", "cls": "y"}\n'


def test_plain_and_gzip_read_alike(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(STREAM)
    zipped.write_bytes(gzip.compress(STREAM))
    assert read_stream(plain) == read_stream(zipped)
    assert [q.text for q in read_stream(plain)] == ["a", "b"]
    assert len(read_stream(plain, limit=1)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a", "cls": "x"}\n{"text": "b"}\n', "line 2: .*cls"),
        (b'{"text": "a", "cls": 5}\n', "line 1: .*str"),
        (b"not json\n", "line 1: "),
        (b'{"text": "\xff", "cls": "x"}\n', "line 1: "),
        (b"", "has no line"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_stream(tmp_path / "bad.jsonl")


def test_a_file_that_is_not_there_or_cut_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_stream(tmp_path / "none.jsonl")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(STREAM * 100)[:-12])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_stream(tmp_path / "cut.gz")


def test_conversations_are_taken_apart_into_question_context_and_frame(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"a": [{"role": "system", "content": "S"}, {"role": "user", "content": "q1"}, '
        '{"role": "assistant", "content": "r1"}, {"role": "user", "content": "q2"}], '
        '"b": [{"role": "user", "content": "q2"}], "y": 0, "kind": "dropped"}\n'
        '{"a": "one", "b": "other", "y": 1}\n'
    )
    first, second = read_pairs(file)
    assert (first.a.text, first.a.context) == ("q2", "q1")
    assert first.a.frame == (("system", "S"), ("user", ""), ("assistant", "r1"), ("user", ""))
    assert first.a.frame != first.b.frame
    assert (second.a.text, second.same, second.kind) == ("one", True, "all")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": "x", "b": "y", "y": 0.5}', "`y` is 0.5"),
        ('{"a": "x", "b": [{"role": "user", "content": "y"}], "y": 0}', "both alike"),
        ('{"a": [], "b": [], "y": 0}', "length"),
    ],
)
def test_a_pair_that_makes_no_sense_is_refused(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=words):
        read_pairs(tmp_path / "pairs.jsonl")
