"""One request in, one Entry out: over the real pipeline, real sockets and a scripted upstream."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trivet.errors import TrivetError
from trivet.pipeline import answer, decide
from trivet.tally import Stages, Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Upstream
from trivet.types import (
    Call,
    Candidate,
    Chunk,
    Entry,
    Facts,
    Fault,
    Hit,
    Hold,
    Permit,
    Policy,
    Refuse,
    Request,
    Serve,
    Usage,
)
from trivet.wire.request import read_request

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"
"""


@asynccontextmanager
async def built(tmp_path: Path, a: Upstream, b: Upstream, store: Memory) -> AsyncGenerator[Stages, None]:
    async with a, b:
        settings = config({"a": a.base_url, "b": b.base_url}, POLICY)
        async with stages(settings, kit(tmp_path), store) as made:
            yield made


IDS = count(1)


def ask(**body: Any) -> Request:
    """Make a request as the edge does; `trivet=` holds its controls."""
    whole = {"model": "p", "messages": [{"role": "user", "content": "hi"}], **body}
    return read_request(json.dumps(whole).encode(), [], id=f"req_{next(IDS)}", tenant="t", key_id="", at_ns=1)


def always(answer: Answer) -> Any:
    return lambda body: answer


async def asked_of(upstream: Upstream) -> None:
    """Wait until the upstream has a request in hand, and a little longer."""
    async with asyncio.timeout(5):
        while not upstream.requests:  # noqa: ASYNC110  # it is written by the same loop; nothing to set an event
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


async def run(request: Request, made: Stages) -> tuple[list[Chunk], Tally]:
    tally = Tally(request, made.clock.mono_ns())
    async with aclosing(answer(tally, made)) as chunks:
        return [chunk async for chunk in chunks], tally


def text(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


async def test_an_answer_leaves_one_entry_with_its_cost(tmp_path: Path) -> None:
    store = Memory()
    async with built(tmp_path, Upstream("Hello"), Upstream(), store) as made:
        chunks, tally = await run(ask(model="a"), made)
    assert b"Hello" in text(chunks)
    (entry,) = store.entries
    assert entry is tally.entry
    assert (entry.decision, entry.policy, entry.outcome.status, entry.outcome.target) == ("call", "a", "ok", "a")
    assert entry.outcome.usage == Usage(input_tokens=9, output_tokens=1)
    assert entry.outcome.cost_nanos == 9 * 1000 + 1 * 2000
    assert [(a.target, a.status) for a in entry.outcome.attempts] == [("a", "ok")]
    timing = entry.outcome.timing
    assert 0 < timing.look_ns <= timing.first_byte_ns <= timing.ttft_ns <= timing.total_ns


async def test_the_entry_is_kept_before_the_end_of_the_answer_goes_out(tmp_path: Path) -> None:
    for stream in (False, True):
        store = Memory(settle_delay_s=0.01)
        async with built(tmp_path, Upstream("Hel", "lo"), Upstream(), store) as made:
            tally = Tally(ask(model="a", stream=stream), made.clock.mono_ns())
            async with aclosing(answer(tally, made)) as chunks:
                seen = [(chunk.finish, len(store.entries)) async for chunk in chunks]
        ends = [kept for finish, kept in seen if finish]
        assert ends == [1]


async def test_a_target_that_fails_hands_over_to_the_next(tmp_path: Path) -> None:
    for broken in (
        Answer(status=500),
        Answer(status=429),
        Answer(status=401),
        Answer(garbage=True),
        Answer(pieces=("x",), error_after=0),
        Answer(pieces=("x",), cut_after=0),
    ):
        for stream in (False, True):
            store = Memory()
            async with built(tmp_path, Upstream(script=always(broken)), Upstream("Fine"), store) as made:
                chunks, _ = await run(ask(model="p", stream=stream), made)
            assert b"Fine" in text(chunks)
            assert text(chunks).count(b'"role"') == 1
            (entry,) = store.entries
            assert (entry.outcome.status, entry.outcome.target) == ("ok", "b")
            assert [(a.target, a.status) for a in entry.outcome.attempts] == [("a", "failed"), ("b", "ok")]
            assert [c.target for c in entry.candidates] == ["a", "b"]


async def test_after_the_first_content_there_is_no_going_over(tmp_path: Path) -> None:
    store = Memory()
    other = Upstream("Never")
    async with built(tmp_path, Upstream("Hel", "lo", cut_after=1), other, store) as made:
        with pytest.raises(TrivetError):
            await run(ask(model="p", stream=True), made)
    assert not other.requests
    (entry,) = store.entries
    assert (entry.outcome.status, entry.outcome.http_status, entry.outcome.target) == ("failed", 200, "a")
    assert entry.outcome.usage_estimated
    assert entry.outcome.cost_nanos is not None


async def test_a_request_at_fault_is_not_sent_to_the_next_target(tmp_path: Path) -> None:
    store, other = Memory(), Upstream("Never")
    async with built(tmp_path, Upstream(status=400), other, store) as made:
        with pytest.raises(TrivetError) as caught:
            await run(ask(model="p"), made)
    assert caught.value.status == 400
    assert not other.requests
    assert [e.outcome.status for e in store.entries] == ["failed"]


async def test_when_all_fail_the_last_error_is_told(tmp_path: Path) -> None:
    store = Memory()
    async with built(tmp_path, Upstream(status=500), Upstream(status=429), store) as made:
        with pytest.raises(TrivetError) as caught:
            await run(ask(model="p"), made)
    assert caught.value.status == 429
    (entry,) = store.entries
    assert entry.outcome.fault is not None
    assert (entry.outcome.fault.status, len(entry.outcome.attempts)) == (429, 2)


async def test_what_is_refused_leaves_an_entry_and_calls_nobody(tmp_path: Path) -> None:
    store, upstream = Memory(), Upstream("x")
    async with built(tmp_path, upstream, Upstream(), store) as made:
        for request in (ask(model="nobody"), ask(model="a", trivet={"baseline": "nobody"})):
            with pytest.raises(TrivetError):
                await run(request, made)
    assert not upstream.requests
    assert [(e.outcome.status, e.outcome.http_status) for e in store.entries] == [("refused", 404), ("refused", 400)]


async def test_a_repeat_is_served_whole_or_streamed_and_saves_the_baseline(tmp_path: Path) -> None:
    upstream, store = Upstream("Hel", "lo"), Memory()
    async with built(tmp_path, upstream, Upstream(), store) as made:
        first, _ = await run(ask(model="p"), made)
        again, _ = await run(ask(model="p"), made)
        streamed, _ = await run(ask(model="p", stream=True), made)
    assert len(upstream.requests) == 1
    assert text(again) == text(first)
    assert b"Hello" in text(streamed)
    entries = store.entries
    assert [(e.decision, e.cache) for e in entries] == [("call", "miss"), ("serve", "exact"), ("serve", "exact")]
    assert entries[1].hit_of == entries[0].id
    assert entries[0].saved == {"route": 0}
    assert (entries[1].outcome.cost_nanos, entries[1].saved) == (0, {"exact": entries[0].outcome.cost_nanos})


async def test_a_streamed_answer_is_kept_too(tmp_path: Path) -> None:
    upstream = Upstream("Hel", "lo")
    async with built(tmp_path, upstream, Upstream(), Memory()) as made:
        await run(ask(model="p", stream=True), made)
        again, tally = await run(ask(model="p"), made)
    assert tally.cache == "exact"
    assert b'"Hello"' in text(again)


@pytest.mark.parametrize(
    ("body", "answered"),
    [
        ({"temperature": 1.5}, Answer(pieces=("x",))),
        ({"n": 2}, Answer(pieces=("x",))),
        ({}, Answer(pieces=("x",), finish="length")),
        ({}, Answer(pieces=("x",), finish="content_filter")),
        ({"model": "a"}, Answer(pieces=("x",))),
        ({"trivet": {"cache": "off"}}, Answer(pieces=("x",))),
    ],
)
async def test_what_may_not_be_kept_is_asked_again(tmp_path: Path, body: dict[str, Any], answered: Answer) -> None:
    for stream in (False, True):
        upstream = Upstream(script=lambda asked: answered)
        async with built(tmp_path, upstream, Upstream(), Memory()) as made:
            for _ in range(2):
                await run(ask(**{"stream": stream, **body}), made)
        assert len(upstream.requests) == 2


async def test_refresh_asks_again_and_keeps_the_new_answer(tmp_path: Path) -> None:
    takes = count(1)
    upstream = Upstream(script=lambda asked: Answer(pieces=(f"take {next(takes)}",)))
    async with built(tmp_path, upstream, Upstream(), Memory()) as made:
        first, _ = await run(ask(), made)
        fresh, _ = await run(ask(trivet={"cache": "refresh"}), made)
        third, _ = await run(ask(), made)
    assert b"take 1" in text(first)
    assert b"take 2" in text(fresh)
    assert text(third) == text(fresh)


async def test_only_refuses_rather_than_calls(tmp_path: Path) -> None:
    upstream, store = Upstream("x"), Memory()
    async with built(tmp_path, upstream, Upstream(), store) as made:
        with pytest.raises(TrivetError, match="no answer to this request is kept") as caught:
            await run(ask(trivet={"cache": "only"}), made)
        assert caught.value.code == "cache_miss"
        await run(ask(), made)
        chunks, _ = await run(ask(trivet={"cache": "only"}), made)
    assert b"x" in text(chunks)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("settle_delay_s", [0.0, 0.05])
async def test_a_caller_that_is_cancelled_leaves_one_entry_and_a_closed_upstream(
    tmp_path: Path, settle_delay_s: float, *, stream: bool
) -> None:
    store = Memory(settle_delay_s=settle_delay_s)
    upstream = Upstream("Hel", "lo", hang_after=1)
    async with built(tmp_path, upstream, Upstream(), store) as made:
        task = asyncio.ensure_future(run(ask(model="a", stream=stream), made))
        await asked_of(upstream)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # once more, while the store is still busy with the entry
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.hung_up.wait(), 5)
    (entry,) = store.entries
    assert (entry.outcome.status, entry.outcome.http_status) == ("cancelled", 499)
    assert entry.outcome.usage_estimated
    assert [a.status for a in entry.outcome.attempts] == ["cancelled"]


async def test_the_store_has_the_entry_in_hand_when_a_cancelled_caller_gets_control_back(tmp_path: Path) -> None:
    class Slow(Memory):
        """Keeps an entry only when its wait is over, as a database far away does."""

        def settle(self, hold: Hold | None, entry: Entry) -> Any:
            async def later() -> None:
                await asyncio.sleep(0.05)
                Memory.settle(self, hold, entry)

            return later()

    store, upstream = Slow(), Upstream("Hel", "lo", hang_after=1)
    async with built(tmp_path, upstream, Upstream(), store) as made:
        task = asyncio.ensure_future(run(ask(model="a", stream=True), made))
        await asked_of(upstream)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [e.outcome.status for e in store.entries] == ["cancelled"]


async def test_a_deadline_ends_the_wait_with_words(tmp_path: Path) -> None:
    store, upstream = Memory(), Upstream("x", first_delay_s=60)
    async with built(tmp_path, upstream, Upstream(), store) as made:
        with pytest.raises(TrivetError, match="50 ms") as caught:
            await run(ask(model="a", trivet={"deadline": "50ms"}), made)
        assert caught.value.status == 504
        await asyncio.wait_for(upstream.hung_up.wait(), 5)
    assert [(e.outcome.status, e.outcome.http_status) for e in store.entries] == [("failed", 504)]


async def test_a_deadline_does_not_cut_an_answer_that_has_begun(tmp_path: Path) -> None:
    async with built(tmp_path, Upstream("a", "b", "c", delay_s=0.05), Upstream(), Memory()) as made:
        chunks, _ = await run(ask(model="a", stream=True, trivet={"deadline": "120ms"}), made)
    assert text(chunks).count(b'"content":"') >= 3


async def test_a_price_that_is_not_known_is_loud(tmp_path: Path) -> None:
    async with Upstream("x") as upstream:
        settings = config({"a": upstream.base_url})
        unpriced = config({}, f'[targets.a]\nprovider="openai"\nmodel="m"\nbase_url="{upstream.base_url}"\n')
        store = Memory()
        assert settings.targets["a"].price is not None
        async with stages(unpriced, kit(tmp_path), store) as made:
            await run(ask(model="a"), made)
    (entry,) = store.entries
    assert entry.outcome.cost_nanos is None
    assert "price" in entry.outcome.cost_unknown


async def test_a_streamed_hit_saves_as_much_as_a_whole_one(tmp_path: Path) -> None:
    store = Memory()
    async with built(tmp_path, Upstream("Hel", "lo"), Upstream(), store) as made:
        await run(ask(), made)
        await run(ask(stream=True), made)
    first, hit = store.entries
    assert hit.outcome.usage == first.outcome.usage
    assert hit.saved == {"exact": first.outcome.cost_nanos}


@pytest.mark.parametrize(
    ("failing", "known"),
    [
        (Answer(status=429), True),
        (Answer(status=500), True),
        (Answer(garbage=True), False),
        (Answer(pieces=("x",), cut_after=0), False),
    ],
)
async def test_an_attempt_that_may_have_been_charged_for_is_loud(
    tmp_path: Path, failing: Answer, *, known: bool
) -> None:
    store = Memory()
    async with built(tmp_path, Upstream(script=always(failing)), Upstream("Fine"), store) as made:
        await run(ask(), made)
        with pytest.raises(TrivetError):
            await run(ask(model="a"), made)
    handed_over, failed = (entry.outcome for entry in store.entries)
    assert handed_over.cost_nanos == 9 * 1000 + 1 * 2000
    assert failed.cost_nanos == (0 if known else None)
    for outcome in (handed_over, failed):
        assert ("a may have charged" in outcome.cost_unknown) is not known


async def test_a_target_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    store = Memory()
    async with stages(config({"a": "http://127.0.0.1:9/v1"}), kit(tmp_path), store) as made:
        with pytest.raises(TrivetError):
            await run(ask(model="a"), made)
    (entry,) = store.entries
    assert (entry.outcome.cost_nanos, entry.outcome.cost_unknown) == (0, "")


async def test_the_words_of_a_target_are_not_kept(tmp_path: Path) -> None:
    store = Memory()
    echo = Upstream(status=400, error={"message": "I will not answer: my secret prompt"})
    async with built(tmp_path, echo, Upstream(), store) as made:
        with pytest.raises(TrivetError, match="my secret prompt"):
            await run(ask(model="a"), made)
    assert "secret" not in repr(store.entries)
    assert "answered 400" in store.entries[0].outcome.attempts[0].error


FAULTS = st.none() | st.builds(
    Fault, status=st.just(400), code=st.just("c"), message=st.just("m"), whose=st.just("client")
)
HITS = st.none() | st.just(Hit(kind="exact", body=b"{}", usage=None, origin_id="o", target="a", age_ms=1))


@given(FAULTS, HITS, st.sampled_from(["auto", "off", "refresh", "only"]))
async def test_deciding_is_pure_and_total(fault: Fault | None, hit: Hit | None, word: str) -> None:
    request = ask(trivet={"cache": word})
    facts = Facts(fault=fault, hit=hit, ranked=(Candidate(target="a"),))
    policy = Policy(name="p", digest="d", pool=("a",))
    decision = decide(request, facts, policy)
    assert decision == decide(request, facts, policy)
    if fault:
        assert decision == Refuse(fault)
    elif hit:
        assert decision == Serve(hit)
    else:
        assert isinstance(decision, Refuse if word == "only" else Call)


class Stray:
    """A router with a defect: it chooses by names that it remembers, not from the pool that it is given."""

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        return (Candidate(target="a"), Candidate(target="b"))


async def test_a_router_that_chooses_from_outside_of_the_pool_is_a_defect_and_nobody_is_called(tmp_path: Path) -> None:
    store, a, b = Memory(), Upstream(), Upstream()
    async with built(tmp_path, a, b, store) as made:
        request = replace(ask(), permit=Permit(targets=("b",)))
        with pytest.raises(TrivetError, match="chose 'a', which is not in the pool"):
            await run(request, made._replace(routers={"fixed": Stray()}))
    (entry,) = store.entries
    assert (entry.outcome.status, entry.outcome.http_status) == ("refused", 500)
    assert (a.connections, b.connections) == (0, 0)


async def test_a_key_that_may_call_none_of_the_pool_leaves_one_refusal(tmp_path: Path) -> None:
    store = Memory()
    async with built(tmp_path, Upstream(), Upstream(), store) as made:
        with pytest.raises(TrivetError, match="none of the targets that answer 'p'"):
            await run(replace(ask(), permit=Permit(targets=("c",))), made)
    (entry,) = store.entries
    assert entry.outcome.fault is not None
    assert (entry.decision, entry.policy, entry.outcome.fault.code) == ("refuse", "p", "target_not_allowed")
