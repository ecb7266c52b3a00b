"""What is done on the side is bounded, told of, and over when the engine is."""

import asyncio
from typing import Any

import pytest

from trivet.aside import MOST, Aside
from trivet.types import Entry, Outcome

pytestmark = pytest.mark.anyio

ENTRY = Entry(id="r", at_ns=0, tenant="t", outcome=Outcome(status="ok", http_status=200))


async def test_what_is_too_much_is_not_begun_and_is_counted() -> None:
    aside, gate, begun = Aside(), asyncio.Event(), []

    async def work() -> list[Entry]:
        begun.append(1)
        await gate.wait()
        return [ENTRY, ENTRY]

    told: list[Entry] = []
    aside.told = told.append
    for _ in range(MOST["audit"] + 3):
        aside.start(work(), "audit")
    aside.start(work(), "judge")
    await asyncio.sleep(0)
    assert (len(begun), aside.skipped) == (MOST["audit"] + 1, {"audit": 3, "judge": 0, "shadow": 0})
    gate.set()
    await aside.idle()
    assert told == [ENTRY] * 2 * (MOST["audit"] + 1)


async def test_closing_ends_what_is_running_and_lets_it_clean_up() -> None:
    aside, ended = Aside(), []

    async def work() -> list[Entry]:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(1)
        return []

    aside.start(work(), "audit")
    await asyncio.sleep(0)
    await aside.aclose()
    assert ended == [1]
    aside.start(work(), "judge")  # what was running may want more done; nothing is begun any more
    assert (ended, aside.skipped["judge"]) == ([1], 1)


async def test_a_defect_is_told_to_the_loop_and_stops_nothing() -> None:
    aside, seen = Aside(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    async def work() -> list[Entry]:
        raise ZeroDivisionError

    aside.start(work(), "audit")
    await aside.idle()
    assert isinstance(seen[0]["exception"], ZeroDivisionError)
    aside.start(asyncio.sleep(0, []), "audit")
    await aside.idle()
