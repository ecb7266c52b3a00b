"""The kept answers in memory: by exact digest, by likeness within a scope, by tag; bounded in bytes and in entries.

Not here: the disk (`file.py`), whether an answer may be served (a decider).
Invariants: an answer is found only in the scope that it was kept in, so only by its tenant; after its time, or once it
is taken off, it is found by nothing; what goes first to make room is what saves least for its size.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from trivet.cache.semantic.index import Change, Index
from trivet.cache.semantic.look import Kept
from trivet.types import Nanos, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OVERHEAD_BYTES = 1000
"""Of one entry beside text, answer and vector: measured with tracemalloc on CPython 3.11 (bench/cache.py)."""


class Answer(Struct, kw_only=True, gc=False):
    """One question and its answer."""

    number: int
    """63 random bits: two processes that share a file do not give out the same."""
    scope: bytes
    digest: bytes
    """Fingerprint of the whole request."""
    tenant: str
    policy: str
    namespace: str
    kept: Kept
    body: bytes
    usage: Usage | None
    origin_id: str
    """Id of the Entry whose answer it is."""
    target: str
    kept_ns: int
    expires_ns: int
    tags: tuple[str, ...] = ()
    worth: Nanos = Nanos(0)
    """What a hit on it saves, in nano-dollars; 0 where no price is known."""
    hits: int = 0
    width: int = 0
    """Of its vector; 0: it has none."""
    rank: float = 0.0
    """For making room: the lowest goes first."""


class Found(NamedTuple):
    """A kept answer near a question."""

    answer: Answer
    cosine: float
    context_cosine: float = 1.0
    """Of what was said in the turns before."""


class _Scope:
    """Questions that may be compared with each other."""

    def __init__(self) -> None:
        self.index: Index | None = None
        self.sizes: dict[int, int] = {}
        """Of each group."""


class Shelf:
    """All of it. Not thread-safe: one event loop uses it."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self.gone: Callable[[Answer], None] = lambda _: None
        """Hears of each answer that the shelf takes off by itself: it is late, or makes room or way."""
        self.crowded: Callable[[bytes, int], None] = lambda scope, width: None
        """Hears of a scope for whose vectors, of that width, another graph would be of use; again and again."""
        self._answers: dict[int, Answer] = {}
        self._by_digest: dict[bytes, int] = {}
        self._by_origin: dict[str, int] = {}
        self._by_tag: dict[str, set[int]] = {}
        self._scopes: dict[bytes, _Scope] = {}
        self._queue: list[tuple[float, int]] = []
        """Ranks as they were when they were put here, which may have risen since."""
        self._floor = 0.0
        """The rank of what went last: what comes now begins there, so what is not used sinks (GreedyDual, Cao 1997)."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(list(self._answers.values()))

    def __contains__(self, number: int) -> bool:
        return number in self._answers

    def by_number(self, number: int) -> Answer | None:
        """Give an answer by its own number."""
        return self._answers.get(number)

    def by_digest(self, digest: bytes, *, now_ns: int) -> Answer | None:
        """Give the answer to exactly this request, if it is fresh."""
        number = self._by_digest.get(digest)
        return None if number is None else self._fresh(self._answers[number], now_ns)

    def by_origin(self, entry_id: str) -> Answer | None:
        """Give the answer that an Entry's request got."""
        number = self._by_origin.get(entry_id)
        return None if number is None else self._answers[number]

    def nearest(self, scope: bytes, vector: "NDArray[np.float32]", k: int, *, now_ns: int) -> list[Found]:
        """Give the k fresh answers of a scope whose questions are nearest, nearest first."""
        while (where := self._scopes.get(scope)) is not None and where.index is not None:
            found = [Found(self._answers[number], cosine) for number, cosine in where.index.nearest(vector, k)]
            late = [f for f in found if self._fresh(f.answer, now_ns) is None]
            if late:
                continue  # they are off now, and others come into view
            for near in found:
                near.answer.kept.group_size = where.sizes[near.answer.kept.group]
            return _apart(found, vector, where.index) if found and found[0].answer.kept.context else found
        return []

    def alike(self, vector: "NDArray[np.float32]", cosine: float) -> Iterator[list[Found]]:
        """Give every answer whose question is at least that near, for people who look for some; exactly, in slices
        between which others may have their turn. An answer may be gone when the next slice comes."""
        for where in list(self._scopes.values()):
            if where.index is not None:
                asked = vector if where.index.width == len(vector) else _text_alone(vector)
                for near in where.index.every(asked, cosine):
                    known = ((self._answers.get(number), of) for number, of in near)
                    yield [Found(answer, of) for answer, of in known if answer is not None]

    def add(self, answer: Answer, vector: "NDArray[np.float32] | None", *, in_graph: bool = False) -> bool:
        """Put an answer on; one to the same request makes way. False: it alone is larger than all may be.

        Args:
            vector: float32 [width], of unit length; None: it is found by its digest alone.
            in_graph: the graph that was drawn for its scope has the vector.
        """
        answer.width = 0 if vector is None else len(vector)
        size = _size(answer)
        if size + 4 * answer.width > self._max_bytes:
            return False
        before = self._by_digest.get(answer.digest)
        if before is not None:
            self._drop(before)
        where = self._scopes.get(answer.scope)
        if where is None:
            where = self._scopes[answer.scope] = _Scope()
        if vector is not None:
            if where.index is None:
                where.index = Index(len(vector))
            held = where.index.bytes
            if not (in_graph and where.index.adopt(answer.number)):
                where.index.add(answer.number, vector)
            self.bytes += where.index.bytes - held
            if where.index.crowded:
                self.crowded(answer.scope, where.index.width)
        where.sizes[answer.kept.group] = where.sizes.get(answer.kept.group, 0) + 1
        self._answers[answer.number] = answer
        self._by_digest[answer.digest] = self._by_origin[answer.origin_id] = answer.number
        for tag in answer.tags:
            self._by_tag.setdefault(tag, set()).add(answer.number)
        self.bytes += size
        answer.rank = self._rank(answer)
        heapq.heappush(self._queue, (answer.rank, answer.number))
        while len(self._answers) > self._max_entries or self.bytes > self._max_bytes:
            self._make_room()
        if len(self._queue) > 2 * len(self._answers) + 64:  # most of it is of answers that are gone
            self._queue = [(a.rank, a.number) for a in self._answers.values()]
            heapq.heapify(self._queue)
        return answer.number in self._answers

    def draw(self, scope: bytes, change: Change) -> None:
        """Take a graph for the vectors of a scope, whose answers may be yet to come; or do without one again. Then
        `settle`."""
        graph = change.graph
        where = self._scopes.get(scope)
        if where is None and graph is not None:
            where = self._scopes[scope] = _Scope()
        if where is None:
            return
        if where.index is None and graph is not None:
            where.index = Index(graph.facts.width)
        if where.index is not None and (graph is None or graph.facts.width == where.index.width):
            held = where.index.bytes
            where.index.take(change)
            self.bytes += where.index.bytes - held
        if graph is None and not where.sizes:
            del self._scopes[scope]

    def settle(self, scope: bytes) -> bool:
        """Go on with taking a graph, for a millisecond. False: that is all."""
        where = self._scopes.get(scope)
        if where is None or where.index is None:
            return False
        held = where.index.bytes
        more = where.index.settle()
        self.bytes += where.index.bytes - held
        return more

    def used(self, answer: Answer) -> None:
        """Note a hit: it is worth keeping longer."""
        answer.hits += 1
        answer.rank = self._rank(answer)

    def regroup(self, answer: Answer, group: int) -> None:
        """Put an answer into the group of those that say the same."""
        where = self._scopes[answer.scope]
        self._leave_group(where, answer.kept.group)
        answer.kept.group = group
        where.sizes[group] = where.sizes.get(group, 0) + 1

    def remove(self, number: int) -> Answer | None:
        """Take an answer off; None if it was not there."""
        answer = self._answers.pop(number, None)
        if answer is None:
            return None
        where = self._scopes[answer.scope]
        if answer.width and where.index is not None:
            held = where.index.bytes
            where.index.remove(number)
            self.bytes += where.index.bytes - held
            if where.index.crowded:
                self.crowded(answer.scope, where.index.width)
        self._leave_group(where, answer.kept.group)
        if not where.sizes:
            del self._scopes[answer.scope]
        del self._by_digest[answer.digest]
        if self._by_origin.get(answer.origin_id) == number:
            del self._by_origin[answer.origin_id]
        for tag in answer.tags:
            numbers = self._by_tag[tag]
            numbers.discard(number)
            if not numbers:
                del self._by_tag[tag]
        self.bytes -= _size(answer)
        return answer

    def tagged(self, tag: str) -> Iterable[Answer]:
        """Give the answers that carry a tag."""
        return [self._answers[number] for number in self._by_tag.get(tag, ())]

    def clear(self) -> None:
        """Forget everything, telling nobody."""
        for held in (self._answers, self._by_digest, self._by_origin, self._by_tag, self._scopes, self._queue):
            held.clear()
        self.bytes = 0

    def _fresh(self, answer: Answer, now_ns: int) -> Answer | None:
        """Give it back if it is fresh, else take it off; a clock set back makes it older than it can be: not fresh."""
        if answer.kept_ns <= now_ns < answer.expires_ns:
            return answer
        self._drop(answer.number)
        return None

    def _drop(self, number: int) -> None:
        answer = self.remove(number)
        assert answer is not None
        self.gone(answer)

    def _rank(self, answer: Answer) -> float:
        # Without a price all are worth the same, so that size and use decide.
        size = _size(answer) + 4 * answer.width
        return self._floor + (1 + answer.hits) * max(answer.worth, 1) / size

    def _make_room(self) -> None:
        while True:
            rank, number = heapq.heappop(self._queue)
            answer = self._answers.get(number)
            if answer is None:
                continue
            if answer.rank > rank:  # it was used since
                heapq.heappush(self._queue, (answer.rank, number))
                continue
            self._floor = rank
            self._drop(number)
            return

    @staticmethod
    def _leave_group(where: _Scope, group: int) -> None:
        where.sizes[group] -= 1
        if not where.sizes[group]:
            del where.sizes[group]


def _apart(found: list[Found], vector: "NDArray[np.float32]", index: Index) -> list[Found]:
    """Tell the cosine of the texts from that of the contexts, where vectors are of both (`meaning.py`)."""
    half = len(vector) // 2
    told = []
    for answer, both, _ in found:
        of_text = min(1.0, max(-1.0, 2.0 * float(index.row(answer.number)[:half] @ vector[:half])))
        told.append(Found(answer, of_text, min(1.0, max(-1.0, 2.0 * both - of_text))))
    return sorted(told, key=lambda near: -near.cosine)


def _text_alone(vector: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Give the vector whose product with one of text and context is the cosine of the texts."""
    import numpy as np

    return np.concatenate([vector * np.float32(2.0**0.5), np.zeros_like(vector)])


def _size(answer: Answer) -> int:
    """Give the bytes that an answer takes without its vector; text as UTF-8, which is close enough to what Python
    has."""
    return len(answer.body) + len(answer.kept.text) + len(answer.kept.context) + _OVERHEAD_BYTES
