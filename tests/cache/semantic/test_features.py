"""The numbers of a look: their names, their bounds, what moves them."""

from math import isfinite

from hypothesis import given
from hypothesis import strategies as st

from trivet.cache.semantic.features import NAMES, evidence, numbers, pair
from trivet.cache.semantic.look import Kept, Near
from trivet.cache.semantic.words import read


def named(asked: str, near: list[Near], chosen: int = 0) -> dict[str, float]:
    made = numbers(read(asked), near, chosen, read(near[chosen].kept.text))
    return dict(zip(NAMES, made, strict=True))


@given(st.text(max_size=100), st.text(max_size=100), st.floats(-1, 1))
def test_whatever_is_asked_the_numbers_are_finite(a: str, b: str, cosine: float) -> None:
    made = numbers(read(a), [Near(Kept(text=b, group=0), cosine)], 0, read(b))
    assert len(made) == len(NAMES)
    assert all(map(isfinite, made))


@given(st.text(max_size=60), st.text(max_size=60))
def test_which_of_the_two_was_kept_does_not_matter(a: str, b: str) -> None:
    one, other = pair(read(a), read(b), 0.8), pair(read(b), read(a), 0.8)
    assert all(abs(x - y) < 1.0 for x, y in zip(one[:4], other[:4], strict=True))
    assert one[4:8] == other[4:8] or all(abs(x - y) < 1e-9 for x, y in zip(one[4:8], other[4:8], strict=True))


def test_one_word_swapped_is_seen() -> None:
    kept = [Near(Kept(text="what is your return policy", group=0), 0.8)]
    assert named("what is your warranty policy", kept)["swapped"] == 1.0
    assert named("tell me your return policy", kept)["swapped"] == 0.0


def test_the_margin_is_to_the_nearest_of_another_group() -> None:
    near = [
        Near(Kept(text="a", group=1, group_size=3), 0.9),
        Near(Kept(text="b", group=1), 0.85),
        Near(Kept(text="c", group=2), 0.7),
    ]
    margin, agreement, fellows, *_ = evidence(near, 0)
    assert abs(margin - 0.2) < 1e-9
    assert fellows > 0
    assert agreement > evidence(near, 2)[1]
    assert evidence(near, 2)[0] < 0


def test_a_record_of_wrong_hits_lowers_and_one_of_right_hits_raises() -> None:
    def record(right: int, wrong: int) -> float:
        return evidence([Near(Kept(text="a", group=0, right=right, wrong=wrong), 0.9)], 0)[4]

    assert record(0, 1) < record(0, 0) < record(1, 0)
    assert record(1, 1) < 0  # a wrong one says more
