"""The index finds what is nearest, whatever was put in and taken out before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.cache.semantic.index import Index

WIDTH = 8


def unit(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)
    return row / np.linalg.norm(row)


@given(
    steps=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=60),
    k=st.integers(1, 10),
    asked=st.integers(100, 105),
)
@settings(max_examples=200, deadline=None)
def test_it_is_brute_force_over_what_is_in_it(steps: list[tuple[int, bool]], k: int, asked: int) -> None:
    index, held = Index(WIDTH), {}
    for number, put in steps:
        if put:
            index.add(number, unit(number))
            held[number] = unit(number)
        elif number in held:
            index.remove(number)
            del held[number]
    expected = sorted(((float(row @ unit(asked)), number) for number, row in held.items()), reverse=True)[:k]
    found = index.nearest(unit(asked), k)
    assert len(index) == len(held)
    assert [number for number, _ in found] == [number for _, number in expected]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for cosine, _ in expected], abs=1e-6)


def test_a_number_put_in_again_has_its_new_vector() -> None:
    index = Index(WIDTH)
    index.add(1, unit(1))
    index.add(1, unit(2))
    assert len(index) == 1
    ((number, cosine),) = index.nearest(unit(2), 3)
    assert (number, round(cosine, 5)) == (1, 1.0)


def test_a_vector_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) does not go with those of width 8"):
        Index(WIDTH).add(1, np.zeros(3, np.float32))
