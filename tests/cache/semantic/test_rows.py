"""Rows find what is nearest, whatever was put in and taken out before."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.cache.semantic.rows import Rows

WIDTH = 8


def unit(seed: int, width: int = WIDTH) -> np.ndarray:
    row = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return row / np.linalg.norm(row)


@given(
    steps=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=60),
    k=st.integers(1, 10),
    asked=st.integers(100, 105),
)
@settings(max_examples=200)
def test_they_are_brute_force_over_what_is_in_them(steps: list[tuple[int, bool]], k: int, asked: int) -> None:
    rows, held = Rows(WIDTH), {}
    for number, put in steps:
        if put:
            rows.put(number, unit(number))
            held[number] = unit(number)
        elif number in held:
            rows.remove(number)
            del held[number]
    expected = sorted(((float(row @ unit(asked)), number) for number, row in held.items()), reverse=True)[:k]
    found = rows.nearest(unit(asked), k)
    assert len(rows) == len(held)
    assert set(rows.numbers()) == set(held)
    assert [number for number, _ in found] == [number for _, number in expected]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for cosine, _ in expected], abs=1e-6)


def test_they_are_right_over_several_blocks_growing_and_shrinking() -> None:
    wide = 1 << 17  # eight rows in a block
    rows, held, rng = Rows(wide), set[int](), random.Random(3)
    vectors = {number: unit(number, wide) for number in range(30)}
    for step in range(300):
        number = rng.randrange(30)
        grow = step % 100 < 60
        if grow and number not in held:
            rows.put(number, vectors[number])
            held.add(number)
        elif not grow and number in held:
            rows.remove(number)
            held.discard(number)
        if step % 20 == 0:
            for there in held:
                assert rows.nearest(vectors[there], 1)[0][0] == there
                assert np.array_equal(rows.row(there), vectors[there])
    assert set(rows.numbers()) == held


def test_a_number_put_in_again_has_its_new_vector() -> None:
    rows = Rows(WIDTH)
    rows.put(1, unit(1))
    rows.put(1, unit(2))
    assert len(rows) == 1
    ((number, cosine),) = rows.nearest(unit(2), 3)
    assert (number, round(cosine, 5)) == (1, 1.0)


def test_a_vector_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) does not go with those of width 8"):
        Rows(WIDTH).put(1, np.zeros(3, np.float32))
