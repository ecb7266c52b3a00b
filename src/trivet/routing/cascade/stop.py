"""When to ask no further: cheap models in turn, each only if the answers so far are not good enough, then the large.

What decides is the gain: the chance that the large model is right less the chance of the best answer there is. One
threshold on it says how bold a cascade is; it is found from the safe end, so that quality holds with a confidence
(`pool/promise.py`). How much surer one has to be to stop before all cheap models were asked, in which order they are,
on which texts none is asked, and whether the large model's answer is final or one vote among them, is chosen by what it
costs, on half of the prompts.

Not here: chances (`vote.py`), the prompts that a rule is tested on (`section.py`).
Invariants: every call is in the cost; without proof all goes to the large model at once; where no model gave an answer
the large one is asked; a stricter floor never stops more of the same prompts under the same shape.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.cascade.signals import Answers
from trivet.routing.cascade.vote import Votes
from trivet.routing.pool.logistic import Floats, chance
from trivet.routing.pool.promise import STEPS, Held, walk

EARLY = (0.0, 0.05, 0.15, np.inf)
"""How much lower a gain has to be to stop before all cheap models were asked; infinite: never."""

SKIP = (0.0, 0.05, 0.15, 0.3)
"""Shares of the texts, those with the least hope for the cheap models, that go to the large model at once."""

AT_ONCE = 0
"""The stage of a prompt that goes to the large model without any other being asked."""


class Shape(NamedTuple):
    """All of a rule but how bold it is."""

    order: tuple[int, ...]
    """Of the cheap models: places in their list."""
    early: float
    hope: float
    """Where the best cheap model's chance, from the text, is below this, none of them is asked."""
    vote: bool
    """Whether the large model's answer is one vote among them, and not the end."""


class Rule(NamedTuple):
    """A cascade."""

    shape: Shape
    threshold: float
    """The greatest gain at which the large model is not asked; minus infinity: all to it at once."""
    held: Held
    cost: float
    """Expected, of the large model's alone."""


class Stages(NamedTuple):
    """What happens to each prompt."""

    stage: NDArray[np.int64]
    """[n]: `AT_ONCE`; 1 to k: so many cheap models were asked, and no other; k + 1: all of them and the large."""
    served: NDArray[np.int64]
    """[n]: the place of the model whose answer is served, in the list that has the large model last."""


class Seen(NamedTuple):
    """What is to be known of prompts for any threshold under a shape's order."""

    gains: Floats
    """[k, n], after each cheap model was asked; infinite where there is no answer yet."""
    best: NDArray[np.int64]
    """[k, n], places."""
    final: NDArray[np.int64]
    """[n], places: whose answer is best with the large model's among them."""
    hope: Floats
    """[n]"""


def see(votes: Votes, answers: Answers, order: Sequence[int]) -> Seen:
    """Look at prompts as a cascade would; `answers` have the cheap models' columns, and the large model's last."""
    large = answers.codes.shape[1] - 1
    at = np.array(order)
    gains, best = [], []
    for asked in range(1, len(order) + 1):
        part = answers.of(order[:asked])
        place, p = votes.best(part)
        after = votes.large(p, part.odds.mean(1), answers.odds[:, large], answers.levels[:, large], asked=asked)
        gains.append(np.where(p > 0.0, after - p, np.inf))
        best.append(at[place])
    final = np.append(at, large)[votes.best(answers.of([*order, large]))[0]]
    return Seen(np.array(gains), np.array(best), final, chance(answers.odds[:, :large]).max(1))


def stages(seen: Seen, shape: Shape, threshold: float) -> Stages:
    """Say where each prompt ends."""
    k, n = seen.gains.shape
    limits = np.full((k, 1), threshold - shape.early)
    limits[-1] = threshold
    stops = np.concatenate([seen.gains <= limits, np.ones((1, n), bool)])
    stage = np.where((seen.hope < shape.hope) | (threshold == -np.inf), AT_ONCE, np.argmax(stops, axis=0) + 1)
    final = seen.final if shape.vote else np.full(n, k)
    served = np.where(
        stage == AT_ONCE, k, np.concatenate([seen.best, final[None]])[np.maximum(stage, 1) - 1, np.arange(n)]
    )
    return Stages(stage, served)


def calls(stage: int, order: Sequence[int]) -> tuple[int, ...]:
    """Give the places of the models that were asked, in turn; the large model's is the number of the others."""
    if stage == AT_ONCE:
        return (len(order),)
    return (*order[:stage], *([len(order)] if stage > len(order) else []))


def paid(made: Stages, order: Sequence[int], costs: Floats) -> Floats:
    """Add up every call: [n], from costs [n, k + 1] or one row of them."""
    every = np.broadcast_to(costs, (len(made.stage), len(order) + 1))
    table = np.zeros((len(order) + 2, len(order) + 1))
    for stage in range(len(order) + 2):
        table[stage, list(calls(stage, order))] = 1.0
    spent: Floats = (table[made.stage] * every).sum(1)
    return spent


def choose(
    votes: Votes,
    answers: Answers,
    scores: Floats,
    *,
    costs: Floats,
    quality: float,
    confidence: float,
    groups: Floats | None = None,
    strange: bool = False,
    together: bool = False,
    final: bool = False,
    seed: int = 0,
) -> Rule:
    """Choose the cheapest rule that keeps a share of the large model's quality.

    Args:
        answers: of labelled prompts, the large model last.
        scores: [n, k + 1].
        costs: [k + 1], of a call to each, in any unit.
        groups: [n], as for `walk`.
        strange: the models or the domains are not those of the prompts: all cheap models are asked, and the large one's
            answer is final, as what only some of them say, and who outvotes whom, did not carry over.
        together: all cheap models are asked at the same time, so none is spared.
        final: the large model's answer is served wherever it is asked.
        seed: of the half that the shape is chosen on.
    """
    k = scores.shape[1] - 1
    half = np.random.default_rng(seed).random(len(scores)) < 0.5
    orders = {
        tuple(np.argsort(costs[:k], kind="stable").tolist()),
        tuple(np.argsort(-answers.odds[:, :k].mean(0)).tolist()),
    }
    best: tuple[float, Shape] | None = None
    views = {order: see(votes, answers, order) for order in sorted(orders)}
    for order, seen in views.items():
        part = Seen(seen.gains[:, half], seen.best[:, half], seen.final[half], seen.hope[half])
        hopes = np.unique(np.where(np.array(SKIP) > 0, np.quantile(seen.hope, SKIP), 0.0)) if len(scores) else [0.0]
        early_s = (np.inf,) if strange or together else EARLY if k > 1 else (0.0,)
        votes_too = (False,) if strange or final else (False, True)
        for early, hope, vote in product(early_s, hopes[:1] if strange else hopes, votes_too):
            shape = Shape(order, early, float(hope), vote)
            told = groups[half] if groups is not None else None
            # Half of the prompts would stop the search early: they say which shape, at the confidence of a coin.
            rule = _walked(part, shape, scores[half], costs, quality=quality, confidence=0.5, groups=told)
            if best is None or rule.cost < best[0] - 1e-9:
                best = rule.cost, shape
    assert best is not None
    shape = best[1]
    rule = _walked(views[shape.order], shape, scores, costs, quality=quality, confidence=confidence, groups=groups)
    return rule if rule.cost < 1.0 else rule._replace(threshold=-np.inf, held=Held(0, 1.0, 1.0, len(scores)), cost=1.0)


def capped(votes: Votes, answers: Answers, rule: Rule, *, quality: float) -> Rule:
    """Lower the threshold until the loss that is foreseen on fresh prompts, gains not set off, is within the floor."""
    seen = see(votes, answers, rule.shape.order)
    odds = answers.odds[:, -1]
    large = votes.large(np.zeros(len(odds)), odds, odds, answers.levels[:, -1], asked=0)
    gains = np.sort(seen.gains[-1])
    finite = gains[np.isfinite(gains)]
    lost = np.cumsum(np.maximum(finite, 0.0))
    within = finite[lost <= (1.0 - quality) * large.sum() + 1e-12]
    most = float(within[-1]) if len(within) else -np.inf
    return rule._replace(threshold=min(rule.threshold, most))


def path(seen: Seen) -> Floats:
    """Give thresholds, from all to the large model at once to ever bolder ones."""
    # The least gain of a prompt is where it stops first, that after all cheap models where it stops at last.
    told = np.concatenate([np.minimum.reduce(seen.gains), seen.gains[-1]])
    told = told[np.isfinite(told)]
    if not len(told):
        return np.array([-np.inf])
    return np.append(-np.inf, np.unique(np.quantile(told, np.linspace(0.0, 1.0, STEPS + 1))))


def _walked(
    seen: Seen,
    shape: Shape,
    scores: Floats,
    costs: Floats,
    *,
    quality: float,
    confidence: float,
    groups: Floats | None,
) -> Rule:
    steps = path(seen)
    at = np.arange(len(scores))
    large = scores[:, -1]
    gains = np.array([scores[at, stages(seen, shape, t).served] - large for t in steps])
    gains[0] = 0.0
    held = walk(gains, large, quality=quality, confidence=confidence, groups=groups)
    threshold = float(steps[held.step])
    made = stages(seen, shape, threshold)
    spent = paid(made, shape.order, costs / costs[-1])
    return Rule(shape, threshold, held, float(spent.mean()) if len(spent) else 1.0)
