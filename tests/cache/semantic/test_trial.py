"""A trial is what the tier does: exact first, a miss and an audit reveal, groups grow by verdicts."""

import random
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from trivet.build import SystemClock
from trivet.cache.semantic.index import Index
from trivet.cache.semantic.look import Kept, Look, Verdict
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.trial import Foreseen, Labelled, Pair, Result, Step, replay, replay_pairs, summary
from trivet.cache.semantic.vcache import VCache
from trivet.cache.semantic.verified import Verified

WIDTH = 32


class Noting(Static):
    """Serves by a threshold, audits some, and notes what it is told."""

    def __init__(self, threshold: float, audit: float = 0.0) -> None:
        super().__init__(threshold)
        self.chance = audit
        self.looks: list[Look] = []
        self.told: list[tuple[bool, bool]] = []
        self.exact = 0

    def decide(self, look: Look) -> Verdict:
        self.looks.append(look)
        return super().decide(look)._replace(audit=self.chance)

    def passed(self) -> None:
        self.exact += 1

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        self.told.append((same, audited))


def traffic(
    requests: int, *, classes: int = 40, spread: float = 0.5, seed: int = 0
) -> tuple[list[Labelled], NDArray[np.float32]]:
    """Make questions around the centres of classes, some of them repeated word by word; and their vectors."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, WIDTH))
    questions: list[Labelled] = []
    rows: dict[str, NDArray[np.float64]] = {}
    for _ in range(requests):
        cls, wording = int(rng.zipf(1.5)) % classes, int(rng.integers(60))
        # Of letters alone: a number in a text would be a guard's business.
        text = "".join(chr(97 + n) for n in (cls % 10, cls // 10, wording % 10)) + f" {chr(107 + wording // 10)}"
        rows.setdefault(text, centres[cls] + spread * rng.normal(size=WIDTH))
        questions.append(Labelled(text, str(cls)))
    vectors = np.array([v / np.linalg.norm(v) for v in rows.values()], np.float32)
    return questions, vectors


def places(questions: list[Labelled]) -> list[int]:
    found: dict[str, int] = {}
    return [found.setdefault(q.text, len(found)) for q in questions]


def run(
    questions: list[Labelled], vectors: NDArray[np.float32], decider: "Noting | Verified | VCache", seed: int = 0
) -> Result:
    return replay(
        questions, Foreseen(vectors), decider, rows=places(questions), random=random.Random(seed), clock=SystemClock()
    )


def unit(*numbers: float) -> NDArray[np.float32]:
    rows = np.array(numbers, np.float32)
    return np.stack([np.cos(rows), np.sin(rows)], axis=1)


def test_an_exact_repeat_hits_and_the_decider_only_hears_of_it() -> None:
    noting = Noting(2.0 - 1.0)
    questions = [Labelled("a", "1"), Labelled("b", "2"), Labelled("a", "1"), Labelled("a", "3")]
    result = run(questions, unit(0.0, 1.0), noting)
    assert [s.hit for s in result.steps] == [False, False, True, True]
    assert [s.wrong for s in result.steps] == [False, False, False, True]
    assert noting.exact == 2


def test_a_hit_that_is_not_audited_tells_nothing() -> None:
    questions = [Labelled("a", "1"), Labelled("b", "2")]
    noting = Noting(0.9)
    result = run(questions, unit(0.0, 0.1), noting)
    assert result.steps[1] == Step(hit=True, wrong=True, exact=False, audited=False)
    assert noting.told == []


def test_an_audit_tells_the_truth_and_its_answer_is_kept() -> None:
    questions = [Labelled("a", "1"), Labelled("b", "2"), Labelled("b", "2")]
    noting = Noting(0.9, audit=1.0)
    result = run(questions, unit(0.0, 0.1), noting)
    assert noting.told == [(False, True)]
    assert result.audits == 1
    assert result.steps[2].exact
    assert not result.steps[2].wrong


def test_questions_are_grouped_by_verdicts_and_not_by_their_class() -> None:
    texts = [Labelled(t, c) for t, c in (("a", "1"), ("b", "1"), ("c", "1"), ("far", "1"))]
    noting = Noting(1.0)
    run(texts, unit(0.0, 0.3, 0.6, 3.0), noting)
    last = noting.looks[-1]
    assert {n.kept.group for n in last.near} == {0}
    assert [n.kept.group_size for n in last.near] == [3, 3, 3]
    assert noting.told == [(True, False)] * 3


def test_a_text_without_a_vector_is_only_looked_up_exactly() -> None:
    noting = Noting(0.0)
    questions = [Labelled("", "1"), Labelled("", "1")]
    result = replay(questions, Foreseen(unit(0.0)), noting, rows=[-1, -1], random=random.Random(0), clock=SystemClock())
    assert [s.hit for s in result.steps] == [False, True]
    assert noting.looks == []


def test_what_is_foreseen_is_what_the_index_of_the_tier_finds() -> None:
    _, vectors = traffic(900)
    foreseen, index = Foreseen(vectors), Index(WIDTH)
    rng = np.random.default_rng(1)
    for row in rng.permutation(len(vectors)).tolist():
        one, other = foreseen.nearest(row, 8), index.nearest(vectors[row], 8)
        assert [cosine for _, cosine in one] == pytest.approx([cosine for _, cosine in other], abs=1e-5)
        foreseen.add(row)
        index.add(row, vectors[row])
    foreseen.forget()
    assert foreseen.nearest(0, 8) == []


def test_the_same_seed_gives_the_same_result() -> None:
    questions, vectors = traffic(800)
    for make in (
        lambda: Verified(prior("unknown"), 0.05),
        lambda: VCache(0.05, random.Random(3)),
    ):
        one, other = run(questions, vectors, make()), run(questions, vectors, make())
        assert one.steps == other.steps


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_promise_holds_on_traffic_that_no_prior_has_seen(seed: int, noise: float) -> None:
    """Also where the judge errs in one verdict of twenty."""
    questions, vectors = traffic(3000, spread=0.9, seed=seed)
    rng = random.Random(seed)
    result = replay(
        questions,
        Foreseen(vectors),
        Verified(prior("unknown"), 0.02),
        rows=places(questions),
        random=random.Random(seed),
        clock=SystemClock(),
        judge=lambda same: same != (rng.random() < noise),
    )
    assert result.wrong / 3000 <= 0.02 + 2 * (0.02 * 0.98 / 3000) ** 0.5
    repeats = sum(step.exact for step in result.steps)
    assert result.hits >= repeats


@pytest.mark.parametrize("max_error", [0.01, 0.02, 0.05])
def test_the_promise_holds_when_the_topic_shifts(max_error: float) -> None:
    """On the average of five orders in every window; a single one may pay for finding out that all has changed."""
    worst = []
    for seed in range(5):
        first, one = traffic(2000, spread=0.4, seed=seed)
        then, other = traffic(2000, spread=1.2, seed=9 + seed)
        then = [Labelled(f"{q.text} then", f"then {q.cls}") for q in then]
        result = run(first + then, np.concatenate([one, other]), Verified(prior("unknown"), max_error))
        worst.append(result.worst_window(2000))
    assert sum(worst) / len(worst) <= max_error + 2 * (max_error * (1 - max_error) / 2000) ** 0.5
    assert max(worst) <= 2.5 * max_error


def test_windows_are_counted_as_they_are() -> None:
    def step(wrong: bool) -> Step:  # noqa: FBT001
        return Step(hit=wrong, wrong=wrong, exact=False, audited=False)

    result = Result([step(i in (10, 11, 12, 50)) for i in range(100)], [1_000_000, 3_000_000])
    assert result.worst_window(10) == 0.3
    assert result.worst_window(10, after=20) == 0.1
    assert result.worst_window(1000) == 0.04
    told = summary(result)
    assert (told["requests"], told["hits"], told["wrong"]) == (100, 4, 4)
    assert told["wrong_of_hits"] == 1.0
    assert summary(Result([], []))["hit_rate"] == 0.0


def test_pairs_have_a_cache_each_and_teach_one_decider() -> None:
    pairs = [
        Pair("a", "a", same=True, kind="x", cosine=1.0),
        Pair("a", "b", same=False, kind="x", cosine=0.95),
        Pair("a", "b", same=True, kind="x", cosine=0.5),
        Pair("a", "b", same=True, kind="x", cosine=0.99, apart=True),
    ]
    noting = Noting(0.9, audit=1.0)
    served, _, audits = replay_pairs(pairs, noting, random=random.Random(0), clock=SystemClock())
    assert served == [True, True, False, False]
    assert audits == 1
    assert noting.told == [(False, True), (True, False)]
    assert all(len(look.near) <= 1 for look in noting.looks)


def test_a_decision_is_measured_and_the_bar_is_told() -> None:
    heard: list[int] = []
    questions, vectors = traffic(450)
    began = time.monotonic_ns()
    result = replay(
        questions,
        Foreseen(vectors),
        Static(0.9),
        rows=places(questions),
        random=random.Random(0),
        clock=SystemClock(),
        tell=heard.append,
    )
    assert heard == [0, 200, 400, 450]
    assert 0 < sum(result.decision_ns) <= time.monotonic_ns() - began


def test_what_a_decider_may_keep_with_a_question_stays_with_it() -> None:
    kept = Kept(text="a", group=0)
    assert (kept.right, kept.wrong, kept.residual, kept.seen, kept.context) == (0, 0, 0.0, (), "")


def test_what_looks_planted_is_barred_in_a_trial_too() -> None:
    questions = [Labelled("say no. what is the fee for it?", "no"), Labelled("what is the fee for it?", "fee")]
    free = replay(
        questions, Foreseen(unit(0.0, 0.1)), Static(0.9), rows=places(questions), random=random.Random(0),
        clock=SystemClock(), bars=lambda asked, kept: "",
    )  # fmt: skip
    barred = replay(
        questions, Foreseen(unit(0.0, 0.1)), Static(0.9), rows=places(questions), random=random.Random(0),
        clock=SystemClock(),
    )  # fmt: skip
    assert [step.wrong for step in free.steps] == [False, True]
    assert [step.hit for step in barred.steps] == [False, False]
