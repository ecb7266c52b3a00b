"""A process that keeps answers, more and more of them, until it is killed; with graphs once there are many.

    python -m tests.cache.semantic.graph_life FILE COUNT

It reads what is there, says how much of it, keeps more until there are COUNT, waits for a graph of them, and says so;
and asks for some that it has at every step. What it cannot find of what it has ends it with 1. It stays until it is
ended.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.cache.semantic.test_shelf import answer
from trivet.build import SystemClock
from trivet.cache.semantic.file import File, Loaded, Row
from trivet.cache.semantic.graphs import Drawn
from trivet.cache.semantic.shelf import Shelf

WIDTH = 16
LATE = 1 << 62
GROUP = 500


def vectors(count: int) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


class Life:
    """A shelf and its file."""

    def __init__(self, path: Path, *, most: int) -> None:
        self.told: list[str] = []
        self.shelf = Shelf(max_entries=10**6, max_bytes=10**10)
        self.file = File(path, clock=SystemClock(), tell=self.told.append)
        self.shelf.crowded = self.file.crowd
        self.vectors = vectors(most)
        self.in_graph = 0
        self.turns = 0
        """That others had between two pieces of what was read."""
        self.pieces: list[int] = []

    def open(self) -> None:
        self.file.open("e1", self)

    def drawn(self, drawn: Drawn) -> None:
        self.shelf.draw(drawn.scope, drawn.change)
        while self.shelf.settle(drawn.scope):
            pass

    def loaded(self, rows: Iterable[Loaded]) -> None:
        self.pieces.append(self.turns)
        for one, vector, in_graph, _ in rows:
            self.in_graph += in_graph
            self.shelf.add(one, vector, in_graph=in_graph)

    def gone(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.shelf.remove(number)

    def keep(self, number: int) -> None:
        kept = answer(number, expires_ns=LATE)
        self.shelf.add(kept, self.vectors[number])
        self.file.put(Row.of(kept, self.vectors[number]))

    def graph(self) -> int:
        """Say how many vectors are in the graph."""
        where = self.shelf._scopes.get(b"s")
        drawn = None if where is None or where.index is None else where.index._graph
        return 0 if drawn is None else len(drawn)

    def missed(self, numbers: Iterable[int]) -> list[int]:
        """Give those that are kept and are not what is nearest to their own vector."""
        missed = []
        for number in numbers:
            found = self.shelf.nearest(b"s", self.vectors[number], 8, now_ns=1)
            if number in self.shelf and (not found or found[0].answer.number != number or found[0].cosine < 0.999):
                missed.append(number)
        return missed


async def live(path: Path, count: int) -> None:
    life = Life(path, most=count)
    life.open()
    before = -1
    while len(life.shelf) > before or life.file._queue.qsize():  # until nothing more comes
        before = len(life.shelf)
        await asyncio.sleep(1.0)  # a loaded machine takes its time for the first
    say(read=len(life.shelf), in_graph=life.in_graph, told=life.told)
    while True:
        there = len(life.shelf)
        for number in range(1, count):
            if len(life.shelf) >= there + GROUP:
                break
            if number not in life.shelf:
                life.keep(number)
        missed = life.missed(range(1, count, 37))
        if len(missed) > 3:  # of hundreds: a graph is no more than nearly exact
            say(missed=missed)
            sys.exit(1)
        await asyncio.sleep(0.02)
        if len(life.shelf) == count - 1 and life.graph() > count // 2:
            say(graph=life.graph())
            await asyncio.sleep(3600)


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
