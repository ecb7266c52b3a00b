"""Work that several requests wait for together: done once, for as long as one of them waits.

Not here: what is done; work that nobody waits for (`aside.py`).
Invariants: work ends before the last request that waited for it goes on, also where that one was cancelled, so none
outlives the requests; a request that leaves takes nothing from the others.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Flight:
    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task, self.waiting = task, 0


class Flights:
    """The work of one configuration that is under way, by what it is about."""

    def __init__(self) -> None:
        self._flying: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        """Say how many pieces of work are under way."""
        return len(self._flying)

    async def join(self, key: bytes, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the work of that key; begin it if nobody has. Raises what it raises, for each who waits."""
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = _Flight(asyncio.ensure_future(work()))
        flight.waiting += 1
        try:
            result: T = await asyncio.shield(flight.task)
            return result
        finally:
            flight.waiting -= 1
            if self._flying.get(key) is flight and (flight.task.done() or not flight.waiting):
                del self._flying[key]
            if not flight.waiting:
                await _ended(flight.task)


async def _ended(task: "asyncio.Task[Any]") -> None:
    """Cancel a task, unless it is done, and wait until it is; however often we are cancelled meanwhile ourselves."""
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the one that brought us here goes on when we return
            continue
    if not task.cancelled():
        task.exception()  # nobody is left to hear of it, and asyncio complains of one that nobody looks at
