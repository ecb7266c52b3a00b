"""Cancelled at every await while its word is waited for: one entry for each, and nothing left behind.

As `tests/test_torture.py` does it, in virtual time. The word is asked for in a task of its own, which others may wait
for too: they are to hear it whatever becomes of the one who asked first.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_simulation import LoopClock, dial
from tests.test_torture import Cancelling, Counting, When, body_of, in_virtual_time
from trivet.pipeline import answer
from trivet.routing.classifier.memory import PAUSE_S
from trivet.tally import Stages, Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.upstream import Upstream
from trivet.wire.request import read_request

POLICY = """
[policies.p]
pool = ["a", "b"]
route = "classifier"
classifier = {{ model = "judge", timeout = "{within}", memory = 0 }}
"""


POINTS = 20
"""How many there are at least, with a fast ledger and a slow one, `once`, `late` and `twice`."""


class World(NamedTuple):
    stages: Stages
    store: Counting
    upstreams: list[Upstream]


@asynccontextmanager
async def world(folder: Path, *, within: str, settle_delay_s: float) -> AsyncGenerator[World, None]:
    """Open stages over a pool of two and a model that takes 20 ms for its word."""
    store = Counting(settle_delay_s=settle_delay_s)
    ups = [
        Upstream("Hel", "lo", host="a.test", port=80),
        Upstream("Hel", "lo", host="b.test", port=80),
        Upstream("simple", delay_s=0.02, host="judge.test", port=80),
    ]
    async with AsyncExitStack() as opened:
        for upstream in ups:
            await opened.enter_async_context(upstream)
        urls = {name: up.base_url for name, up in zip(("a", "b", "judge"), ups, strict=True)}
        made = kit(folder, clock=LoopClock(), dialer=dial)
        built = await opened.enter_async_context(stages(config(urls, POLICY.format(within=within)), made, store))
        yield World(built, store, ups)


async def asked(made: World, body: bytes, id_: str) -> None:
    request = read_request(body, [], id=id_, tenant="t", key_id="", at_ns=1)
    async with aclosing(answer(Tally(request, made.stages.clock.mono_ns()), made.stages)) as chunks:
        async for _ in chunks:
            await asyncio.sleep(0)


async def one_run(made: World, *, at: int, when: When, others: int) -> tuple[int, str]:
    """Run once, cancelled at suspension `at`, with others behind that ask the same; gives how many there were."""
    before = len(made.store.settled)
    body = body_of("call", before, stream=False)
    cancelling = Cancelling(asked(made, body, f"req_{before}"), at=at, when=when)

    async def main() -> None:
        await cancelling

    first = asyncio.ensure_future(main())
    await asyncio.sleep(0.005)  # the model is thinking
    behind = [asyncio.ensure_future(asked(made, body, f"req_{before}_{i}")) for i in range(others)]
    await asyncio.wait([first, *behind])
    assert first.cancelled() is (at <= cancelling.suspensions), "a cancellation was swallowed, or came from nowhere"
    assert [task.exception() for task in behind] == [None] * others, "one who stayed was not answered"
    assert sorted(made.store.settled) == sorted(entry.id for entry in made.store.entries), "it went on before that"
    entries = made.store.entries[before:]
    own = [entry for entry in entries if not entry.route_of]
    assert sorted(entry.id for entry in own) == sorted([f"req_{before}", *(f"req_{before}_{i}" for i in range(others))])
    assert all(entry.outcome.status == "ok" for entry in own if entry.id != f"req_{before}")
    assert {entry.route_of for entry in entries} - {""} <= {entry.id for entry in own}
    assert len(entries) - len(own) <= 2, "a word that was given up may be asked for anew, once"
    assert not made.store.held, "a hold was left open"
    assert len(made.stages.flights) == 0
    await asyncio.sleep(PAUSE_S + 1)  # virtual: sockets hear of it, and a model that was too late may be asked again
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
    for upstream in made.upstreams:
        assert all(link._steps is None for link in upstream.open), "a target is still answering"
    last = next(entry for entry in own if entry.id == f"req_{before}")
    return cancelling.suspensions, last.candidates[0].why if last.candidates else ""


async def torture(folder: Path, *, within: str, delay_s: float, when: When, others: int) -> tuple[int, str]:
    async with world(folder, within=within, settle_delay_s=delay_s) as made:
        for at in count(1):
            suspensions, why = await one_run(made, at=at, when=when, others=others)
            if suspensions < at:
                return at - 1, why
    raise AssertionError


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize(("within", "why"), [("1s", "simple"), ("10ms", "timeout, so complex")])
def test_a_caller_cancelled_at_any_await_takes_nothing_from_others_and_leaves_nothing(
    within: str, why: str, others: int, tmp_path: Path
) -> None:
    points = 0
    whens: tuple[When, ...] = ("once", "late", "twice")
    for delay_s in (0.0, 0.01):
        for when in whens:
            run = torture(tmp_path, within=within, delay_s=delay_s, when=when, others=others)
            more, said = in_virtual_time(run)
            points += more
            assert said == f"classifier: {why}"
    print(f"{within}, {others} others: cancelled at {points} points")
    assert points >= POINTS
