"""The process that makes graphs: out of the file of answers, one at a time; killed at any moment it harms nothing."""

import fcntl
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.cache.semantic.test_shelf import answer
from trivet.build import SystemClock
from trivet.cache.semantic import graph
from trivet.cache.semantic.file import File, Row
from trivet.cache.semantic.graph import Graph
from trivet.cache.semantic.graph_child import BUSY, FAILED, FEWEST, LOCK, MADE, NOTHING_NEW, Order

WIDTH = 24
LATE = 1 << 62


def vector(number: int, width: int = WIDTH) -> np.ndarray:
    row = np.random.default_rng(abs(number)).standard_normal(width).astype(np.float32)
    return row / np.linalg.norm(row)


class Place:
    """A file of answers, and the graphs beside it."""

    def __init__(self, home: Path) -> None:
        self.answers, self.folder = home / "c.sqlite3", home / "c.graphs"
        file = File(self.answers, clock=SystemClock(), tell=print)
        file._connect().close()
        self.path = self.folder / graph.name_of("e1", b"s")

    def keep(self, numbers: Iterable[int], *, embedder: str = "e1", width: int = WIDTH, **more: Any) -> None:
        rows = [Row.of(answer(n, expires_ns=LATE, **more), vector(n, width)) for n in numbers]
        with sqlite3.connect(self.answers) as db:
            db.executemany(
                "INSERT OR REPLACE INTO answers (number, embedder, answer, vector, expires_ns) VALUES (?,?,?,?,?)",
                [(row.number, embedder, row.answer, row.vector, row.expires_ns) for row in rows],
            )
        db.close()

    def remove(self, numbers: Iterable[int]) -> None:
        with sqlite3.connect(self.answers) as db:
            db.executemany("DELETE FROM answers WHERE number = ?", [(number,) for number in numbers])
        db.close()

    @contextmanager
    def child(self) -> Iterator["subprocess.Popen[bytes]"]:
        order = Order(answers=str(self.answers), folder=str(self.folder), embedder="e1", scope=b"s", width=WIDTH)
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "trivet.cache.semantic.graph_child"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(order) + b"\n")
            child.stdin.flush()
            try:
                yield child
            finally:
                child.kill()

    def make(self) -> int:
        with self.child() as child:
            return child.wait(60)

    def read(self) -> Graph:
        return graph.read(self.path, embedder="e1")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_graph_is_of_the_vectors_of_one_scope_and_embedder(place: Place) -> None:
    place.keep(range(FEWEST))
    place.keep(range(5000, 5500), scope=b"t")
    place.keep(range(6000, 6500), embedder="e2")
    place.keep(range(7000, 7100), width=2 * WIDTH)
    place.keep([-5])
    assert place.make() == MADE
    made = place.read()
    assert set(made.numbers().tolist()) == set(range(FEWEST))
    rows = made.rows(np.arange(FEWEST, dtype=np.uint64))
    assert np.abs(rows - np.array([vector(n) for n in range(FEWEST)])).max() < 1e-3
    assert made.near(vector(17), 1).tolist() == [17]
    assert (made.facts.scope, made.facts.churned) == (b"s", 0)
    assert {left.name for left in place.folder.iterdir()} == {place.path.name, LOCK}


def test_what_came_and_went_is_put_into_the_graph_that_is_there(place: Place) -> None:
    place.keep(range(3000))
    assert place.make() == MADE
    assert place.make() == NOTHING_NEW
    place.keep(range(3000, 3500))
    place.remove(range(400))
    assert place.make() == MADE
    made = place.read()
    assert set(made.numbers().tolist()) == set(range(400, 3500))
    assert made.facts.churned == 400
    assert all(made.near(vector(n), 1).tolist() == [n] for n in range(400, 3500, 50))


def test_one_that_has_changed_much_is_made_from_nothing(place: Place) -> None:
    place.keep(range(4000))
    assert place.make() == MADE
    place.remove(range(1500))
    assert place.make() == MADE
    assert (len(place.read()), place.read().facts.churned) == (2500, 0)


def test_one_whose_vectors_are_not_those_of_the_answers_is_made_from_nothing(place: Place) -> None:
    place.keep(range(3000))
    assert place.make() == MADE
    place.remove([7])
    other = Row.of(answer(7, expires_ns=LATE), vector(8))
    with sqlite3.connect(place.answers) as db:
        db.execute(
            "INSERT INTO answers (number, embedder, answer, vector, expires_ns) VALUES (7, 'e1', ?, ?, ?)",
            (other.answer, other.vector, LATE),
        )
    db.close()
    place.keep([3001])
    assert place.make() == MADE
    assert np.abs(place.read().rows(np.array([7], np.uint64))[0] - vector(8)).max() < 1e-3


def test_a_damaged_one_is_made_from_nothing(place: Place) -> None:
    place.keep(range(FEWEST))
    assert place.make() == MADE
    place.path.write_bytes(place.path.read_bytes()[:-1000])
    assert place.make() == MADE
    assert len(place.read()) == FEWEST


def test_for_few_vectors_there_is_none(place: Place) -> None:
    place.keep(range(FEWEST - 1))
    assert place.make() == NOTHING_NEW
    place.keep([FEWEST])
    assert place.make() == MADE
    place.remove([3])
    assert place.make() == MADE
    assert not place.path.exists()


def test_two_are_not_made_at_a_time(place: Place) -> None:
    place.keep(range(FEWEST))
    place.folder.mkdir()
    with (place.folder / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.make() == BUSY
    assert place.make() == MADE


def test_what_goes_wrong_is_said_in_one_line(place: Place) -> None:
    place.answers.write_bytes(b"no database" * 1000)
    with place.child() as child:
        assert child.stderr is not None
        assert child.stderr.read() == b"DatabaseError: file is not a database\n"
        assert child.wait(60) == FAILED


def test_it_ends_when_its_parent_does(place: Place) -> None:
    place.keep(range(20_000))
    with place.child() as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(10) == FAILED
    assert not place.path.exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_the_graph_of_before_or_the_new_one(place: Place) -> None:
    place.keep(range(6000))
    began = time.monotonic()
    assert place.make() == MADE
    whole_s = time.monotonic() - began  # some are to end in time, however slow the machine is
    rng, kept, seen = random.Random(5), 6000, set[int]()
    for _ in range(25):
        place.keep(range(kept, kept + 500))
        with place.child() as child:
            time.sleep(rng.uniform(0.1, 2.0) * whole_s)
            child.kill()
        made = place.read()
        there = set(made.numbers().tolist())
        assert there in [set(range(n)) for n in range(6000, kept + 501, 500)]
        seen.add(len(there))
        kept += 500
    assert place.make() in (MADE, NOTHING_NEW)
    assert set(place.read().numbers().tolist()) == set(range(kept))
    assert not list(place.folder.glob("*.tmp"))
    assert len(seen) > 1, f"none was ever made in time, of {whole_s:.1f} s each"
