"""The ledger in memory passes what every store must."""

import asyncio
from pathlib import Path

from trivet.seams import Store
from trivet.testing.memory import Memory
from trivet.testing.store_suite import StoreSuite, an_entry
from trivet.types import Entry


class TestMemory(StoreSuite):
    lasts = False

    def open(self, home: Path) -> Store:
        return Memory()

    def kept(self, store: Store, home: Path) -> list[Entry]:
        assert isinstance(store, Memory)
        return store.entries


class TestSlowMemory(TestMemory):
    def open(self, home: Path) -> Store:
        return Memory(settle_delay_s=0.01)


def test_a_slow_one_has_to_be_waited_for_and_has_the_entry_meanwhile() -> None:
    async def main() -> None:
        store = Memory(settle_delay_s=0.02)
        waiting = store.settle(None, an_entry("e1"))
        assert waiting is not None
        future = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        assert not future.done()
        assert [e.id for e in store.entries] == ["e1"]
        await future

    asyncio.run(main())


def test_a_quick_one_needs_no_waiting() -> None:
    assert Memory().settle(None, an_entry("e1")) is None
