"""The embedder of the package passes the suite of its seam, and its table is the one that is pinned."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.config import EmbedderSettings
from trivet.embed.builtin import AT_ONCE_CHARACTERS, TABLE_SHA256, WIDTH, Table, build
from trivet.embed.resident import Resident
from trivet.testing.embedder_suite import TEXTS, EmbedderSuite
from trivet.testing.house import kit


def built() -> Resident:
    with TemporaryDirectory() as folder:
        return build(EmbedderSettings(), kit(Path(folder)))


class TestBuiltin(EmbedderSuite):
    def make(self) -> Resident:
        return built()


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


def vectors(table: Table, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return table.rows([table.read(text)[0] for text in texts])


def test_the_file_is_the_one_that_is_pinned_and_small() -> None:
    data = (files("trivet.embed") / "builtin.bin").read_bytes()
    assert hashlib.sha256(data).hexdigest() == TABLE_SHA256
    assert len(data) < 4_000_000


@given(st.text())
def test_any_text_has_a_unit_vector_or_no_token(table: Table, text: str) -> None:
    ids, _ = table.read(text)
    length = float(np.linalg.norm(table.rows([ids])))
    assert length == pytest.approx(1.0 if ids else 0.0, abs=1e-5)


def test_the_first_columns_tell_most(table: Table) -> None:
    rows = vectors(table, TEXTS)
    assert (rows[:, :64] ** 2).sum(axis=1).mean() > 0.4
    assert rows.shape[1] == WIDTH


@pytest.mark.anyio
async def test_in_the_thread_and_at_once_it_gives_the_same_bits() -> None:
    text = "how do i " * (AT_ONCE_CHARACTERS // 9 + 1) + "reset my password"
    embedder = built()
    try:
        long = (await embedder.embed([text, TEXTS[0]])).rows
        short = (await embedder.embed([TEXTS[0]])).rows
    finally:
        await embedder.aclose()
    assert np.array_equal(long[1], short[0])
    assert np.array_equal(long, vectors(Table(), [text, TEXTS[0]]))


def test_trivet_is_imported_without_numpy() -> None:
    heavy = "[m for m in sys.modules if m in ('numpy', 'onnxruntime')]"
    code = f"import sys, trivet, trivet.cli.main, trivet.build, trivet.embed.minilm; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
