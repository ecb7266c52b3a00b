"""Texts in the tokens of any vocabulary: as BERT's own are cut, with marks told apart, and never half a character."""

import json
from importlib.util import find_spec

import pytest

from tests.embed.folders import bert_tokenizer
from trivet.embed.pieces import MISSING, Pieces
from trivet.embed.wordpiece import CLS, SEP, WordPiece, vocabulary
from trivet.errors import EmbedderError
from trivet.testing.embedder_suite import TEXTS

here = pytest.mark.skipif(find_spec("tokenizers") is None, reason="`tokenizers` is not installed: make embedders")


@here
def test_it_reads_berts_vocabulary_as_our_own_tokenizer_does() -> None:
    pieces, words = Pieces(bert_tokenizer()), WordPiece(vocabulary())
    assert (pieces.before, pieces.after) == ((CLS,), (SEP,))
    plain = [text for text in TEXTS if "[CLS]" not in text]  # names of marks are marks to it
    assert [pieces.read(text, most=99).ids for text in plain] == [words.ids(text, most=99)[0] for text in plain]


@here
def test_a_text_too_long_is_cut_behind_the_last_token_that_is_read() -> None:
    pieces = Pieces(bert_tokenizer())
    cut = pieces.read("one two three four", most=3)
    assert (cut.text, len(cut.ids), cut.more) == ("one two three", 3, True)
    assert pieces.read(cut.text, most=3) == (cut.text, cut.ids, False)
    assert pieces.read(" \n", most=3) == ("", [], False)
    assert pieces.read("x \ud800", most=3).text == "x "


@here
@pytest.mark.parametrize("text", ["{", json.dumps({"model": None})])
def test_what_is_no_vocabulary_is_told_of(text: str) -> None:
    with pytest.raises(EmbedderError, match="cannot read its vocabulary"):
        Pieces(text)


@pytest.mark.skipif(find_spec("tokenizers") is not None, reason="`tokenizers` is installed")
def test_without_the_package_it_says_what_to_install() -> None:
    with pytest.raises(EmbedderError) as error:
        Pieces("{}")
    assert str(error.value) == MISSING
