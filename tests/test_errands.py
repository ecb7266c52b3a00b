"""Requests of Trivet's own: on the account of the one that caused them, each with its Entry, and out of every cache."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.test_pipeline import ask, run
from trivet.errands import audit, embed, judge
from trivet.errors import UnknownModelError
from trivet.seams import Account, Doubt, Wanted
from trivet.tally import Tally
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Upstream
from trivet.types import Hit, Serve

pytestmark = pytest.mark.anyio

POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"
"""


async def test_an_audit_asks_upstream_what_a_hit_has_answered_and_is_nobodys_hit(tmp_path: Path) -> None:
    store = Memory()
    async with AsyncExitStack() as opened:
        a, b = [await opened.enter_async_context(Upstream("Hello")) for _ in range(2)]
        settings = config({"a": a.base_url, "b": b.base_url}, POLICY)
        made = await opened.enter_async_context(stages(settings, kit(tmp_path), store))
        await run(ask(temperature=0), made)
        served = Tally(ask(temperature=0), made.clock.mono_ns())
        served.decision = Serve(Hit(kind="exact", body=b"{}", usage=None, origin_id="1", target="a", age_ms=1))
        (entry,) = await audit(served, made)
        assert (entry.audit_of, entry.cache, entry.decision) == (served.request.id, "refresh", "call")
        assert entry.id == f"{served.request.id}-audit"
        assert len(a.requests) == 2
        assert set(entry.saved) == {"audit"}, "without Trivet it would not have been asked at all"
        assert store.entries[-1] == entry


async def test_after_one_comparison_fails_no_more_are_asked(tmp_path: Path) -> None:
    store = Memory()
    async with AsyncExitStack() as opened:
        a, b = (
            await opened.enter_async_context(Upstream("Hello")),
            await opened.enter_async_context(Upstream(status=500)),
        )
        settings = config({"a": a.base_url, "b": b.base_url}, POLICY)
        made = await opened.enter_async_context(stages(settings, kit(tmp_path), store))
        _, kept = await run(ask(temperature=0), made)
        heard: list[object] = []

        class Listening(type(made.cache)):  # type: ignore[misc]
            def heard(self, doubt: Doubt, bodies: list[bytes | None], cost_nanos: int) -> None:
                heard.append((bodies, cost_nanos))

        made.cache.__class__ = Listening
        doubt = Doubt("b", ({"messages": kept.request.fields["messages"]},) * 3, ticket=None)
        entries = await judge(kept, doubt, made)
        assert heard == [([None], 0)]
        (entry,) = entries
        assert (entry.judge_of, entry.policy, entry.outcome.status) == (kept.request.id, "p", "failed")
        assert entry.cache == "off"


async def test_vectors_of_a_target_that_is_gone_are_an_error(tmp_path: Path) -> None:
    async with stages(config({"a": "http://127.0.0.1:9/v1"}), kit(tmp_path), Memory()) as made:
        with pytest.raises(UnknownModelError):
            await embed(Wanted("gone", ["text"], "id", Account(of="req_1")), made)
