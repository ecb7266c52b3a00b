"""Many questions in real processes: graphs come while they are asked, survive kills, and are shared."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cache.semantic.graph_life import Life
from tests.cache.semantic.test_file import until
from trivet.cache.semantic import graph

pytestmark = [pytest.mark.anyio]

COUNT = 24_001


class Process:
    """One that lives (`graph_life.py`), leading a group of its own."""

    def __init__(self, path: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.cache.semantic.graph_life", path, str(COUNT)], stdout=subprocess.PIPE
        )

    def said(self) -> dict[str, Any]:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, f"it ended with {self._popen.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told

    def kill(self) -> None:
        """Kill it; a child that makes a graph ends by itself."""
        os.kill(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def ended(self) -> int | None:
        return self._popen.poll()


async def filled(path: Path) -> None:
    """Have a file with answers and a graph of most of them."""
    life = Life(path, most=COUNT)
    life.open()
    for number in range(1, COUNT):
        life.keep(number)
        if number % 2_000 == 0:
            await until(lambda: life.file._queue.qsize() < 1_000)
    assert life.missed(range(1, COUNT, 500)) == []
    await until(lambda: life.graph() > 20_000)
    assert life.missed(range(1, COUNT, 500)) == []
    await asyncio.to_thread(life.file.close)
    assert life.told == []


async def restarted(path: Path, *, answers: int = COUNT - 1) -> Life:
    """Go on with a file."""
    life = Life(path, most=COUNT)
    life.open()

    async def others() -> None:
        while len(life.shelf) < answers:
            life.turns += 1
            await asyncio.sleep(0)

    async with asyncio.timeout(300):  # only ends what would go on for ever
        await others()
    return life


async def test_a_restart_goes_on_with_its_graph_and_the_event_loop_has_its_turns(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    await filled(path)
    life = await restarted(path)
    assert life.in_graph == life.graph() > 20_000
    assert len(set(life.pieces)) == len(life.pieces), "two pieces came without a turn between them"
    assert life.missed(range(1, COUNT, 100)) == []
    await asyncio.to_thread(life.file.close)

    # Damaged: all are compared, and another is made meanwhile.
    (drawn,) = (tmp_path / "c.graphs").glob("*.graph")
    drawn.write_bytes(drawn.read_bytes()[:-100_000])
    life = await restarted(path)
    assert (life.in_graph, life.missed(range(1, COUNT, 500))) == (0, [])
    await until(lambda: life.graph() == COUNT - 1)
    assert life.missed(range(1, COUNT, 100)) == []
    assert len(life.told) == 1
    assert "cut short or damaged. It is made again." in life.told[0]
    await asyncio.to_thread(life.file.close)

    # Of what was taken off meanwhile nothing is found, though the graph has it.
    life = await restarted(path)
    for number in range(1, 2_000):
        life.shelf.remove(number)
        life.file.remove(number)
    await asyncio.to_thread(life.file.close)
    life = await restarted(path, answers=COUNT - 2_000)
    assert life.graph() == COUNT - 1
    found = [one for n in range(1, 2_000, 50) for one in life.shelf.nearest(b"s", life.vectors[n], 8, now_ns=1)]
    assert min(one.answer.number for one in found) >= 2_000
    assert life.missed(range(2_000, COUNT, 100)) == []
    await asyncio.to_thread(life.file.close)


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on_with_all_that_was_written(tmp_path: Path) -> None:
    path, rng, most, reads = tmp_path / "c.sqlite3", random.Random(2), 0, []
    for _ in range(12):
        life = Process(path)
        reads.append(life.said())
        assert reads[-1]["read"] >= most, "what was read before is still there"
        assert reads[-1]["told"] == []
        most = reads[-1]["read"]
        time.sleep(rng.uniform(0.3, 4.0))
        assert life.ended() is None
        life.kill()
        for drawn in (tmp_path / "c.graphs").glob("*.graph"):
            graph.read(drawn, embedder="e1")
    life = Process(path)
    life.said()
    assert life.said()["graph"] > COUNT // 2
    life.kill()
    life = Process(path)
    last = life.said()
    life.kill()
    assert last["read"] == COUNT - 1
    assert last["in_graph"] > COUNT // 2


@pytest.mark.slow
def test_processes_that_share_a_file_share_the_graphs(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    lives = [Process(path) for _ in range(3)]
    for life in lives:
        assert life.said()["told"] == []
    lives.pop(0).kill()  # whether it was making one or not
    for life in lives:
        assert life.said()["graph"] > COUNT // 2
        assert life.ended() is None
    assert len(list((tmp_path / "c.graphs").glob("*.graph"))) == 1
    for life in lives:
        life.kill()
