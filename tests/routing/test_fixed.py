"""The fixed router passes the suite of its seam and keeps the order that is written."""

import asyncio

from trivet.routing.fixed import Fixed
from trivet.testing.cache_suite import ask
from trivet.testing.router_suite import RouterSuite
from trivet.types import Policy


class TestFixed(RouterSuite):
    def make(self) -> Fixed:
        return Fixed()


def test_the_first_of_the_pool_is_chosen_for_certain() -> None:
    ranked = asyncio.run(Fixed().rank(ask(), Policy(name="p", digest="d", pool=("b", "a"))))
    assert [(c.target, c.probability) for c in ranked] == [("b", 1.0), ("a", 0.0)]
