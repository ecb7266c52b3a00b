"""A folder with a model in ONNX: the suite over MiniLM's own file, and what folders may lack."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.embed.folders import minilm_folder
from tests.embed.test_minilm import built as minilm
from trivet.config import EmbedderSettings
from trivet.embed.onnx import USUAL_TOKENS, _pooling, _reads, _vocabulary, build
from trivet.embed.resident import Resident
from trivet.errors import EmbedderError
from trivet.testing.embedder_suite import TEXTS, EmbedderSuite
from trivet.testing.house import kit


def built(folder: Path, **more: object) -> Resident:
    return build(EmbedderSettings(kind="onnx", path=str(folder), **more), kit(folder))  # type: ignore[arg-type]


@pytest.mark.slow
class TestOnnx(EmbedderSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = minilm_folder(tmp_path)

    def make(self) -> Resident:
        return built(self.folder)


async def vectors(embedder: Resident) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    try:
        rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (await embedder.embed(TEXTS)).rows
        return rows
    finally:
        await embedder.aclose()


@pytest.mark.slow
@pytest.mark.anyio
async def test_its_vectors_are_those_of_the_same_model_and_its_digest_follows_its_files(tmp_path: Path) -> None:
    folder = minilm_folder(tmp_path)
    one, first = built(folder), built(folder, pooling="cls")
    assert (one.digest, one.width, one.max_tokens) == ("", 0, 0)
    mean, cls = await vectors(one), await vectors(first)
    assert np.abs(mean - await vectors(minilm(tmp_path))).max() < 1e-6
    assert np.abs(mean - cls).max() > 0.01
    assert (one.width, one.max_tokens) == (384, 254)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    told, fewer = built(folder), built(folder, max_tokens=99)
    assert np.array_equal(await vectors(told), cls)
    await vectors(fewer)
    assert told.digest == first.digest
    assert len({one.digest, first.digest, fewer.digest}) == 3
    assert fewer.max_tokens == 99


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_file_that_is_no_model_is_told_of(tmp_path: Path) -> None:
    folder = minilm_folder(tmp_path)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"not a model")
    embedder = built(folder)
    with pytest.raises(EmbedderError, match="cannot load"):
        await embedder.embed(["a"])
    await embedder.aclose()


@pytest.mark.anyio
async def test_a_folder_without_a_model_is_told_of(tmp_path: Path) -> None:
    embedder = built(tmp_path)
    with pytest.raises(EmbedderError, match=r"no model\.onnx in .*Correct `embedder\.path`"):
        await embedder.embed(["a"])
    await embedder.aclose()


@pytest.mark.parametrize(
    ("vocab", "words"), [("a\nb\n", "is not that of bert-base-uncased"), (None, "there is no vocab.txt")]
)
def test_a_folder_that_does_not_say_how_texts_are_read_is_refused(
    tmp_path: Path, vocab: str | None, words: str
) -> None:
    if vocab is not None:
        (tmp_path / "vocab.txt").write_text(vocab)
    with pytest.raises(EmbedderError, match=words):
        _vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("files", "tokens"),
    [
        ({}, USUAL_TOKENS),
        ({"sentence_bert_config.json": {"max_seq_length": 256}, "config.json": {"max_position_embeddings": 512}}, 256),
        ({"tokenizer_config.json": {"model_max_length": 10**30}}, USUAL_TOKENS),
        ({"config.json": {"max_position_embeddings": 514, "model_type": "xlm-roberta"}}, 512),
        ({"config.json": {"max_position_embeddings": 131072}}, 8192),
    ],
)
def test_how_much_is_read_is_what_the_files_say(tmp_path: Path, files: dict[str, object], tokens: int) -> None:
    for name, members in files.items():
        (tmp_path / name).write_text(json.dumps(members))
    assert _reads(tmp_path) == tokens
    assert _pooling(tmp_path) == "mean"


def test_a_file_of_the_folder_that_is_damaged_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EmbedderError, match=r"config\.json cannot be read"):
        _reads(tmp_path)
