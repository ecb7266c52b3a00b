"""Kept questions that have no vector of this embedder yet, and get one in the background: it is another than before, or
was not to be had when they were kept.

Not here: where they are kept (`shelf.py`, `file.py`), what an embedder is asked (`meaning.py`).
Invariants: one batch at a time, and as much rest as work, so that looks get their turn; of the processes that share a
file one does it, and the others hear of it; each batch that is done stays done, also after a kill.
"""

import asyncio
import fcntl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from trivet.cache.semantic.meaning import Meant
from trivet.cache.semantic.shelf import Answer
from trivet.seams import Clock

BATCH = 16
"""Questions: a tenth of a second of MiniLM on a busy core, for which a look may have to wait."""

AGAIN_S = 1.0
"""After which it is tried again, where the embedder was not ready, or another process is at it."""

LEAST_REST_S, MOST_REST_S = 0.002, 1.0
"""Between two batches."""

TOLD_FROM = 20
"""Questions, from which the operator is told: fewer are caught up with in a second."""


class Catching(Protocol):
    """What it works on."""

    def opened(self) -> bool:
        """Tell whether the embedder is known and can be asked."""
        ...

    def next(self, numbers: Iterable[int]) -> tuple[Sequence[Answer], Sequence[int]]:
        """Choose some that are asked together, `BATCH` at the most, and say which numbers are not to be asked."""
        ...

    def embed(self, answers: Sequence[Answer]) -> Awaitable[Sequence[Meant]]:
        """Have their questions turned into vectors, or say of each why not."""
        ...

    def caught_up(self, answer: Answer, meant: Meant) -> None:
        """Take a vector, or that there is none."""
        ...


class Behind:
    """The numbers of those answers, in the order in which they came, and the task that works on them."""

    def __init__(self, work: Catching, *, lock: Path | None, clock: Clock, tell: Callable[[str], None]) -> None:
        """`lock`: a file by which processes agree; None: there is one process."""
        self._work, self._lock, self._clock, self._tell = work, lock, clock, tell
        self._numbers: dict[int, bool] = {}
        """And whether they were read from the disk."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._held: IO[bytes] | None = None
        self._waited = False
        self._read, self._told = 0, False
        self._idle = asyncio.Event()
        """Nothing can be done at the moment."""
        self._idle.set()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, numbers: Sequence[int], *, read: bool = False) -> None:
        """Have these caught up with. `read`: they come from the disk; if those are many, the operator is told."""
        self._numbers.update(dict.fromkeys(numbers, read))
        self._read += len(numbers) if read else 0
        self.wake()

    def read_again(self) -> None:
        """Forget those that come from the disk: it is read once more."""
        self._numbers = {number: read for number, read in self._numbers.items() if not read}

    def drop(self, number: int) -> None:
        """Hear that one has its vector, or is gone."""
        self._numbers.pop(number, None)

    def wake(self) -> None:
        """Hear that it may be worth trying again now."""
        if self._numbers:
            self._idle.clear()
            self._wake.set()

    def start(self) -> None:
        """Begin; may be called again."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def settled(self) -> None:
        """Wait until all have vectors, or none can be had at the moment."""
        if self._task is not None:
            await self._idle.wait()

    async def _run(self) -> None:
        while True:
            if not self._work.opened():
                await self._rest()
            elif not self._numbers:
                self._finish()
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            elif not self._alone():
                await self._rest()
            else:
                await self._batch()

    async def _batch(self) -> None:
        some, without = self._work.next(self._numbers)
        for number in without:
            self.drop(number)
        if not some:
            return
        if not self._told and self._read >= TOLD_FROM:
            self._told = True
            self._tell(f"{len(self._numbers):,} kept questions get new vectors; exact repeats are served meanwhile.")
        began_ns = self._clock.mono_ns()
        made = await self._work.embed(some)
        if all(meant.vector is None and meant.whole for meant in made):
            await self._rest()
            return
        for answer, meant in zip(some, made, strict=True):
            if meant.vector is not None or not meant.whole:
                self.drop(answer.number)
                self._work.caught_up(answer, meant)
        took_s = (self._clock.mono_ns() - began_ns) / 1e9
        await asyncio.sleep(min(MOST_REST_S, max(LEAST_REST_S, took_s)))

    async def _rest(self) -> None:
        self._idle.set()
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self._wake.wait()

    def _alone(self) -> bool:
        """Take the lock. False: another process has it, and what it does is heard of."""
        if self._lock is None or self._held is not None:
            return True
        try:
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._lock.open("ab")
        except OSError:
            return True  # nothing can be shared on that disk
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            self._waited = True
            return False
        self._held = file
        waited, self._waited = self._waited, False
        return not waited  # what the other did last is still to be heard of

    def _finish(self) -> None:
        if self._told:
            self._tell("All kept questions have their vectors.")
        self._read, self._told = 0, False
        if self._held is not None:
            self._held.close()
            self._held = None

    async def aclose(self) -> None:
        """Stop; what is left goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._told = False
        self._finish()
        self._numbers.clear()
