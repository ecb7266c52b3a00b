"""What is on the shelf is found in its own scope while it is fresh, and what saves least makes room."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.cache.semantic.look import Kept
from trivet.cache.semantic.shelf import Answer, Shelf
from trivet.types import Nanos, Usage

WIDTH = 4


def axis(i: int) -> np.ndarray:
    row = np.full(WIDTH, 0.1, np.float32)
    row[i % WIDTH] = 1
    return row / np.linalg.norm(row)


def answer(number: int, *, scope: bytes = b"s", **more: Any) -> Answer:
    given_: dict[str, Any] = {
        "digest": b"d%d" % number, "tenant": "t", "policy": "p", "namespace": "", "body": b"x" * 100, "usage": None,
        "origin_id": f"req_{number}", "target": "a", "kept_ns": 0, "expires_ns": 100,
        "kept": Kept(text=f"q{number}", group=number),
    }  # fmt: skip
    return Answer(number=number, scope=scope, **given_ | more)


def shelf(*, entries: int = 100, size: int = 10**6) -> Shelf:
    return Shelf(max_entries=entries, max_bytes=size)


def near(of: Shelf, i: int, *, scope: bytes = b"s", now_ns: int = 1, k: int = 8) -> list[int]:
    return [found.answer.number for found in of.nearest(scope, axis(i), k, now_ns=now_ns)]


def test_an_answer_is_found_in_its_scope_only() -> None:
    kept = shelf()
    kept.add(answer(1, scope=b"mine"), axis(1))
    kept.add(answer(2, scope=b"yours"), axis(1))
    assert near(kept, 1, scope=b"mine") == [1]
    assert near(kept, 1, scope=b"yours") == [2]
    assert near(kept, 1, scope=b"nobody's") == []


@pytest.mark.parametrize(("now_ns", "there"), [(0, True), (99, True), (100, False), (-1, False)])
def test_a_late_answer_is_found_by_nothing_and_makes_place_for_the_next_nearest(now_ns: int, *, there: bool) -> None:
    kept, gone = shelf(), list[int]()
    kept.gone = gone.append
    kept.add(answer(1), axis(1))
    kept.add(answer(2, kept_ns=-10, expires_ns=1000), axis(2))
    assert near(kept, 1, now_ns=now_ns, k=1) == ([1] if there else [2])
    assert (kept.by_digest(b"d1", now_ns=now_ns) is not None) is there
    assert gone == ([] if there else [1])


def test_an_answer_to_the_same_request_takes_the_place_of_the_one_before() -> None:
    kept = shelf()
    kept.add(answer(1, digest=b"same"), axis(1))
    kept.add(answer(2, digest=b"same"), axis(1))
    assert kept.numbers() == [2]
    assert near(kept, 1) == [2]
    assert kept.by_origin("req_1") is None


def test_an_answer_without_a_vector_is_found_by_its_digest_alone() -> None:
    kept = shelf()
    kept.add(answer(1), None)
    assert near(kept, 1) == []
    assert kept.by_digest(b"d1", now_ns=1) is not None
    kept.remove(1)
    assert kept.bytes == 0


def test_groups_are_counted() -> None:
    kept = shelf()
    for number in (1, 2, 3):
        kept.add(answer(number), axis(number))
    two = kept.by_number(2)
    assert two is not None
    kept.regroup(two, 1)
    sizes = {f.answer.number: f.answer.kept.group_size for f in kept.nearest(b"s", axis(1), 8, now_ns=1)}
    assert sizes == {1: 2, 2: 2, 3: 1}
    kept.remove(1)
    assert kept.nearest(b"s", axis(2), 1, now_ns=1)[0].answer.kept.group_size == 1


def test_what_saves_least_for_its_size_goes_first() -> None:
    kept = shelf(entries=3)
    kept.add(answer(1, worth=Nanos(10_000)), axis(1))
    kept.add(answer(2, worth=Nanos(500)), axis(2))
    kept.add(answer(3, worth=Nanos(500)), axis(3))
    two = kept.by_number(2)
    assert two is not None
    kept.used(two)
    kept.add(answer(4, worth=Nanos(5_000)), axis(0))
    assert sorted(kept.numbers()) == [1, 2, 4]


def test_what_was_worth_much_once_and_is_not_used_any_more_goes_in_the_end() -> None:
    kept = shelf(entries=3)
    kept.add(answer(0, worth=Nanos(2_000)), axis(1))
    for number in range(1, 40):
        kept.add(answer(number, worth=Nanos(500)), axis(number))
    assert 0 not in kept


def test_tags_find_what_carries_them_until_it_is_taken_off() -> None:
    kept = shelf()
    kept.add(answer(1, tags=("a", "b")), axis(1))
    kept.add(answer(2, tags=("b",)), axis(2))
    assert sorted(kept.tagged("b")) == [1, 2]
    kept.remove(1)
    assert (kept.tagged("a"), kept.tagged("b")) == ([], [2])


def test_one_larger_than_all_may_be_is_not_taken() -> None:
    kept = shelf(size=5_000)
    assert kept.add(answer(1, body=b"x" * 6_000), axis(1)) is False
    assert len(kept) == 0


def test_what_is_looked_at_is_one_object_and_what_is_noted_in_it_stays() -> None:
    kept = shelf()
    usage = Usage(input_tokens=3, output_tokens=5)
    whole = answer(1, tags=("a",), usage=usage, worth=Nanos(7), origin_id=f"req_{5:032x}")
    whole.kept.context, whole.kept.seen = "before", ((0.5, True),)
    kept.add(whole, axis(1))
    kept.add(answer(2, origin_id="req_" + "G" * 32), axis(2))
    del whole
    one, other = kept.by_number(1), kept.nearest(b"s", axis(1), 1, now_ns=1)[0].answer
    assert one is other
    expected = answer(1, tags=("a",), usage=usage, worth=Nanos(7), origin_id=f"req_{5:032x}", width=WIDTH)
    expected.kept.context, expected.kept.seen = "before", ((0.5, True),)
    assert one == expected
    one.kept.right, one.kept.wrong, one.kept.residual, one.kept.seen = 3, 1, -0.1, ()
    kept.noted(one)
    kept.used(one)
    del one, other
    again = kept.by_number(1)
    assert again is not None
    assert (again.kept.right, again.kept.wrong, again.kept.residual, again.kept.seen) == (3, 1, -0.1, ())
    assert again.hits == 1
    assert [found.origin_id for found in map(kept.by_number, (1, 2)) if found] == [f"req_{5:032x}", "req_" + "G" * 32]
    for number, origin_id in ((1, f"req_{5:032x}"), (2, "req_" + "G" * 32)):
        found = kept.by_origin(origin_id)
        assert found is not None
        assert found.number == number


def test_a_group_is_counted_though_the_one_it_is_named_after_has_gone_or_left() -> None:
    kept = shelf()
    for number in (1, 2, 3):
        kept.add(answer(number, kept=Kept(text="q", group=9)), axis(number))

    def sizes() -> dict[int, int]:
        return {f.answer.number: f.answer.kept.group_size for f in kept.nearest(b"s", axis(1), 8, now_ns=1)}

    assert sizes() == {1: 3, 2: 3, 3: 3}
    kept.add(answer(9), axis(4))
    assert sizes() == {1: 4, 2: 4, 3: 4, 9: 4}
    nine = kept.by_number(9)
    assert nine is not None
    kept.regroup(nine, 77)
    assert sizes() == {1: 3, 2: 3, 3: 3, 9: 1}
    kept.remove(2)
    kept.remove(3)
    assert sizes() == {1: 1, 9: 1}


STEPS = st.lists(st.tuples(st.sampled_from("aaarux"), st.integers(0, 9), st.integers(0, 3)), max_size=80)


@given(STEPS)
@settings(max_examples=200)
def test_bounds_and_accounts_hold_whatever_is_done(steps: list[tuple[str, int, int]]) -> None:
    kept, made = shelf(entries=5, size=20_000), 0
    for what, i, scope in steps:
        held = set(kept.numbers())
        if what == "a":
            made += 1
            body = b"x" * (i * 500)
            kept.add(answer(made, scope=b"%d" % scope, digest=b"%d" % i, body=body, tags=(str(i),)), axis(i))
        elif what == "r" and held:
            kept.remove(sorted(held)[i % len(held)])
        elif what == "u" and held:
            used = kept.by_number(sorted(held)[i % len(held)])
            assert used is not None
            kept.used(used)
        elif what == "x":
            for number in near(kept, i, scope=b"%d" % scope, now_ns=1):
                assert number in kept
        assert len(kept) <= 5
        assert kept.bytes <= 20_000
    for number in kept.numbers():
        one = kept.by_number(number)
        assert one is not None
        assert kept.by_digest(one.digest, now_ns=1) is one
        assert one.number in near(kept, 0, scope=one.scope, k=50)
        kept.remove(one.number)
    assert kept.bytes == 0


@pytest.mark.parametrize("whose", [{"asker": 1}, {"tenant": "flood"}])
def test_whoever_fills_the_shelf_makes_room_before_others(whose: dict[str, Any]) -> None:
    kept = shelf(entries=100)
    for number in range(20):
        kept.add(answer(number, asker=2), axis(number))
    for number in range(100, 1100):
        kept.add(answer(number, worth=Nanos(10**6), **whose), axis(number))
    assert [number for number in range(20) if number in kept] == list(range(20))
    assert len(kept) == 100


def test_others_grow_until_nobody_has_more_than_a_share() -> None:
    kept = shelf(entries=100)
    for number in range(100):
        kept.add(answer(number, asker=1), axis(number))
    for number in range(100, 150):
        kept.add(answer(number, asker=number), axis(number))
    assert all(number in kept for number in range(100, 150))
    assert sum(number < 100 for number in kept.numbers()) == 50


def test_who_is_alone_has_all_of_it() -> None:
    kept = shelf(entries=100)
    for number in range(300):
        kept.add(answer(number, asker=1), axis(number))
    assert len(kept) == 100
    assert 299 in kept


def test_of_the_digest_every_byte_counts() -> None:
    kept = shelf()
    one, other = bytes(32), bytes(31) + b"\x01"
    kept.add(answer(1, digest=one), axis(1))
    kept.add(answer(2, digest=other), axis(1))
    found = [kept.by_digest(digest, now_ns=1) for digest in (one, other, one[:31])]
    assert [None if a is None else a.number for a in found] == [1, 2, None]


def test_who_asked_and_where_it_leads_stay_with_an_answer() -> None:
    kept = shelf()
    kept.add(answer(1, asker=2**63 - 1, leads=("a.com", "b.com"), may_call=("a",)), axis(1))
    found = kept.by_number(1)
    assert found is not None
    del found
    found = kept.by_number(1)
    assert found is not None
    assert (found.asker, found.leads, found.may_call) == (2**63 - 1, ("a.com", "b.com"), ("a",))
