"""Metrics of several worker processes as one: each writes its numbers to a file, and whichever is asked adds all up.

Not here: what is counted (`server/metrics.py`), who starts the workers (`cli/workers.py`).
Invariant: no number ever goes down, as Prometheus expects of a counter: a worker writes before it answers, and the
file of one that has ended stays for as long as its crew.
"""

import asyncio
from pathlib import Path

import msgspec

from trivet.server.metrics import Metrics

EVERY_S = 1.0
"""How old the numbers of another worker may be: a scrape comes every 10 to 60 s."""


class Shared:
    """The folder that the workers of one crew share."""

    def __init__(self, folder: Path, name: str) -> None:
        """Take part as `name`, which no other worker has, or has had."""
        self._folder = folder
        self._own = folder / f"{name}.metrics"

    async def keep_writing(self, metrics: Metrics) -> None:
        """Write this process's numbers once a second, and when cancelled."""
        try:
            while True:
                self.write(metrics)
                await asyncio.sleep(EVERY_S)
        finally:
            self.write(metrics)

    def write(self, metrics: Metrics) -> None:
        """Write this process's numbers. On a disk that is full, those from before stay."""
        fresh = self._own.with_suffix(".new")
        try:
            fresh.write_bytes(metrics.dump())
            fresh.replace(self._own)
        except OSError:
            fresh.unlink(missing_ok=True)

    def together(self, metrics: Metrics) -> Metrics:
        """Add up the numbers of all workers, this one's as they are now."""
        self.write(metrics)
        total = Metrics()
        total.merge(metrics)
        for file in self._folder.glob("*.metrics"):
            if file != self._own:
                try:
                    total.merge(Metrics.load(file.read_bytes()))
                except (OSError, msgspec.DecodeError, ValueError):  # of another version, or gone this moment
                    continue
        return total
