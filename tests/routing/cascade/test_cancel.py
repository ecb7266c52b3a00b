"""Cancelled at every await of a cascade: one entry for each request, every target let go, and nothing left behind.

As `tests/test_torture.py` does it, in virtual time: while cheap answers are gathered, while they are let go, and while
the large one is relayed.
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
from trivet.tally import Stages, Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.upstream import Upstream
from trivet.wire.request import read_request

POLICY = """
[policies.p]
pool = ["a", "b", "c"]
route = "cascade"
cascade = { within = "1s", compare = "equality" }
"""

POINTS = 20
"""How many there are at least, with a fast ledger and a slow one, `once`, `late` and `twice`."""


class World(NamedTuple):
    stages: Stages
    store: Counting
    upstreams: list[Upstream]


@asynccontextmanager
async def world(
    folder: Path, *, says: tuple[str, str], late: bool, settle_delay_s: float
) -> AsyncGenerator[World, None]:
    """Open stages over two cheap targets and a large one."""
    store = Counting(settle_delay_s=settle_delay_s)
    ups = [
        Upstream(says[0], delay_s=0.01, host="a.test", port=80),
        Upstream(says[1], delay_s=20.0 if late else 0.02, host="b.test", port=80),
        Upstream("Ro", "me", delay_s=0.01, host="c.test", port=80),
    ]
    async with AsyncExitStack() as opened:
        for upstream in ups:
            await opened.enter_async_context(upstream)
        urls = {name: up.base_url for name, up in zip(("a", "b", "c"), ups, strict=True)}
        made = kit(folder, clock=LoopClock(), dialer=dial)
        built = await opened.enter_async_context(stages(config(urls, POLICY), made, store))
        yield World(built, store, ups)


async def asked(made: World, body: bytes, id_: str) -> None:
    request = read_request(body, [], id=id_, tenant="t", key_id="", at_ns=1)
    async with aclosing(answer(Tally(request, made.stages.clock.mono_ns()), made.stages)) as chunks:
        async for _ in chunks:
            await asyncio.sleep(0)


async def one_run(made: World, *, at: int, when: When, stream: bool) -> tuple[int, str]:
    """Run once, cancelled at suspension `at`; gives how many there were, and who was served."""
    before = len(made.store.settled)
    cancelling = Cancelling(asked(made, body_of("call", before, stream=stream), f"req_{before}"), at=at, when=when)

    async def main() -> None:
        await cancelling

    task = asyncio.ensure_future(main())
    await asyncio.wait([task])
    assert task.cancelled() is (at <= cancelling.suspensions), "a cancellation was swallowed, or came from nowhere"
    (entry,) = made.store.entries[before:]
    assert entry.id == f"req_{before}"
    assert not made.store.held, "a hold was left open"
    targets = [one.target for one in entry.outcome.attempts]
    assert len(targets) == len(set(targets)) <= 3, "a target that was asked is one attempt"
    await asyncio.sleep(2)  # virtual: sockets hear of it
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
    for upstream in made.upstreams:
        assert all(link._steps is None for link in upstream.open), "a target is still answering"
    return cancelling.suspensions, entry.outcome.target


async def torture(folder: Path, *, says: tuple[str, str], late: bool, delay_s: float, when: When) -> tuple[int, str]:
    async with world(folder, says=says, late=late, settle_delay_s=delay_s) as made:
        for at in count(1):
            suspensions, target = await one_run(made, at=at, when=when, stream=bool(at % 2))
            if suspensions < at:
                return at - 1, target
    raise AssertionError


@pytest.mark.parametrize(
    ("says", "late", "target"),
    [(("Paris", "Paris"), False, "a"), (("Paris", "Lyon"), False, "c"), (("Paris", "Paris"), True, "c")],
    ids=["agree", "differ", "late"],
)
def test_a_caller_cancelled_at_any_await_leaves_one_entry_and_nothing_else(
    says: tuple[str, str],
    late: bool,  # noqa: FBT001  # pytest gives it by name
    target: str,
    tmp_path: Path,
) -> None:
    points = 0
    whens: tuple[When, ...] = ("once", "late", "twice")
    for delay_s in (0.0, 0.01):
        for when in whens:
            more, served = in_virtual_time(torture(tmp_path, says=says, late=late, delay_s=delay_s, when=when))
            points += more
            assert served == target
    print(f"{target}, late {late}: cancelled at {points} points")
    assert points >= POINTS
