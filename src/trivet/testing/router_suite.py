"""What every Router must do: `class TestMine(RouterSuite)`, and say how yours is built."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivet.seams import Router
from trivet.testing.cache_suite import ask
from trivet.types import Candidate, Policy

POOLS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, unique=True)


class RouterSuite:
    """Inherit, and build yours in `make` for the targets a to e."""

    def make(self) -> Router:
        """Build a router."""
        raise NotImplementedError

    @settings(
        suppress_health_check=[HealthCheck.differing_executors], deadline=None
    )  # every router inherits the one test
    @given(pool=POOLS)
    def test_it_ranks_the_whole_pool_and_nothing_else(self, pool: list[str]) -> None:
        policy = Policy(name="p", digest="d", pool=tuple(pool))
        ranked = asyncio.run(_rank(self.make(), policy))
        assert sorted(c.target for c in ranked) == sorted(pool)

    @settings(
        suppress_health_check=[HealthCheck.differing_executors], deadline=None
    )  # every router inherits the one test
    @given(pool=POOLS)
    def test_its_probabilities_sum_to_one(self, pool: list[str]) -> None:
        policy = Policy(name="p", digest="d", pool=tuple(pool))
        ranked = asyncio.run(_rank(self.make(), policy))
        assert sum(c.probability for c in ranked) == pytest.approx(1)
        assert all(0 <= c.probability <= 1 for c in ranked)


async def _rank(router: Router, policy: Policy) -> tuple[Candidate, ...]:
    return await router.rank(ask(), policy)
