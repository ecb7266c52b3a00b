"""Answers that are weighed: over the real pipeline, real sockets and scripted upstreams."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trivet.errors import TrivetError, UpstreamError
from trivet.pipeline import answer
from trivet.seams import Heard, Step
from trivet.tally import Stages, Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Tool, Upstream
from trivet.types import Candidate, Chunk, Entry, Policy, Request, Usage
from trivet.weighing import MOST_WEIGHED
from trivet.wire.request import read_request

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a", "b", "c"]
route = "cascade"
baseline = "c"
"""
PRICES = 9 * 1_000 + 1 * 2_000
"""Nano-dollars of an answer in one piece: 9 tokens in at $1, one out at $2 a million."""
IDS = count(1)


class World(NamedTuple):
    stages: Stages
    store: Memory
    a: Upstream
    b: Upstream
    c: Upstream

    @property
    def entry(self) -> Entry:
        (entry,) = self.store.entries
        return entry

    @property
    def asked(self) -> list[int]:
        return [len(upstream.requests) for upstream in (self.a, self.b, self.c)]


@asynccontextmanager
async def world(
    folder: Path, a: Upstream | None, b: Upstream | None, c: Upstream | None, more: str = "", *, policy: str = POLICY
) -> AsyncGenerator[World, None]:
    """Open stages over two cheap targets and a large one; by default each says who it is."""
    a, b, c = a or Upstream("Paris"), b or Upstream("Paris"), c or Upstream("Rome")
    store = Memory()
    async with AsyncExitStack() as opened:
        for upstream in (a, b, c):
            await opened.enter_async_context(upstream)
        settings = config({"a": a.base_url, "b": b.base_url, "c": c.base_url}, policy + more)
        made = await opened.enter_async_context(stages(settings, kit(folder), store))
        yield World(made, store, a, b, c)


def ask(**body: Any) -> Request:
    whole = {"model": "p", "messages": [{"role": "user", "content": "The capital of France?"}], **body}
    return read_request(json.dumps(whole).encode(), [], id=f"req_{next(IDS)}", tenant="t", key_id="", at_ns=1)


async def run(made: World, request: Request, heard: list[Chunk] | None = None) -> tuple[list[Chunk], Tally]:
    """Ask; what came before an error is in `heard`."""
    heard = [] if heard is None else heard
    tally = Tally(request, made.stages.clock.mono_ns())
    async with aclosing(answer(tally, made.stages)) as chunks:
        async for chunk in chunks:
            heard.append(chunk)
    return heard, tally


def said(chunks: Sequence[Chunk]) -> str:
    choices = [choice for chunk in chunks for choice in json.loads(chunk.data).get("choices", ())]
    return "".join((one.get("message") or one.get("delta") or {}).get("content") or "" for one in choices)


@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_cheap_ones_agree_the_large_one_is_not_asked(tmp_path: Path, *, stream: bool) -> None:
    async with world(tmp_path, None, None, None) as made:
        chunks, tally = await run(made, ask(stream=stream))
        assert said(chunks) == "Paris"
        assert made.asked == [1, 1, 0]
        entry = made.entry
        assert (entry.decision, entry.outcome.target, entry.outcome.status) == ("weigh", "a", "ok")
        assert tally.why == "2 of 2 agree"
        assert [(c.target, c.weighed) for c in entry.candidates] == [("a", True), ("b", True), ("c", False)]
        assert sorted((one.target, one.status, one.why) for one in entry.outcome.attempts) == [
            ("a", "ok", "agrees"),
            ("b", "ok", "agrees"),
        ]


async def test_every_answer_is_in_the_cost_and_in_what_was_saved(tmp_path: Path) -> None:
    async with world(tmp_path, None, None, None) as made:
        await run(made, ask())
        outcome = made.entry.outcome
        assert outcome.cost_nanos == 2 * PRICES
        unserved = {one.target: one.cost_nanos for one in outcome.attempts if one.cost_nanos is not None}
        assert unserved == {"b": PRICES}
        assert next(one.usage for one in outcome.attempts if one.target == "b") == Usage(
            input_tokens=9, output_tokens=1
        )
        assert made.entry.saved == {"route": -PRICES}, "c would have cost as much as one of them"


@pytest.mark.parametrize("stream", [False, True])
async def test_where_they_differ_the_large_one_is_asked_and_relayed(tmp_path: Path, *, stream: bool) -> None:
    async with world(tmp_path, None, Upstream("Lyon"), Upstream("Par", "is")) as made:
        chunks, tally = await run(made, ask(stream=stream))
        assert said(chunks) == "Paris"
        assert made.asked == [1, 1, 1]
        entry = made.entry
        assert entry.outcome.target == "c"
        assert tally.why == "no two agree"
        assert [one.why for one in entry.outcome.attempts] == ["differs", "differs", ""]
        assert entry.outcome.cost_nanos == 3 * PRICES + 2_000
        assert entry.saved == {"route": -2 * PRICES}, "the large one was the baseline, and two were asked before it"
        timing = entry.outcome.timing
        assert timing.look_ns < timing.weighed_ns <= timing.first_byte_ns


async def test_nothing_of_a_stream_goes_out_before_it_is_clear_whose_it_is(tmp_path: Path) -> None:
    slow = Upstream("Ly", "on", delay_s=0.1)
    async with world(tmp_path, None, slow, None) as made:
        began = asyncio.get_running_loop().time()
        tally = Tally(ask(stream=True), made.stages.clock.mono_ns())
        async with aclosing(answer(tally, made.stages)) as chunks:
            await anext(chunks)
            assert asyncio.get_running_loop().time() - began > 0.1
            assert made.asked == [1, 1, 1]


async def test_a_cheap_one_that_fails_or_breaks_off_does_not_agree(tmp_path: Path) -> None:
    async with world(tmp_path, Upstream(status=500), Upstream("Pa", "ris", cut_after=1), None) as made:
        chunks, tally = await run(made, ask(stream=True))
        assert said(chunks) == "Rome"
        assert [(one.target, one.status) for one in made.entry.outcome.attempts[-1:]] == [("c", "ok")]
        assert {one.status for one in made.entry.outcome.attempts[:2]} == {"failed"}
        assert "a: failed: 500" in tally.why
        broken = next(one for one in made.entry.outcome.attempts if one.target == "b")
        assert broken.usage is not None, "what it said before is counted"
        assert broken.cost_nanos


async def test_a_large_one_that_is_down_costs_no_answer(tmp_path: Path) -> None:
    async with world(tmp_path, Upstream(status=500), Upstream("Lyon"), Upstream(status=503)) as made:
        chunks, tally = await run(made, ask())
        assert said(chunks) == "Lyon"
        entry = made.entry
        assert (entry.outcome.status, entry.outcome.target) == ("ok", "b")
        assert [(one.target, one.status) for one in entry.outcome.attempts[2:]] == [("c", "failed")]
        assert tally.why == "the large target failed"


async def test_where_nobody_has_an_answer_the_last_error_is_told_in_one_entry(tmp_path: Path) -> None:
    async with world(tmp_path, Upstream(status=500), Upstream(status=500), Upstream(status=429)) as made:
        with pytest.raises(UpstreamError) as caught:
            await run(made, ask())
        assert caught.value.status == 429
        entry = made.entry
        assert (entry.outcome.status, entry.outcome.http_status, len(entry.outcome.attempts)) == ("failed", 429, 3)


async def test_a_large_one_that_breaks_off_after_its_first_word_is_not_followed_by_another(tmp_path: Path) -> None:
    async with world(tmp_path, None, Upstream("Lyon"), Upstream("Ro", "me", cut_after=1)) as made:
        heard: list[Chunk] = []
        with pytest.raises(UpstreamError):
            await run(made, ask(stream=True), heard)
        assert said(heard) == "Ro"
        assert (made.entry.outcome.target, made.entry.outcome.status) == ("c", "failed")


async def test_an_answer_that_comes_too_late_is_let_go(tmp_path: Path) -> None:
    late = Upstream("Paris", first_delay_s=30)
    async with world(tmp_path, None, late, None, 'cascade = { within = "50ms" }\n') as made:
        chunks, tally = await run(made, ask())
        assert said(chunks) == "Rome"
        assert "b: too late" in tally.why
        assert [(one.target, one.status) for one in made.entry.outcome.attempts] == [
            ("a", "ok"),
            ("b", "cancelled"),
            ("c", "ok"),
        ]
        assert "b may have charged" in made.entry.outcome.cost_unknown
        await asyncio.wait_for(late.hung_up.wait(), 5)


async def test_the_clients_deadline_leaves_half_of_it_to_the_large_one(tmp_path: Path) -> None:
    async with world(tmp_path, Upstream("Paris", first_delay_s=30), None, None) as made:
        request = ask(trivet={"deadline": "1s"})
        assert request.controls.deadline_ms == 1000
        chunks, _ = await run(made, request)
        assert said(chunks) == "Rome"


async def test_who_leaves_takes_everybody_with_them_and_leaves_one_entry(tmp_path: Path) -> None:
    a, b = Upstream("Paris", first_delay_s=30), Upstream("Paris", first_delay_s=30)
    async with world(tmp_path, a, b, None) as made:
        task = asyncio.ensure_future(run(made, ask()))
        async with asyncio.timeout(5):
            while made.asked[:2] != [1, 1]:  # noqa: ASYNC110  # written by the same loop; nothing to set an event
                await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(asyncio.gather(a.hung_up.wait(), b.hung_up.wait()), 5)
        assert made.entry.outcome.status == "cancelled"
        assert [one.status for one in made.entry.outcome.attempts] == ["cancelled", "cancelled"]


async def test_the_answer_that_was_served_is_kept_and_found_again(tmp_path: Path) -> None:
    async with world(tmp_path, None, None, None, 'cache = { mode = "exact" }\n') as made:
        await run(made, ask(temperature=0))
        chunks, tally = await run(made, ask(temperature=0, stream=True))
        assert said(chunks) == "Paris"
        assert (tally.cache, made.asked) == ("exact", [1, 1, 0])


async def test_streams_may_start_at_once_with_the_large_one(tmp_path: Path) -> None:
    async with world(tmp_path, None, None, None, 'cascade = { streams = "start" }\n') as made:
        chunks, _ = await run(made, ask(stream=True))
        assert (said(chunks), made.asked) == ("Rome", [0, 0, 1])
        assert made.entry.decision == "call"
        assert made.entry.candidates[0].why == "streams start at once"
        chunks, _ = await run(made, ask())
        assert said(chunks) == "Paris"


async def test_in_turn_a_third_is_asked_only_if_the_first_two_differ(tmp_path: Path) -> None:
    policy = 'pool = ["a", "b", "c"]\nroute = "cascade"\ncascade = { agree = 1, together = false }\n'
    async with world(tmp_path, None, None, None, policy="[policies.p]\n" + policy) as made:
        await run(made, ask())
        assert made.asked == [1, 0, 0]
    bad = Upstream("no JSON", finish="stop")
    async with world(tmp_path, bad, Upstream('{"a": 1}'), None, policy="[policies.p]\n" + policy) as made:
        chunks, _ = await run(made, ask(response_format={"type": "json_object"}))
        assert (said(chunks), made.asked) == ('{"a": 1}', [1, 1, 0])
        assert [one.why for one in made.entry.outcome.attempts] == ["no JSON", "well-formed"]


async def test_one_target_may_be_asked_several_times_and_each_is_paid_for(tmp_path: Path) -> None:
    numbers = count(1)
    varied = Upstream(script=lambda body: Answer(pieces=("Lyon" if next(numbers) == 2 else "Paris",)))
    policy = '[policies.p]\npool = ["a", "c"]\nroute = "cascade"\ncascade = { samples = 4, agree = 2 }\n'
    async with world(tmp_path, varied, None, None, policy=policy) as made:
        chunks, tally = await run(made, ask())
        assert said(chunks) == "Paris"
        assert "agree" in tally.why
        attempts = made.entry.outcome.attempts
        assert {one.target for one in attempts} == {"a"}
        assert len(attempts) == len(varied.requests) == 4
        whole = [one for one in attempts if one.status == "ok"]
        assert made.entry.outcome.cost_nanos == len(whole) * PRICES


async def test_the_same_tool_call_is_an_agreement(tmp_path: Path) -> None:
    def calling(arguments: str) -> Upstream:
        return Upstream(tools=[Tool("weather", arguments)], finish="tool_calls")

    tool = {"type": "function", "function": {"name": "weather", "parameters": {"required": ["city"]}}}
    same = calling('{"city": "Rome", "days": 2}'), calling('{"days": 2, "city": "Rome"}')
    async with world(tmp_path, *same, None) as made:
        _, tally = await run(made, ask(tools=[tool]))
        assert (tally.why, made.asked) == ("2 of 2 agree", [1, 1, 0])
    async with world(tmp_path, calling('{"city": "Rome"}'), calling('{"town": "Rome"}'), None) as made:
        _, tally = await run(made, ask(tools=[tool]))
        assert (tally.why, made.asked) == ("b: arguments: $.city is missing", [1, 1, 1])


async def test_answers_say_how_sure_they_are_and_the_client_does_not_see_it(tmp_path: Path) -> None:
    def told(chance: float) -> Upstream:
        def script(body: Any) -> Answer:
            assert body["logprobs"] is True
            logprobs = {"content": [{"token": "Paris", "logprob": chance, "bytes": None, "top_logprobs": []}]}
            choice = {"index": 0, "delta": {"content": "Paris"}, "logprobs": logprobs, "finish_reason": None}
            end = {"index": 0, "delta": {}, "finish_reason": "stop"}
            head = {"id": "1", "object": "chat.completion.chunk", "model": "m"}
            events = [json.dumps({**head, "choices": [one]}) for one in (choice, end)]
            return Answer(events=tuple(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]))

        return Upstream(script=script)

    more = "cascade = { agree = 1, sure = 0.8 }\n"
    async with world(tmp_path, told(-0.1), told(-3.0), None, more) as made:
        chunks, _ = await run(made, ask(stream=True))
        assert said(chunks) == "Paris"
        assert not any(b'"logprob"' in chunk.data for chunk in chunks)
    async with world(tmp_path, told(-2.0), told(-3.0), None, more) as made:
        _, tally = await run(made, ask(stream=True))
        assert made.entry.outcome.target == "c"
        assert "a: unsure, 0.14" in tally.why
        assert "logprobs" not in made.c.requests[0].body


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(ask=("nobody",)), "not in the pool"),
        (Step(relay="nobody"), "not in the pool"),
        (Step(ask=("a",) * (MOST_WEIGHED + 1)), "more than 16 answers"),
        (Step(), "nobody to ask"),
    ],
)
async def test_a_router_with_a_defect_is_told_from_a_target_that_fails(tmp_path: Path, step: Step, words: str) -> None:
    class Defect:
        async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
            return (Candidate(target="a", weighed=True),)

        async def weigh(
            self, request: Request, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str], *, last: bool
        ) -> Step:
            return step

        def weighed(self) -> dict[str, dict[str, int]]:
            return {}

        def drifted(self) -> dict[str, bool]:
            return {}

    async with world(tmp_path, None, None, None) as made:
        defect = Defect()
        broken = made.stages._replace(routers={"cascade": defect}, weighing={"cascade": defect})
        with pytest.raises(TrivetError, match=words):
            await run(made._replace(stages=broken), ask())
        assert made.entry.outcome.status == "failed"
        assert made.asked == [0, 0, 0]
