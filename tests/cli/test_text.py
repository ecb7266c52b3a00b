"""Money, times and names as people read them."""

import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.cli import text


@pytest.mark.parametrize(
    ("nanos", "words"),
    [(0, "$0.00"), (151_200, "$0.0001512"), (1, "$0.000000001"), (12_500_000_000, "$12.50"), (-10_000_000, "-$0.01")],
)
def test_dollars_are_exact_and_have_cents(nanos: int, words: str) -> None:
    assert text.dollars(nanos) == words


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_dollars_lose_nothing(nanos: int) -> None:
    assert Fraction(text.dollars(nanos).replace("$", "")) * 10**9 == nanos


def test_a_cost_that_is_not_known_is_said() -> None:
    assert text.cost(12_300_000, unknown=3) == "$0.0123 + 3 unknown"
    assert text.cost(12_300_000, unknown=0) == "$0.0123"
    assert text.cost(None, unknown=2) == "2 unknown"
    assert text.cost(None, unknown=0) == "-"


@given(st.text(max_size=200))
def test_a_name_cannot_do_anything_to_the_terminal(name: str) -> None:
    shown = text.clean(name)
    assert len(shown) <= 60
    assert all(unicodedata.category(c)[0] != "C" for c in shown)


def test_escapes_are_written_out() -> None:
    assert text.clean("a\x1b[31mb\u202ec") == "a\\x1b[31mb\\x202ec"


def test_a_time_is_utc() -> None:
    assert text.clock(1_700_000_000_999_999_999) == "2023-11-14 22:13:20"


def test_a_table_in_a_pipe_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    text.table(("NAME", "N"), [("[bold]x" * 12, "1"), ("y", "10")], numbers=[1])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "N"]
    assert lines[1] == "[bold]x" * 12 + "   1"
    assert lines[2].endswith("  10")
