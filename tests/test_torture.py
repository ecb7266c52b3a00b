"""Cancelled at every await, one after the other: always one Entry, never a socket or a task left behind.

The whole path runs in virtual time over in-memory sockets, so each await comes at the same place in every run. The
caller is cancelled at its first suspension, then in a fresh run at its second, and so on until a run comes through
untouched. `late` cancels in the same turn of the loop in which the awaited thing happens: the race that shields and
hand-overs get wrong. `twice` cancels again at the suspensions that follow, as a server that is stopping does.
"""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import async_solipsism
import pytest

from tests.edge_kit import Tape, feed
from tests.test_simulation import LoopClock, dial
from trivet.errors import LedgerError, TrivetError
from trivet.ledger.keys import FILE, KeyRing
from trivet.pipeline import answer
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.tally import Stages, Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Upstream
from trivet.types import Entry, Hold, Request
from trivet.wire.request import read_request

POLICY = '[policies.p]\npool = ["a", "b"]\n[policies.p.cache]\nmode = "exact"\n'
POINTS = {
    ("through_the_pipeline", "call"): 60, ("through_the_edge", "call"): 80,
    ("through_the_pipeline", "failover"): 100, ("through_the_edge", "failover"): 120,
    ("through_the_pipeline", "hit"): 30, ("through_the_edge", "hit"): 55,
    ("through_the_pipeline", "refusal"): 5, ("through_the_edge", "refusal"): 40,
}  # fmt: skip
"""How many there are at least, over streams and not, with a fast ledger and a slow one, `once`, `late` and `twice`."""
Kind = Literal["call", "failover", "hit", "refusal"]
When = Literal["once", "late", "twice"]


class Counting(Memory):
    """A ledger that tells how often it was handed an entry, and that has it only when its wait is over.

    `Memory` alone would hide a second one, and would have the first before anybody waits. With a delay, a promise of
    room has to be waited for as well; it counts from when it is made, whether or not anybody is still there to get it.
    """

    def __init__(self, *, settle_delay_s: float, fails: bool = False) -> None:
        super().__init__()
        self._delay_s, self._fails = settle_delay_s, fails
        self.settled: list[str] = []
        self.held: set[str] = set()

    def reserve(self, request: Request) -> Hold | Awaitable[Hold]:  # type: ignore[override]  # as the seam allows
        def promise() -> None:
            self.held.add(request.id)
            if not waiter.done():
                waiter.set_result(hold)

        hold = super().reserve(request)
        if not self._delay_s:
            self.held.add(request.id)
            return hold
        waiter: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(self._delay_s, promise)
        waiter.add_done_callback(lambda done: timer.cancel() if done.cancelled() else None)
        return waiter

    def settle(self, hold: Hold | None, entry: Entry) -> Awaitable[None] | None:
        self.settled.append(entry.id)
        self.held.discard(entry.id)  # also where the caller was gone before it got its hold
        return self._later(hold, entry) if self._delay_s else super().settle(hold, entry)

    async def _later(self, hold: Hold | None, entry: Entry) -> None:
        await asyncio.sleep(self._delay_s)
        if self._fails:
            raise LedgerError("The disk has not confirmed it.")
        super().settle(hold, entry)


class Cancelling:
    """Awaits a coroutine, and has its task cancelled at its n-th suspension."""

    def __init__(self, inner: Coroutine[Any, Any, None], *, at: int, when: When) -> None:
        self._inner, self._at, self._when = inner, at, when
        self.suspensions = 0

    def __await__(self) -> Generator[Any, None, None]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        steps, thrown = self._inner.__await__(), None
        while True:
            try:
                awaited = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration:
                return
            self.suspensions += 1
            again = self._at < self.suspensions <= self._at + 3 and self._when == "twice"
            if self.suspensions == self._at or again:
                if self._when != "late":
                    task.cancel()
                elif awaited is None:
                    loop.call_soon(task.cancel)
                else:
                    awaited.add_done_callback(lambda _: task.cancel())
            thrown = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001  # thrown on, a line above
                thrown = error


class World(NamedTuple):
    """Everything that one scenario runs in, again and again."""

    stages: Stages
    app: App
    store: Counting
    upstreams: tuple[Upstream, Upstream]


@asynccontextmanager
async def world(folder: Path, *, settle_delay_s: float) -> AsyncGenerator[World, None]:
    def failing(body: Any) -> Answer:
        odd: dict[str, Any] = {"cut_after": 0} if body.get("stream") else {"status": 500}
        return Answer(pieces=("never",), **odd) if "failover" in json.dumps(body) else Answer(pieces=("Hel", "lo"))

    def collected(generator: AsyncGenerator[Any, None]) -> None:
        left.append(repr(generator))
        assert hooks.finalizer is not None
        hooks.finalizer(generator)

    store, left, hooks = Counting(settle_delay_s=settle_delay_s), list[str](), sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=collected)
    async with (
        Upstream(script=failing, host="a.test", port=80) as a,
        Upstream("Hel", "lo", delay_s=0.01, host="b.test", port=80) as b,
    ):
        made = kit(folder, clock=LoopClock(), dialer=dial)
        async with stages(config({"a": a.base_url, "b": b.base_url}, POLICY), made, store) as built:
            app = App(built, auth=Auth(KeyRing(folder / FILE)), random=made.random, max_body_bytes=10**6)
            yield World(built, app, store, (a, b))
    assert not left, "an answer was left to the garbage collector, which closes it when it pleases"


def body_of(kind: Kind, number: int, *, stream: bool) -> bytes:
    content = "the same" if kind == "hit" else f"{kind} {number}"
    model = "nobody" if kind == "refusal" else "p"
    return json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}).encode()


async def through_the_pipeline(made: World, body: bytes, id_: str) -> None:
    """Ask as the edge does: take each piece, and wait a moment for the client to have it."""
    request = read_request(body, [], id=id_, tenant="t", key_id="", at_ns=1)
    tally = Tally(request, made.stages.clock.mono_ns())
    try:
        async with aclosing(answer(tally, made.stages)) as chunks:
            async for _ in chunks:
                await asyncio.sleep(0)
    except TrivetError:
        pass


async def through_the_edge(made: World, body: bytes, _id: str) -> None:
    """Ask by HTTP, the body in two parts; the client stays and reads slowly."""
    exchange = Tape(slow=True).exchange("POST", "/v1/chat/completions")
    asyncio.get_running_loop().call_soon(lambda: feed(exchange, body[:9], more=True))
    asyncio.get_running_loop().call_later(0.001, lambda: feed(exchange, body[9:]))
    await made.app(exchange)


Way = Callable[[World, bytes, str], Coroutine[Any, Any, None]]


async def one_run(made: World, way: Way, body: bytes, *, at: int, when: When) -> int:
    """Run once, cancelled at its suspension number `at`; gives how many suspensions there were."""
    before = len(made.store.settled)
    cancelling = Cancelling(way(made, body, f"req_{before}"), at=at, when=when)

    async def main() -> None:
        await cancelling

    task = asyncio.ensure_future(main())
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    assert [entry.id for entry in made.store.entries] == made.store.settled, "it went on before the entry was kept"
    await asyncio.sleep(0.05)  # virtual: whatever was going to happen has happened
    settled = made.store.settled[before:]
    assert len(settled) == 1, f"{len(settled)} entries when cancelled at suspension {at}"
    entry = made.store.entries[-1]
    assert entry.id == settled[0]
    assert not made.store.held, "a hold was left open"
    assert entry.outcome.status in ("ok", "cancelled", "refused")
    if way is through_the_pipeline:  # the edge ends the task of a request that it could not read by itself
        assert task.cancelled() is (at <= cancelling.suspensions), "a cancellation was swallowed, or came from nowhere"
    assert all(attempt.status != "ok" for attempt in entry.outcome.attempts[:-1])
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
    for upstream in made.upstreams:
        assert all(link._steps is None for link in upstream.open), "a target is still answering"
    return cancelling.suspensions


async def torture(folder: Path, way: Way, kind: Kind, *, stream: bool, delay_s: float, when: When) -> int:
    """Cancel at every suspension in turn; gives how many there are."""
    async with world(folder, settle_delay_s=delay_s) as made:
        if kind == "hit":
            await way(made, body_of(kind, 0, stream=False), "first")
            assert made.store.entries[0].outcome.status == "ok"
        for at in count(1):
            body = body_of(kind, at, stream=stream)
            if await one_run(made, way, body, at=at, when=when) < at:
                last = made.store.entries[-1]
                assert (last.outcome.status == "refused") is (kind == "refusal")
                assert last.cache == {"hit": "exact", "refusal": "off"}.get(kind, "miss")
                assert len(last.outcome.attempts) == {"call": 1, "failover": 2}.get(kind, 0)
                return at - 1
    raise AssertionError


T = TypeVar("T")


def in_virtual_time(run: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and let asyncio say what it found: an exception that nobody looked at, a task that was lost."""
    told: list[Any] = []
    loop: asyncio.AbstractEventLoop = async_solipsism.EventLoop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        result = loop.run_until_complete(run)
        gc.collect()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    assert not told
    return result


def test_a_caller_cancelled_while_the_ledger_fails_is_still_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        store = Counting(settle_delay_s=0.01, fails=True)
        async with Upstream("Hel", "lo", host="a.test", port=80) as upstream:
            made = kit(tmp_path, clock=LoopClock(), dialer=dial)
            async with stages(config({"a": upstream.base_url}), made, store) as built:
                request = read_request(b'{"model":"nobody","messages":[]}', [], id="r", tenant="t", key_id="", at_ns=1)
                asking = asyncio.ensure_future(anext(answer(Tally(request, made.clock.mono_ns()), built)))
                await asyncio.sleep(0.005)
                assert store.settled
                asking.cancel()
                await asyncio.wait([asking])
                assert asking.cancelled()

    in_virtual_time(main())


@pytest.mark.parametrize("model", ["a", "nobody"])
def test_a_deadline_leaves_no_trace_in_the_task_of_its_request(model: str, tmp_path: Path) -> None:
    """A task may ask again and again: no timer of an answer that is over may strike it, and no cancellation stay."""

    async def main() -> None:
        store = Counting(settle_delay_s=0.0)
        async with Upstream("Hel", "lo", first_delay_s=60, host="a.test", port=80) as upstream:
            made = kit(tmp_path, clock=LoopClock(), dialer=dial)
            async with stages(config({"a": upstream.base_url}), made, store) as built:
                for number in range(2):
                    body = {"model": model, "messages": [], "trivet": {"deadline": "5s"}}
                    request = read_request(
                        json.dumps(body).encode(), [], id=f"r{number}", tenant="t", key_id="", at_ns=1
                    )
                    with pytest.raises(TrivetError) as caught:
                        async with aclosing(answer(Tally(request, made.clock.mono_ns()), built)) as chunks:
                            await anext(chunks)
                    assert caught.value.status == (504 if model == "a" else 404)
                    task = asyncio.current_task()
                    assert task is not None
                    assert task.cancelling() == 0
                    await asyncio.sleep(60)
        assert len(store.settled) == 2

    in_virtual_time(main())


@pytest.mark.parametrize("way", [through_the_pipeline, through_the_edge])
@pytest.mark.parametrize("kind", ["call", "failover", "hit", "refusal"])
@pytest.mark.slow
def test_a_caller_cancelled_at_any_await_leaves_one_entry_and_nothing_else(
    way: Way, kind: Kind, tmp_path: Path
) -> None:
    points = 0
    for stream in (False, True):
        for delay_s in (0.0, 0.01):
            for when in ("once", "late", "twice"):
                run = torture(tmp_path, way, kind, stream=stream, delay_s=delay_s, when=when)
                points += in_virtual_time(run)
    print(f"{way.__name__}, {kind}: cancelled at {points} points")
    assert points >= POINTS[way.__name__, kind]


def test_the_number_of_points_is_the_published_one() -> None:
    """So that a change that takes awaits out of reach of these tests has to say so."""
    text = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
    assert f"cancelled at {sum(POINTS.values())} points or more" in text
