"""A share of the requests is asked of another target too: apart, bounded, within a budget, and told as what it is."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from tests.cache.semantic.hashed import Hashed
from tests.edge_kit import get, raw
from tests.labels.labels_kit import KEPT, SHADOW, Room, metrics, room, says, together
from tests.test_pipeline import asked_of
from trivet.aside import MOST
from trivet.labels.shadow import Other, again, other, takes_part
from trivet.testing.cache_suite import Hands, ask
from trivet.testing.upstream import Answer, Tool
from trivet.types import Entry, Nanos, Permit, Policy, ShadowPolicy

pytestmark = pytest.mark.anyio
RULES = ShadowPolicy(share=0.5, target="large", budget_nanos=Nanos(1), tools=False, judge="equality")
POLICY = Policy(name="p", digest="", pool=("small", "middle", "large"), shadow=RULES)
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}


class Chance:
    """Chance that says what it is told."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value

    def getrandbits(self, k: int, /) -> int:
        return int(self.value * (1 << k))


# Who is asked, and for what.


def test_the_large_one_is_asked_too_and_where_it_answered_one_of_the_others_by_chance() -> None:
    assert other(POLICY, "small", ask(), Chance(0.99)) == Other("large", 0.5)
    assert other(POLICY, "large", ask(), Chance(0.0)) == Other("small", 0.25)
    assert other(POLICY, "large", ask(), Chance(0.999999)) == Other("middle", 0.25)


def test_who_a_key_may_not_call_is_never_a_shadow() -> None:
    tight = replace(ask(), permit=Permit(targets=("small", "middle")))
    assert other(POLICY, "small", tight, Chance(0.0)) is None
    assert other(POLICY, "large", replace(ask(), permit=Permit(targets=("large",))), Chance(0.0)) is None


def test_what_has_tools_several_choices_or_is_ours_has_no_shadow() -> None:
    assert takes_part(ask(), RULES)
    assert takes_part(ask(**TOOLS), replace(RULES, tools=True))
    ours = [replace(ask(), **{name: "req_0"}) for name in ("audit_of", "judge_of", "shadow_of")]
    assert not any(takes_part(one, RULES) for one in (ask(**TOOLS), ask(n=2), replace(ask(), kind="embeddings"), *ours))


def test_the_same_is_asked_but_not_in_a_stream() -> None:
    asked = ask(stream=True, stream_options={"include_usage": True}, temperature=0.5, seed=7)
    made = again(asked, at_ns=5)
    assert (made.stream, made.shadow_of, made.at_ns, made.tenant) == (False, "req_1", 5, asked.tenant)
    assert made.fields == {name: asked.fields[name] for name in ("model", "messages", "temperature", "seed")}
    assert made.fields["seed"] == Raw(b"7")


# A gateway, two targets.


def shadows(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.shadow_of]


@pytest.mark.parametrize("stream", [False, True])
async def test_agreement_is_a_label_of_the_small_target_and_the_large_one_is_the_reference(
    tmp_path: Path, *, stream: bool
) -> None:
    async with room(tmp_path, small=says(hard="five"), large=says(hard="six")) as here:
        easy, hard = [await here.ask(text, stream=stream) for text in ("easy", "hard")]
        found = await here.rows(
            "SELECT id, target, source, score, propensity, reference FROM labels ORDER BY at_ns, reference"
        )
        ids = [reply.headers["x-trivet-id"] for reply in (easy, hard)]
        assert found == [
            (ids[0], "small", "shadow", 1.0, 1.0, 0),
            (ids[0], "large", "shadow", 1.0, 1.0, 1),
            (ids[1], "small", "shadow", 0.0, 1.0, 0),
            (ids[1], "large", "shadow", 1.0, 1.0, 1),
        ]
        entries = await here.entries()
        assert [entry.shadow_of for entry in shadows(entries)] == ids
        for entry in shadows(entries):
            assert (entry.policy, entry.outcome.target, entry.stream, entry.cache) == ("p", "large", False, "off")
            assert entry.saved == {"shadow": -(entry.outcome.cost_nanos or 0)}
        (large,) = {entry.outcome.cost_nanos for entry in shadows(entries)}
        assert await here.rows("SELECT policy, nanos FROM spent") == [("p", 2 * (large or 0))]
        assert (await metrics(here))['trivet_labels_total{source="shadow"}'] == 2
        count = await raw(here.url, get("/metrics"))
        assert b'trivet_saved_nanodollars{policy="p",lever="shadow"} -' in count.body


async def test_where_the_large_one_answered_the_small_one_is_asked_too(tmp_path: Path) -> None:
    async with room(tmp_path, small=lambda body: Answer(status=503)) as here:  # the first in the pool is down
        reply = await here.ask()
        assert reply.headers["x-trivet-target"] == "large"
        assert [entry.outcome.target for entry in shadows(await here.entries())] == ["small"]
        assert await here.rows("SELECT * FROM labels") == []
        assert (await metrics(here))['trivet_labels_troubles_total{kind="unfinished"}'] == 1


async def test_the_share_is_drawn_by_the_kit_s_chance(tmp_path: Path) -> None:
    async with room(tmp_path, SHADOW.replace("1.0", "0.3"), rng=Chance(0.31)) as here:
        await here.ask()
        assert shadows(await here.entries()) == []
    async with room(tmp_path, SHADOW.replace("1.0", "0.3"), rng=Chance(0.29)) as here:
        await here.ask()
        assert len(shadows(await here.entries())) == 1
        assert await here.rows("SELECT DISTINCT propensity FROM labels") == [(0.3,)]


async def test_tools_hits_and_what_a_client_named_directly_have_no_shadow(tmp_path: Path) -> None:
    async with room(tmp_path, SHADOW.replace('judge = "equality"', 'judge = "equality"\nmode = "exact"')) as here:
        await here.ask(**TOOLS)
        await here.ask(model="small")
        assert shadows(await here.entries()) == []
        await here.ask("first")
        assert len(shadows(await here.entries())) == 1
        await here.ask("first")
        assert len(shadows(await here.entries())) == 1
        assert [entry.cache for entry in here.store.entries].count("exact") == 1


async def test_tool_calls_are_compared_as_values_where_that_is_allowed(tmp_path: Path) -> None:
    def calls(arguments: str) -> Any:
        return lambda body: Answer(tools=(Tool("f", arguments),), finish="tool_calls")

    more = SHADOW + "tools = true\n"
    async with room(tmp_path, more, small=calls('{"a": 1, "b": 2}'), large=calls('{"b": 2, "a": 1}')) as here:
        await here.ask(**TOOLS)
        assert await here.rows("SELECT score FROM labels WHERE NOT reference") == [(1.0,)]


async def test_what_is_not_kept_has_no_shadow_either(tmp_path: Path) -> None:
    image: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    async with room(tmp_path) as here:
        await here.ask(image)
        await here.ask(messages=[{"role": "system", "content": "no words of a user"}])
        await here.ask(" \n")
        await here.ask("x" * 1_000_000)
        assert shadows(await here.entries()) == []
        assert await here.rows("SELECT * FROM asked") == []


async def test_a_bypassed_cache_keeps_nothing_though_the_answer_was_gathered(tmp_path: Path) -> None:
    async with room(tmp_path, SHADOW.replace('judge = "equality"', 'judge = "equality"\nmode = "exact"')) as here:
        await here.ask(trivet={"cache": "off"})
        assert len(shadows(await here.entries())) == 1
        assert (await here.ask()).headers["x-trivet-cache"] == "miss"


async def test_a_model_may_be_the_judge_and_costs_what_it_costs(tmp_path: Path) -> None:
    def large(body: Any) -> Answer:
        judged = body["messages"][0]["role"] == "system"
        return Answer(pieces=("DIFFERENT" if "red" in str(body) else "SAME",) if judged else ("It is four.",))

    more = SHADOW.replace('judge = "equality"', 'judge = "large"')
    async with room(tmp_path, more, large=large, small=says(**{"a red one?": "It is six."})) as here:
        await here.ask("2+2?")
        await here.ask("a red one?")
        found = await here.rows("SELECT source, score FROM labels WHERE NOT reference ORDER BY at_ns")
        assert found == [("judge", 1.0), ("judge", 0.0)]
        entries = await here.entries()
        judged = [entry for entry in entries if entry.judge_of]
        assert {entry.judge_of for entry in judged} == {entry.id for entry in shadows(entries)}
        assert [entry.saved.keys() for entry in judged] == [{"judge"}] * 4
        spent = sum(entry.outcome.cost_nanos or 0 for entry in [*judged, *shadows(entries)])
        assert await here.rows("SELECT nanos FROM spent") == [(spent,)]


async def test_likeness_is_by_the_embedder_and_kept_beside_the_verdict(tmp_path: Path) -> None:
    more = SHADOW.replace('judge = "equality"\n', "")
    async with room(
        tmp_path,
        more,
        small=lambda body: Answer(pieces=("this is the tallest mountain on earth",)),
        large=lambda body: Answer(pieces=("that is the tallest mountain on earth",)),
        embedder=Hashed(),
    ) as here:
        await here.ask()
        ((score, cosine),) = await here.rows("SELECT score, likeness FROM labels WHERE NOT reference")
        assert (score, round(cosine, 3)) == (1.0, 0.857)  # six words of seven


async def test_answers_that_are_cut_short_tell_nothing(tmp_path: Path) -> None:
    async with room(tmp_path, large=lambda body: Answer(pieces=("four",), finish="length")) as here:
        await here.ask()
        assert await here.rows("SELECT * FROM labels") == []
        assert (await metrics(here))['trivet_labels_troubles_total{kind="unfinished"}'] == 1


# The budget.


async def test_shadows_never_cost_more_than_the_day_s_budget_however_many_come_at_once(tmp_path: Path) -> None:
    clock = Hands()
    # One costs 9 * 1000 + 2000 = 11,000 nano-dollars, and 20 tokens of output and some 80 bytes are held for it.
    more = SHADOW + 'budget = "$0.0004/day"\n'
    async with room(tmp_path, more, clock=clock) as here:
        await together(*[here.ask(str(n), max_tokens=20) for n in range(60)])
        for n in range(60):
            await here.ask(f"again {n}", max_tokens=20)
            await here.entries()
        first = shadows(await here.entries())
        spent = sum(entry.outcome.cost_nanos or 0 for entry in first)
        assert 0 < spent <= 400_000
        assert await here.rows("SELECT nanos FROM spent") == [(spent,)]
        assert (await metrics(here))['trivet_labels_troubles_total{kind="budget"}'] > 0
        assert {entry.outcome.status for entry in here.store.entries} == {"ok"}
    async with room(tmp_path, more, clock=clock) as here:  # after a restart
        await here.ask(max_tokens=20)
        assert shadows(await here.entries()) == []
        clock.ns += 86_400 * 10**9
        await here.ask(max_tokens=20)
        assert len(shadows(await here.entries())) == 1


async def test_a_gateway_that_stops_in_the_middle_of_a_shadow_leaves_its_entry_and_what_was_held_counts(
    tmp_path: Path,
) -> None:
    async with room(tmp_path, large=lambda body: Answer(hang_after=0)) as here:
        reply = await here.ask(max_tokens=20)
        assert reply.status == 200
        await asked_of(here.large)
        assert here.store.entries[-1].shadow_of == ""  # it is under way
    (shadow,) = shadows(here.store.entries)
    assert (shadow.shadow_of, shadow.outcome.status) == (reply.headers["x-trivet-id"], "cancelled")
    with closing(sqlite3.connect(here.path)) as db:
        ((spent,),) = db.execute("SELECT nanos FROM spent").fetchall()
        assert spent > (shadow.outcome.cost_nanos or 0)
        assert db.execute("SELECT count(*) FROM labels").fetchone() == (0,)


async def test_shadows_that_are_too_many_at_once_are_not_begun_and_counted(tmp_path: Path) -> None:
    async with room(tmp_path, large=lambda body: Answer(hang_after=0)) as here:
        replies = await together(*[here.ask(str(n)) for n in range(MOST["shadow"] + 3)])
        assert [reply.status for reply in replies] == [200] * (MOST["shadow"] + 3)
        assert (await metrics(here))["trivet_shadows_skipped_total{}"] == 3


async def test_a_price_that_is_not_known_is_no_budget_and_the_operator_is_told(tmp_path: Path) -> None:
    async with room(tmp_path) as free:
        more = SHADOW.replace("share", 'target = "free"\nshare')
        more += f'[targets.free]\nprovider = "openai"\nmodel = "f"\nbase_url = "{free.large.base_url}"\n'
        async with room(tmp_path, more) as here:
            for _ in range(3):
                await here.ask()
            assert shadows(await here.entries()) == []
            assert (await metrics(here))['trivet_labels_troubles_total{kind="price"}'] == 3
            assert [line for line in here.told if "would ask, is not known" in line] == here.told
        assert free.large.requests == []


# Walls.


async def test_a_key_s_permission_holds_for_shadows_and_their_judges(tmp_path: Path) -> None:
    async def asked_by(here: Room) -> None:
        reply = await here.ask(key=(here.keys / "acme").read_text())
        assert reply.headers["x-trivet-target"] == "small"
        await here.entries()

    async with room(tmp_path, tenants=("acme",), permit=Permit(targets=("small",))) as here:
        await asked_by(here)
        assert shadows(here.store.entries) == []
        assert here.large.connections == 0
    judged = SHADOW.replace("equality", "grader").replace("share", 'target = "middle"\nshare')
    folder = tmp_path / "judged"
    folder.mkdir()
    async with room(tmp_path) as more:
        for name, upstream in (("middle", more.small), ("grader", more.large)):
            judged += f'[targets.{name}]\nprovider = "openai"\nmodel = "{name}"\nbase_url = "{upstream.base_url}"\n'
            judged += 'price = { input = "$1", output = "$2" }\n'
        permit = Permit(targets=("small", "middle"))
        more.small.script = lambda body: Answer(pieces=("another answer",))
        async with room(folder, judged, tenants=("acme",), permit=permit) as here:
            await asked_by(here)
            assert [e.outcome.target for e in shadows(here.store.entries)] == ["middle"]
            refused = [e for e in here.store.entries if e.judge_of]
            assert [(e.outcome.status, e.outcome.http_status) for e in refused] == [("refused", 403)]
            assert await here.rows("SELECT * FROM labels") == []
        assert (more.small.connections, more.large.connections) == (1, 0)


async def test_what_is_said_of_prompts_is_in_the_labels_and_nowhere_else(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT) as here:
        await here.ask("a secret of somebody's")
        assert await here.rows("SELECT prompt FROM asked") == [("a secret of somebody's",)]
        assert "a secret" not in json.dumps([str(entry) for entry in await here.entries()])
        assert "a secret" not in (await raw(here.url, get("/metrics"))).body.decode()
