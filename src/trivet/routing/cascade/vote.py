"""Whether the answer that most speaks for is right: a logistic of its signals, for each number of models.

Learned from sets of models drawn at random among those that answered the same prompts, so that the weights hold for
sets that were never seen. In some draws a model is taken for unknown, so that they hold for such models too.

Beside it, how likely the large model's answer is right, as far as the cheap ones tell: where they all fail it often
does too. The difference is what asking it is worth.

Not here: signals (`signals.py`), when to stop (`stop.py`).
Invariants: equal outcomes and seed give equal weights; no chance is given to a model without an answer.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.cascade.signals import NONE, WIDTH, Answers, candidates
from trivet.routing.pool.logistic import Floats, Normal, chance, fit

MOST = 4
"""Models in a vote that has weights of its own; of more, the weights are those of this number."""

SETS, EACH = 240, 120
"""Sets of models that are drawn for each number of them, and prompts of each: 400 of 250 do no better."""

UNKNOWN = 0.2
"""Share of the models in a draw that are taken for unknown."""

FEWEST = 100
"""Prompts that two models answered, with fewer of which nothing is learned."""

_PRIOR = 4.0
"""Variance of a weight before any label."""

AFTER = 7
"""Numbers that the large model's worth is told by."""


class Known(NamedTuple):
    """What is known of answers in training."""

    answers: Answers
    scores: Floats
    """[n, models], NaN where there is no outcome."""
    domains: NDArray[np.int64]
    """[n]"""


class Votes(NamedTuple):
    """Weights."""

    right: Floats
    """[MOST + 1, WIDTH]: of a candidate among that many and one (the large model may be a voter too)."""
    after: Floats
    """[MOST + 1, AFTER]: of the large model's answer, by how many were asked before it, from 0."""

    def best(self, answers: Answers) -> tuple[NDArray[np.int64], Floats]:
        """Give the model whose answer is best [n], and the chance that it is right [n]."""
        chances = chance(candidates(answers) @ self.right[min(answers.codes.shape[1], MOST + 1) - 1])
        chances = np.where(answers.codes == NONE, 0.0, chances)
        at = np.argmax(chances, axis=1)
        return at, chances[np.arange(len(at)), at]

    def large(self, best: Floats, easy: Floats, odds: Floats, level: Floats, *, asked: int) -> Floats:
        """Give the chance that the large model will be right: [n].

        Args:
            best: [n], the chance of the best answer so far; 0 where none was asked.
            easy: [n], mean log odds of the models asked so far; those of the large where none was.
            odds: [n], log odds of the large model, from the text.
            level: [n], how good it is in all.
            asked: how many before it.
        """
        made: Floats = chance(_after(best, easy, odds, level) @ self.after[min(asked, MOST)])
        return made


def learn(known: Known, *, seed: int = 0) -> Votes:
    """Learn from outcomes with answers. Raises ConfigError: too few prompts were answered by two models."""
    told = np.isfinite(known.scores) & (known.answers.codes != NONE).any(axis=0)
    random = np.random.default_rng(seed)
    together = told.astype(np.float32).T @ told.astype(np.float32)
    np.fill_diagonal(together, 0.0)
    if not together.size or together.max() < FEWEST:
        raise ConfigError(
            f"No two models have answers (`ans`) to the same {FEWEST} prompts: {int(together.max(initial=0))} are the "
            "most. Add the parsed answer of each outcome as `ans`."
        )
    right, after = np.zeros((MOST + 1, WIDTH)), np.zeros((MOST + 1, AFTER))
    draws = {size: list(_draws(known, told, size, random)) for size in range(1, MOST + 2)}
    for size in range(1, MOST + 2):
        rows, labels = [], []
        for answers, scores in draws[size]:
            at = answers.codes != NONE
            rows.append(candidates(answers)[at])
            labels.append(scores[at])
        if rows:
            right[size - 1] = _fitted(np.concatenate(rows), np.concatenate(labels), right[max(0, size - 2)])
        else:
            right[size - 1] = right[max(0, size - 2)]
    votes = Votes(right, after)
    for asked in range(MOST + 1):
        rows, labels = [], []
        for answers, scores in draws[asked + 1]:
            odds = answers.odds[:, -1]
            before = answers.of(range(asked))
            best = votes.best(before)[1] if asked else np.zeros(len(odds))
            rows.append(_after(best, before.odds.mean(1) if asked else odds, odds, answers.levels[:, -1]))
            labels.append(scores[:, -1])
        if rows:
            after[asked] = _fitted(np.concatenate(rows), np.concatenate(labels), after[max(0, asked - 1)])
        else:
            after[asked] = after[max(0, asked - 1)]
    return votes


def _draws(
    known: Known, told: NDArray[np.bool_], size: int, random: np.random.Generator
) -> "list[tuple[Answers, Floats]]":
    """Draw sets of models, the best last: that is the place of the large one."""
    made = []
    domains = np.unique(known.domains[told.sum(1) >= size])
    for _ in range(SETS if len(domains) else 0):
        # A domain first, so that sets with many prompts are not all that is learned of.
        in_it = told[known.domains == random.choice(domains)]
        models = np.flatnonzero(in_it.mean(0) > 0.5)
        if len(models) < size:
            continue
        drawn = random.choice(models, size, replace=False)
        means = np.nanmean(known.scores[:, drawn], axis=0, where=told[:, drawn])
        drawn = drawn[np.argsort(means, kind="stable")]
        prompts = np.flatnonzero(told[:, drawn].all(1) & (known.domains == random.choice(domains)))
        if not len(prompts):
            prompts = np.flatnonzero(told[:, drawn].all(1))
        if not len(prompts):
            continue
        prompts = random.choice(prompts, min(EACH, len(prompts)), replace=False)
        answers = known.answers.rows(prompts).of(drawn.tolist())
        unknown = random.random(size) < UNKNOWN
        average = np.nanmean(known.answers.odds[prompts], axis=1, where=told[prompts])
        odds = np.where(unknown, average[:, None], answers.odds)
        levels = np.where(unknown, 0.0, answers.levels)
        made.append((answers._replace(odds=odds, levels=levels), known.scores[np.ix_(prompts, drawn)]))
    return made


def _after(best: Floats, easy: Floats, odds: Floats, level: Floats) -> Floats:
    p = np.clip(best, 0.01, 0.99)
    return np.stack([np.ones_like(p), np.log(p / (1.0 - p)), easy, odds, p, level, level * p], 1)


def _fitted(rows: Floats, labels: Floats, before: Floats) -> Floats:
    """Fit weights; those for one model fewer are where it begins, so that few draws of large sets do no harm."""
    return fit(rows, labels, Normal(before, np.eye(rows.shape[1]) * _PRIOR)).mean
