"""A ledger in memory: for tests, and for simulation in virtual time. It keeps nothing beyond the process."""

import asyncio
from collections.abc import Awaitable

from trivet.errors import LedgerError
from trivet.types import Entry, Hold, Request


class Memory:
    """A `Store` that keeps entries in a list."""

    def __init__(self, *, settle_delay_s: float = 0.0) -> None:
        """`settle_delay_s`: how long `settle` has to be waited for, as if it were a slow disk."""
        self._kept: dict[str, Entry] = {}
        self._settle_delay_s = settle_delay_s
        self._closed = False

    @property
    def entries(self) -> list[Entry]:
        """What was settled, oldest first."""
        return list(self._kept.values())

    def reserve(self, request: Request) -> Hold:
        """Promise room; there always is, until the store is closed."""
        if self._closed:
            raise LedgerError("The ledger is closed.")
        return Hold(request_id=request.id)

    def settle(self, hold: Hold | None, entry: Entry) -> Awaitable[None] | None:
        """Keep the entry now; what is returned takes its time."""
        if self._closed:
            raise LedgerError("The ledger is closed.")
        self._kept.setdefault(entry.id, entry)
        if not self._settle_delay_s:
            return None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        loop.call_later(self._settle_delay_s, _resolve, waiter)
        return waiter

    async def find(self, entry_id: str) -> Entry | None:
        """Give what was settled."""
        return self._kept.get(entry_id)

    async def aclose(self) -> None:
        """Accept nothing more."""
        self._closed = True


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
