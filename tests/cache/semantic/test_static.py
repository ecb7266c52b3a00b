"""A threshold serves what reaches it, and learns nothing."""

import pytest

from trivet.cache.semantic.look import Kept, Look, Near
from trivet.cache.semantic.static import Static


def look(*cosines: float) -> Look:
    return Look("asked", [Near(Kept(text="kept", group=i), c) for i, c in enumerate(cosines)])


def test_the_nearest_is_served_from_the_threshold_on() -> None:
    static = Static(0.9)
    assert static.decide(look(0.9, 0.8)).serve
    assert static.decide(look(0.9, 0.8)).chosen == 0
    assert not static.decide(look(0.8999)).serve
    assert static.decide(look()).chosen == -1


def test_verdicts_are_counted_and_change_nothing() -> None:
    static = Static(0.9)
    for _ in range(50):
        verdict = static.decide(look(0.95))
        static.learn(look(0.95), verdict, same=False, audited=True)
    assert static.decide(look(0.95)).serve
    assert static.report()["audits_wrong"] == 50
    static.restore(static.save())
    with pytest.raises(ValueError, match="another decider"):
        static.restore(b'{"vcache":1}')


def test_a_threshold_that_is_no_cosine_is_refused() -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        Static(1.1)


@pytest.mark.parametrize("asked", [0.0, 0.5])
def test_whoever_asks_for_a_promise_gets_none_of_what_promises_nothing(asked: float) -> None:
    verdict = Static(0.9).decide(look(0.95)._replace(max_error=asked))
    assert (verdict.serve, verdict.why) == (False, "no promise")


def test_what_is_barred_is_not_served_and_another_that_is_near_enough_is() -> None:
    static, near = Static(0.9), list(look(0.99, 0.95, 0.8).near)
    near[0] = near[0]._replace(barred="hub")
    verdict = static.decide(Look("asked", near))
    assert (verdict.serve, verdict.chosen) == (True, 1)
    near[1] = near[1]._replace(barred="instructions")
    verdict = static.decide(Look("asked", near))
    assert (verdict.serve, verdict.chosen, verdict.why) == (False, 0, "hub")
