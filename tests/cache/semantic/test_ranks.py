"""The lowest rank comes first, however many there are and whenever they came."""

import heapq
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.cache.semantic.ranks import Ranks


@given(st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=300))
@settings(max_examples=200)
def test_it_is_a_queue_by_rank(steps: list[int | None]) -> None:
    queue, expected = Ranks(), list[float]()
    for number, rank in enumerate(steps):
        if rank is not None:
            queue.push(float(rank), number)
            heapq.heappush(expected, float(rank))
        elif expected:
            assert queue.pop()[0] == heapq.heappop(expected)
        assert len(queue) == len(expected)


def test_it_is_one_of_many_thousands_too() -> None:
    rng, queue, expected = random.Random(3), Ranks(), list[tuple[float, int]]()
    for number in range(40_000):
        low = rng.choice((0.0, 100.0)) if number > 20_000 else 50.0  # later some are lower than all before
        one = (low + rng.random(), number)
        queue.push(*one)
        heapq.heappush(expected, one)
        if number > 10_000 and number % 3 == 0:
            assert queue.pop() == heapq.heappop(expected)
    while expected:
        assert queue.pop() == heapq.heappop(expected)
    assert len(queue) == 0


def test_those_that_are_gone_are_not_kept_for_ever() -> None:
    queue = Ranks()
    for number in range(50_000):
        queue.push(float(number % 977), number)
        queue.tidy(there=lambda n: n % 10 == 0 or n > number - 10, count=number // 10 + 10)  # noqa: B023
    assert len(queue) < 5_000 * 1.25 + 3_000
    left = set()
    while len(queue):
        left.add(queue.pop()[1])
    assert left >= set(range(0, 50_000, 10))
