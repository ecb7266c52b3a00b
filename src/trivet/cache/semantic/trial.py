"""Labelled questions put before a decider, as the tier would: what it serves, and how often that is wrong.

Not here: reading files (`cli/cache`), embedding. The answer of a question is its class: a hit is right if the entry
that is served is of the same class. A miss reveals the class of the question, as a fresh answer would; an audit
reveals it too, and costs a call; a hit that is not audited reveals nothing.
What looks planted is barred, as in a gateway; who asks, and where answers lead, is not known here.
Invariants: the decider is told nothing that a gateway would not know; the same seed gives the same result.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trivet.cache.semantic.index import Index
from trivet.cache.semantic.look import NEIGHBOURS, Decider, Kept, Look, Near
from trivet.cache.semantic.planted import planted
from trivet.seams import Clock, Random

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FORESEEN = 256
"""Nearest neighbours of each question that are worked out beforehand; where too few of them are kept yet, all are
looked at again."""

_BLOCK = 512
"""Rows that are compared at once: 60 MB for 30,000 questions."""


class Labelled(NamedTuple):
    """A question and the class of its answer."""

    text: str
    cls: str


class Step(NamedTuple):
    """What became of one request."""

    hit: bool
    wrong: bool
    exact: bool
    audited: bool


class Result(NamedTuple):
    """What came of all."""

    steps: list[Step]
    decision_ns: list[int]

    @property
    def hits(self) -> int:
        return sum(step.hit for step in self.steps)

    @property
    def wrong(self) -> int:
        return sum(step.wrong for step in self.steps)

    @property
    def audits(self) -> int:
        return sum(step.audited for step in self.steps)

    def worst_window(self, size: int, after: int = 0) -> float:
        """Give the highest share of wrong hits in any `size` requests on end, once `after` have passed."""
        wrong = [0]
        for step in self.steps[after:]:
            wrong.append(wrong[-1] + step.wrong)
        last = len(wrong) - 1
        if last <= size:
            return wrong[-1] / last if last else 0.0
        return max(wrong[i + size] - wrong[i] for i in range(last - size + 1)) / size


class Vicinity(Protocol):
    """Finds the neighbours among the questions kept so far; rows are places in the texts of the trial."""

    def add(self, row: int) -> None:
        """Keep a question."""
        ...

    def nearest(self, row: int, k: int) -> list[tuple[int, float]]:
        """Give the k nearest kept ones with their cosines, nearest first."""
        ...

    def forget(self) -> None:
        """Keep nothing any more."""
        ...


class Foreseen:
    """The neighbours of all questions of a trial, worked out at once: what `Index` finds, in a tenth of the time."""

    def __init__(self, vectors: "NDArray[np.float32]") -> None:
        """Args: vectors: float32 [n, width], rows of unit length, or zeros for a text with nothing in it."""
        import numpy as np

        self._np, self._vectors = np, vectors
        count = len(vectors)
        wide = min(_FORESEEN, count)
        self._rows = np.empty((count, wide), np.int32)
        self._cosines = np.empty((count, wide), np.float32)
        for start in range(0, count, _BLOCK):
            cosines = vectors[start : start + _BLOCK] @ vectors.T
            top = np.argpartition(-cosines, wide - 1, axis=1)[:, :wide]
            of_top = np.take_along_axis(cosines, top, axis=1)
            order = np.argsort(-of_top, axis=1, kind="stable")
            self._rows[start : start + _BLOCK] = np.take_along_axis(top, order, axis=1)
            self._cosines[start : start + _BLOCK] = np.take_along_axis(of_top, order, axis=1)
        self.forget()

    def forget(self) -> None:
        """Keep nothing any more, for the next trial."""
        self._kept = self._np.zeros(len(self._vectors), bool)
        self._index = Index(self._vectors.shape[1])

    def add(self, row: int) -> None:
        """Keep a question."""
        self._kept[row] = True
        self._index.add(row, self._vectors[row])

    def nearest(self, row: int, k: int) -> list[tuple[int, float]]:
        """Give the k nearest kept ones with their cosines, nearest first."""
        there = self._np.flatnonzero(self._kept[self._rows[row]])[:k]
        if len(there) < k:
            return self._index.nearest(self._vectors[row], k)
        found = self._rows[row, there].tolist(), self._cosines[row, there].tolist()
        return [(number, min(1.0, max(-1.0, cosine))) for number, cosine in zip(*found, strict=True)]


def replay(
    questions: Sequence[Labelled],
    vicinity: Vicinity,
    decider: Decider,
    *,
    rows: Sequence[int],
    random: Random,
    clock: Clock,
    judge: Callable[[bool], bool] = bool,
    bars: Callable[[str, str], str] = planted,
    tell: Callable[[int], None] = lambda done: None,
) -> Result:
    """Put questions before a decider, in their order.

    Args:
        rows: of each question, its row in `vicinity`; -1 for a text with nothing in it, which is only looked up
        exactly.
        judge: says "same" or not of two answers, given the truth; by default the truth.
        bars: names why a kept question's answer is not for another question; "": it may be.
        tell: hears how many are done, now and then.
    """
    steps: list[Step] = []
    decision_ns: list[int] = []
    exact: dict[str, str] = {}
    kept: dict[int, tuple[Kept, str]] = {}
    sizes: dict[int, int] = {}
    for at, (text, cls) in enumerate(questions):
        if at % 200 == 0:
            tell(at)
        if text in exact:
            decider.passed()
            steps.append(Step(hit=True, wrong=exact[text] != cls, exact=True, audited=False))
            continue
        row = rows[at]
        if row < 0:
            decider.passed()
            exact[text] = cls
            steps.append(Step(hit=False, wrong=False, exact=False, audited=False))
            continue
        near = []
        for number, cosine in vicinity.nearest(row, NEIGHBOURS):
            entry = kept[number][0]
            entry.group_size = sizes[entry.group]
            barred = bars(text, entry.text) if cosine >= decider.least else ""
            near.append((number, Near(entry, cosine, barred=barred)))
        look = Look(text, [n for _, n in near])
        began = clock.mono_ns()
        verdict = decider.decide(look)
        decision_ns.append(clock.mono_ns() - began)
        truth = [kept[number][1] == cls for number, _ in near]
        audited = verdict.serve and random.random() < verdict.audit
        if verdict.serve:
            steps.append(Step(hit=True, wrong=not truth[verdict.chosen], exact=False, audited=audited))
            if not audited:
                continue
        else:
            steps.append(Step(hit=False, wrong=False, exact=False, audited=False))
        # The model was asked, so its answer is kept, of an audit too.
        exact[text] = cls
        fresh = Kept(text=text, group=at)
        same = _compare(look, truth, verdict.chosen, judge)
        if same is not None:
            chosen = same[verdict.chosen]
            assert chosen is not None
            decider.learn(look, verdict, same=chosen, audited=audited)
            if verdict.p_correct is not None:
                fresh.residual = float(chosen) - verdict.p_correct
            if chosen and not decider.keeps_same:
                continue
            fresh.group = next((n.kept.group for n, alike in zip(look.near, same, strict=True) if alike), at)
        sizes[fresh.group] = sizes.get(fresh.group, 0) + 1
        kept[row] = fresh, cls
        vicinity.add(row)
    tell(len(questions))
    return Result(steps, decision_ns)


class Pair(NamedTuple):
    """Two questions, and whether the answer to the first is right for the second. With turns before them, or none."""

    a: str
    b: str
    same: bool
    kind: str
    cosine: float
    context_a: str = ""
    context_b: str = ""
    context_cosine: float = 1.0
    apart: bool = False
    """Their system prompts, roles or number of turns differ: a cache never compares them."""


def replay_pairs(
    pairs: Sequence[Pair], decider: Decider, *, random: Random, clock: Clock
) -> tuple[list[bool], list[int], int]:
    """Put pairs before a decider: which are served, how long each decision took in nanoseconds, and how many were
    audited.

    Each pair has a cache of its own in which the first question is kept; then the second is asked. So a pair is two
    requests, and nothing is near but its other half; what the decider learns of one pair it knows at the next.
    """
    served: list[bool] = []
    decision_ns: list[int] = []
    audits = 0
    for pair in pairs:
        decider.decide(Look(pair.a, (), pair.context_a))
        if pair.apart:
            decider.decide(Look(pair.b, (), pair.context_b))
            served.append(False)
            continue
        if (pair.a, pair.context_a) == (pair.b, pair.context_b):
            decider.passed()
            served.append(True)
            continue
        kept = Kept(text=pair.a, context=pair.context_a, group=0)
        barred = planted(pair.b, pair.a) or planted(pair.context_b, pair.context_a)
        look = Look(pair.b, [Near(kept, pair.cosine, pair.context_cosine, barred)], pair.context_b)
        began = clock.mono_ns()
        verdict = decider.decide(look)
        decision_ns.append(clock.mono_ns() - began)
        served.append(verdict.serve)
        audited = verdict.serve and random.random() < verdict.audit
        audits += audited
        if audited or not verdict.serve:
            decider.learn(look, verdict, same=pair.same, audited=audited)
    return served, decision_ns, audits


def _compare(look: Look, truth: Sequence[bool], chosen: int, judge: Callable[[bool], bool]) -> list[bool | None] | None:
    """Compare a fresh answer with its neighbours', the chosen one first, until one is the same; None: there are
    none."""
    if chosen < 0:
        return None
    said: list[bool | None] = [None] * len(truth)
    of_group: dict[int, bool] = {}
    for i in sorted(range(len(truth)), key=lambda i: i != chosen):
        group = look.near[i].kept.group
        said[i] = alike = of_group[group] if group in of_group else judge(truth[i])
        of_group[group] = alike
        if alike:
            break
    return said


def summary(result: Result) -> dict[str, float | int]:
    """Give the numbers of `trivet cache eval`, without those of the embedder."""
    requests, hits, wrong = len(result.steps), result.hits, result.wrong
    times = sorted(result.decision_ns)
    return {
        "requests": requests,
        "hits": hits,
        "wrong": wrong,
        "hit_rate": hits / requests if requests else 0.0,
        "error_rate": wrong / requests if requests else 0.0,
        "wrong_of_hits": wrong / hits if hits else 0.0,
        "audits": result.audits,
        "decision_ms_p50": times[len(times) // 2] / 1e6 if times else 0.0,
    }
