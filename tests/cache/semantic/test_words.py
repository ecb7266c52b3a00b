"""The guards: what each of them forbids, what it lets through, and that no text breaks them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.cache.semantic.words import guard, read, stem, weighed

FORBIDDEN = [
    ("number differs", "what is 17 * 23?", "what is 17 * 24?"),
    ("number differs", "events of 1969", "events of 1968"),
    ("number differs", "a table for two", "a table for four"),
    ("number differs", "cost of a transfer", "cost of a transfer of 50 euros"),
    ("opposite", "how do I turn dark mode on", "how do I turn dark mode off"),
    ("opposite", "foods that raise blood pressure", "foods that lower blood pressure"),
    ("action differs", "how to upload a file", "how to rename a file"),
    ("negation differs", "which plants are safe for cats", "which plants are not safe for cats"),
    ("negation differs", "why do people vote", "why don't people vote"),
    ("country differs", "capital of France", "capital of Spain"),
    ("language differs", "say hello in Polish", "say hello in Greek"),
    ("programming language differs", "sort a list in Python", "sort a list in Rust"),
    ("name differs", "when was Ada Lovelace born", "when was Alan Turing born"),
    ("unit differs", "boiling point of water in celsius", "boiling point of water in kelvin"),
    ("month differs", "events in March", "events in June"),
    ("time differs", "exchange rate today", "exchange rate last year"),
    ("rank differs", "show my first order", "show my largest order"),
    ("order differs", "flights from Boston to Denver", "flights from Denver to Boston"),
    ("order differs", "is gold heavier than iron", "is iron heavier than gold"),
    ("order differs", "dog bites man", "man bites dog"),
    ("modality differs", "can I wear a helmet on a scooter", "must I wear a helmet on a scooter"),
    ("code differs", "what does read_csv() do", "what does to_csv() do"),
    ("code differs", "explain a == b", "explain a != b"),
    ("code differs", "what does `ls -a` do", "what does `ls -l` do"),
    (
        "other language",
        "how do I change the name of my account",
        "wie ist der name und die adresse mit der ich das kann",
    ),
    ("other language", "how are you", "как дела"),
]

ALLOWED = [
    ("what is your return policy", "tell me about your return policy"),
    ("1,000 euros", "1000 euros"),
    ("transfer of 007 euros", "transfer of 7 euros"),
    ("I don't know my PIN", "I do not know my PIN"),
    ("why was my payment not accepted", "why was my card payment declined at the shop"),
    ("how far in km", "how far in kilometers"),
    ("is the PIN separately delivered", "is the PIN delivered separately"),
    ("will the U.S. card work", "will the US card work"),
    ("what's new in iOS 10", "what is new in IOS 10"),
    ("When can I expect my card?", "When should I expect my card?"),
]


@pytest.mark.parametrize(("why", "a", "b"), FORBIDDEN)
def test_what_a_guard_forbids_it_forbids_both_ways(why: str, a: str, b: str) -> None:
    assert guard(read(a), read(b)) == why
    assert guard(read(b), read(a)) == why


@pytest.mark.parametrize(("a", "b"), ALLOWED)
def test_the_same_said_otherwise_is_let_through(a: str, b: str) -> None:
    assert guard(read(a), read(b)) == ""


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_can_be_read_and_the_order_of_two_does_not_matter(a: str, b: str) -> None:
    assert guard(read(a), read(b)) == guard(read(b), read(a))
    assert guard(read(a), read(a)) == ""


def test_of_a_text_without_end_both_ends_are_read() -> None:
    long = "word " * 100_000
    assert read("first 1 " + long + " last 2").numbers == {"1", "2"}
    assert len(read(long).words) < 1000


def test_endings_are_cut_off_and_short_words_are_left_alone() -> None:
    assert stem("withdrawal") == stem("withdrawing") == stem("withdraws") == "withdraw"
    assert stem("is") == "is"
    assert stem("bus") == "bus"


def test_the_words_alone_are_those_of_the_whole_reading() -> None:
    text = "Where can\u2019t I withdraw 20 EUR from, where?"
    words, stems = weighed(text)
    assert (words, stems) == (read(text).words, read(text).stems)
    assert stems["withdraw"] == 1.0
    assert stems["from"] == 0.1
