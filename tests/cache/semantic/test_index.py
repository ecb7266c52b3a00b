"""The index finds what is nearest, whatever was put in and taken out before, with a graph or without."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.cache.semantic.drawing import drawn
from tests.cache.semantic.test_rows import WIDTH, unit
from trivet.cache.semantic.graph import Graph
from trivet.cache.semantic.index import Change, Index

NUMBERS = st.integers(0, 40)


def change(graph: Graph | None, base: Graph | None) -> Change:
    theirs: set[int] = set() if graph is None else set(graph.numbers().tolist())
    ours: set[int] = set() if base is None else set(base.numbers().tolist())
    return Change(graph, base, theirs - ours, ours - theirs)


def take(index: Index, graph: Graph | None, base: Graph | None = None) -> bool:
    taken = index.take(change(graph, base))
    while index.settle():
        pass
    return taken


def filled(numbers: Iterable[int]) -> Index:
    index = Index(WIDTH)
    for number in numbers:
        index.add(number, unit(number))
    return index


class Whatever(RuleBasedStateMachine):
    """Steps in any order; a graph is of what was there at some moment, and comes at a later one."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index(WIDTH)
        self.held: dict[int, np.ndarray] = {}
        self.base: Graph | None = None
        self.coming: list[dict[int, np.ndarray]] = []

    @rule(number=NUMBERS)
    def put(self, number: int) -> None:
        self.index.add(number, unit(number))
        self.held[number] = unit(number)

    @rule(number=NUMBERS, seed=st.integers(100, 110))
    def replace(self, number: int, seed: int) -> None:
        if number in self.held:
            self.index.add(number, unit(seed))
            self.held[number] = unit(seed)

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        if self.held.pop(number, None) is not None:
            self.index.remove(number)

    @rule(number=NUMBERS)
    def adopt(self, number: int) -> None:
        if number not in self.held and self.index.adopt(number):
            self.held[number] = self.index.row(number).copy()

    @precondition(lambda self: self.held)
    @rule(unknown=st.sets(st.integers(50, 60)))
    def begin_a_graph(self, unknown: set[int]) -> None:
        self.coming.append(self.held | {number: unit(number) for number in unknown})

    @precondition(lambda self: self.coming)
    @rule(known=st.booleans())
    def take(self, *, known: bool) -> None:
        graph = drawn(self.coming.pop(0), WIDTH)
        base = self.base if known else drawn({1: unit(1)}, WIDTH)
        if self.index.take(change(graph, base)):
            self.base = graph

    @rule()
    def settle(self) -> None:
        self.index.settle()

    @rule()
    def do_without(self) -> None:
        if self.index.take(change(None, self.base)):
            self.base = None

    @invariant()
    def it_is_brute_force(self) -> None:
        asked = unit(1000 + len(self.held))
        expected = sorted(((float(row @ asked), number) for number, row in self.held.items()), reverse=True)
        found = self.index.nearest(asked, 5)
        assert len(self.index) == len(self.held)
        assert [cosine for _, cosine in found] == pytest.approx([cosine for cosine, _ in expected[:5]], abs=2e-3)
        assert {number for number, _ in found} <= set(self.held)
        every = [one for some in self.index.every(asked, 0.1) for one in some]
        assert len({number for number, _ in every}) == len(every)
        assert sorted(n for n, _ in every) == sorted(n for c, n in expected if c >= 0.1) or any(
            abs(c - 0.1) < 2e-3 for c, _ in expected
        )
        for number, row in self.held.items():
            assert self.index.row(number) == pytest.approx(row, abs=2e-3)
        assert self.index.bytes >= 0


TestWhatever = Whatever.TestCase
TestWhatever.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_number_put_in_again_has_its_new_vector() -> None:
    index = filled([1, 2, 3])
    take(index, drawn({n: unit(n) for n in (1, 2, 3)}, WIDTH))
    index.add(1, unit(9))
    assert len(index) == 3
    number, cosine = index.nearest(unit(9), 1)[0]
    assert (number, round(cosine, 4)) == (1, 1.0)
    assert index.nearest(unit(1), 1)[0][1] < 0.99


def test_a_vector_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) does not go with those of width 8"):
        Index(WIDTH).add(1, np.zeros(3, np.float32))


def test_cosines_are_of_the_vectors_and_no_more_than_one() -> None:
    vectors = {n: unit(n) for n in range(200)}
    index = filled([])
    take(index, drawn(vectors, WIDTH))
    for number in vectors:
        assert index.adopt(number)
    for number, row in vectors.items():
        nearest, cosine = index.nearest(row, 1)[0]
        assert nearest == number
        assert 0.9999 < cosine <= 1.0


def test_of_a_graph_nothing_is_found_that_is_not_in_the_index() -> None:
    index = filled(range(5))
    take(index, drawn({n: unit(n) for n in range(3, 300)}, WIDTH))
    assert len(index) == 5
    for asked in range(50):
        assert {n for n, _ in index.nearest(unit(asked), 8)} == set(range(5))
    assert index.adopt(7)
    assert not index.adopt(7)
    assert not index.adopt(3)
    assert not index.adopt(300)
    assert {n for n, _ in index.nearest(unit(7), 8)} == {0, 1, 2, 3, 4, 7}


def test_a_graph_of_other_vectors_is_not_taken() -> None:
    index = filled(range(5))
    assert not take(index, drawn({n: unit(n + 100) for n in range(5)}, WIDTH))
    assert index.nearest(unit(3), 1)[0][0] == 3
    assert take(index, drawn({n: unit(n) for n in range(5)}, WIDTH))


def test_a_graph_that_lacks_most_of_what_is_there_is_not_taken() -> None:
    count = 9_000
    vectors = {n: unit(n) for n in range(count)}
    index, first = Index(WIDTH), drawn(vectors, WIDTH)
    take(index, first)
    for number in vectors:
        index.adopt(number)
    assert not take(index, drawn({n: unit(n) for n in range(50)}, WIDTH), first)
    assert not take(index, None, first)
    assert len(index) == count
    assert index.nearest(unit(8_000), 1)[0][0] == 8_000


def crowded(index: Index) -> bool:
    return index.crowded


def test_it_is_crowded_when_a_graph_would_help() -> None:
    index = Index(WIDTH)
    rows = np.random.default_rng(1).standard_normal((26_000, WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for number in range(20_000):
        index.add(number, rows[number])
    assert not crowded(index)
    index.add(20_000, rows[20_000])
    assert crowded(index)
    graph = drawn({n: rows[n] for n in range(20_001)}, WIDTH)
    index.take(change(graph, None))
    assert not crowded(index), "what is among the rows still is in the graph too"
    while index.settle():
        assert not crowded(index)
    assert index.bytes == graph.bytes
    for number in range(20_001, 20_001 + 4_096):
        index.add(number, rows[number])
    assert not crowded(index)
    index.add(25_000, rows[25_000])
    assert crowded(index)
    index.remove(25_000)
    for number in range(5_000):
        index.remove(number)
    assert not crowded(index)
    index.remove(5_000)
    assert crowded(index)
    assert index.nearest(rows[1], 8)[0][1] < 0.9999
