"""The exact tier passes the suite of its seam, and keeps its own account of bytes."""

import pytest

from trivet.cache.exact import Exact
from trivet.seams import Clock
from trivet.testing.cache_suite import BODY, POLICY, CacheSuite, Hands, ask, entry_of


class TestExact(CacheSuite):
    def make(self, *, clock: Clock, max_entries: int, max_bytes: int) -> Exact:
        return Exact(max_entries=max_entries, max_bytes=max_bytes, clock=clock)


@pytest.mark.anyio
async def test_the_least_recently_used_entry_goes_first() -> None:
    cache = Exact(max_entries=2, max_bytes=10**6, clock=Hands())
    for seed in (1, 2):
        await cache.keep(ask(seed=seed), POLICY, entry_of(ask()), BODY, ticket=None)
    await cache.find(ask(seed=1), POLICY)
    await cache.keep(ask(seed=3), POLICY, entry_of(ask()), BODY, ticket=None)
    found = [seed for seed in (1, 2, 3) if (await cache.find(ask(seed=seed), POLICY))[0]]
    assert found == [1, 3]


@pytest.mark.anyio
async def test_bytes_are_counted_down_to_nothing() -> None:
    clock = Hands()
    cache = Exact(max_entries=10, max_bytes=10**6, clock=clock)
    for _ in range(3):
        await cache.keep(ask(), POLICY, entry_of(ask()), BODY, ticket=None)
    assert len(cache) == 1
    assert cache.bytes > len(BODY)
    clock.ns += 10**12
    await cache.find(ask(), POLICY)
    assert (len(cache), cache.bytes) == (0, 0)
