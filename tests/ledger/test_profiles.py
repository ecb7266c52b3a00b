"""How targets did lately, out of a real ledger."""

import math
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from trivet.build import SystemClock
from trivet.errors import LedgerError
from trivet.ledger.profiles import MOST, Recorded, profiles
from trivet.ledger.sqlite import SqliteStore
from trivet.ledger.tables import FILE
from trivet.seams import Profiled
from trivet.types import Entry, Nanos, Outcome, Timing, Usage

pytestmark = pytest.mark.anyio


def entry(number: int, *, stream: bool = True, cost: int | None = 2_000_000, **more: object) -> Entry:
    outcome = Outcome(
        status="ok",
        http_status=200,
        target="a",
        usage=Usage(input_tokens=10, output_tokens=40),
        cost_nanos=None if cost is None else Nanos(cost),
        cost_unknown="" if cost is not None else "no price",
        timing=Timing(ttft_ns=number * 1_000_000, total_ns=10**9),
    )
    return replace(
        Entry(id=f"req_{number}", at_ns=number, tenant="t", decision="call", stream=stream, outcome=outcome), **more
    )


def opened(folder: Path) -> SqliteStore:
    return SqliteStore(folder, durability="process", clock=SystemClock(), random=random.Random(1), tell=print)


async def test_only_answers_count_and_only_streams_have_a_first_token(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert isinstance(store, Profiled)
    failed = replace(entry(9).outcome, status="failed")
    for one in (
        entry(1),
        entry(2),
        entry(3, stream=False, cost=8_000_000),
        entry(4, decision="serve"),
        entry(9, outcome=failed),
    ):
        store.settle(None, one)
    await store.aclose()
    found = profiles(tmp_path / FILE)
    assert list(found) == ["a"]
    assert found["a"].ttfts_s == (0.002, 0.001)
    assert found["a"].cost_usd == pytest.approx(0.004)
    assert found["a"].output_tokens == 40
    assert await Recorded(tmp_path).profiles() == found


async def test_what_is_not_known_is_not_a_number_and_the_newest_count(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(1, MOST + 11):
        store.settle(None, entry(number, cost=None))
    await store.aclose()
    found = profiles(tmp_path / FILE)["a"]
    assert math.isnan(found.cost_usd)
    assert len(found.ttfts_s) == MOST
    assert [found.ttfts_s[0], found.ttfts_s[-1]] == pytest.approx([(MOST + 10) / 1000, 0.011])


async def test_no_ledger_has_no_profiles_and_one_that_is_none_is_an_error(tmp_path: Path) -> None:
    assert profiles(tmp_path / FILE) == {}
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="cannot be read"):
        profiles(tmp_path / FILE)
