"""What clients wrote is quoted so that it cannot end its quotation; what a model says is read, or is nothing."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.wire.asked import fields, quoted, said


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_one_line_and_reads_as_it_was(text: str) -> None:
    assert json.loads(quoted(text)) == text
    assert len(quoted(text).splitlines()) == 1


def test_what_is_asked_is_two_messages_with_as_little_chance_as_can_be() -> None:
    made = {name: msgspec.json.decode(raw) for name, raw in fields("Sort.", "words", max_tokens=5).items()}
    messages = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "words"}]
    assert made == {"messages": messages, "temperature": 0, "max_tokens": 5}


def test_examples_stand_between_as_if_they_had_been_said() -> None:
    made = fields("Sort.", "words", max_tokens=5, examples=[("one", "a"), ("two", "b")])
    told = [(m["role"], m["content"]) for m in msgspec.json.decode(made["messages"])]
    turns = [("user", "one"), ("assistant", "a"), ("user", "two"), ("assistant", "b")]
    assert told == [("system", "Sort."), *turns, ("user", "words")]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"content": " Hi. "}}]}, " Hi. "),
        ({"choices": [{"message": {"content": None}}]}, ""),
        ({"choices": [{"message": {"content": [{"type": "text"}]}}]}, ""),
        ({"choices": [{"message": None}]}, ""),
        ({"choices": [{}]}, ""),
        ({"choices": []}, ""),
        ({"choices": {}}, ""),
        ({}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_what_it_said_is_read_from_the_answer(body: Any, text: str) -> None:
    assert said(json.dumps(body).encode()) == text


@pytest.mark.parametrize("raw", [b"", b"{", b"not json", b"\xff", b'"\\ud800"'])
def test_what_is_no_answer_says_nothing(raw: bytes) -> None:
    assert said(raw) == ""
