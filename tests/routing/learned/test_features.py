"""The numbers of a text: the same everywhere, and the two views of them agree."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import ConfigError
from trivet.routing.learned.features import Space, learn, words

TEXTS = (
    "What is 2 + 2?\nA. 3\nB. 4",
    "Explain the law of contracts; the law!",
    "",
    "def f(x): return {x: $y}",
    "Qu'est-ce que la loi ?",
)


@pytest.fixture(scope="module")
def space() -> Space:
    return learn(TEXTS * 2, frequent=5)


def test_words_are_folded_and_split_at_what_is_neither_letter_nor_digit() -> None:
    assert words("The CAT's, 2nd\tÉté") == [b"the", b"cat", b"s", b"2nd", "Été".encode()]


def test_the_dense_and_the_sparse_view_give_the_same_sum(space: Space) -> None:
    weights = np.random.default_rng(1).standard_normal((space.dense_width, 3)).astype(np.float32)
    dense, sparse = space.dense(TEXTS) @ weights, space.rows(TEXTS).dot(space.spread(weights))
    np.testing.assert_allclose(dense, sparse, atol=1e-4)


def test_words_that_training_never_saw_have_the_weight_of_their_neighbours(space: Space) -> None:
    near = space.dense(["attorney", "lawyer", "banana"])
    assert near[0] @ near[1] > near[0] @ near[2]
    assert space.known("attorney lawyer") == 1.0
    assert space.known("xqzzqx") == 0.0
    assert space.known("") == 0.0


@given(st.text())
def test_no_text_raises_and_every_number_is_finite(text: str) -> None:
    space = Space([b"a", b"b"], frequent=1)
    columns, values = space.row(text)
    assert len(set(columns)) == len(columns) == len(values)
    assert all(0 <= c < space.width for c in columns)
    assert np.isfinite(values).all()


def test_lone_surrogates_and_long_texts_are_read_too(space: Space) -> None:
    assert np.isfinite(space.dense(["\ud800 law", "law " * 1_000_000])).all()


def test_the_numbers_do_not_depend_on_the_hashing_of_the_process() -> None:
    code = (
        "from trivet.routing.learned.features import learn; import hashlib;"
        "s = learn(['b a c d', 'd c a b', 'a x', 'x y', 'y'], frequent=3); r = s.rows(['a b zebra']);"
        "print(hashlib.sha256(repr(s.words).encode() + r.values.tobytes() + s.dense(['a b']).tobytes()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_a_space_of_words_that_are_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"each there once"):
        Space([b"a", b"a"], frequent=1)


def test_of_a_long_text_both_ends_are_read_and_nothing_between() -> None:
    found = words("first " * 64 + "middle " * 500 + "last " * 20)
    assert b"middle" not in found
    assert found.count(b"first") == 64
    assert found.count(b"last") == 12
    assert words("a " * 10) == [b"a"] * 10
