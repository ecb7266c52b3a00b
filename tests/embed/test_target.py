"""Vectors of another place: the suite over a real gateway that makes them, and a target that is not well."""

import asyncio
import json
import struct
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from trivet.config import EmbedderSettings, Settings
from trivet.embed.target import MAX_TEXTS, REST_S, TRIES, USUAL_TOKENS, Target, _rows, build
from trivet.errors import EmbedderError, WidthError
from trivet.seams import Account, Kit, Vectors
from trivet.testing.cache_suite import Hands
from trivet.testing.embedder_suite import EmbedderSuite
from trivet.testing.house import config, house, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import NEVER, Answer, Upstream
from trivet.types import Labels

pytestmark = pytest.mark.anyio

OTHER = """
[aliases]
"v-1" = "builtin"
[targets.builtin]
provider = "embedder"
model = "builtin"
"""
"""Another Trivet, in which what the target `v` asks for is an embedder."""


class Room(NamedTuple):
    kit: Kit
    store: Memory
    clock: Hands
    told: list[str]

    def make(self, **more: Any) -> Target:
        return build(EmbedderSettings(kind="target", target="v", **more), self.kit)


@asynccontextmanager
async def room(tmp_path: Path, url: str, *, more: str = "") -> AsyncIterator[Room]:
    """Stages with one target `v`, and a desk over them."""
    settings: Settings = config({"v": url}, more)
    told, store, clock = list[str](), Memory(), Hands()
    made = kit(tmp_path, tell=told.append)
    async with stages(settings, made, store):
        yield Room(made._replace(clock=clock), store, clock, told)


class TestTarget(EmbedderSuite):
    """Asked of another Trivet."""

    @pytest.fixture(autouse=True)
    async def _other(self, tmp_path: Path) -> AsyncGenerator[None, None]:
        async with house({}, OTHER) as gateway, AsyncExitStack() as opened:
            self.room = await opened.enter_async_context(room(tmp_path, f"{gateway.url}/v1"))
            yield

    def make(self) -> Target:
        return self.room.make(max_tokens=8000)


@pytest.fixture
async def other() -> AsyncGenerator[str, None]:
    async with house({}, OTHER) as gateway:
        yield f"{gateway.url}/v1"


async def ready(target: Target) -> None:
    await target.start()
    async with asyncio.timeout(10):
        while not target.digest:  # noqa: ASYNC110  # its state is words, as people see them
            await asyncio.sleep(0.01)


async def test_each_request_leaves_an_entry_on_the_account_that_it_is_for(tmp_path: Path, other: str) -> None:
    async with room(tmp_path, other, more='[policies.p]\npool = ["v"]\n') as at, aclosing(at.make()) as target:
        await ready(target)
        account = Account(of="req_1", tenant="acme", key_id="k", labels=Labels(customer="globex"), policy="p")
        await target.on(account).embed(["How do I reset my password?", "", "And then?"])
        first, asked = at.store.entries
    assert (first.embed_of, first.tenant, first.policy, first.saved) == ("start", "", "v", {})
    assert (asked.embed_of, asked.tenant, asked.key_id, asked.labels.customer) == ("req_1", "acme", "k", "globex")
    assert (asked.kind, asked.policy, asked.outcome.target, asked.cache) == ("embeddings", "p", "v", "off")
    assert asked.id.startswith("req_1-embed-")
    assert asked.outcome.usage is not None
    assert account.cost_nanos == asked.outcome.cost_nanos == asked.outcome.usage.input_tokens * 1000
    assert asked.saved == {"embed": -account.cost_nanos}


async def test_its_vectors_are_those_of_the_target_and_its_digest_is_of_target_and_width(
    tmp_path: Path, other: str
) -> None:
    async with room(tmp_path, other) as at, aclosing(at.make()) as one, aclosing(at.make(max_tokens=99)) as cut:
        assert (one.digest, one.width, one.ready()) == ("", 0, "not started")
        await ready(one)
        await ready(cut)
        builtin = at.kit.embedder("builtin")
        texts = ["a question", "another, that is longer"]
        assert np.abs((await one.embed(texts)).rows - (await builtin.embed(texts)).rows).max() < 1e-6
        await builtin.aclose()
        assert (one.width, one.min_width, one.max_tokens) == (256, 256, USUAL_TOKENS)
        assert len({one.digest, cut.digest}) == 2


async def test_many_texts_go_in_requests_of_a_bounded_size_and_keep_their_order(tmp_path: Path) -> None:
    async with Upstream() as upstream, room(tmp_path, upstream.base_url) as at, aclosing(at.make()) as target:
        texts = [f"text {i}" for i in range(3 * MAX_TEXTS + 1)]
        rows = (await ready_and(target, texts)).rows
        alone = [(await target.embed([text])).rows[0] for text in texts[:: MAX_TEXTS - 1]]
        assert np.array_equal(rows[:: MAX_TEXTS - 1], alone)
        long = await target.embed(["word " * 200] * 40)
        assert long.cut == (False,) * 40
    sizes = [len(request.body["input"]) for request in upstream.requests[1:5]]
    assert sizes == [MAX_TEXTS] * 3 + [1]
    assert all(len(request.raw) < 40_000 for request in upstream.requests)


async def ready_and(target: Target, texts: list[str]) -> Vectors:
    await ready(target)
    return await target.embed(texts)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=500), "500"),
        (Answer(status=429), "429"),
        (Answer(garbage=True), "v"),
        (Answer(cut_after=0), "v"),
        (Answer(first_delay_s=NEVER), "gave no vectors within 0.05 s"),
    ],
)
async def test_what_goes_wrong_there_is_an_embedder_error_and_an_entry(
    tmp_path: Path, answer: Answer, words: str
) -> None:
    answers = [Answer(), answer]
    async with (
        Upstream(script=lambda body: answers.pop(0)) as upstream,
        room(tmp_path, upstream.base_url) as at,
        aclosing(at.make(timeout="50ms")) as target,
    ):
        await ready(target)
        with pytest.raises(EmbedderError, match=words):
            await target.on(Account(of="req_1", tenant="acme")).embed(["a text that nobody should read in a log"])
        assert target.ready() == ""
        entry = at.store.entries[1]
    assert (entry.tenant, entry.outcome.status in ("failed", "cancelled")) == ("acme", True)
    assert "nobody should read" not in str(at.told) + str(entry)


GOOD: list[dict[str, Any]] = [{"index": 0, "embedding": [1.0, 0.5]}, {"index": 1, "embedding": [0, 0.5]}]


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:1],
        [*GOOD, {"index": 2, "embedding": [1.0, 1.0]}],
        [GOOD[0], GOOD[0]],
        [GOOD[0], {"index": 1, "embedding": [1.0]}],
        [GOOD[0], {"index": 1, "embedding": [0.0, 0.0]}],
        [GOOD[0], {"index": 1, "embedding": "AAAAAAAAwH8="}],  # 0 and NaN
        [GOOD[0], {"index": 1, "embedding": "not base64!"}],
        [GOOD[0], {"index": 1, "embedding": ["x", 1.0]}],
        [GOOD[0], {"index": 1}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        {"none": 1},
    ],
)
def test_what_are_no_vectors_of_the_texts_is_refused(data: object) -> None:
    with pytest.raises(ValueError):  # msgspec's are among them
        _rows(json.dumps({"data": data}).encode(), 2)


def test_answers_are_read_however_they_are_packed_numbered_or_long() -> None:
    packed = b64encode(struct.pack("<2f", 3.0, 4.0)).decode()
    for data in (
        [{"index": 1, "embedding": [0, 9]}, {"index": 0, "embedding": packed}],
        [{"embedding": [3e300, 4e300], "object": "embedding"}, {"embedding": [0.0, 1e-300]}],
    ):
        rows = _rows(json.dumps({"data": data, "usage": None}).encode(), 2)
        assert rows.tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 1.0]]))


async def test_a_target_that_fails_again_and_again_is_left_alone_for_a_while(tmp_path: Path) -> None:
    well = True
    async with (
        Upstream(script=lambda body: Answer() if well else Answer(status=503)) as upstream,
        room(tmp_path, upstream.base_url) as at,
        aclosing(at.make()) as target,
    ):
        await ready(target)
        well = False
        for _ in range(TRIES):
            with pytest.raises(EmbedderError, match="503"):
                await target.embed(["a"])
        asked = len(upstream.requests)
        assert target.ready().startswith("failed: ")
        with pytest.raises(EmbedderError, match="not ready"):
            await target.embed(["a"])
        assert len(upstream.requests) == asked
        at.clock.ns += int(REST_S * 1e9) + 1
        well = True
        assert target.ready() == ""
        trying = [asyncio.ensure_future(target.embed(["a"])) for _ in range(3)]
        done = await asyncio.gather(*trying, return_exceptions=True)
        assert [isinstance(one, EmbedderError) for one in done] == [False, True, True]
        assert len(upstream.requests) == asked + 1
        assert (await target.embed(["a"])).tokens == (1,)


async def test_vectors_of_another_width_never_leave_it(tmp_path: Path) -> None:
    width = 8
    async with (
        Upstream(script=lambda body: Answer(width=width)) as upstream,
        room(tmp_path, upstream.base_url) as at,
        aclosing(at.make()) as target,
    ):
        await ready(target)
        digest = target.digest
        width = 16
        with pytest.raises(WidthError, match="vectors of 16 numbers, and 8 before"):
            await target.embed(["a"])
        assert (target.width, target.digest) == (8, digest)
        width = 8
        assert (await target.embed(["a"])).rows.shape == (1, 8)


async def test_one_that_is_not_there_at_the_start_is_asked_again_later(tmp_path: Path) -> None:
    async with Upstream(status=500) as upstream, room(tmp_path, upstream.base_url) as at, aclosing(at.make()) as target:
        await target.start()
        async with asyncio.timeout(10):
            while not target.ready().startswith("failed"):  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
        assert len(at.told) == 1
        upstream.script = lambda body: Answer()
        at.clock.ns += int(REST_S * 1e9) + 1
        assert target.ready() == ""
        assert (await target.embed(["a"])).rows.shape == (1, 8)
        assert target.digest


async def test_it_waits_for_targets_that_are_not_built_yet(tmp_path: Path) -> None:
    target = build(EmbedderSettings(kind="target", target="v"), kit(tmp_path))
    await target.start()
    assert target.ready() == "asking target v for a first vector"
    await target.aclose()
    assert target.ready() == "closed"
    with pytest.raises(EmbedderError):
        await target.embed(["a"])
