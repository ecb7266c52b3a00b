"""Work that no client waits for, on the side of the requests that caused it: audits of hits, comparisons by a model,
shadows.

Not here: what is done. Invariants: of each kind at most `MOST` at once, and what is too much is not begun; none
outlives `aclose`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from trivet.types import Entry

Kind = Literal["audit", "judge", "shadow"]

MOST: dict[Kind, int] = {"audit": 8, "judge": 4, "shadow": 4}
"""A gateway under load has better to do than to check itself."""


class Aside:
    """The work of one engine, over all its configurations."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Sequence[Entry]], Kind] = {}
        self._closed = False
        self.skipped: Counter[str] = Counter(dict.fromkeys(MOST, 0))
        """Pieces of work that were too much."""
        self.told: Callable[[Entry], None] = lambda _: None
        """Hears of each Entry that was made."""

    def start(self, work: Coroutine[Any, Any, Sequence[Entry]], kind: Kind) -> None:
        """Do it in the background, if there is room; it gives the Entries that it left."""
        if self._closed or list(self._tasks.values()).count(kind) >= MOST[kind]:
            work.close()
            self.skipped[kind] += 1
            return
        task = asyncio.ensure_future(work)
        self._tasks[task] = kind
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Sequence[Entry]]") -> None:
        del self._tasks[task]
        if task.cancelled():
            return
        if task.exception() is not None:
            loop = task.get_loop()
            loop.call_exception_handler({"message": "work on the side failed", "exception": task.exception()})
            return
        for entry in task.result():
            self.told(entry)

    async def idle(self) -> None:
        """Wait until none is running."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def aclose(self) -> None:
        """End what is running, and wait for that: each leaves its Entry. Nothing is begun any more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await self.idle()
