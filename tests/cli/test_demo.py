"""`trivet demo`, short of its two models: CI runs it whole (`make demo ONCE=1`)."""

import socket
from dataclasses import replace

import pytest

from trivet.cli import demo
from trivet.cli.demo import FIRST, OTHERS, DemoError, Told

TOLD = [
    Told(question, "large" if question.model == "large" else "small", False, 12.5, 40, "0.0000012", "0.0000003")
    for question in (FIRST, *OTHERS)
]
RIGHT = [*TOLD[:4], replace(TOLD[4], hit=True), replace(TOLD[5], hit=True)]


def test_a_port_that_is_taken_gives_way_to_any() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo._free(port) == "0"
    assert demo._free(port) == str(port)
    assert demo._free(0) == "0"


def test_the_questions_show_both_models_a_stream_and_two_repeats() -> None:
    asked = [(q.model, q.words) for q in (FIRST, *OTHERS)]
    assert FIRST.stream
    assert {model for model, _ in asked} == {"auto", "small", "large"}
    assert len(asked) - len(set(asked)) == 2
    assert all(q.expect for q in (FIRST, *OTHERS))


def test_what_happened_is_a_table_with_who_answered_and_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    demo._show(RIGHT)
    shown = capsys.readouterr().out
    assert shown.count("exact hit") == 2
    assert "1.2" in shown


@pytest.mark.parametrize(
    "told",
    [TOLD, [replace(one, target="small") for one in RIGHT], [*RIGHT[:3], *(replace(t, hit=True) for t in TOLD[3:])]],
)
def test_a_demo_that_does_not_show_what_it_is_for_fails(told: list[Told]) -> None:
    with pytest.raises(DemoError, match="two exact hits"):
        demo._show(told)


def test_an_answer_that_makes_no_sense_fails(capsys: pytest.CaptureFixture[str]) -> None:
    demo._check(FIRST, "It is PARIS.", show=True)
    assert "PARIS" in capsys.readouterr().out
    with pytest.raises(DemoError, match="Paris"):
        demo._check(FIRST, "Berlin", show=False)


def test_money_is_shown_in_millionths_and_unknown_as_such() -> None:
    assert (demo._micros("0.0000012"), demo._micros("unknown")) == ("1.2", "unknown")
