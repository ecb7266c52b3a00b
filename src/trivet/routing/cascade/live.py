"""A learned cascade for live traffic: one request at a time, by a router file that `trivet route train` wrote.

The rule is found when a policy is put in force, on the outcomes of training (`section.py`, `stop.py`): from the safe
end, so that quality keeps the policy's floor with its confidence. Then each answer that comes in is put beside those
before it, and the chance that the best of them is right is held against what the large target would do.

How long an answer is, and how often answers to different questions are the same, is told among the last ones, since the
gateway runs; training tells it among its own.

Not here: what makes two answers the same (`router.py`), asking (`weighing.py`).
Invariants: without proof nobody but the large target is asked; a text that training says nothing of goes to it too; no
text raises.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from math import log10
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trivet.errors import ConfigError
from trivet.routing.cascade import section, stop
from trivet.routing.cascade.signals import FEW, NONE, Answers
from trivet.routing.learned import learned
from trivet.routing.pool.logistic import Floats, chance
from trivet.routing.triangle.router import FAMILIAR, OUTPUT_TOKENS
from trivet.seams import Known
from trivet.types import Aim, CascadePolicy, Policy
from trivet.wire.canonical import Canonical

REMEMBERED = 500
"""Lengths of the last answers of a target."""

LUCK = {"letter": -1.0, "number": -2.0, "words": -3.0}
"""Log10 of the chance that answers to different questions are the same, by their kind."""

LEAST_LUCK = -3.0

INPUT_TOKENS = 500.0
"""Of a prompt, where the price of a call is to be guessed and nothing was measured."""


class Judged(NamedTuple):
    """What is thought of the answers so far."""

    best: int
    """The place among the cheap targets whose answer is best."""
    right: float
    """The chance that it is right; 0 where there is none."""
    gain: float
    """What the large target's answer would be worth more: a difference of chances; infinite where there is none."""
    enough: bool
    """Whether the rule stops here."""


class Lengths:
    """Where an answer's length stands among the last ones of its target."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque()
        self._sorted: list[int] = []

    def place(self, tokens: int) -> float:
        """Give the place, 0 shortest to 1 longest; 0.5 where too few are known."""
        if len(self._sorted) < FEW:
            return 0.5
        return (bisect_left(self._sorted, tokens) + bisect_right(self._sorted, tokens)) / (2 * len(self._sorted))

    def note(self, tokens: int) -> None:
        """Remember one."""
        if len(self._seen) >= REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._seen.popleft())]
        self._seen.append(tokens)
        insort(self._sorted, tokens)


class Luck:
    """How often answers to different questions are the same, as `signals.luck` has it: of the last ones here."""

    def __init__(self) -> None:
        self._seen: deque[Canonical] = deque()
        self._counts: Counter[Canonical] = Counter()
        self._pairs = 0

    def told(self, found: Canonical | None) -> float:
        """Give log10 of that chance; where too few are known, what is usual of an answer of this kind."""
        n = len(self._seen)
        if n < FEW or found is None:
            return LUCK.get(found.kind, LEAST_LUCK) if found else LEAST_LUCK
        return max(LEAST_LUCK, log10(max(self._pairs / (n * (n - 1)), 1e-9)))

    def note(self, found: Canonical) -> None:
        """Remember an answer: one for each question."""
        if len(self._seen) >= REMEMBERED:
            gone = self._seen.popleft()
            self._counts[gone] -= 1
            self._pairs -= 2 * self._counts[gone]
            if not self._counts[gone]:
                del self._counts[gone]
        self._pairs += 2 * self._counts[found]
        self._counts[found] += 1
        self._seen.append(found)


class Live:
    """The rule of one policy."""

    def __init__(
        self, names: tuple[str, ...], rule: stop.Rule, *, router: learned.Learned, known: section.Cascade,
        models: Sequence[str], of: str,
    ) -> None:  # fmt: skip
        """`names`: targets, the large one last; `models`: as the router knows them, or some other name."""
        self.names, self.rule, self.of = names, rule, of
        self.digest = router.digest
        asked = [router.models[i] for i in known.answered]
        place = {name: i for i, name in enumerate(asked)}
        self._votes, self._pool = known.votes, router.pool(asked)
        self._columns = [place.get(name, -1) for name in models]
        self._levels = np.array([[known.levels[router.place(name)] if name in place else 0.0 for name in models]])
        self.lengths = {name: Lengths() for name in names[:-1]}
        self.luck = Luck()

    @property
    def order(self) -> tuple[str, ...]:
        """The cheap targets in the order in which they are asked."""
        return tuple(self.names[i] for i in self.rule.shape.order)

    def at_once(self, text: str) -> str:
        """Say why the large target is asked at once; "": the cheap ones are worth it."""
        if self.rule.threshold == -np.inf:
            return "too few labels"
        odds, known = self._odds(text)
        if known < FAMILIAR:
            return "unfamiliar text"
        return "no hope for the cheap ones" if float(chance(odds[0, :-1]).max()) < self.rule.shape.hope else ""

    def judge(self, text: str, codes: Mapping[str, int], tokens: Mapping[str, int], *, luck: float) -> Judged:
        """Look at the answers so far.

        Args:
            codes: of the cheap targets that have answered: equal numbers are equal answers, `NONE` is none.
            tokens: how long their answers are.
            luck: log10 of the chance that answers to different questions are the same.
        """
        k = len(self.names) - 1
        order = [i for i in self.rule.shape.order if self.names[i] in codes]
        if not order:
            return Judged(0, 0.0, np.inf, enough=False)
        row, places = np.full((1, k + 1), NONE), np.full((1, k + 1), 0.5)
        for i in order:
            name = self.names[i]
            row[0, i] = codes[name]
            places[0, i] = self.lengths[name].place(tokens.get(name, 0)) if tokens.get(name) else 0.5
        answers = Answers(row, self._odds(text)[0], self._levels, places, np.array([luck]))
        best, right = self._votes.best(answers.of(order))
        seen = stop.see(self._votes, answers, order)
        gain = float(seen.gains[-1, 0])
        limit = self.rule.threshold - (0.0 if len(order) == k else self.rule.shape.early)
        return Judged(order[int(best[0])], float(right[0]), gain, enough=gain <= limit)

    def _odds(self, text: str) -> tuple[Floats, float]:
        """Give log odds [1, targets] of a text, and the share of its words that are known."""
        told, known = self._pool.read(text)
        sure = np.clip(np.array(told), 1e-4, 1 - 1e-4)
        odds = np.log(sure / (1 - sure))
        return np.array([[odds[i] if i >= 0 else odds.mean() for i in self._columns]]), known

    def summary(self, policy: str) -> str:
        """Say in a line what the policy does."""
        held, large = self.rule.held, self.names[-1]
        if not held.step:
            return (
                f"Policy {policy!r}: all to {large}. {held.labels:,} labels of {self.of} do not show that a cascade "
                "keeps the floor for less. Add outcomes, or lower `quality` or `confidence`."
            )
        return (
            f"Policy {policy!r}: {', '.join(self.order)} first, {large} where they do not settle it. Expected "
            f"{held.quality:.3f} of its quality, at least {held.at_least:.3f}, for {self.rule.cost:.2f} of its cost, "
            f"by {held.labels:,} labels of {self.of}."
        )


def compiled(policy: Policy, aim: Aim, how: CascadePolicy, known: Known, *, quality: float | None = None) -> Live:
    """Find the rule of a policy.

    Raises:
        ConfigError: there is no router, or nothing can be promised of these models.
    """
    router = learned.load(Path(aim.router).expanduser())
    cascade = section.load(router)
    names = (*how.cheap, how.large)
    models = [next((n for n in (name, known.models.get(name, name)) if n in router.models), name) for name in names]
    own = cascade.own(router, models)
    trial = own or cascade.trial(models, agreement=None, foreign=False)
    if trial is None:
        raise ConfigError(
            f"policies.{policy.name}: no set of models in training answered the same prompts, so nothing can be "
            "promised. Train the router on outcomes of several models with their answers (`ans`)."
        )
    floor = quality or aim.quality
    assert floor is not None
    rule = stop.choose(
        cascade.votes, trial.answers, trial.scores,
        costs=_costs(policy, names, models, cascade, known), quality=floor, confidence=aim.confidence,
        groups=trial.groups, strange=trial.groups is not None, together=how.together, final=True,
    )  # fmt: skip
    of = "calibration" if own else "the outcomes of training"
    if trial.groups is not None:
        of = "training, of models that agree as often"
    return Live(names, rule, router=router, known=cascade, models=models, of=of)


def _costs(
    policy: Policy, names: Sequence[str], models: Sequence[str], cascade: section.Cascade, known: Known
) -> Floats:
    """Give what a call to each costs, from one source for all: training, the ledger, or prices. Raises ConfigError."""
    place = {name: i for i, name in enumerate(cascade.models)}
    trained = [cascade.costs[:, place[name]] if name in place else np.array([np.nan]) for name in models]
    profiled = [known.profiles[name].cost_usd if name in known.profiles else np.nan for name in names]
    rated = [
        INPUT_TOKENS * rates.input + OUTPUT_TOKENS * rates.output if (rates := known.rates.get(name)) else np.nan
        for name in names
    ]
    means = [float(np.nanmean(one)) if np.isfinite(one).any() else np.nan for one in trained]
    for costs in (means, profiled, rated):
        if np.isfinite(costs).all() and costs[-1] > 0:
            return np.array(costs)
    raise ConfigError(
        f"policies.{policy.name}: what a call to {' and '.join(names)} costs is not known, or {names[-1]} costs "
        "nothing. Set `price` of these targets."
    )
