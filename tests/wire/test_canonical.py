"""The answer in an answer, in one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.wire.canonical import SHORT, Canonical, canonical, closing


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("B", "letter", "B"),
        ("(b)", "letter", "B"),
        ("B. Paris", "letter", "B"),
        ("**C**", "letter", "C"),
        ("It is warm there, so the answer is (D).", "letter", "D"),
        ("Answer: A) the first", "letter", "A"),
        ("Because of that.\n\nThe final answer is **B**.", "letter", "B"),
        ("She has 3 left.\n#### 3", "number", "3"),
        ("#### $1,200.50", "number", "2401/2"),
        ("\\boxed{42}", "number", "42"),
        ("First \\boxed{1}, no: \\boxed{\\frac{3}{4}}", "number", "3/4"),
        ("\\boxed{0.75}", "number", "3/4"),
        ("\\boxed{\\text{12 apples}}", "number", "12"),
        ("The answer is 12 %.", "number", "12"),
        ("The answer is: 1.5e3 m", "number", "1500"),
        ("The answer is -7", "number", "-7"),
        ("x = \u22125", "number", "-5"),
        ("3 + 4\n7", "number", "7"),
        ("Paris", "words", "paris"),
        ("The answer is Paris.", "words", "paris"),
        ("  the  Treaty ", "words", "the treaty"),
        ("\\boxed{x^2 + 1}", "words", "x^2 + 1"),
    ],
)
def test_an_answer_is_found_however_it_is_written(text: str, kind: str, answer: str) -> None:
    assert canonical(text) == Canonical(kind, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "There are many ways to do that, and which is best depends on what you want to do with it in the end.",
        "First do this.\nThen that, and be done with it.",
        "1/0 of it is a long story that has no end at all and so no answer, however long one reads it for.",
    ],
)
def test_a_text_without_one_has_none(text: str) -> None:
    assert canonical(text) is None


@given(
    st.integers(-(10**9), 10**9),
    st.sampled_from(["{:d}", "{:,d}", "\\boxed{{{:,d}}}", "#### {:d}", "The answer is {:d}."]),
)
def test_a_number_is_itself_in_any_form(number: int, form: str) -> None:
    assert canonical(form.format(number)) == Canonical("number", str(number))


@given(st.text())
def test_nothing_raises_and_an_answer_is_its_own(text: str) -> None:
    found = canonical(text)
    closing(text)
    if found is not None and found.kind != "words" and len(found.text) <= SHORT:
        assert canonical(found.text) == found


def test_a_long_text_is_read_in_a_moment() -> None:
    for part in ("answer is ", "\\boxed{", "1,", "a ", "(", "#### ", "-"):
        canonical(part * 50_000)
        closing(part * 50_000)


def test_a_power_that_is_out_of_all_proportion_is_no_number() -> None:
    found = canonical("1e999")
    assert found is None or found.kind == "words"


def test_the_numbers_at_the_end() -> None:
    assert closing("3 and 4 make 7. So 1,207 it is.\nThat is all.") == {"1207"}
    assert closing("None here.") == frozenset()
