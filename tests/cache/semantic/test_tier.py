"""All tiers behind the seam: like questions of one scope share an answer, and what fails is a miss and no more."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.cache.semantic.hashed import Hashed
from trivet.cache.exact import Exact
from trivet.cache.semantic.file import File, Loaded
from trivet.cache.semantic.look import Kept, Look, Verdict
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.shelf import Answer, Shelf
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.tier import Tiers
from trivet.cache.semantic.verified import Verified
from trivet.seams import Cache, Clock, Embedder, Found, Startable
from trivet.testing.cache_suite import POLICY, CacheSuite, Hands, ask, entry_of
from trivet.types import CachePolicy, Controls, Nanos, Policy, Request

pytestmark = pytest.mark.anyio

RULES = CachePolicy(mode="static", ttl_s=60.0, max_temperature=1.0, tools=False, partition=("customer",), threshold=0.8)
LIKE = replace(POLICY, cache=RULES)
WHAT = "what is the tallest mountain on earth"
WHICH = "which is the tallest mountain on earth"  # six words of seven: cosine 6/7
OTHER = "how do I boil an egg"


class Noted(Static):
    """A static threshold that can be asked what it was told."""

    def __init__(self, threshold: float, *, audit: float = 0.0) -> None:
        super().__init__(threshold)
        self.chance = audit
        self.verdicts: list[tuple[bool, bool]] = []
        self.exact = 0
        self.looks: list[Look] = []
        self.fed: list[str] = []

    @property
    def near(self) -> list[tuple[float, float]]:
        """Of the last look: the cosines of the texts and of the contexts."""
        return [(near.cosine, near.context_cosine) for near in self.looks[-1].near]

    def decide(self, look: Look) -> Verdict:
        self.looks.append(look)
        return super().decide(look)._replace(audit=self.chance, p_correct=0.9)

    def passed(self) -> None:
        self.exact += 1

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        self.verdicts.append((same, audited))

    def feedback(self, kept: Kept) -> None:
        self.fed.append(kept.text)

    def save(self) -> bytes:
        return json.dumps(len(self.verdicts)).encode()

    def restore(self, saved: bytes) -> None:
        if saved != b"2":
            raise ValueError("not what was saved")
        self.verdicts = [(True, False)] * 2


class Cell:
    """A cache, and all that it stands on."""

    def __init__(self, *, audit: float = 0.0, file: Path | None = None, entries: int = 100) -> None:
        self.clock, self.embedder, self.told = Hands(), Hashed(), list[str]()
        self.decider = Noted(0.8, audit=audit)
        self.cache = Tiers(
            Exact(max_entries=entries, max_bytes=10**6, clock=self.clock),
            Shelf(max_entries=entries, max_bytes=10**7),
            embedder=lambda: self.embedder,
            make=lambda rules, embedder: self.decider,
            clock=self.clock,
            random=random.Random(7),
            tell=self.told.append,
            file=None if file is None else File(file, clock=self.clock, tell=self.told.append),
            patience_s=0.1,
        )

    def kept(self) -> list[Answer]:
        """Give all answers that are kept by their likeness."""
        every = map(self.cache._shelf.by_number, self.cache._shelf.numbers())
        return [answer for answer in every if answer is not None]

    async def asked(self, text: str | Request, policy: Policy = LIKE, *, says: str = "", **more: Any) -> Found:
        """Look for an answer; on a miss, keep one that says `says`."""
        request = words(text, **more) if isinstance(text, str) else text
        found = await self.cache.find(request, policy)
        if found.hit is None and says:
            entry = replace(entry_of(request), id=f"entry of {says}")
            await self.cache.keep(request, policy, entry, said(says), ticket=found.ticket)
            await self.cache.settled()
        return found


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    made = Cell()
    yield made
    await made.cache.aclose()


def words(text: str, **more: Any) -> Request:
    return ask(messages=[{"role": "user", "content": text}], **more)


def said(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "a", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


class TestTiers(CacheSuite):
    """In the mode `exact` it is the exact cache."""

    def make(self, *, clock: Clock, max_entries: int, max_bytes: int) -> Cache:
        return Tiers(
            Exact(max_entries=max_entries, max_bytes=max_bytes, clock=clock),
            Shelf(max_entries=max_entries, max_bytes=max_bytes),
            embedder=Hashed,
            make=lambda rules, embedder: Noted(0.8),
            clock=clock,
            random=random.Random(7),
            tell=lambda line: None,
        )


async def test_a_question_like_one_answered_before_gets_that_answer(cell: Cell) -> None:
    assert (await cell.asked(WHAT, says="everest")).hit is None
    cell.clock.ns += 2_000_000_000
    hit = (await cell.asked(WHICH)).hit
    assert hit is not None
    assert (hit.kind, hit.body, hit.origin_id) == ("semantic", said("everest"), "entry of everest")
    assert (hit.p_correct, hit.age_ms) == (0.9, 2000)
    assert hit.cosine == pytest.approx(6 / 7)
    assert (await cell.asked(OTHER)).hit is None


async def test_an_exact_repeat_always_hits_and_is_said_to_be_one(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    hit = (await cell.asked(WHAT)).hit
    assert hit is not None
    assert (hit.kind, hit.cosine) == ("exact", None)
    assert cell.decider.exact == 1
    assert cell.embedder.asked == [WHAT]


def turns(before: str, text: str, *, reply: str = "one on earth") -> Request:
    said = [("user", before), ("assistant", reply), ("user", text)]
    return ask(messages=[{"role": role, "content": content} for role, content in said])


async def test_where_a_decider_compares_contexts_it_hears_how_near_each_is(cell: Cell) -> None:
    cell.decider.in_context = True
    await cell.asked(turns("tell me about mountains", WHAT), says="everest")
    await cell.asked(turns("tell me about mountains", WHICH))
    assert cell.decider.near == [pytest.approx((6 / 7, 1.0), abs=1e-5)]
    await cell.asked(turns("talk to me about mountains", WHICH))
    assert cell.decider.near == [pytest.approx((6 / 7, 3 / 20**0.5), abs=1e-5)]
    assert (cell.decider.looks[-1].context, cell.decider.looks[-1].near[0].kept.context) == (
        "talk to me about mountains",
        "tell me about mountains",
    )
    await cell.asked(turns("tell me about mountains", WHICH, reply="another"))
    assert cell.decider.near == []


async def test_where_a_decider_does_not_the_turns_before_are_the_same_word_by_word(cell: Cell) -> None:
    await cell.asked(turns("tell me about mountains", WHAT), says="everest")
    assert (await cell.asked(turns("tell me of mountains", WHICH))).hit is None
    assert (await cell.asked(turns("tell me about mountains", WHICH))).hit is not None


async def test_more_turns_than_an_embedder_reads_are_compared_word_by_word(cell: Cell) -> None:
    cell.decider.in_context = True
    await cell.asked(turns("long " * 70, WHAT), says="everest")
    assert (await cell.asked(turns("long " * 70, WHICH))).hit is not None
    assert cell.decider.looks[-1].context == ""
    assert (await cell.asked(turns("long " * 71, WHICH))).hit is None


async def test_contexts_are_kept_through_a_restart_and_found_by_their_last_words(tmp_path: Path) -> None:
    one = Cell(file=tmp_path / "c")
    one.decider.in_context = True
    await one.asked(turns("tell me about mountains", WHAT), says="everest")
    await one.cache.aclose()
    two = Cell(file=tmp_path / "c")
    two.decider.in_context = True
    await two.cache.start([LIKE])
    async with asyncio.timeout(10):
        while not two.cache.state().answers:  # noqa: ASYNC110  # a thread of the file's reads it
            await asyncio.sleep(0.01)
    await two.asked(turns("talk to me about mountains", WHICH))
    assert two.decider.near == [pytest.approx((6 / 7, 3 / 20**0.5), abs=1e-3)]
    assert [f.question for f in await two.cache.invalidate("acme", like=WHICH, cosine=0.8)] == [WHAT]
    await two.cache.aclose()


async def test_a_decider_hears_what_promise_a_request_asks_for(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    found = await cell.asked(replace(words(WHICH), controls=Controls(max_error=0.001)))
    assert cell.decider.looks[-1].max_error == 0.001
    assert (found.hit, [miss.why for miss in found.near]) == (None, ["no promise"])


async def test_what_was_near_and_not_served_is_told(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    found = await cell.asked("what is the deepest lake on earth")
    assert found.hit is None
    assert [(miss.entry_id, miss.kind, miss.why) for miss in found.near] == [("entry of everest", "semantic", "cosine")]


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "globex"}, {"namespace": "n"}, {"customer": "c"}, {"headers": [(b"openai-beta", b"x")]},
        {"model": "q"}, {"temperature": 0}, {"seed": 1}, {"max_tokens": 5}, {"user": "u"}, {"x_unknown": 1},
        {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": WHICH}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": WHICH}]}]},
        {"messages": [{"role": "assistant", "content": "hello"}, {"role": "user", "content": WHICH}]},
        {"messages": [{"role": "user", "content": WHICH, "name": "n"}]},
    ],
    ids=str,
)  # fmt: skip
async def test_likeness_never_crosses_what_can_change_the_answer(cell: Cell, other: dict[str, Any]) -> None:
    await cell.asked(WHAT, says="everest")
    assert (await cell.asked(ask(**{"messages": [{"role": "user", "content": WHICH}], **other}))).hit is None
    assert (await cell.asked(WHICH)).hit is not None


async def test_another_policy_or_another_version_of_it_finds_nothing(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    assert (await cell.asked(WHICH, replace(LIKE, name="q"))).hit is None
    assert (await cell.asked(WHICH, replace(LIKE, digest="d2"))).hit is None


@pytest.mark.parametrize(
    "last",
    [
        {"role": "assistant", "content": WHICH}, {"role": "tool", "content": WHICH}, {"role": "user", "content": " "},
        {"role": "user", "content": [{"type": "text", "text": WHICH}, {"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": None}, {"role": "user", "content": 7}, {"role": "user"}, "text",
    ],
    ids=str,
)  # fmt: skip
async def test_what_does_not_end_with_plain_words_is_compared_exactly(cell: Cell, last: Any) -> None:
    request = ask(messages=[last])
    await cell.asked(request, says="kept")
    hit = (await cell.asked(request)).hit
    assert hit is not None
    assert hit.kind == "exact"
    assert cell.embedder.asked == []


async def test_a_question_longer_than_the_embedder_reads_is_compared_exactly(cell: Cell) -> None:
    long = " ".join(f"w{i}" for i in range(65))
    await cell.asked(long, says="a")
    assert (await cell.asked(f"{long} not")).hit is None
    assert (await cell.asked(long)).hit is not None


async def test_five_megabytes_are_compared_exactly_and_no_embedder_is_asked(cell: Cell) -> None:
    huge = "why? " * 1_000_000
    await cell.asked(huge, says="a")
    hit = (await cell.asked(huge)).hit
    assert hit is not None
    assert hit.kind == "exact"
    assert cell.embedder.asked == []
    assert (await cell.asked(f"{huge} not")).hit is None


async def test_fresh_answers_teach_and_those_that_say_the_same_form_a_group(cell: Cell) -> None:
    await cell.asked(WHAT, says="it is mount everest")
    await cell.asked("say what the tallest mountain is", says="it is mount everest")
    await cell.asked("the tallest mountain of europe please", says="that would be elbrus")
    assert cell.decider.verdicts == [(True, False), (False, False)]
    near = await cell.asked(WHICH)
    assert near.hit is not None
    sizes = {a.origin_id: a.kept.group for a in cell.kept()}
    assert sizes["entry of it is mount everest"] != sizes["entry of that would be elbrus"]
    assert len(set(sizes.values())) == 2


async def test_an_audit_compares_the_fresh_answer_with_the_one_that_was_served() -> None:
    cell = Cell(audit=1.0)
    await cell.asked(WHAT, says="it is mount everest")
    for fresh in ("it is mount everest", "nobody knows that"):
        request = words(WHICH)
        found = await cell.cache.find(request, LIKE)
        assert found.hit is not None
        assert found.hit.audit
        again = replace(request, controls=Controls(cache="refresh"))
        await cell.cache.keep(again, LIKE, replace(entry_of(again), id=fresh), said(fresh), ticket=found.ticket)
        await cell.cache.settled()
        cell.cache._take_off([a for a in cell.kept() if a.origin_id == fresh])
    assert cell.decider.verdicts == [(True, True), (False, True)]
    await cell.cache.aclose()


async def test_shadow_serves_nothing_and_says_what_it_would_have(cell: Cell) -> None:
    shadow = replace(LIKE, cache=replace(RULES, mode="shadow"))
    await cell.asked(WHAT, shadow, says="everest")
    found = await cell.asked(WHICH, shadow, says="everest")
    assert found.hit is None
    assert [miss.why for miss in found.near] == ["shadow: would be served"]
    assert cell.decider.verdicts == [(True, True)]
    assert (await cell.asked(WHICH, shadow)).hit is not None  # the same request again


async def test_a_refusal_to_one_is_no_answer_to_others(cell: Cell) -> None:
    request = words(WHAT)
    body = said("no").replace(b'"role"', b'"refusal": "I cannot", "role"')
    found = await cell.cache.find(request, LIKE)
    await cell.cache.keep(request, LIKE, entry_of(request), body, ticket=found.ticket)
    assert (await cell.asked(WHAT)).hit is None


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [("fails", "failed"), ("hangs", "slow"), ("unready", "not_ready"), ("wide", "shape"), ("nan", "")],
)
async def test_an_embedder_in_trouble_is_a_miss_an_alarm_and_exact_repeats_still_hit(
    cell: Cell, trouble: str, kind: str
) -> None:
    await cell.asked(WHAT, says="everest")
    if trouble == "wide":
        cell.embedder.wide = 3
    elif trouble != "nan":
        setattr(cell.embedder, trouble, "it is broken")
    which = "!?!" if trouble == "nan" else WHICH  # no word in it, so no direction
    assert (await cell.asked(which, says="fresh")).hit is None
    repeat = (await cell.asked(which)).hit
    assert repeat is not None
    assert repeat.kind == "exact"
    assert (await cell.asked(WHAT)).hit is not None
    if kind:
        assert cell.cache.state().troubles[kind] >= 1
        assert len(cell.told) == 1
        assert "miss for now" in cell.told[0]


async def test_what_was_kept_while_there_was_no_embedder_is_likened_when_it_is_back(cell: Cell) -> None:
    cell.embedder.unready = "loading"
    await cell.asked(WHAT, says="everest")
    await cell.asked(OTHER, says="in water")
    cell.embedder.unready = ""
    for text in ("one", "two"):
        await cell.asked(text)
        await cell.cache.settled()
    hit = (await cell.asked(WHICH)).hit
    assert hit is not None
    assert (hit.kind, hit.origin_id) == ("semantic", "entry of everest")
    assert (await cell.asked(OTHER)).hit is not None


async def test_it_is_ready_before_the_first_request_where_a_policy_needs_it(cell: Cell) -> None:
    assert isinstance(cell.cache, Startable)
    await cell.cache.start([POLICY, replace(POLICY, cache=None)])
    assert cell.cache.state().deciders == {}
    await cell.cache.start([LIKE])
    assert list(cell.cache.state().deciders) == ["p"]


async def test_what_was_learned_goes_on_when_the_rules_of_a_policy_change(cell: Cell) -> None:
    made: list[Verified] = []

    def make(rules: CachePolicy, embedder: Embedder) -> Verified:
        made.append(Verified(prior("unknown"), rules.max_error))
        return made[-1]

    cell.cache._make = make  # our own decider, which can go on from what it saved
    looser = replace(LIKE, cache=replace(RULES, max_error=0.05))
    await cell.asked(WHAT, says="it is mount everest")
    await cell.asked("what is the tallest mountain in asia", says="it is mount everest")
    learned = made[0].report()["verdicts"]
    await cell.cache.start([looser])
    await cell.cache.start([LIKE])  # a request still ends by the old rules
    await cell.cache.start([looser])
    assert learned > 0
    assert [one.report()["verdicts"] for one in made[1:]] == [learned] * 3
    assert made[-1].report()["max_error"] == 0.05


async def test_a_late_answer_is_not_served(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    cell.clock.ns += 60_000_000_000
    assert (await cell.asked(WHICH)).hit is None
    await cell.asked(WHAT, says="everest")
    cell.clock.ns -= 3_600_000_000_000  # and a clock set back does not make it young
    assert (await cell.asked(WHICH)).hit is None


async def test_a_wrong_hit_is_taken_off_and_teaches_and_only_its_own_tenant_can_say_so(cell: Cell) -> None:
    await cell.asked(WHAT, says="everest")
    served = replace(words(WHICH), id="req_served")
    assert (await cell.asked(served)).hit is not None
    assert cell.cache.wrong("globex", "req_served") is False
    assert cell.cache.wrong("acme", "req_unknown") is False
    assert cell.cache.wrong("acme", "req_served") is True
    assert cell.decider.fed == [WHAT]
    assert (await cell.asked(served)).hit is None
    assert cell.cache.wrong("acme", "req_served") is True
    assert cell.decider.fed == [WHAT]


@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ({"tags": ["b"]}, ["one", "two"]), ({"tags": ["a", "z"]}, ["one"]), ({"namespace": "n"}, ["three"]),
        ({"entry_id": "entry of two"}, ["two"]), ({"like": WHICH, "cosine": 0.8}, ["one"]), ({"tags": ["none"]}, []),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_invalidated_is_found_by_nothing_from_then_on(
    cell: Cell, how: dict[str, Any], gone: list[str]
) -> None:
    def tagged(text: str, *tags: str, namespace: str = "") -> Request:
        return replace(words(text), controls=Controls(cache_tags=tags, namespace=namespace))

    asks = {"one": tagged(WHAT, "a", "b"), "two": tagged(OTHER, "b"), "three": tagged("why", namespace="n")}
    for name, request in asks.items():
        await cell.asked(request, says=name)
    assert await cell.cache.invalidate("globex", **how) == []
    told = await cell.cache.invalidate("acme", **how, dry_run=True)
    assert sorted(one.entry_id.removeprefix("entry of ") for one in told) == gone
    assert all([(await cell.asked(request)).hit for request in asks.values()])
    assert await cell.cache.invalidate("acme", **how) == told
    assert sorted([name for name, request in asks.items() if (await cell.asked(request)).hit is None]) == gone


async def test_tags_do_not_tell_questions_apart(cell: Cell) -> None:
    await cell.asked(replace(words(WHAT), controls=Controls(cache_tags=("a",))), says="everest")
    assert (await cell.asked(WHICH)).hit is not None


async def test_a_restart_goes_on_with_the_answers_and_with_what_was_learned(tmp_path: Path) -> None:
    first = Cell(file=tmp_path / "c.sqlite3")
    await first.asked(WHAT, says="it is mount everest")
    await first.asked("say what the tallest mountain is", says="it is mount everest")
    await first.asked(OTHER, says="in water")
    await first.cache.aclose()
    await first.cache.aclose()
    assert first.embedder.closed == 1

    again = Cell(file=tmp_path / "c.sqlite3")
    await again.asked("anything")  # opens the file
    async with asyncio.timeout(10):
        while (await again.asked(WHICH)).hit is None:  # noqa: ASYNC110  # a thread of the file's reads it
            await asyncio.sleep(0.01)
    assert again.decider.verdicts[:2] == [(True, False)] * 2
    assert (await again.asked(WHAT)).hit is not None
    await again.cache.aclose()


async def test_a_decider_that_cannot_go_on_from_what_was_saved_begins_anew(tmp_path: Path) -> None:
    first = Cell(file=tmp_path / "c.sqlite3")
    await first.asked(WHAT, says="everest")
    await first.cache.aclose()
    again = Cell(file=tmp_path / "c.sqlite3")
    await again.asked(WHAT)
    assert again.told == ["The cache of policy 'p' begins to learn anew: not what was saved"]
    await again.cache.aclose()


async def test_the_same_question_stored_twice_at_once_is_there_once(cell: Cell) -> None:
    looks = [await cell.cache.find(words(WHAT), LIKE) for _ in range(2)]
    for i, look in enumerate(looks):
        entry = replace(entry_of(words(WHAT)), id=str(i))
        await cell.cache.keep(words(WHAT), LIKE, entry, said("everest"), ticket=look.ticket)
    await cell.cache.settled()
    assert [a.origin_id for a in cell.kept()] == ["1"]


async def test_what_an_answer_saves_is_what_the_baseline_costs(cell: Cell) -> None:
    request = words(WHAT)
    entry = entry_of(request)
    entry = replace(entry, outcome=replace(entry.outcome, cost_nanos=Nanos(5000)))
    await cell.cache.keep(request, LIKE, entry, said("everest"), ticket=(await cell.cache.find(request, LIKE)).ticket)
    assert [a.worth for a in cell.kept()] == [5000]


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_that_processes_kept_of_one_request_all_keep_the_same(first: int) -> None:
    cells = Cell(), Cell()
    for cell, number in zip(cells, (first, 1 - first), strict=True):
        await cell.asked("where is the station", says="over there")
        (own,) = cell.kept()
        cell.cache.gone([own.number])
        cell.cache.loaded([Loaded(replace(own, number=number), None)])
    one, two = (cell.kept()[0] for cell in cells)
    for cell, heard in zip(cells, (two, one), strict=True):
        cell.cache.loaded([Loaded(heard, None)])
    assert [[answer.number for answer in cell.kept()] for cell in cells] == [[1], [1]]
    for cell in cells:
        await cell.cache.aclose()
