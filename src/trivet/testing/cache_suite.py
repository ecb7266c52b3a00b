"""What every Cache must do: `class TestMine(CacheSuite)`, and say how yours is built."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from trivet.seams import Cache, Clock
from trivet.types import CachePolicy, Controls, Entry, Labels, Outcome, Policy, Request, Usage
from trivet.wire.request import read_request

POLICY = Policy(
    name="p",
    digest="d1",
    pool=("a",),
    cache=CachePolicy(mode="exact", ttl_s=60.0, max_temperature=1.0, tools=False, partition=("customer",)),
)
BODY = b'{"id":"a1","choices":[{"index":0,"message":{"role":"assistant","content":"4"},"finish_reason":"stop"}]}'
USAGE = Usage(input_tokens=9, output_tokens=1)


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def mono_ns(self) -> int:
        return self.ns


def ask(*, tenant: str = "acme", namespace: str = "", customer: str = "", headers: Any = (), **body: Any) -> Request:
    """Make a request as the edge does."""
    whole = {"model": "p", "messages": [{"role": "user", "content": "2+2?"}], **body}
    request = read_request(json.dumps(whole).encode(), headers, id="req_1", tenant=tenant, key_id="", at_ns=0)
    return replace(request, labels=Labels(customer=customer), controls=Controls(namespace=namespace))


def entry_of(request: Request) -> Entry:
    """Make the Entry of an answer to it."""
    outcome = Outcome(status="ok", http_status=200, target="a", usage=USAGE)
    return Entry(id="req_first", at_ns=0, tenant=request.tenant, outcome=outcome)


class CacheSuite:
    """Inherit, and build yours in `make`."""

    pytestmark = pytest.mark.anyio

    def make(self, *, clock: Clock, max_entries: int, max_bytes: int) -> Cache:
        """Build an empty cache."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Hands:
        return Hands()

    @pytest.fixture
    def cache(self, clock: Hands) -> Cache:
        return self.make(clock=clock, max_entries=10, max_bytes=1_000_000)

    async def keep(self, cache: Cache, request: Request, policy: Policy = POLICY, body: bytes = BODY) -> None:
        await cache.keep(request, policy, entry_of(request), body, ticket=None)

    async def found(self, cache: Cache, request: Request, policy: Policy = POLICY) -> bytes | None:
        hit = (await cache.find(request, policy)).hit
        return hit.body if hit else None

    async def test_nothing_is_found_in_an_empty_cache(self, cache: Cache) -> None:
        found = await cache.find(ask(), POLICY)
        assert (found.hit, found.near) == (None, ())
        await cache.aclose()

    async def test_a_repeat_gets_the_same_bytes_and_where_they_came_from(self, cache: Cache, clock: Hands) -> None:
        await self.keep(cache, ask())
        clock.ns += 5_000_000_000
        hit = (await cache.find(ask(), POLICY)).hit
        assert hit is not None
        assert (hit.body, hit.usage, hit.origin_id, hit.target, hit.age_ms) == (BODY, USAGE, "req_first", "a", 5000)
        await cache.aclose()

    async def test_what_is_kept_with_the_ticket_of_its_look_is_found_and_only_for_that_request(
        self, cache: Cache
    ) -> None:
        for seed in (1, 2):
            ticket = (await cache.find(ask(seed=seed), POLICY)).ticket
            body = BODY.replace(b"4", b"%d" % seed)
            await cache.keep(ask(seed=seed), POLICY, entry_of(ask()), body, ticket=ticket)
        assert await self.found(cache, ask(seed=1)) == BODY.replace(b"4", b"1")
        assert await self.found(cache, ask(seed=2)) == BODY.replace(b"4", b"2")
        assert await self.found(cache, ask(seed=3)) is None
        await cache.aclose()

    async def test_how_it_is_delivered_does_not_matter(self, cache: Cache) -> None:
        await self.keep(cache, ask())
        assert await self.found(cache, ask(stream=True, stream_options={"include_usage": True})) == BODY
        await cache.aclose()

    @pytest.mark.parametrize(
        "other",
        [
            {"tenant": "globex"},
            {"namespace": "n"},
            {"customer": "c"},
            {"headers": [(b"openai-beta", b"x")]},
            {"model": "q"},
            {"messages": [{"role": "user", "content": "2+3?"}]},
            {"messages": [{"role": "user", "content": "2+2? "}]},
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "2+2?"}]},
            {"temperature": 0},
            {"seed": 1},
            {"max_tokens": 5},
            {"tools": []},
            {"response_format": {"type": "json_object"}},
            {"user": "u"},
            {"x_unknown": 1},
        ],
        ids=str,
    )
    async def test_whatever_can_change_the_answer_keeps_requests_apart(
        self, cache: Cache, other: dict[str, Any]
    ) -> None:
        await self.keep(cache, ask())
        assert await self.found(cache, ask(**other)) is None
        assert await self.found(cache, ask()) == BODY
        await cache.aclose()

    async def test_another_policy_or_another_version_of_it_finds_nothing(self, cache: Cache) -> None:
        await self.keep(cache, ask())
        assert await self.found(cache, ask(), replace(POLICY, name="q")) is None
        assert await self.found(cache, ask(), replace(POLICY, digest="d2")) is None
        await cache.aclose()

    async def test_an_answer_is_forgotten_after_its_ttl(self, cache: Cache, clock: Hands) -> None:
        await self.keep(cache, ask())
        clock.ns += 60_000_000_001
        found = await cache.find(ask(), POLICY)
        assert found.hit is None
        assert [miss.why for miss in found.near] == ["expired"]
        await cache.aclose()

    async def test_a_clock_set_back_does_not_make_answers_young(self, cache: Cache, clock: Hands) -> None:
        await self.keep(cache, ask())
        clock.ns -= 1
        assert await self.found(cache, ask()) is None
        await cache.aclose()

    async def test_the_later_answer_takes_the_place_of_the_earlier(self, cache: Cache) -> None:
        await self.keep(cache, ask())
        await self.keep(cache, ask(), body=BODY.replace(b"4", b"5"))
        assert await self.found(cache, ask()) == BODY.replace(b"4", b"5")
        await cache.aclose()

    async def test_the_number_of_entries_is_bounded(self, cache: Cache) -> None:
        for seed in range(30):
            await self.keep(cache, ask(seed=seed))
        kept = [seed for seed in range(30) if await self.found(cache, ask(seed=seed)) is not None]
        assert len(kept) == 10
        await cache.aclose()

    async def test_the_bytes_are_bounded(self, clock: Hands) -> None:
        cache = self.make(clock=clock, max_entries=1000, max_bytes=50_000)
        for seed in range(30):
            await self.keep(cache, ask(seed=seed), body=b"x" * 9_000)
        await self.keep(cache, ask(seed=99), body=b"x" * 60_000)
        kept = [seed for seed in (*range(30), 99) if await self.found(cache, ask(seed=seed)) is not None]
        assert 1 <= len(kept) <= 5
        assert 99 not in kept
        await cache.aclose()

    async def test_a_body_with_a_name_twice_never_decides_what_the_plain_one_gets(self, cache: Cache) -> None:
        twice = b'{"model":"p","messages":[{"role":"user","content":"evil","content":"2+2?"}]}'
        crooked = read_request(twice, [], id="r", tenant="acme", key_id="", at_ns=0)
        await self.keep(cache, crooked)
        assert await self.found(cache, ask()) is None
        await cache.aclose()

    @pytest.mark.parametrize("odd", [b"1e999", b"[" * 600 + b"]" * 600])
    async def test_a_body_that_cannot_be_compared_is_a_miss_not_an_error(self, cache: Cache, odd: bytes) -> None:
        body = b'{"model":"p","messages":[],"x":' + odd + b"}"
        request = read_request(body, [], id="r", tenant="acme", key_id="", at_ns=0)
        await self.keep(cache, request)
        hit = (await cache.find(request, POLICY)).hit
        assert hit is None or hit.body == BODY
        await cache.aclose()
