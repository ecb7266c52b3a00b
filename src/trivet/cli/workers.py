"""`trivet serve --workers N`: several processes on one port, started, watched, and ended together.

Not here: what a worker does (it is `trivet serve`). Each listens on a socket of its own with SO_REUSEPORT, so the
kernel shares connections out; each has its own cache and connections; ledger and keys are shared.
Invariants: no worker outlives this process, also by kill -9 (`cli/leash.py`); one that dies is replaced, later and
later if it dies at once; one that cannot start at all ends the crew with its exit code.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 10.0
"""A worker that lived so long is replaced at once."""
KILL_AFTER_S = 30.0
"""Beyond the grace, for a worker that does not end: its entries are in its journal, so nothing is lost by it."""


class Plan(NamedTuple):
    """What to start."""

    size: int
    """How many."""
    command: Sequence[str]
    """Arguments of `trivet`, with the port that all share."""
    grace_s: float


class _Worker(NamedTuple):
    process: asyncio.subprocess.Process
    leash: int
    """The end of the pipe whose closing ends the worker."""
    began_s: float


class Crew:
    """The workers, from the first start to the last end."""

    def __init__(self, plan: Plan, *, tell: Callable[[str], None], ready: Callable[[], None]) -> None:
        self._plan, self._tell, self._ready = plan, tell, ready
        self._stop = asyncio.Event()
        self._live: set[asyncio.subprocess.Process] = set()
        self._waiting = plan.size
        self.code = 0

    async def run(self) -> int:
        """Keep them running until SIGINT or SIGTERM; gives the exit code."""
        loop = asyncio.get_running_loop()
        for kind in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(kind, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._signal(signal.SIGHUP))
        with tempfile.TemporaryDirectory(prefix="trivet-workers-") as folder:
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._plan.size + 1):
                    group.create_task(self._keep(number, Path(folder)))
        return self.code

    def _end(self) -> None:
        """The first time, let running answers end; the second time, cancel them."""
        self._stop.set()
        self._signal(signal.SIGTERM)

    def _signal(self, kind: signal.Signals) -> None:
        for process in self._live:
            with suppress(ProcessLookupError):
                process.send_signal(kind)

    async def _keep(self, number: int, folder: Path) -> None:
        """Keep one worker alive."""
        pause_s, loop = FIRST_PAUSE_S, asyncio.get_running_loop()
        while not self._stop.is_set():
            worker = await self._start(folder)
            began = await self._began(worker)
            code = await self._ended(worker)
            if self._stop.is_set():
                return
            if not began and self._waiting:  # the crew has never been whole: it is the configuration, or the machine
                self.code = code if code > 0 else 1
                self._end()
                return
            if loop.time() - worker.began_s >= HEALTHY_S:
                pause_s = FIRST_PAUSE_S
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
            self._tell(f"Worker {number} ({worker.process.pid}) {how}; another is started in {pause_s:g} s.")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _start(self, folder: Path) -> _Worker:
        leash, held = os.pipe()
        command = [sys.executable, "-m", "trivet.cli.leash", str(leash), *self._plan.command]
        command += ["--worker-in", str(folder)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=[leash], stdout=asyncio.subprocess.PIPE, start_new_session=True
            )
        finally:
            os.close(leash)
        self._live.add(process)
        if self._stop.is_set():
            process.send_signal(signal.SIGTERM)
        return _Worker(process, held, asyncio.get_running_loop().time())

    async def _began(self, worker: _Worker) -> bool:
        """Wait until it answers; says whether it did."""
        assert worker.process.stdout is not None
        began = bool(await worker.process.stdout.readline())
        if began and self._waiting:
            self._waiting -= 1
            if not self._waiting:
                self._ready()
        return began

    async def _ended(self, worker: _Worker) -> int:
        """Wait until it has ended; it has no longer than it was promised."""
        waiting = asyncio.ensure_future(worker.process.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([waiting], timeout=self._plan.grace_s + KILL_AFTER_S)
            if not waiting.done():
                worker.process.kill()
            return await waiting
        finally:
            stopped.cancel()
            self._live.discard(worker.process)
            os.close(worker.leash)
