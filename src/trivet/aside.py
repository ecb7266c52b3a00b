"""Work that no client waits for, on the side of the requests that caused it: audits of hits.

Not here: what is done. Invariants: at most `MOST` at once, and what is too much is not begun; none outlives `aclose`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from trivet.types import Entry

MOST = 8
"""A gateway under load has better to do than to check itself."""


class Aside:
    """The work of one engine, over all its configurations."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Entry | None]] = set()
        self.skipped = 0
        """Pieces of work that were too much."""
        self.told: Callable[[Entry], None] = lambda _: None
        """Hears of each Entry that was made."""

    def start(self, work: Coroutine[Any, Any, Entry | None]) -> None:
        """Do it in the background, if there is room."""
        if len(self._tasks) >= MOST:
            work.close()
            self.skipped += 1
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Entry | None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if task.exception() is not None:
            loop = task.get_loop()
            loop.call_exception_handler({"message": "work on the side failed", "exception": task.exception()})
            return
        entry = task.result()
        if entry is not None:
            self.told(entry)

    async def idle(self) -> None:
        """Wait until none is running."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def aclose(self) -> None:
        """End what is running, and wait for that: each leaves its Entry."""
        for task in self._tasks:
            task.cancel()
        await self.idle()
