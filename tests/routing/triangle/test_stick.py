"""Conversations are known again by their beginning, and by nothing else."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from trivet.routing.triangle.stick import BACK, Conversations, turn
from trivet.testing.cache_suite import ask
from trivet.types import Request


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns

    def mono_ns(self) -> int:
        return self.ns


def said(*turns: str, tenant: str = "acme", **more: Any) -> Request:
    roles = ("user", "assistant")
    return ask(tenant=tenant, messages=[{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)], **more)


def seen(*turns: str, policy: str = "p", **more: Any) -> Any:
    found = turn(said(*turns, **more), policy)
    assert found is not None
    return found


def test_the_next_turn_finds_where_the_last_was_answered() -> None:
    kept = Conversations(Clock())
    kept.keep(seen("x" * 4000), "large")
    held = kept.held(seen("x" * 4000, "an answer", "and then?"), within_s=300)
    assert held is not None
    assert held.target == "large"
    assert 1000 <= held.tokens <= 1020
    assert kept.held(seen("x" * 3999, "an answer", "and then?"), within_s=300) is None
    assert kept.held(seen("x" * 4000), within_s=300) is None  # asked again by itself: no answer stands after it


def test_tenants_policies_and_tools_are_apart() -> None:
    kept = Conversations(Clock())
    tool = [{"type": "function", "function": {"name": "f"}}]
    kept.keep(seen("a"), "large")
    for other in (
        seen("a", "b", "c", tenant="other"),
        seen("a", "b", "c", policy="q"),
        seen("a", "b", "c", tools=tool),
    ):
        assert kept.held(other, within_s=300) is None
    assert kept.held(seen("a", "b", "c"), within_s=300) is not None


def test_it_is_forgotten_in_time_and_when_there_are_too_many() -> None:
    clock = Clock()
    kept = Conversations(clock, most=2)
    kept.keep(seen("a"), "large")
    clock.ns = 300 * 10**9
    assert kept.held(seen("a", "b", "c"), within_s=300) is not None
    clock.ns += 1
    assert kept.held(seen("a", "b", "c"), within_s=300) is None
    for word in ("d", "e", "f"):
        kept.keep(seen(word), word)
    assert kept.held(seen("d", "x", "y"), within_s=300) is None
    assert kept.held(seen("f", "x", "y"), within_s=300) is not None


def test_a_turn_that_never_came_is_passed_over_but_not_many() -> None:
    kept = Conversations(Clock())
    kept.keep(seen("a"), "large")
    turns = ["a"]
    for number in range(BACK):
        turns += [f"answer {number}", f"question {number}"]
        assert kept.held(seen(*turns), within_s=300) is not None
    assert kept.held(seen(*turns, "one more", "and more"), within_s=300) is None


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_where_one_message_ends_matters(turns: list[str]) -> None:
    whole = {seen(*turns).whole, seen("".join(turns)).whole, seen(*turns, "").whole}
    assert len(whole) == (2 if len(turns) == 1 else 3)


def test_what_cannot_be_read_is_no_conversation() -> None:
    assert turn(replace(ask(), fields={}), "p") is None
    assert turn(replace(ask(), fields={"messages": Raw(b"[1,")}), "p") is None
