"""A graph finds what is nearest; and of its file, only what was written is ever read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache.semantic.drawing import draw, drawn, facts, written
from tests.cache.semantic.test_rows import unit
from trivet.cache.semantic import graph
from trivet.cache.semantic.graph import GraphError, OtherEmbedderError, name_of, read

WIDTH = 24
VECTORS = {number * 1_000_003 + (1 << 62): unit(number, WIDTH) for number in range(400)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("graph") / "a.graph", VECTORS, WIDTH)


def test_it_finds_the_nearest_and_gives_their_vectors(file: Path) -> None:
    found = read(file, embedder="e1")
    assert (len(found), set(found.numbers().tolist())) == (400, set(VECTORS))
    for asked in range(1000, 1050):
        cosines = {number: float(row @ unit(asked, WIDTH)) for number, row in VECTORS.items()}
        nearest = sorted(cosines, key=lambda n: -cosines[n])[:8]
        assert len(set(found.near(unit(asked, WIDTH), 32).tolist()) & set(nearest)) == 8
    rows = found.rows(np.array(list(VECTORS), np.uint64))
    assert np.abs(rows - np.array(list(VECTORS.values()))).max() < 1e-3
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6


def test_it_knows_what_is_in_it() -> None:
    found = drawn({5: unit(1, WIDTH), 2**63 - 1: unit(2, WIDTH)}, WIDTH)
    assert (5 in found, 2**63 - 1 in found, 6 in found) == (True, True, False)
    assert found.among(np.array([6, 5], np.uint64)).tolist() == [False, True]
    assert found.near(unit(1, WIDTH), 32).tolist() == [5, 2**63 - 1]


def test_its_file_is_for_its_owner_alone(file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_one_bit_of_damage_anywhere_is_noticed(file: Path, at: float, bit: int) -> None:
    whole = bytearray(file.read_bytes())
    whole[int(at * len(whole))] ^= 1 << bit
    other = file.with_suffix(".flipped")
    other.write_bytes(whole)
    with pytest.raises(GraphError):
        read(other, embedder="e1")


@pytest.mark.parametrize("size", [0, 1, 15, 47, 4095, 4096, 4097, 20_000, -1])
def test_a_file_that_was_cut_short_is_noticed(file: Path, size: int) -> None:
    other = file.with_suffix(".short")
    other.write_bytes(file.read_bytes()[:size])
    with pytest.raises(GraphError):
        read(other, embedder="e1")


def test_a_file_with_more_at_its_end_is_noticed(file: Path) -> None:
    other = file.with_suffix(".long")
    other.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(GraphError, match="digest"):
        read(other, embedder="e1")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"embedder": "e2"}, "another embedder"),
        ({"made_by": "usearch 1.0 vax"}, "made by usearch 1.0 vax, and this is usearch 2"),
        ({"count": 399}, "has 400 vectors of 24, and says 399"),
        ({"width": 25}, "has 400 vectors of 24, and says 400 of 25|usearch cannot read it"),
    ],
    ids=str,
)
def test_what_is_not_what_it_says_is_refused(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    given = {"count": 400, "width": WIDTH} | more
    graph.write(tmp_path / "a.graph", facts(given.pop("count"), given.pop("width"), **given), written(VECTORS, WIDTH))
    with pytest.raises(GraphError, match=why) as raised:
        read(tmp_path / "a.graph", embedder="e1")
    assert isinstance(raised.value, OtherEmbedderError) is ("embedder" in more)


def test_what_usearch_did_not_write_is_refused_though_its_digest_is_right(tmp_path: Path) -> None:
    graph.write(tmp_path / "a.graph", facts(3, WIDTH), b"nothing of usearch's" * 100)
    with pytest.raises(GraphError):
        read(tmp_path / "a.graph", embedder="e1")


def test_one_that_cannot_be_written_leaves_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.graph", VECTORS, WIDTH)
    before = path.read_bytes()
    path.with_suffix(".tmp").mkdir()
    with pytest.raises(OSError, match=r"a\.tmp"):
        draw(path, {1: unit(1, WIDTH)}, WIDTH)
    path.with_suffix(".tmp").rmdir()
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["a.graph"]


def test_each_scope_and_embedder_has_a_file_of_its_own() -> None:
    names = {name_of("e1", b"s"), name_of("e2", b"s"), name_of("e1", b"t"), name_of("e1s", b"")}
    assert len(names) == 4


def test_usearch_and_onnxruntime_can_be_in_one_process() -> None:
    """In a process of its own: imported in the wrong order they end it."""
    program = "from trivet.cache.semantic import graph; graph.usearch(); import onnxruntime; print('both')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "both\n")
