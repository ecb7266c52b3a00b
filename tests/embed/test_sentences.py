"""sentence-transformers: models built here of files that are here, since no hub can be reached from a test."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.embed.folders import bert_sentences, static_sentences
from trivet.config import EmbedderSettings
from trivet.embed.builtin import build as builtin
from trivet.embed.library import MISSING
from trivet.embed.resident import Resident
from trivet.embed.sentences import build
from trivet.errors import EmbedderError
from trivet.testing.embedder_suite import TEXTS, EmbedderSuite
from trivet.testing.house import kit

pytestmark = pytest.mark.anyio
there = find_spec("sentence_transformers") is not None
here = pytest.mark.skipif(not there, reason="sentence-transformers is not installed: make embedders")


def built(model: str | Path, **more: object) -> Resident:
    settings = EmbedderSettings(kind="sentence-transformers", model=str(model), **more)  # type: ignore[arg-type]
    return build(settings, kit(Path("unused")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return static_sentences(tmp_path_factory.mktemp("static"))


@here
@pytest.mark.slow
class TestSentences(EmbedderSuite):
    """Over word vectors of ours, so that like texts are near each other."""

    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path) -> None:
        self.at = folder

    def make(self) -> Resident:
        return built(self.at)


@here
@pytest.mark.slow
async def test_its_vectors_are_those_of_the_model(tmp_path: Path) -> None:
    ours, its = builtin(EmbedderSettings(), kit(tmp_path)), built(static_sentences(tmp_path))
    plain = [text for text in TEXTS if "[CLS]" not in text]
    expected, made = (await ours.embed(plain)).rows, await its.embed(plain)
    assert np.abs(made.rows - expected).max() < 1e-4
    assert made.tokens == (await ours.embed(plain)).tokens
    assert (its.width, its.name) == (256, f"sentence-transformers {tmp_path / 'static'}")
    await ours.aclose()
    await its.aclose()


@here
@pytest.mark.slow
async def test_a_transformer_reads_what_it_says_less_its_marks_and_another_model_is_another_embedder(
    tmp_path: Path,
) -> None:
    one, same, other, fewer = (
        built(bert_sentences(tmp_path / "one", seed=1)),
        built(bert_sentences(tmp_path / "same", seed=1)),
        built(bert_sentences(tmp_path / "other", seed=2)),
        built(tmp_path / "one", max_tokens=20),
    )
    texts = ["word " * 62, "word " * 63, "word " * 62 + "and others"]
    told = [await embedder.embed(texts) for embedder in (one, same, other, fewer)]
    assert told[0].cut == (False, True, True)
    assert told[0].tokens == (62, 62, 62)
    assert np.abs(told[0].rows[1:] - told[0].rows[0]).max() < 1e-3
    assert told[3].tokens == (20, 20, 20)
    assert one.digest == same.digest
    assert len({one.digest, other.digest, fewer.digest}) == 3
    for embedder in (one, same, other, fewer):
        await embedder.aclose()


@here
@pytest.mark.slow
async def test_a_model_that_cannot_be_had_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedder = built("no-such/model-anywhere")
    with pytest.raises(EmbedderError, match="sentence-transformers cannot load no-such/model-anywhere"):
        await embedder.embed(["a"])
    assert embedder.ready().startswith("failed: ")
    await embedder.aclose()


@pytest.mark.skipif(there, reason="sentence-transformers is installed")
async def test_without_the_library_it_says_what_to_install() -> None:
    embedder = built("m")
    with pytest.raises(EmbedderError) as error:
        await embedder.embed(["a"])
    assert MISSING.format("sentence-transformers", "sentence-transformers") in str(error.value)
    await embedder.aclose()
