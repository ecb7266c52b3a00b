"""The router `cascade`: who is asked next, and whose answer is served."""

import json
from collections.abc import Sequence
from itertools import permutations

import pytest
from msgspec.structs import replace

from trivet.routing.cascade.router import CascadeRouter
from trivet.routing.rules import Able, Ruled
from trivet.seams import Heard, Router, Step
from trivet.testing.cache_suite import ask
from trivet.testing.router_suite import RouterSuite
from trivet.types import CascadePolicy, Policy, Rule

pytestmark = pytest.mark.anyio

POOL = ("a", "b", "c", "d")


class TestCascade(RouterSuite):
    def make(self) -> Router:
        return CascadeRouter(("p",), None)

    def policy(self, pool: tuple[str, ...]) -> Policy:
        return policy(pool)


def policy(pool: tuple[str, ...] = POOL, *, agree: int = 2, together: bool = True, samples: int = 1) -> Policy:
    how = CascadePolicy(
        cheap=pool[:-1], large=pool[-1], agree=agree, together=together, samples=samples, compare="equality"
    )
    return Policy(name="p", digest="d", pool=pool, route="cascade", cascade=how)


def heard(target: str, content: str | None) -> Heard:
    """An answer; None: it failed."""
    if content is None:
        return Heard(target, None, why="failed: 500")
    message = {"role": "assistant", "content": content}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Heard(target, json.dumps(body).encode(), "stop")


async def weigh(asked: Policy, told: Sequence[Heard] = (), waiting: Sequence[str] = (), *, last: bool = False) -> Step:
    return await CascadeRouter(("p",), None).weigh(ask(), asked, told, waiting, last=last)


async def test_all_cheap_ones_are_asked_at_first() -> None:
    assert (await weigh(policy())).ask == ("a", "b", "c")
    assert (await weigh(policy(together=False))).ask == ("a", "b")


async def test_who_agreed_first_in_the_order_of_the_pool_is_served_however_they_came() -> None:
    answers = [heard("a", "Lyon"), heard("b", "Paris"), heard("c", "paris ")]
    for order in permutations(answers):
        step = await weigh(policy(), order)
        assert order[step.take if step.take is not None else -1].target == "b"
        assert step.why == "2 of 3 agree"
        assert dict(zip([one.target for one in order], step.found, strict=True)) == {
            "a": "differs",
            "b": "agrees",
            "c": "agrees",
        }


async def test_who_is_enough_is_not_waited_for_and_who_can_still_agree_is() -> None:
    assert (await weigh(policy(), [heard("a", "x"), heard("b", "x")], ["c"])).take == 0
    assert await weigh(policy(), [heard("a", "x"), heard("b", "y")], ["c"]) == Step()
    step = await weigh(policy(agree=3), [heard("a", "x"), heard("b", "y")], ["c"])
    assert step.relay == "d", "three can agree no more"


async def test_in_turn_no_more_are_asked_than_are_wanting() -> None:
    turns = policy(together=False)
    assert (await weigh(turns, [heard("a", "x"), heard("b", "y")])).ask == ("c",)
    assert (await weigh(turns, [heard("a", "x"), heard("b", None)])).ask == ("c",)
    assert await weigh(turns, [heard("a", "x")], ["b"]) == Step()
    step = await weigh(turns, [heard("a", "x"), heard("b", "y"), heard("c", "z")])
    assert (step.relay, step.why) == ("d", "no two agree")


async def test_after_the_time_nobody_else_is_asked() -> None:
    late = Heard("b", None, why="too late")
    step = await weigh(policy(together=False), [heard("a", "x"), late], last=True)
    assert (step.relay, step.ask, step.why) == ("d", (), "b: too late")


async def test_where_the_large_one_fails_the_best_of_the_others_is_served() -> None:
    failed = heard("d", None)
    three = [heard("a", ""), heard("b", "y"), heard("c", "z"), failed]
    step = await weigh(policy(), three)
    assert (step.take, step.why) == (1, "the large target failed")
    step = await weigh(policy(), [heard("a", ""), heard("b", None), heard("c", None), failed])
    assert (step.take, step.why) == (0, "the large target failed, no answer")
    step = await weigh(policy(), [heard("a", None), heard("b", None), heard("c", None), failed])
    assert (step.take, step.relay, step.ask) == (None, "", ())


async def test_where_too_few_cheap_ones_are_left_the_large_one_is_asked_as_always() -> None:
    left = policy(("b", "d"))
    ranked = await CascadeRouter(("p",), None).rank(ask(), left)
    assert [(c.target, c.weighed) for c in ranked] == [("d", False), ("b", False)]
    assert ranked[0].why == "too few cheap targets"


async def test_where_the_large_one_may_not_be_called_the_last_of_those_left_is_the_large_one() -> None:
    narrowed = replace(policy(), pool=("a", "b", "c"))
    ranked = await CascadeRouter(("p",), None).rank(ask(), narrowed)
    assert [(c.target, c.weighed) for c in ranked] == [("a", True), ("b", True), ("c", False)]


async def test_a_rule_comes_before_it_and_who_lacks_something_is_not_asked() -> None:
    router = Ruled(CascadeRouter(("p",), None), {"a": Able(frozenset({"tools"}))})
    ruled = replace(policy(), rules=(Rule(use=("c",), feature=frozenset({"x"})),))
    tools = ask(tools=[{"type": "function", "function": {"name": "f"}}])
    ranked = await router.rank(tools, ruled)
    assert [(c.target, c.weighed) for c in ranked] == [("b", True), ("c", True), ("d", False)]
    assert (await router.weigh(tools, ruled, (), (), last=False)).ask == ("b", "c")
    labelled = replace(ask(), labels=replace(ask().labels, feature="x"))
    ranked = await router.rank(labelled, ruled)
    assert (ranked[0].target, ranked[0].weighed, ranked[0].why) == ("c", False, "rule 1")


async def test_ends_are_counted_and_outlive_a_reload() -> None:
    router = CascadeRouter(("p",), None)
    await router.weigh(ask(), policy(), [heard("a", "x"), heard("b", "x")], (), last=False)
    await router.weigh(ask(), policy(), [heard("a", "x"), heard("b", "y"), heard("c", "z")], (), last=False)
    after = CascadeRouter(("p", "q"), None)
    after.follow(router)
    assert after.weighed()["p"]["agreed"] == after.weighed()["p"]["large"] == 1
    assert set(after.weighed()) == {"p", "q"}


async def test_one_target_may_be_asked_until_enough_of_its_answers_agree() -> None:
    five = policy(("a", "b"), agree=3, samples=5)
    assert (await weigh(five)).ask == ("a",) * 5
    turns = policy(("a", "b"), agree=3, samples=5, together=False)
    assert (await weigh(turns)).ask == ("a",) * 3
    told = [heard("a", "x"), heard("a", "y"), heard("a", "x")]
    assert (await weigh(turns, told)).ask == ("a",)
    told.append(heard("a", "z"))
    assert (await weigh(turns, told)).ask == ("a",)
    assert (await weigh(turns, [*told, heard("a", "w")])).relay == "b"
    step = await weigh(turns, [*told, heard("a", "x")])
    assert (step.take, step.why) == (0, "3 of 5 agree")
    assert (await weigh(turns, [heard("a", "x"), heard("a", None)])).relay == "b", "who fails is not asked again"
    two = policy(("a", "b", "c"), agree=2, samples=2, together=False)
    assert (await weigh(two, [heard("a", "x"), heard("b", "y")])).ask == ("a",)


async def test_who_says_the_same_again_is_asked_once() -> None:
    five = policy(("a", "b"), agree=3, samples=5)
    router = CascadeRouter(("p",), None)
    for fixed in (ask(temperature=0), ask(seed=1)):
        first = (await router.rank(fixed, five))[0]
        assert (first.target, first.weighed, first.why) == ("b", False, "the same answer again at temperature 0")
    assert (await router.rank(ask(), five))[0].weighed
    one = policy(("a", "b"), agree=1, samples=5)
    assert (await router.weigh(ask(temperature=0), one, (), (), last=False)).ask == ("a",)
