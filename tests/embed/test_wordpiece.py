"""The tokenizer against ids that the `tokenizers` package gave for the same texts, and what holds for any text."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.embed import wordpiece
from trivet.embed.wordpiece import UNKNOWN, WordPiece, vocabulary

REFERENCE: list[tuple[str, list[int]]] = [
    ("Hello, World!", [7592, 1010, 2088, 999]),
    ("How do I reset my password?", [2129, 2079, 1045, 25141, 2026, 20786, 1029]),
    ("na\xefve caf\xe9", [15743, 7668]),
    ("\xc5NGSTR\xd6M Stra\xdfe \u0110\u1eeaNG", [17076, 15687, 2358, 27807, 1102, 5575]),
    ("don't can't it's", [2123, 1005, 1056, 2064, 1005, 1056, 2009, 1005, 1055]),
    ("U.S.A. $3.50 (50%)", [1057, 1012, 1055, 1012, 1037, 1012, 1002, 1017, 1012, 2753, 1006, 2753, 1003, 1007]),
    ("unaffable embeddings", [14477, 20961, 3468, 7861, 8270, 4667, 2015]),
    ("supercalifragilisticexpialidocious", [3565, 9289, 10128, 29181, 24411, 4588, 10288, 19312, 21273, 10085, 6313]),
    (
        "a" * 100,
        [
            13360,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            11057,
            2050,
        ],
    ),
    ("a" * 101, [100]),
    ("x x x y", [1060, 1060, 1060, 1061]),
    ("\u4f60\u597d,\u4e16\u754c", [100, 100, 1010, 1745, 100]),
    ("\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", [1864, 1876, 1950, 1671, 30239, 30227, 30233, 30240]),
    (
        "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8",
        [1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 1467, 30009, 30020, 29997, 30017, 30003, 30017],
    ),
    (
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u041c\u0438\u0440",
        [1194, 16856, 10325, 25529, 15290, 22919, 1010, 1191, 10325, 16856],
    ),
    ("\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3", [1173, 18199, 29733, 29735, 29736, 29730, 29733]),
    ("\u0645\u0631\u062d\u0628\u0627", [1295, 17149, 29820, 29816, 25573]),
    ("\u0928\u092e\u0938\u094d\u0924\u0947", [1327, 29867, 29874, 29859]),
    ("\u0e44\u0e17\u0e22", [100]),
    ("a\u0301e\u0308", [29347]),
    ("a\x00b\ufffdc\u200bd", [5925, 2094]),
    ("tab\tnew\nline\rreturn\xa0nbsp\u3000wide", [21628, 2047, 2240, 2709, 1050, 5910, 2361, 2898]),
    ("\ufb01ne \xbd \u2460", [1984, 2638, 1092, 100]),
    ("\u0130stanbul", [9960]),
    ("\U0001f600 ok \U0001f469\u200d\U0001f469\u200d\U0001f467", [100, 7929, 100]),
    (
        "C++ & C# <b>x</b> {a:1}",
        [
            1039,
            1009,
            1009,
            1004,
            1039,
            1001,
            1026,
            1038,
            1028,
            1060,
            1026,
            1013,
            1038,
            1028,
            1063,
            1037,
            1024,
            1015,
            1065,
        ],
    ),
    ("_under_score_", [1035, 2104, 1035, 3556, 1035]),
    ("\u2026\u2014\u201cquoted\u201d\u2018x\u2019", [1529, 1517, 1523, 9339, 1524, 1520, 1060, 1521]),
    ("3.14e-10", [1017, 1012, 2403, 2063, 1011, 2184]),
    ("e\u0327\u0301", [1041]),
    ("\u037e\u1fef", [1025, 1036]),
    ("qqqqzzzzxxxx", [1053, 4160, 4160, 4160, 13213, 13213, 20348, 20348]),
    ("##ing ##s", [1001, 1001, 13749, 1001, 1001, 1055]),
    ("", []),
    ("   ", []),
]
"""`BertWordPieceTokenizer("vocab.txt", lowercase=True)` of tokenizers 0.23.3, without the special tokens."""


@pytest.fixture(scope="module")
def words() -> WordPiece:
    return WordPiece(vocabulary())


@pytest.mark.parametrize(("text", "ids"), REFERENCE, ids=lambda value: ascii(value)[:20])
def test_a_text_gets_the_ids_of_the_reference(words: WordPiece, text: str, ids: list[int]) -> None:
    assert words.ids(text, most=10_000) == (ids, False)


def test_the_vocabulary_is_that_of_bert() -> None:
    tokens = vocabulary()
    assert len(tokens) == 30_522
    assert [tokens[i] for i in (0, 100, 101, 102, 1996)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the"]


def test_nobody_can_write_a_special_token(words: WordPiece) -> None:
    ids, _ = words.ids("[CLS] [SEP] [MASK] [PAD] [UNK] [unused1]", most=100)
    assert min(ids) >= 999


@given(text=st.text(), most=st.integers(0, 40))
def test_any_text_has_ids_of_the_vocabulary_and_no_more_than_asked(words: WordPiece, text: str, most: int) -> None:
    ids, cut = words.ids(text, most=most)
    whole, _ = words.ids(text, most=10_000)
    assert ids == whole[:most]
    assert cut == (len(whole) > most)
    assert all(i == UNKNOWN or 999 <= i < 30_522 for i in whole)


@given(st.text(), st.text())
def test_a_space_keeps_texts_apart(words: WordPiece, a: str, b: str) -> None:
    both = words.ids(a, most=10_000)[0] + words.ids(b, most=10_000)[0]
    assert words.ids(f"{a} {b}", most=10_000)[0] == both


@given(st.text(st.characters(categories=["L", "M", "N", "P", "Z"])))
def test_case_does_not_matter(words: WordPiece, text: str) -> None:
    if text.upper().lower() == text.lower():
        assert words.ids(text.upper(), most=10_000) == words.ids(text.lower(), most=10_000)


@given(st.text(st.sampled_from("abc xyz.,\u00e9\u4f60\u0301"), max_size=200))
def test_where_a_long_text_is_cut_does_not_matter(words: WordPiece, text: str) -> None:
    long = (text + " ") * (1 + 9000 // (len(text) + 1))
    one = words.ids(text, most=10_000)[0]
    assert words.ids(long, most=10**6)[0] == one * (len(long) // (len(text) + 1))


def test_a_word_without_an_end_is_read_in_pieces(words: WordPiece) -> None:
    ids, cut = words.ids("a" * 1_000_000, most=10)
    assert (ids, cut) == ([UNKNOWN] * 10, True)
    assert words.ids("\u4f60" * 10_000, most=20_000) == ([words.ids("\u4f60", most=1)[0][0]] * 10_000, False)


def test_what_it_remembers_is_bounded() -> None:
    words: Any = WordPiece(vocabulary())
    for i in range(2 * wordpiece._MAX_CACHED):
        words.ids(f"zq{i}zq", most=10)
    assert len(words._pieces) <= wordpiece._MAX_CACHED
    words.ids("".join(map(chr, range(0x1000, 0x1000 + 2 * wordpiece._MAX_CACHED))), most=10**6)
    assert len(words._forms) <= wordpiece._MAX_CACHED


def test_every_character_is_taken(words: WordPiece) -> None:
    for code in range(0, 0x110000, 17):
        ids, _ = words.ids(f"a{chr(code)}b", most=10)
        assert ids, unicodedata.name(chr(code), hex(code))
