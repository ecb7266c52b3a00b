"""fastembed: over MiniLM's own file in a folder, since no hub can be reached from a test."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.embed.folders import bert_tokenizer, minilm_folder
from tests.embed.test_minilm import built as minilm
from trivet.config import EmbedderSettings
from trivet.embed.fast import build
from trivet.embed.library import MISSING
from trivet.embed.resident import Resident
from trivet.errors import EmbedderError
from trivet.testing.embedder_suite import TEXTS, EmbedderSuite
from trivet.testing.house import kit

pytestmark = pytest.mark.anyio
there = find_spec("fastembed") is not None
here = pytest.mark.skipif(not there, reason="fastembed is not installed: make embedders")
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def folder_of(place: Path) -> Path:
    folder = minilm_folder(place)
    (folder / "tokenizer.json").write_text(bert_tokenizer())
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256, "pad_token": "[PAD]"}))
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    return folder


def built(folder: Path, model: str = MODEL) -> Resident:
    settings = EmbedderSettings(kind="fastembed", model=model, path=str(folder))
    return build(settings, kit(folder))


@here
@pytest.mark.slow
class TestFast(EmbedderSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = folder_of(tmp_path)

    def make(self) -> Resident:
        return built(self.folder)


@here
@pytest.mark.slow
async def test_its_vectors_are_those_of_the_same_model(tmp_path: Path) -> None:
    its, ours = built(folder_of(tmp_path)), minilm(tmp_path)
    plain = [text for text in TEXTS if "[CLS]" not in text]
    assert np.abs((await its.embed(plain)).rows - (await ours.embed(plain)).rows).max() < 1e-3
    assert (its.width, its.max_tokens, its.name) == (384, 254, f"fastembed {MODEL}")
    await its.aclose()
    await ours.aclose()


@here
@pytest.mark.slow
async def test_a_name_that_it_does_not_have_is_told_of(tmp_path: Path) -> None:
    embedder = built(folder_of(tmp_path), "nobody/no-such-model")
    with pytest.raises(EmbedderError, match="fastembed cannot load nobody/no-such-model"):
        await embedder.embed(["a"])
    await embedder.aclose()


@pytest.mark.skipif(there, reason="fastembed is installed")
async def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    embedder = built(tmp_path)
    with pytest.raises(EmbedderError) as error:
        await embedder.embed(["a"])
    assert MISSING.format("fastembed", "fastembed") in str(error.value)
    await embedder.aclose()
