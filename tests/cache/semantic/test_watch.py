"""What comes of a policy's looks is told to the operator, kept through a restart, and obeys the policy."""

import random

import pytest
from msgspec.structs import replace

from tests.cache.semantic.test_gain import SPACE, looks
from tests.cache.semantic.test_tier import RULES
from trivet.cache.semantic.gain import LOOKS
from trivet.cache.semantic.watch import Watch, read
from trivet.testing.cache_suite import Hands

VERIFIED = replace(RULES, mode="verified", max_error=0.02)


def watching(rules: object = VERIFIED) -> tuple[Watch, list[str]]:
    told: list[str] = []
    return Watch("support", rules, clock=Hands(), random=random.Random(1), tell=told.append), told  # type: ignore[arg-type]


def broken(watch: Watch) -> None:
    """Have half of the requests served, and a quarter of those wrong."""
    for i in range(1000):
        watch.alarm.asked(served=i % 2 == 0)
    for i in range(200):
        watch.audited(0.5, same=i % 4 != 0)


def test_a_broken_promise_is_told_once_with_numbers_and_what_to_do() -> None:
    watch, told = watching()
    broken(watch)
    assert len(told) == 1
    assert told[0].startswith("Policy 'support' breaks its promise: ")
    assert "max_error is 2.00%" in told[0]
    assert 'mode = "shadow"' in told[0]
    report = watch.report()
    assert report["promise_broken"] == 1.0
    assert 0.02 < report["measured_error_low"] < report["measured_error"] < report["measured_error_high"]


def test_a_mode_that_promises_nothing_breaks_nothing() -> None:
    watch, told = watching(RULES)
    broken(watch)
    assert (told, watch.report()["promise_broken"]) == ([], 0.0)


def test_what_was_seen_goes_on_after_a_restart() -> None:
    watch, _ = watching()
    broken(watch)
    watch.gains[SPACE].answered(10**9)
    looks(watch.gains[SPACE], LOOKS)
    again, told = watching()
    again.restore(watch.save())
    assert again.report() == watch.report()
    assert again.report()["spaces_off"] == 1
    again.audited(0.5, same=False)
    assert told == []  # it was told before
    state = read(watch.save())
    assert (state.promise, state.audits, state.audits_wrong, state.alarm.broken) == (0.02, 200, 50, True)


@pytest.mark.parametrize("saved", [b"", b"{}", b"[1]", b'{"at_ns": 1}', b"\xff"])
def test_what_cannot_be_read_is_begun_anew(saved: bytes) -> None:
    watch, told = watching()
    watch.restore(saved)
    assert (watch.report()["spaces"], told) == (0, [])


@pytest.mark.parametrize(("more", "skips"), [({}, True), ({"auto_off": False}, False), ({"mode": "shadow"}, False)])
def test_a_policy_that_will_not_have_it_or_only_measures_is_never_off(more: dict[str, object], *, skips: bool) -> None:
    watch, _ = watching(replace(VERIFIED, **more))
    watch.gains[SPACE].off = "it lost"
    assert any(watch.skips(SPACE) for _ in range(100)) is skips
