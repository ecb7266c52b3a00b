"""The real model, fetched through the store: the suite of its seam, and that its vectors are MiniLM's."""

import os
from pathlib import Path

import numpy as np
import pytest

from trivet.config import EmbedderSettings
from trivet.embed.minilm import MAX_TOKENS, WIDTH, build
from trivet.embed.resident import Resident
from trivet.testing.embedder_suite import EmbedderSuite
from trivet.testing.house import kit
from trivet.weights import MINILM, Store

pytestmark = pytest.mark.slow


def models() -> Path:
    return Path(os.environ.get("TRIVET_TEST_MODELS") or "~/.cache/trivet/models").expanduser()


def built(folder: Path, *, threads: int = 1) -> Resident:
    return build(EmbedderSettings(threads=threads), kit(folder)._replace(models=models()))


class TestMiniLM(EmbedderSuite):
    def make(self) -> Resident:
        return built(Path("unused"))


SAID = {
    ("what is your return policy", "what is your return address"): 0.548,
    ("how do i reset my password", "i forgot my password"): 0.786,
    ("turn dark mode on", "turn dark mode off"): 0.957,
}
"""Cosines of the same file with the `tokenizers` package, mean pooling and onnxruntime 1.32, written down once."""


@pytest.mark.anyio
async def test_it_says_what_the_model_says(tmp_path: Path) -> None:
    embedder = built(tmp_path, threads=2)
    try:
        for pair, cosine in SAID.items():
            a, b = (await embedder.embed(pair)).rows
            assert float(a @ b) == pytest.approx(cosine, abs=0.002)
    finally:
        await embedder.aclose()
    assert (embedder.width, embedder.max_tokens) == (WIDTH, MAX_TOKENS)


@pytest.mark.anyio
async def test_a_file_that_is_not_the_model_is_never_loaded(tmp_path: Path) -> None:
    good = Store(models()).fetch(MINILM, lambda done_bytes, total_bytes, what: None).read_bytes()
    spoiled = bytearray(good)
    spoiled[len(good) // 2] ^= 1
    made = kit(tmp_path)._replace(models=tmp_path)
    (tmp_path / "mine.onnx").write_bytes(spoiled)
    (tmp_path / f"{MINILM.sha256}.onnx").write_bytes(spoiled)
    assert Store(tmp_path).find(MINILM) is None
    (tmp_path / "right.onnx").write_bytes(good)
    embedder = build(EmbedderSettings(), made)
    try:
        assert np.isfinite((await embedder.embed(["a text"])).rows).all()
    finally:
        await embedder.aclose()
    assert (tmp_path / f"{MINILM.sha256}.onnx").read_bytes() == good


def test_its_digest_is_of_what_makes_its_vectors(tmp_path: Path) -> None:
    assert (
        built(tmp_path).digest == "e1ac1042acc084bb719b1321c0e2425059e40db4c8673e9915b3de64b450510d"
    )  # another one throws away what people have kept
