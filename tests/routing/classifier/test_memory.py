"""Words are remembered within bounds of number and time; a model that says nothing is left alone, and tried again."""

from trivet.routing.classifier.memory import AFTER, PAUSE_S, Breaker, Memory
from trivet.testing.cache_suite import Hands


def test_a_word_is_remembered_until_its_time_is_over() -> None:
    clock = Hands()
    memory = Memory(clock)
    memory.keep(b"a", "simple", ttl_s=10, most=5)
    clock.ns += 10_000_000_000 - 1
    assert memory.find(b"a") == "simple"
    clock.ns += 1
    assert (memory.find(b"a"), len(memory)) == (None, 0)
    assert memory.find(b"b") is None


def test_those_used_last_are_kept_and_no_more_than_there_is_room_for() -> None:
    memory = Memory(Hands())
    for key in (b"a", b"b", b"c"):
        memory.keep(key, "complex", ttl_s=10, most=3)
    memory.find(b"a")
    memory.keep(b"d", "simple", ttl_s=10, most=3)
    assert [memory.find(key) for key in (b"a", b"b", b"c", b"d")] == ["complex", None, "complex", "simple"]
    memory.keep(b"e", "simple", ttl_s=10, most=0)
    assert len(memory) == 0


def test_after_some_failures_on_end_it_is_asked_once_in_each_pause() -> None:
    clock = Hands()
    breaker = Breaker(clock)
    assert [breaker.failed() for _ in range(AFTER - 1)] == [False] * (AFTER - 1)
    assert breaker.lets()
    assert breaker.failed()  # told of once...
    assert not breaker.failed()  # ... and not again
    assert not breaker.lets()
    clock.ns += int(PAUSE_S * 1e9)
    assert [breaker.lets() for _ in range(3)] == [True, False, False]
    clock.ns += int(PAUSE_S * 1e9)  # that one was given up: nobody heard of it
    assert breaker.lets()
    breaker.spoke()
    assert [breaker.lets() for _ in range(3)] == [True] * 3


def test_one_word_between_is_enough_to_go_on() -> None:
    breaker = Breaker(Hands())
    for _ in range(3):
        for _ in range(AFTER - 1):
            breaker.failed()
        breaker.spoke()
    assert breaker.lets()
