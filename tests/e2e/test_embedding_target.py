"""A policy whose questions are compared by vectors of another target: hits, entries, money; and nothing that goes wrong
there reaches a client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from tests.e2e.test_embedder_changes import script
from trivet.build import Builder, kit
from trivet.cache.semantic.tier import Tiers
from trivet.config import parse
from trivet.ledger import report
from trivet.ledger.sqlite import folder
from trivet.pipeline import answer
from trivet.seams import Cache
from trivet.tally import Stages, Tally
from trivet.testing.cache_suite import ask
from trivet.testing.house import house
from trivet.testing.upstream import NEVER, Answer, Upstream
from trivet.types import Entry, Labels, Permit

pytestmark = pytest.mark.anyio

CONFIG = """
[targets.a]
provider = "openai"
model = "a-1"
base_url = "{chat}"
price = {{ input = "$1", output = "$2" }}
[targets.v]
provider = "openai"
model = "{model}"
base_url = "{vectors}"
price = {{ input = "$3", output = "$0" }}
[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "static"
threshold = 0.75
[embedder]
kind = "target"
target = "v"
timeout = "1s"
"""
OTHER = '[aliases]\n"v-1" = "builtin"\n[targets.builtin]\nprovider = "embedder"\nmodel = "builtin"\n'
ASKED, LIKE = "How do I reset my password?", "how can I reset my password"


@dataclass
class Gateway:
    """One that is built from a file, as `trivet serve` builds it."""

    home: Path
    text: str
    builder: Builder
    stages: Stages
    told: list[str]
    asked: int = 0

    async def ask(self, text: str, *, customer: str = "", may_call: tuple[str, ...] = ()) -> Entry:
        self.asked += 1
        asked = ask(messages=[{"role": "user", "content": text}])
        labels = Labels(customer=customer)
        request = replace(asked, id=f"req_{self.asked:032x}", model="p", labels=labels)
        request = replace(request, permit=Permit(targets=may_call))
        tally = Tally(request, self.stages.clock.mono_ns())
        chunks = [chunk async for chunk in answer(tally, self.stages)]
        assert chunks
        assert tally.entry is not None
        await self.cache.settled()
        return tally.entry

    @property
    def cache(self) -> Tiers:
        assert isinstance(self.stages.cache, Tiers)
        return self.stages.cache

    async def ready(self) -> None:
        await ready(self.cache)

    def entries(self) -> list[Entry]:
        """Give what is in the ledger, oldest first."""
        where = folder(parse(self.text, source="t").ledger, self.home)
        return report.entries(where, since_ns=0, until_ns=2**62, limit=1000, tell=print)[::-1]


async def ready(cache: Cache) -> None:
    """Wait for its embedder."""
    assert isinstance(cache, Tiers)
    async with asyncio.timeout(10):
        while cache._embedder is None or cache._embedder.ready():  # noqa: ASYNC110  # its state is words, for people
            await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(tmp_path: Path, vectors: str, *, more: str = "", model: str = "v-1") -> AsyncIterator[Gateway]:
    async with Upstream(script=lambda body: Answer(pieces=("an answer",))) as chat:
        text = CONFIG.format(chat=chat.base_url, vectors=vectors, model=model) + more
        settings, told = parse(text, source="t"), list[str]()
        builder = Builder(kit(settings, {"TRIVET_HOME": str(tmp_path)}, tell=told.append))
        try:
            yield Gateway(tmp_path, text, builder, await builder.build(settings), told)
        finally:
            await builder.aclose()


@pytest.fixture
async def other() -> AsyncIterator[str]:
    async with house({}, OTHER) as made:
        yield f"{made.url}/v1"


async def test_a_like_question_is_a_hit_and_what_the_vectors_cost_is_counted(tmp_path: Path, other: str) -> None:
    async with gateway(tmp_path, other) as at:
        await at.ready()
        first = await at.ask(ASKED, customer="globex")
        hit = await at.ask(LIKE)
        again = await at.ask(ASKED)
        spent = at.cache._watches["p"].gains.save()[0][1].sums.spent
    entries = at.entries()
    assert (first.cache, hit.cache, again.cache) == ("miss", "semantic", "exact")
    assert hit.embedder_digest
    embeds = [entry for entry in entries if entry.embed_of]
    assert [entry.embed_of for entry in embeds] == ["start", first.id, hit.id]  # one for each look, none for a repeat
    assert (embeds[1].tenant, embeds[1].policy, embeds[1].labels.customer) == (first.tenant, "p", "globex")
    assert len(entries) == 3 + len(embeds)
    costs = [entry.outcome.cost_nanos or 0 for entry in embeds]
    assert min(costs) > 0
    assert costs[1] < spent <= costs[1] + costs[2]  # what is long ago fades
    where = folder(parse(at.text, source="t").ledger, tmp_path)
    rows = report.usage(where, since_ns=0, until_ns=2**62, by="target", tell=print).rows
    assert {row.name: row.cost_nanos for row in rows}["v"] == sum(costs)
    (used,) = report.cache_use(where, since_ns=0, until_ns=2**62, tell=print)
    assert (used.requests, used.semantic, used.exact, used.embeds, used.embed_nanos) == (3, 1, 1, 2, sum(costs[1:]))
    assert used.saved_nanos == sum(sum(e.saved.values()) for e in [hit, again, *embeds])


def dead(body: Any) -> Answer:
    return Answer(status=500)


def silent(body: Any) -> Answer:
    return Answer(first_delay_s=NEVER)


def wide(body: Any) -> Answer:
    return Answer(width=16)


@pytest.mark.parametrize(("fault", "kind"), [(dead, "failed"), (silent, "failed"), (wide, "shape")])
async def test_a_target_that_dies_hangs_or_changes_is_a_miss_and_an_alarm(
    tmp_path: Path, fault: Callable[[Any], Answer], kind: str
) -> None:
    async with Upstream() as vectors, gateway(tmp_path, vectors.base_url) as at:
        await at.ready()
        assert (await at.ask(ASKED)).cache == "miss"
        vectors.script = fault
        # Served with the vector of another model these would be hits: of what they ask the vectors are the same.
        told = [await at.ask(f"{ASKED} {i}") for i in range(5)]
        assert [(e.cache, e.outcome.status) for e in told] == [("miss", "ok")] * 5
        assert (await at.ask(ASKED)).cache == "exact"
        troubles = at.cache.state().troubles
        assert troubles[kind] >= 3
        assert troubles["not_ready"] >= 2  # after some failures nobody waits for it any more
        assert any("miss for now" in line for line in at.told)
        asked = len(vectors.requests)
        await at.ask("And now?")
        assert len(vectors.requests) == asked
    assert len([e for e in at.entries() if not e.embed_of]) == 8


async def test_questions_of_a_key_that_may_not_call_it_are_shown_to_nobody(tmp_path: Path) -> None:
    async with Upstream() as vectors, gateway(tmp_path, vectors.base_url) as at:
        await at.ready()
        asked = len(vectors.requests)
        told = [await at.ask(f"{ASKED} {i % 2}", may_call=("a",)) for i in range(4)]
        assert [entry.cache for entry in told] == ["miss", "miss", "exact", "exact"]
        assert (len(vectors.requests), at.cache.state().behind) == (asked, 0)
        assert not any(at.cache.state().troubles.values())
        assert (await at.ask(LIKE, may_call=("a", "v"))).cache == "miss"
        assert len(vectors.requests) > asked


async def test_kept_questions_of_such_a_key_are_not_shown_to_another_embedder_either(tmp_path: Path) -> None:
    async with Upstream(script=script) as vectors, gateway(tmp_path, vectors.base_url) as at:
        here = at.text.replace('kind = "target"\ntarget = "v"\ntimeout = "1s"', 'kind = "builtin"')
        at.stages = await at.builder.build(parse(here, source="t"))
        await at.builder.let_go()
        await at.ready()
        secret, plain = "where is the hidden staircase of our castle", "how do I reset my password"
        await at.ask(secret, may_call=("a",))
        await at.ask(plain)
        at.stages = await at.builder.build(parse(at.text, source="t"))
        await at.builder.let_go()
        await at.ready()
        await at.ask("what is the fee for a transfer")
        async with asyncio.timeout(10):
            while at.cache.state().behind:  # noqa: ASYNC110  # it is a count
                await asyncio.sleep(0.02)
        shown = str([request.body for request in vectors.requests if request.path == "/v1/embeddings"])
        assert plain in shown
        assert "staircase" not in shown
        assert (await at.ask(secret, may_call=("a",))).cache == "exact"


async def test_one_that_is_never_there_keeps_nobody_waiting_and_exact_repeats_hit(tmp_path: Path) -> None:
    async with gateway(tmp_path, "http://127.0.0.1:1/v1") as at:
        assert [(await at.ask(ASKED)).cache for _ in range(3)] == ["miss", "exact", "exact"]
    assert {e.outcome.status for e in at.entries() if not e.embed_of} == {"ok"}


async def test_a_reload_that_makes_the_target_another_never_mixes_vectors(tmp_path: Path, other: str) -> None:
    async with AsyncExitStack() as opened:
        at = await opened.enter_async_context(gateway(tmp_path, other))
        await at.ready()
        await at.ask(ASKED)
        cache, digest = at.cache, at.cache._embedder.digest if at.cache._embedder else ""
        # Another key: the same cache goes on, asked with the new one.
        text = at.text.replace("[targets.v]", "[targets.v]\nheaders = {}\nwarm = 1")
        at.stages = await at.builder.build(parse(text, source="t"))
        await at.builder.let_go()
        assert at.cache is cache
        assert (await at.ask(LIKE)).cache == "semantic"
        # Another model: another cache, that asks the new one.
        text = text.replace('model = "v-1"', 'model = "builtin"')
        at.stages = await at.builder.build(parse(text, source="t"))
        await at.builder.let_go()
        assert at.cache is not cache
        await at.ready()
        assert at.cache._embedder is not None
        assert at.cache._embedder.digest not in ("", digest)
        hit = await at.ask(f"{LIKE}, please")
        assert hit.embedder_digest in ("", at.cache._embedder.digest)
        # No embedder of another place any more.
        text = text.replace('kind = "target"\ntarget = "v"\ntimeout = "1s"', 'kind = "builtin"')
        at.stages = await at.builder.build(parse(text, source="t"))
        await at.builder.let_go()
        await at.ready()
        assert at.cache._embedder.name == "trivet-static-1"
        since_ns = at.stages.clock.now_ns()
        last = await at.ask("another question")
    # Read when it is closed: entries come into the tables behind the answers.
    embeds = [entry for entry in at.entries() if entry.embed_of]
    assert len(embeds) >= 3
    assert last.id not in [entry.embed_of for entry in embeds]
    assert 0 < max(entry.at_ns for entry in embeds) < since_ns


async def test_clients_see_nothing_of_it_and_metrics_count_it(other: str) -> None:
    async with Upstream("an answer") as chat:
        more = f"""
[targets.v]
provider = "openai"
model = "v-1"
base_url = "{other}"
price = {{ input = "$3", output = "$0" }}
[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "static"
threshold = 0.75
[embedder]
kind = "target"
target = "v"
"""
        async with house({"a": chat.base_url}, more) as gateway, httpx2.AsyncClient(base_url=gateway.url) as client:
            for text in (ASKED, LIKE, f"{LIKE} please", f"{LIKE} now"):
                body = {"model": "p", "messages": [{"role": "user", "content": text}]}
                answered = await client.post("/v1/chat/completions", json=body)
                assert answered.status_code == 200
                await ready(gateway.stages.cache)
            counted = -1
            async with asyncio.timeout(10):  # vectors of what is kept are made when they are made
                while counted != len(gateway.store.entries):
                    lines = (await client.get("/metrics")).text.splitlines()
                    counted = sum(int(line.split()[-1]) for line in lines if line.startswith("trivet_requests_total"))
            embeds = [entry for entry in gateway.store.entries if entry.embed_of]
    assert len(embeds) >= 3
    assert counted >= 4 + 3
