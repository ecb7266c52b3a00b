"""Cancelled at every await again, on real sockets and a real disk: a ledger that waits for its flush, the
configuration read again in the middle, and OpenAI's client inside the program. One entry each time, nothing left open.

What `test_torture.py` does in virtual time cannot have the ledger's thread, nor the engine's. Here an await does not
come at the same place in every run, so these points are not among those that are published.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge_kit import Tape, chat, until
from tests.ledger.ledger_kit import journals, kept_ids
from tests.server.test_reload import Running, running
from tests.test_torture import Cancelling, When
from trivet.inprocess import Engine
from trivet.ledger.report import entries as read_entries
from trivet.testing.upstream import Answer, Upstream

pytestmark = pytest.mark.anyio
CONFIG = """
[targets.a]
provider = "openai"
model = "m"
base_url = "{a}"
[targets.b]
provider = "openai"
model = "{b_model}"
base_url = "{b}"
[policies.p]
pool = ["a", "b"]
[policies.p.cache]
mode = "exact"
[ledger]
durability = "power"
"""
WHENS: tuple[When, ...] = ("once", "late", "twice")


def body_of(kind: str, number: int, *, stream: bool) -> dict[str, Any]:
    content = "the same" if kind == "hit" else f"{kind} {number}"
    return {"model": "p", "stream": stream, "messages": [{"role": "user", "content": content}]}


@asynccontextmanager
async def upstreams() -> AsyncGenerator[tuple[Upstream, Upstream]]:
    def failing(body: Any) -> Answer:
        odd: dict[str, Any] = {"cut_after": 0} if body.get("stream") else {"status": 500}
        return Answer(pieces=("never",), **odd) if "failover" in json.dumps(body) else Answer(pieces=("Hel", "lo"))

    async with Upstream(script=failing) as a, Upstream("Hel", "lo") as b:
        yield a, b


def text(a: Upstream, b: Upstream, *, b_model: str = "m") -> str:
    return CONFIG.format(a=a.base_url, b=b.base_url, b_model=b_model)


async def cancelled_at_each(ask: Callable[[int], Any], *, when: When, after: Callable[[int], Any]) -> int:
    """Run `ask` again and again, cancelled one suspension later each time, and `after` each; gives how many."""
    for at in count(1):
        cancelling = Cancelling(ask(at), at=at, when=when)

        async def main(cancelling: Cancelling = cancelling) -> None:
            await cancelling

        task = asyncio.ensure_future(main())
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        await after(at)
        if cancelling.suspensions < at:
            return at - 1
    raise AssertionError


def idle(*among: Upstream) -> bool:
    return all(link._steps is None for upstream in among for link in upstream.open)


@pytest.mark.parametrize("reloads", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["call", pytest.param("failover", marks=pytest.mark.slow), "hit"])
async def test_a_request_cancelled_anywhere_has_its_entry_on_the_disk(
    tmp_path: Path, kind: str, *, reloads: bool
) -> None:
    """Through the edge. Where the configuration is read again, `b` is another target after it, and the old one goes."""
    points, asked, before = 0, 0, asyncio.all_tasks()
    reloading = list[asyncio.Task[bool]]()
    async with upstreams() as (a, b), running(tmp_path, text(a, b)) as made:
        ledger = tmp_path / "ledger"
        if kind == "hit":
            assert await made.ask("p", messages=body_of("hit", 0, stream=False)["messages"]) == 200
            asked += 1
        for stream in (False, True):
            for when in WHENS:

                async def ask(at: int, stream: bool = stream) -> None:  # noqa: FBT001  # bound here
                    if reloads:
                        made.file.write_text(text(a, b, b_model=f"m{asked}"))
                        reloading.append(asyncio.ensure_future(made.reload.now()))
                    await made.app(chat(Tape(slow=True), body_of(kind, asked, stream=stream)))

                async def after(at: int) -> None:
                    nonlocal asked
                    asked += 1
                    assert len(kept_ids(ledger)) == asked, f"{len(kept_ids(ledger)) - asked + 1} entries at {at}"
                    for one in reloading:
                        assert await one, made.told[-1]
                    reloading.clear()
                    await until(lambda: idle(a, b))
                    await until(lambda: nothing_left(made, before))

                points += await cancelled_at_each(ask, when=when, after=after)
        found = read_entries(ledger, since_ns=0, until_ns=2**62, limit=10_000, tell=print)
        assert {entry.outcome.status for entry in found} == {"ok", "cancelled"}
    print(f"{kind}, {'with' if reloads else 'without'} a reload: cancelled at {points} points")
    assert points >= 12
    assert not a.open
    assert not b.open
    assert caught_up(ledger) == asked


def caught_up(ledger: Path) -> int:
    """Open a closed ledger, and count its entries: what closing left in a journal, because SQLite was busy each time
    that it tried, is written by whoever opens it next; then there is no journal, and no entry twice."""
    read = read_entries(ledger, since_ns=0, until_ns=2**62, limit=10_000, tell=print)
    assert journals(ledger) == []
    assert sorted(entry.id for entry in read) == sorted(kept_ids(ledger))
    return len(read)


def nothing_left(made: Running, before: set[Any]) -> bool:
    return not made.reload._ending and not made.builder._old and asyncio.all_tasks() <= before


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_of_the_client_inside_the_program_cancelled_anywhere_leaves_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    home, points, asked = tmp_path / "home", 0, 0
    monkeypatch.setenv("TRIVET_HOME", str(home))
    async with upstreams() as (a, b):
        file = tmp_path / "trivet.toml"
        file.write_text(text(a, b))
        engine = await asyncio.to_thread(Engine, file)
        async with engine.async_openai(max_retries=0) as client:
            await say(client, body_of("hit", 0, stream=stream))  # the first finds out its platform, and asks nobody yet
            asked = 1
            for kind in ("call", "failover", "hit"):
                for when in WHENS:

                    async def ask(at: int, kind: str = kind) -> None:
                        await say(client, body_of(kind, asked, stream=stream))

                    async def after(at: int) -> None:
                        nonlocal asked
                        asked += 1
                        await until(lambda: len(kept_ids(home / "ledger")) >= asked)
                        await until(lambda: idle(a, b))
                        assert len(kept_ids(home / "ledger")) == asked, at

                    points += await cancelled_at_each(ask, when=when, after=after)
        await asyncio.to_thread(engine.close)
    print(f"the client inside, {'streamed' if stream else 'whole'}: cancelled at {points} points")
    assert points >= 9
    assert caught_up(home / "ledger") == asked
    assert not a.open
    assert not b.open


async def say(client: openai.AsyncOpenAI, body: dict[str, Any]) -> None:
    """Ask, and read to the end."""
    answer = await client.chat.completions.create(**body)
    if body["stream"]:
        async with answer:
            async for _ in answer:
                pass
