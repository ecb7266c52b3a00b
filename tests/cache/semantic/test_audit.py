"""A hit that is audited is asked upstream too: the client waits for nothing, the ledger has both, the cache learns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from tests.cache.semantic.test_tier import WHAT, WHICH, Cell
from tests.test_pipeline import ask, run, text
from trivet.tally import Stages
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Upstream
from trivet.types import Request

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a"]
baseline = "a"
[policies.p.cache]
mode = "static"
threshold = 0.8
"""


class Room(NamedTuple):
    made: Stages
    cell: Cell
    store: Memory
    upstream: Upstream


@asynccontextmanager
async def room(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Room]:
    store, cell = Memory(), Cell(audit=1.0)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(upstream)
        settings = config({"a": upstream.base_url}, POLICY)
        made = await opened.enter_async_context(stages(settings, kit(tmp_path), store))
        opened.push_async_callback(cell.cache.aclose)
        yield Room(made._replace(cache=cell.cache), cell, store, upstream)


def words(text_: str, **more: Any) -> Request:
    return ask(messages=[{"role": "user", "content": text_}], **more)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_audit_is_a_request_of_its_own_whose_answer_teaches(tmp_path: Path, *, stream: bool) -> None:
    async with room(tmp_path, Upstream("everest")) as (made, cell, store, upstream):
        await run(words(WHAT), made)
        served = words(WHICH, stream=stream)
        chunks, tally = await run(served, made)
        assert b"everest" in text(chunks)
        await made.aside.idle()
        await cell.cache.settled()
    assert cell.decider.verdicts == [(True, True)]
    assert len(upstream.requests) == 2
    first, hit, audit = store.entries
    assert (hit.cache, hit.decision, hit.hit_of, hit.p_correct) == ("semantic", "serve", first.id, 0.9)
    assert hit.cosine == pytest.approx(6 / 7)
    assert (audit.id, audit.audit_of, audit.decision) == (f"{hit.id}-audit", served.id, "call")
    assert audit.outcome.cost_nanos == first.outcome.cost_nanos
    assert audit.saved == {"audit": -(first.outcome.cost_nanos or 0)}
    assert tally.entry is hit


async def test_the_client_does_not_wait_for_an_audit_and_its_failure_is_not_the_clients(tmp_path: Path) -> None:
    answers = iter([Answer(pieces=("everest",)), Answer(status=500)])
    async with room(tmp_path, Upstream(script=lambda body: next(answers))) as (made, cell, store, _):
        await run(words(WHAT), made)
        chunks, _ = await run(words(WHICH), made)
        assert b"everest" in text(chunks)
        assert len(store.entries) == 2
        await made.aside.idle()
    assert store.entries[2].outcome.status == "failed"
    assert cell.decider.verdicts == []


async def test_an_audit_that_runs_at_the_end_leaves_its_entry(tmp_path: Path) -> None:
    answers = iter([Answer(pieces=("everest",)), Answer(first_delay_s=30)])
    async with room(tmp_path, Upstream(script=lambda body: next(answers))) as (made, _, store, upstream):
        await run(words(WHAT), made)
        await run(words(WHICH), made)
        async with asyncio.timeout(5):
            while len(upstream.requests) < 2:  # noqa: ASYNC110  # it is written by the same loop
                await asyncio.sleep(0.005)
        await made.aside.aclose()
    assert [entry.outcome.status for entry in store.entries] == ["ok", "ok", "cancelled"]
    assert store.entries[2].audit_of == store.entries[1].id


async def test_what_only_asks_for_what_is_kept_is_audited_too_and_keeps_nothing_twice(tmp_path: Path) -> None:
    async with room(tmp_path, Upstream("everest")) as (made, cell, store, _):
        await run(words(WHAT), made)
        only = words(WHICH)
        only = replace(only, controls=replace(only.controls, cache="only"))
        chunks, _ = await run(only, made)
        assert b"everest" in text(chunks)
        await made.aside.idle()
        await cell.cache.settled()
        assert len(store.entries) == 3
        repeat, _ = await run(words(WHICH), made)
        assert b"everest" in text(repeat)
    assert store.entries[3].cache == "exact"
