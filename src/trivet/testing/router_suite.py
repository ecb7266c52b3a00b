"""What every Router must do: `class TestMine(RouterSuite)`, and say how yours is built."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trivet.seams import Asking, Router
from trivet.testing.cache_suite import ask
from trivet.types import Candidate, Policy

POOLS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, unique=True)


SAID = [
    b'{"choices": [{"message": {"content": "%b"}}]}' % word for word in (b"simple", b"complex", b"", b"yes", b"1", b"a")
]


class RouterSuite:
    """Inherit, and build yours in `make` for the targets a to e."""

    def make(self) -> Router:
        """Build a router."""
        raise NotImplementedError

    def policy(self, pool: tuple[str, ...]) -> Policy:
        """Give a policy that is routed by it, where that takes more than a pool."""
        return Policy(name="p", digest="d", pool=pool)

    @settings(
        suppress_health_check=[HealthCheck.differing_executors], deadline=None
    )  # every router inherits the one test
    @given(pool=POOLS)
    def test_it_ranks_the_whole_pool_and_nothing_else(self, pool: list[str]) -> None:
        policy = self.policy(tuple(pool))
        ranked = asyncio.run(_rank(self.make(), policy))
        assert sorted(c.target for c in ranked) == sorted(pool)

    @settings(
        suppress_health_check=[HealthCheck.differing_executors], deadline=None
    )  # every router inherits the one test
    @given(pool=POOLS)
    def test_its_probabilities_sum_to_one(self, pool: list[str]) -> None:
        policy = self.policy(tuple(pool))
        ranked = asyncio.run(_rank(self.make(), policy))
        assert sum(c.probability for c in ranked) == pytest.approx(1)
        assert all(0 <= c.probability <= 1 for c in ranked)

    @settings(
        suppress_health_check=[HealthCheck.differing_executors], deadline=None
    )  # every router inherits the one test
    @given(pool=POOLS, body=st.none() | st.sampled_from(SAID) | st.binary(), late=st.booleans())
    def test_whatever_it_hears_from_a_model_it_ranks_the_whole_pool(
        self, pool: list[str], body: bytes | None, *, late: bool
    ) -> None:
        router, policy = self.make(), self.policy(tuple(pool))
        if not isinstance(router, Asking):
            return
        asked = router.ask(ask(), policy)
        if asked is not None:
            heard = router.heard(asked, body, took_ns=1, late=late and body is None)
            ranked = asyncio.run(_rank_by(router, heard, policy))
            assert sorted(c.target for c in ranked) == sorted(pool)
            assert sum(c.probability for c in ranked) == pytest.approx(1)


async def _rank(router: Router, policy: Policy) -> tuple[Candidate, ...]:
    return await router.rank(ask(), policy)


async def _rank_by(router: Asking, heard: object, policy: Policy) -> tuple[Candidate, ...]:
    return await router.rank_by(heard, ask(), policy)
