"""The kept answers in memory: by exact digest, by likeness within a scope, by tag; bounded in bytes and in entries.

Not here: the disk (`file.py`), whether an answer may be served (a decider).
Invariants: an answer is found only in the scope that it was kept in, so only by its tenant; after its time, or once it
is taken off, it is found by nothing; what goes first to make room is what saves least for its size. Whoever holds an
answer that is on the shelf holds the same object as all others; what they change in it stays if they say so (`noted`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from struct import Struct as Packing
from typing import TYPE_CHECKING, Annotated, NamedTuple
from weakref import WeakValueDictionary

from msgspec import Meta, Struct

from trivet.cache.semantic.index import Change, Index
from trivet.cache.semantic.look import Kept
from trivet.cache.semantic.ranks import Ranks
from trivet.cache.semantic.shares import Shares
from trivet.types import Nanos, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OVERHEAD_BYTES = 480
"""Of one entry beside text, answer and vector: measured with tracemalloc on CPython 3.11 (bench/index.py)."""


_Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What a file may have in the place of a whole number: all that fits into the numbers below."""


class Answer(Struct, kw_only=True, weakref=True):
    """One question and its answer."""

    number: _Whole
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
    kept_ns: _Whole
    expires_ns: _Whole
    tags: tuple[str, ...] = ()
    asker: _Whole = 0
    """Who asked, as a number (`admission.py`); 0: that is not known."""
    may_call: tuple[str, ...] = ()
    """Targets that the key of whoever asked may call; nothing named: all. Others are never shown its words."""
    leads: tuple[str, ...] = ()
    """Places that the answer sends people to (`admission.py`)."""
    worth: Annotated[Nanos, Meta(ge=-(2**63), le=2**63 - 1)] = Nanos(0)
    """What a hit on it saves, in nano-dollars; 0 where no price is known."""
    hits: _Whole = 0
    width: Annotated[int, Meta(ge=0, le=2**16 - 1)] = 0
    """Of its vector; 0: it has none."""


class Found(NamedTuple):
    """A kept answer near a question."""

    answer: Answer
    cosine: float
    context_cosine: float = 1.0
    """Of what was said in the turns before."""


class _Place(NamedTuple):
    """What many answers have in common."""

    scope: bytes
    tenant: str
    policy: str
    namespace: str
    target: str


class _Rare(NamedTuple):
    """What few answers have."""

    usage: Usage | None
    tags: tuple[str, ...]
    context: str
    seen: tuple[tuple[float, bool], ...]
    origin_id: str
    """Where it is not of the usual form."""
    leads: tuple[str, ...]
    may_call: tuple[str, ...]


_NOTHING = _Rare(None, (), "", (), "", (), ())


class _Held(Struct, gc=False):
    """An answer as it lies on the shelf: half the size of an `Answer`, which is made of it while somebody looks."""

    place: _Place
    digest: bytes
    numbers: bytes
    """See `_NUMBERS`."""
    text: str
    body: bytes
    rare: _Rare | None


_NUMBERS = Packing("<qqqQQdIIIH16s")
"""kept_ns, expires_ns, worth, group, asker, residual, right, wrong, hits, width, id of the Entry."""
_GROUP, _ASKER = 3, 4
_TIMES = Packing("<qq")
_MOST = 2**32 - 1

_SPARED = 64
"""Answers of others that are passed over in search of one whose asker has more than a share: 0.2 ms."""

_NO_ID = bytes(16)
_USUAL = 36
"""Characters of an Entry's id."""


class _Scope:
    """Questions that may be compared with each other."""

    def __init__(self) -> None:
        self.index: Index | None = None
        self.count = 0
        self.sizes: dict[int, int] = {}
        """Of each group, without the answer whose number it has: most are alone in theirs."""
        self.places: dict[_Place, _Place] = {}


class Shelf:
    """All of it. Not thread-safe: one event loop uses it."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self.gone: Callable[[int], None] = lambda _: None
        """Hears of each answer that the shelf takes off by itself: it is late, or makes room or way."""
        self.crowded: Callable[[bytes, int], None] = lambda scope, width: None
        """Hears of a scope for whose vectors, of that width, another graph would be of use; again and again."""
        self._held: dict[int, _Held] = {}
        self._looked_at: WeakValueDictionary[int, Answer] = WeakValueDictionary()
        """Those that somebody has in hand: so that what two change in one is not lost."""
        self._by_digest: dict[bytes, int] = {}
        self._by_tag: dict[str, set[int]] = {}
        self._scopes: dict[bytes, _Scope] = {}
        self._shares = Shares(max_entries=max_entries, max_bytes=max_bytes)
        self._queue = Ranks()
        """Ranks as they were when they were put here, which may have risen since."""
        self._risen: dict[int, float] = {}
        """Ranks of those that were used since."""
        self._floor = 0.0
        """The rank of what went last: what comes now begins there, so what is not used sinks (GreedyDual, Cao 1997)."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def numbers(self, *, namespace: str | None = None) -> list[int]:
        """Give the numbers of all answers, or of those of a namespace."""
        if namespace is None:
            return list(self._held)
        return [number for number, held in self._held.items() if held.place.namespace == namespace]

    def by_number(self, number: int) -> Answer | None:
        """Give an answer by its own number."""
        held = self._held.get(number)
        return None if held is None else self._answer(number, held)

    def by_digest(self, digest: bytes, *, now_ns: int) -> Answer | None:
        """Give the answer to exactly this request, if it is fresh."""
        number = self._by_digest.get(digest)
        if number is None or not self._fresh(number, now_ns):
            return None
        return self._answer(number, self._held[number])

    def by_origin(self, entry_id: str) -> Answer | None:
        """Give the answer that an Entry's request got. Looks at all: some milliseconds at a hundred thousand."""
        packed = _packed(entry_id)
        for number, held in self._held.items():
            if packed is None:
                found = held.rare is not None and held.rare.origin_id == entry_id
            else:
                found = held.numbers.endswith(packed)
            if found:
                return self._answer(number, held)
        return None

    def nearest(self, scope: bytes, vector: "NDArray[np.float32]", k: int, *, now_ns: int) -> list[Found]:
        """Give the k fresh answers of a scope whose questions are nearest, nearest first."""
        while (where := self._scopes.get(scope)) is not None and where.index is not None:
            near = where.index.nearest(vector, k)
            if [number for number, _ in near if not self._fresh(number, now_ns)]:
                continue  # those that are late are off now, and others come into view
            found = []
            for number, cosine in near:
                answer = self._answer(number, self._held[number])
                answer.kept.group_size = self._group_size(where, answer.kept.group)
                found.append(Found(answer, cosine))
            return _apart(found, vector, where.index) if found and found[0].answer.kept.context else found
        return []

    def alike(self, vector: "NDArray[np.float32]", cosine: float) -> Iterator[list[tuple[int, float]]]:
        """Give the number and cosine of every answer whose question is at least that near, exactly: for people who look
        for some. In slices, between which others may have their turn, and answers may go."""
        for where in list(self._scopes.values()):
            if where.index is not None:
                asked = vector if where.index.width == len(vector) else _text_alone(vector)
                for near in where.index.every(asked, cosine):
                    yield [(number, of) for number, of in near if number in self._held]

    def add(self, answer: Answer, vector: "NDArray[np.float32] | None", *, in_graph: bool = False) -> bool:
        """Put an answer on; one to the same request makes way. False: it alone is larger than all may be.

        Args:
            vector: float32 [width], of unit length; None: it is found by its digest alone.
            in_graph: the graph that was drawn for its scope has the vector.
        """
        answer.width = 0 if vector is None else len(vector)
        if _size(answer) + 4 * answer.width > self._max_bytes:
            return False
        before = self._by_digest.get(answer.digest)
        if before is not None:
            self._drop(before)
        number, where = answer.number, self._scopes.get(answer.scope)
        if where is None:
            where = self._scopes[answer.scope] = _Scope()
        if vector is not None:
            self._place(where, answer, vector, in_graph=in_graph)
        where.count += 1
        _join(where, number, answer.kept.group)
        held = self._held[number] = _hold(answer, where)
        self._looked_at[number] = answer
        self._by_digest[held.digest] = number
        for tag in answer.tags:
            self._by_tag.setdefault(tag, set()).add(number)
        self.bytes += _size(answer)
        self._share(answer, 1)
        self._queue.push(self._rank(answer), number)
        while len(self._held) > self._max_entries or self.bytes > self._max_bytes:
            self._make_room()
        self._queue.tidy(there=self._held.__contains__, count=len(self._held))
        return number in self._held

    def give(self, number: int, vector: "NDArray[np.float32]", *, in_graph: bool = False) -> bool:
        """Give an answer that has no vector this one, as `add` would. False: it is gone, or has one, or vectors of its
        scope are of another width."""
        answer = self.by_number(number)
        if answer is None or answer.width:
            return False
        where = self._scopes[answer.scope]
        if where.index is not None and where.index.width != len(vector):
            return False
        answer.width = len(vector)
        self.noted(answer)
        self._place(where, answer, vector, in_graph=in_graph)
        while self.bytes > self._max_bytes and self._held:
            self._make_room()
        return number in self._held

    def _place(self, where: _Scope, answer: Answer, vector: "NDArray[np.float32]", *, in_graph: bool) -> None:
        if where.index is None:
            where.index = Index(len(vector))
        was = where.index.bytes
        if not (in_graph and where.index.adopt(answer.number)):
            where.index.add(answer.number, vector)
        self.bytes += where.index.bytes - was
        self._tell_if_crowded(answer.scope, where.index)

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
            was = where.index.bytes
            where.index.take(change)
            self.bytes += where.index.bytes - was
        if graph is None and not where.count:
            del self._scopes[scope]

    def settle(self, scope: bytes) -> bool:
        """Go on with taking a graph, for a millisecond. False: that is all."""
        where = self._scopes.get(scope)
        if where is None or where.index is None:
            return False
        was = where.index.bytes
        more = where.index.settle()
        self.bytes += where.index.bytes - was
        return more

    def used(self, answer: Answer) -> None:
        """Note a hit: it is worth keeping longer."""
        answer.hits += 1
        self._risen[answer.number] = self._rank(answer)
        self.noted(answer)

    def noted(self, answer: Answer) -> None:
        """Keep what was changed in an answer: in what a decider notes, or its hits."""
        held = self._held.get(answer.number)
        if held is not None:
            held.numbers, held.rare = _pack(answer)

    def regroup(self, answer: Answer, group: int) -> None:
        """Put an answer into the group of those that say the same."""
        where = self._scopes[answer.scope]
        _leave(where, answer.number, answer.kept.group)
        answer.kept.group = group
        _join(where, answer.number, group)
        self.noted(answer)

    def remove(self, number: int) -> bool:
        """Take an answer off. False: it was not there."""
        held = self._held.get(number)
        if held is None:
            return False
        answer = self._answer(number, held)
        del self._held[number]
        where = self._scopes[answer.scope]
        if answer.width and where.index is not None:
            was = where.index.bytes
            where.index.remove(number)
            self.bytes += where.index.bytes - was
            self._tell_if_crowded(answer.scope, where.index)
        _leave(where, number, answer.kept.group)
        where.count -= 1
        if not where.count:
            del self._scopes[answer.scope]
        del self._by_digest[answer.digest]
        self._looked_at.pop(number, None)
        self._risen.pop(number, None)
        for tag in answer.tags:
            numbers = self._by_tag[tag]
            numbers.discard(number)
            if not numbers:
                del self._by_tag[tag]
        self.bytes -= _size(answer)
        self._share(answer, -1)
        return True

    def tagged(self, tag: str) -> Iterable[int]:
        """Give the numbers of the answers that carry a tag."""
        return list(self._by_tag.get(tag, ()))

    def clear(self) -> None:
        """Forget everything, telling nobody."""
        for some in (self._held, self._looked_at, self._by_digest, self._by_tag, self._scopes, self._risen):
            some.clear()
        self._queue = Ranks()
        self._shares = Shares(max_entries=self._max_entries, max_bytes=self._max_bytes)
        self.bytes = 0

    def _answer(self, number: int, held: _Held) -> Answer:
        answer = self._looked_at.get(number)
        if answer is None:
            answer = self._looked_at[number] = _unpack(number, held)
        return answer

    def _fresh(self, number: int, now_ns: int) -> bool:
        """Tell whether it is fresh, and take it off if not; a clock set back makes it older than it can be: not
        fresh."""
        kept_ns, expires_ns = _TIMES.unpack_from(self._held[number].numbers)
        if kept_ns <= now_ns < expires_ns:
            return True
        self._drop(number)
        return False

    def _drop(self, number: int) -> None:
        self.remove(number)
        self.gone(number)

    def _tell_if_crowded(self, scope: bytes, index: Index) -> None:
        if index.crowded:
            self.crowded(scope, index.width)

    def _group_size(self, where: _Scope, group: int) -> int:
        own = self._held.get(group)
        return where.sizes.get(group, 0) + (own is not None and _NUMBERS.unpack(own.numbers)[_GROUP] == group)

    def _rank(self, answer: Answer) -> float:
        # Without a price all are worth the same, so that size and use decide.
        size = _size(answer) + 4 * answer.width
        return self._floor + (1 + answer.hits) * max(answer.worth, 1) / size

    def _share(self, answer: Answer, entries: int) -> None:
        size = _size(answer) + 4 * answer.width
        self._shares.count(answer.tenant, answer.asker, entries=entries, size=entries * size)

    def _make_room(self) -> None:
        spared: list[int] = []
        while True:
            rank, number = self._queue.pop()
            if number not in self._held:
                continue
            risen = self._risen.pop(number, rank)
            if risen > rank:  # it was used since
                self._queue.push(risen, number)
                continue
            if len(spared) < _SPARED and self._is_crowded_out(number):
                spared.append(number)
                if len(spared) < min(_SPARED, len(self._held)):
                    continue
                number = spared.pop(0)
            self._floor = max(self._floor, rank)
            self._drop(number)
            # As if they had come now, so that the next one who makes room need not go through them again.
            for other in spared:
                answer = self._answer(other, self._held[other])
                self._queue.push(self._rank(answer), other)
            return

    def _is_crowded_out(self, number: int) -> bool:
        """Say whether somebody else has more than a share of the shelf, and so is to make room in its place."""
        if not self._shares.anybody_crowds():
            return False
        held = self._held[number]
        return not self._shares.crowds(held.place.tenant, _NUMBERS.unpack(held.numbers)[_ASKER])


def _join(where: _Scope, number: int, group: int) -> None:
    if group != number:
        where.sizes[group] = where.sizes.get(group, 0) + 1


def _leave(where: _Scope, number: int, group: int) -> None:
    if group != number:
        where.sizes[group] -= 1
        if not where.sizes[group]:
            del where.sizes[group]


def _hold(answer: Answer, where: _Scope) -> _Held:
    place = _Place(answer.scope, answer.tenant, answer.policy, answer.namespace, answer.target)
    numbers, rare = _pack(answer)
    shared = where.places.setdefault(place, place)
    return _Held(shared, answer.digest, numbers, answer.kept.text, answer.body, rare)


def _pack(answer: Answer) -> tuple[bytes, _Rare | None]:
    kept, packed = answer.kept, _packed(answer.origin_id)
    numbers = _NUMBERS.pack(
        answer.kept_ns,
        answer.expires_ns,
        answer.worth,
        kept.group,
        answer.asker,
        kept.residual,
        min(kept.right, _MOST),
        min(kept.wrong, _MOST),
        min(answer.hits, _MOST),
        answer.width,
        packed or _NO_ID,
    )
    origin_id = "" if packed else answer.origin_id
    rare = _Rare(answer.usage, answer.tags, kept.context, kept.seen, origin_id, answer.leads, answer.may_call)
    return numbers, rare if any(rare) else None


def _unpack(number: int, held: _Held) -> Answer:
    kept_ns, expires_ns, worth, group, asker, residual, right, wrong, hits, width, packed = _NUMBERS.unpack(
        held.numbers
    )
    usage, tags, context, seen, origin_id, leads, may_call = held.rare or _NOTHING
    scope, tenant, policy, namespace, target = held.place
    return Answer(
        number=number,
        scope=scope,
        digest=held.digest,
        tenant=tenant,
        policy=policy,
        namespace=namespace,
        kept=Kept(text=held.text, context=context, group=group, right=right, wrong=wrong, residual=residual, seen=seen),
        body=held.body,
        usage=usage,
        origin_id=origin_id or f"req_{packed.hex()}",
        target=target,
        kept_ns=kept_ns,
        expires_ns=expires_ns,
        tags=tags,
        asker=asker,
        may_call=may_call,
        leads=leads,
        worth=worth,
        hits=hits,
        width=width,
    )


def _packed(entry_id: str) -> bytes | None:
    """Give the id of an Entry in 16 bytes; None: it is not of the usual form (`server/ask.py`)."""
    if len(entry_id) == _USUAL and entry_id.startswith("req_"):
        with suppress(ValueError):
            packed = bytes.fromhex(entry_id[4:])
            if f"req_{packed.hex()}" == entry_id:
                return packed
    return None


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
