"""What a client says of a hit, and what an operator wants forgotten, is taken off at once, for that tenant alone."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cache.semantic.test_tier import OTHER, WHAT, WHICH, Cell
from tests.edge_kit import Reply, bearer, make_key, post, raw
from trivet.testing.house import Gateway, house
from trivet.testing.upstream import Upstream
from trivet.types import Permit

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "static"
"""


EXACT = """
[cache]
kind = "exact"
"""


class Room(NamedTuple):
    gateway: Gateway
    cell: Cell
    keys: dict[str, str]

    async def ask(self, text: str, *, tenant: str = "acme", tags: str = "") -> Reply:
        """Ask a question."""
        body = {"model": "p", "messages": [{"role": "user", "content": text}], "trivet": {"cache_tags": tags}}
        return await self.send("/v1/chat/completions", body, tenant=tenant)

    async def send(self, path: str, body: Any, *, tenant: str = "acme") -> Reply:
        """Send a body to a path."""
        return await raw(self.gateway.url, post(body, bearer(self.keys[tenant]), path=path))


@asynccontextmanager
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    keys = {tenant: make_key(tmp_path / "keys", tenant) for tenant in ("acme", "globex")}
    cell = Cell()
    async with AsyncExitStack() as opened:
        upstream = await opened.enter_async_context(Upstream("everest"))
        gateway = await opened.enter_async_context(house({"a": upstream.base_url}, POLICY, keys=tmp_path / "keys"))
        opened.push_async_callback(cell.cache.aclose)
        gateway.app.use(gateway.stages._replace(cache=cell.cache), max_body_bytes=10**6)
        yield Room(gateway, cell, keys)


def told(reply: Reply) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(reply.body)
    return made


async def test_a_hit_said_to_be_wrong_is_not_served_again_and_only_its_tenant_can_say_so(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.ask(WHAT)
        hit = await here.ask(WHICH)
        assert hit.headers["x-trivet-cache"].startswith("hit; kind=semantic; age=0; cosine=0.857; p_correct=0.9000")
        said = {"id": hit.headers["x-trivet-id"], "wrong_hit": True}
        others = await here.send("/trivet/v1/feedback", said, tenant="globex")
        assert (others.status, told(others)["error"]["code"]) == (404, "unknown_hit")
        mine = await here.send("/trivet/v1/feedback", said)
        assert (mine.status, told(mine)["purged"]) == (200, True)
        assert (await here.ask(WHICH)).headers["x-trivet-cache"] == "miss"


async def test_the_ledger_knows_of_a_hit_that_this_process_did_not_serve(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.ask(WHAT)
        hit = await here.ask(WHICH)
        here.cell.cache._served.clear()  # as in a process that has the answers from the file
        said = await here.send("/trivet/v1/feedback", {"id": hit.headers["x-trivet-id"], "wrong_hit": True})
        assert said.status == 200
        assert (await here.ask(WHICH)).headers["x-trivet-cache"] == "miss"


@pytest.mark.parametrize("forget", [{"tags": ["geography"]}, {"like": {"text": WHICH, "cosine": 0.8}}], ids=str)
async def test_what_is_to_be_forgotten_is_shown_first_and_then_gone(tmp_path: Path, forget: dict[str, Any]) -> None:
    async with room(tmp_path) as here:
        first = await here.ask(WHAT, tags="geography, mountains")
        await here.ask(OTHER, tags="food")
        path = "/trivet/v1/cache/invalidate"
        assert told(await here.send(path, forget, tenant="globex"))["count"] == 0
        shown = told(await here.send(path, {**forget, "dry_run": True}))
        assert (shown["count"], shown["dry_run"]) == (1, True)
        (answer,) = shown["answers"]
        assert answer["id"] == first.headers["x-trivet-id"]
        assert (answer["question"], answer["tags"]) == (WHAT, ["geography", "mountains"])
        assert (await here.ask(WHAT)).headers["x-trivet-cache"].startswith("hit")
        assert told(await here.send(path, forget))["count"] == 1
        assert (await here.ask(WHAT)).headers["x-trivet-cache"] == "miss"
        assert (await here.ask(OTHER)).headers["x-trivet-cache"].startswith("hit")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/trivet/v1/feedback", b"{", "is not feedback"),
        ("/trivet/v1/feedback", {"id": "x"}, "Say how the answer was in one way"),
        ("/trivet/v1/feedback", {"id": "x", "wrong_hit": False}, "can only be true"),
        ("/trivet/v1/feedback", {"id": "x", "wrong": False}, "can only be true"),
        ("/trivet/v1/feedback", {"id": "x", "wrong_hit": True, "score": 1}, "Say how the answer was in one way"),
        ("/trivet/v1/feedback", {"id": "x", "score": 1.01}, "is not feedback"),
        ("/trivet/v1/feedback", {"id": "x", "score": -1}, "is not feedback"),
        ("/trivet/v1/feedback", b'{"id": "x", "score": NaN}', "is not feedback"),
        ("/trivet/v1/feedback", {"id": "x", "label": "fine"}, "is not feedback"),
        ("/trivet/v1/feedback", {"id": "x", "stars": 5}, "unknown field `stars`"),
        ("/trivet/v1/cache/invalidate", {}, "Say what to forget"),
        ("/trivet/v1/cache/invalidate", {"dry_run": True}, "Say what to forget"),
        ("/trivet/v1/cache/invalidate", {"tags": "prices"}, "does not say what to forget"),
        ("/trivet/v1/cache/invalidate", {"like": {"text": "a", "cosine": 2}}, "does not say what to forget"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, path: str, body: Any, words: str) -> None:
    async with room(tmp_path) as here:
        refused = await here.send(path, body)
        assert refused.status == 400
        assert words in told(refused)["error"]["message"]


async def test_more_than_such_a_request_can_be_is_refused(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        assert (await here.send("/trivet/v1/feedback", {"id": "x" * 70_000, "wrong_hit": True})).status == 413


async def test_a_cache_that_takes_nothing_off_says_so(tmp_path: Path) -> None:
    async with Upstream("x") as upstream, house({"a": upstream.base_url}, EXACT) as gateway:
        refused = await raw(gateway.url, post({"tags": ["a"]}, path="/trivet/v1/cache/invalidate"))
    assert refused.status == 400
    assert "`[cache] kind` is not `tiers`" in told(refused)["error"]["message"]


TWO = """
[policies.p]
pool = ["b", "a"]
[policies.p.cache]
mode = "static"
"""


async def test_a_key_is_never_served_the_kept_answer_of_a_target_that_it_may_not_call(tmp_path: Path) -> None:
    permit, path = Permit(targets=("a",)), tmp_path / "keys"
    free, tight = make_key(path, "acme", name="free"), make_key(path, "acme", name="tight", permit=permit)
    cell = Cell()
    async with Upstream("of a") as a, Upstream("of b") as b:
        async with house({"a": a.base_url, "b": b.base_url}, TWO, keys=path) as gateway:
            gateway.app.use(gateway.stages._replace(cache=cell.cache), max_body_bytes=10**6)

            async def ask(key: str, text: str, *more: tuple[str, bytes]) -> tuple[str, str]:
                body = {"model": "p", "messages": [{"role": "user", "content": text}]}
                reply = await raw(gateway.url, post(body, bearer(key), *more))
                if reply.status != 200:
                    return "", told(reply)["error"]["code"]
                said = told(reply)["choices"][0]["message"]["content"]
                return said, reply.headers["x-trivet-cache"].split(";")[0]

            assert await ask(free, WHAT) == ("of b", "miss")
            assert await ask(free, WHICH) == ("of b", "hit")
            assert await ask(tight, WHAT, ("x-trivet-cache", b"only")) == ("", "cache_miss")
            assert await ask(tight, WHAT) == ("of a", "miss")  # the same question
            assert await ask(tight, WHICH) == ("of a", "hit")  # one like it
            assert await ask(free, WHAT) == ("of b", "hit")
        await cell.cache.aclose()
