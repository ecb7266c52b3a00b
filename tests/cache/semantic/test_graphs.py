"""Graphs are read, made where they are wanted, once for all who share them, and made again when they are no good."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cache.semantic.drawing import draw
from tests.cache.semantic.test_graph_child import WIDTH, Place, vector
from trivet.build import SystemClock
from trivet.cache.semantic import graph, graph_child
from trivet.cache.semantic.graphs import Drawn, Graphs
from trivet.testing.cache_suite import Hands

MANY = 3_000


class Side:
    """A process that shares the files, as far as they can tell."""

    def __init__(self, place: Place) -> None:
        self.told: list[str] = []
        self.graphs = Graphs(place.answers, clock=SystemClock(), tell=self.told.append)
        self.before = list(self.graphs.read_all("e1"))

    def drawn(self) -> Drawn:
        """Wait until there is another graph."""
        found: list[Drawn] = []

        def seen() -> bool:
            found.extend(self.graphs.turn())
            return bool(found)

        until(seen)
        (one,) = found
        return one

    def begun(self) -> None:
        """Wait until a child is at work."""
        until(lambda: not list(self.graphs.turn()) and self.graphs._child is not None)


def until(seen: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not seen():
        assert time.monotonic() - began < 60
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.keep(range(MANY))
    return made


@pytest.fixture
def sides(place: Place) -> Iterator[tuple[Side, Side]]:
    one, other = Side(place), Side(place)
    yield one, other
    one.graphs.close()
    other.graphs.close()


def test_one_makes_a_graph_and_the_other_reads_it(place: Place, sides: tuple[Side, Side]) -> None:
    one, other = sides
    assert list(one.graphs.turn()) == []
    one.graphs.crowd(b"s", WIDTH)
    scope, change = one.drawn()
    assert change.graph is not None
    assert (scope, len(change.graph), change.base) == (b"s", MANY, None)
    assert (change.fresh, change.lost) == (set(range(MANY)), set())
    written = place.path.stat().st_mtime_ns
    other.graphs.crowd(b"s", WIDTH)
    assert other.drawn().change.fresh == set(range(MANY))
    assert place.path.stat().st_mtime_ns == written

    place.keep([9_000])
    place.remove([1, 2])
    other.graphs.crowd(b"s", WIDTH)
    later = other.drawn().change
    assert later.base is not None
    assert (later.fresh, later.lost) == ({9_000}, {1, 2})
    one.graphs.crowd(b"s", WIDTH)
    assert one.drawn().change.fresh == {9_000}
    assert one.told == other.told == []


def test_while_another_process_makes_one_it_waits(place: Place, sides: tuple[Side, Side]) -> None:
    one, _ = sides
    place.folder.mkdir()
    with (place.folder / graph_child.LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one.graphs.crowd(b"s", WIDTH)
        assert list(one.graphs.turn()) == []
        assert one.graphs._child is None
    assert one.drawn().change.graph is not None


def test_one_that_is_damaged_while_it_runs_is_made_again(place: Place, sides: tuple[Side, Side]) -> None:
    one, other = sides
    one.graphs.crowd(b"s", WIDTH)
    one.drawn()
    whole = place.path.read_bytes()
    place.path.write_bytes(whole[:5000])
    other.graphs.crowd(b"s", WIDTH)
    assert other.drawn().change.fresh == set(range(MANY))
    assert len(other.told) == 1
    assert "its digest is wrong: it was cut short or damaged. It is made again." in other.told[0]


def test_a_graph_is_there_at_the_start_with_the_vectors_of_the_answers(place: Place) -> None:
    assert place.make() == graph_child.MADE
    side = Side(place)
    assert [(scope, change.fresh) for scope, change in side.before] == [(b"s", set(range(MANY)))]
    numbers = np.array([1, 2, 3, MANY], np.uint64)
    rows = np.array([vector(1), vector(99), vector(3), vector(MANY)])
    assert side.graphs.has(b"s", numbers, rows).tolist() == [True, False, True, False]
    assert side.graphs.has(b"t", numbers, rows).tolist() == [False] * 4
    assert side.graphs.has(b"s", numbers, rows[:, :5]).tolist() == [False] * 4
    assert list(side.graphs.found({b"s": MANY - 10})) == []
    assert list(side.graphs.turn()) == []
    side.graphs.close()


def test_one_of_which_little_is_kept_is_made_anew_and_one_of_which_nothing_is_goes(place: Place) -> None:
    assert place.make() == graph_child.MADE
    side = Side(place)
    place.remove(range(500, 1000))
    assert list(side.graphs.found({b"s": MANY // 2})) == []
    assert side.drawn().change.lost == set(range(500, 1000))
    ((scope, change),) = side.graphs.found({})
    assert (scope, change.graph) == (b"s", None)
    assert not place.path.exists()
    side.graphs.close()


def test_at_the_start_what_is_of_no_use_is_cleared_away(place: Place) -> None:
    place.folder.mkdir()
    vectors = {n: vector(n) for n in range(10)}
    theirs = draw(place.folder / graph.name_of("e2", b"s"), vectors, WIDTH, embedder="e2")
    named = draw(place.folder / "named.graph", vectors, WIDTH)
    (place.folder / "damaged.graph").write_bytes(named.read_bytes()[:5000])
    told: list[str] = []
    clock = Hands()
    clock.ns = theirs.stat().st_mtime_ns + 29 * 86_400 * 10**9
    graphs = Graphs(place.answers, clock=clock, tell=told.append)
    assert list(graphs.read_all("e1")) == []
    assert [left.name for left in place.folder.iterdir()] == [theirs.name]
    assert len(told) == 1
    assert not named.exists()
    clock.ns += 2 * 86_400 * 10**9
    assert list(graphs.read_all("e1")) == []
    assert list(place.folder.iterdir()) == []


def test_a_child_that_is_killed_is_told_of_once_and_tried_again(place: Place, sides: tuple[Side, Side]) -> None:
    one, _ = sides
    for _ in range(2):
        one.graphs._not_before_ns.clear()  # a minute has passed
        one.graphs.crowd(b"s", WIDTH)
        one.begun()
        assert one.graphs._child is not None
        os.kill(one.graphs._child.pid, signal.SIGKILL)
        until(lambda: not list(one.graphs.turn()) and one.graphs._child is None)
    (told,) = one.told
    assert told.startswith("A graph of questions cannot be made (the process ended with -9), and is tried again.")
    one.graphs._not_before_ns.clear()
    assert one.drawn().change.graph is not None


def test_closing_ends_the_child(place: Place) -> None:
    side = Side(place)
    side.graphs.crowd(b"s", WIDTH)
    side.begun()
    assert side.graphs._child is not None
    pid = side.graphs._child.pid
    side.graphs.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


WITHOUT = """
import sys
sys.modules["usearch"] = None  # as if it were not installed
from pathlib import Path
from trivet.build import SystemClock
from trivet.cache.semantic.graphs import Graphs
graphs = Graphs(Path(sys.argv[1]), clock=SystemClock(), tell=print)
print(len(list(graphs.read_all("e1"))))
for _ in range(3):
    graphs.crowd(b"s", 24)
    print(list(graphs.turn()), graphs._child)
"""


def test_without_usearch_it_says_once_what_would_help(place: Place) -> None:
    assert place.make() == graph_child.MADE
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, place.answers], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    count, told, *turns = done.stdout.splitlines()
    assert (count, turns) == ("0", ["[] None"] * 3)
    assert told.startswith("More than 20,000 questions of one kind are kept, and each look compares with all of them.")
    assert told.endswith("pip install 'trivet[graph]'")
    assert place.path.exists()
