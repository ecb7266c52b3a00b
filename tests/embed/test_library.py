"""A library's model as an embedder: what it is given, how long, and what is in its digest."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.embed.folders import bert_tokenizer
from trivet.embed.library import MOST_TOKENS, USUAL_TOKENS, Library, digest_of, reads
from trivet.embed.pieces import Pieces


@pytest.mark.skipif(find_spec("tokenizers") is None, reason="`tokenizers` is not installed: make embedders")
def test_a_library_gets_whole_texts_cut_where_it_would_cut_them_and_no_empty_ones() -> None:
    given: list[list[str]] = []

    def embeds(texts: list[str]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        given.append(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    library = Library(Pieces(bert_tokenizer()), embeds, width=2, max_tokens=3, digest="d")
    read = [library.read(text) for text in ("one two three four", "", "five")]
    assert [(len(ids), more) for ids, more in read] == [(3, True), (0, False), (1, False)]
    rows = library.rows([ids for ids, _ in read])
    assert given == [["one two three", "five"]]
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 1])
    assert library.rows([]).shape == (0, 2)


def test_it_reads_what_the_model_says_less_the_marks_or_what_is_wanted() -> None:
    assert reads(128, wanted=None, marks=2) == 126
    assert reads(128, wanted=99, marks=2) == 99
    assert reads(128, wanted=500, marks=2) == 126
    assert reads(10**30, wanted=None, marks=0) == reads(None, wanted=None, marks=0) == USUAL_TOKENS
    assert reads(10**6, wanted=None, marks=0) == MOST_TOKENS


def test_its_digest_is_of_its_files_wherever_they_are(tmp_path: Path) -> None:
    digests = []
    for place, weights in (("a", b"w"), ("b", b"w"), ("c", b"v")):
        folder = tmp_path / place / "1_Pooling"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder.parent / "model.safetensors").write_bytes(weights)
        (folder.parent / "README.md").write_text(place)
        digests.append(digest_of(folder.parent, "more"))
    assert digests[0] == digests[1] != digests[2]
    assert digest_of(tmp_path / "a", "other") != digests[0]
