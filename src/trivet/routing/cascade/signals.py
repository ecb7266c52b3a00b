"""Signals of a set of answers to one prompt: who agrees, who gave none, who was long, who is thought to be able.

A candidate is the answer of one model; those that agree with it support it. Its signals are the same numbers whichever
models gave the answers, so that what is learned of them holds for sets that were never seen together: models count by
what is thought of them on this text, not by name.

Not here: what the signals mean (`vote.py`). Invariants: the order in which models were asked changes nothing; numbers
are finite; a model without an answer supports nobody.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.pool.logistic import Floats

NONE = -1
"""The code of an answer that could not be parsed."""

WIDTH = 15
"""Signals of a candidate."""

FEW = 30
"""Answers in a domain, with fewer of which lengths and luck are told of all of them."""

MANY = 100
"""Answers that no two models give alike, all of them: the best two on grade-school mathematics differ on 3 %."""

_SHRINK = 10.0
"""Prompts on which a model did as the others, that are added to what is known of it."""

_LUCK = 1e-3
"""Least chance that two wrong answers are the same by chance: below this they never are."""


_FAR = 1e3
"""Further below the mean than any model."""


class Answers(NamedTuple):
    """Answers of models to the same prompts."""

    codes: NDArray[np.int64]
    """[n, models]: equal numbers in a row are equal answers; `NONE` where there is none."""
    odds: Floats
    """[n, models]: log odds that each is right, from the text alone."""
    levels: Floats
    """[n, models]: how good each is in all, in log odds above the mean model; 0 where unknown."""
    lengths: Floats
    """[n, models]: place among the lengths of the model's answers, 0 shortest to 1 longest; 0.5 where unknown."""
    luck: Floats
    """[n]: log10 of the chance that answers to different prompts of the domain are the same: letters -1, numbers -2."""

    def of(self, models: Sequence[int]) -> "Answers":
        """Take some models."""
        at = list(models)
        return Answers(self.codes[:, at], self.odds[:, at], self.levels[:, at], self.lengths[:, at], self.luck)

    def rows(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Answers":
        """Take some prompts."""
        return Answers(self.codes[rows], self.odds[rows], self.levels[rows], self.lengths[rows], self.luck[rows])


def levels(scores: Floats) -> Floats:
    """Say how good models are, from scores [n, models] with NaN: [models], in log odds above the mean model.

    Each is compared with the others on the prompts that it answered, so it does not matter which those were.
    """
    known = np.isfinite(scores)
    filled, counts = np.where(known, scores, 0.0), known.sum(1, keepdims=True)
    others = (filled.sum(1, keepdims=True) - filled) / np.maximum(counts - 1, 1)
    used = known & (counts > 1)
    apart = np.where(used, filled - others, 0.0).sum(0) / (used.sum(0) + _SHRINK)
    made: Floats = np.log((0.5 + apart / 2) / (0.5 - apart / 2)) * 2
    return made


def codes(answers: Sequence[str]) -> NDArray[np.int64]:
    """Number answers; "" is none."""
    names, at = np.unique(np.asarray(answers, dtype=str), return_inverse=True)
    made: NDArray[np.int64] = at.reshape(-1).astype(np.int64)
    return np.where(names[made] == "", NONE, made)


def places(lengths: Floats, domains: NDArray[np.integer]) -> Floats:
    """Say where each length stands among those of the same model: [n, models] from NaN or lengths, to 0 ... 1.

    Among those of the same domain where there are `FEW`, else among all; 0.5 where there is no length.
    """
    made = np.full(lengths.shape, 0.5)
    for model in range(lengths.shape[1]):
        known = np.flatnonzero(np.isfinite(lengths[:, model]))
        if not len(known):
            continue
        made[known, model] = _rank(lengths[known, model])
        for domain in np.unique(domains[known]):
            some = known[domains[known] == domain]
            if len(some) >= FEW:
                made[some, model] = _rank(lengths[some, model])
    return made


def luck(codes: NDArray[np.int64], domains: NDArray[np.integer]) -> Floats:
    """Say how often answers to different prompts are the same, as log10: [n], by domain where it has `FEW` answers."""
    made = np.full(len(codes), _same(codes))
    for domain in np.unique(domains):
        some = domains == domain
        if (codes[some] != NONE).sum() >= FEW:
            made[some] = _same(codes[some])
    return made


def twins(codes: NDArray[np.int64], lengths: Floats) -> list[tuple[int, int]]:
    """Find models that are one under two names, as (first, other): they would agree whether right or wrong.

    Args:
        codes: [n, models]
        lengths: [n, models], NaN where unknown.

    Two models whose answers are all equal are one if their lengths are too, or if there are `MANY` answers.
    """
    found: list[tuple[int, int]] = []
    for other in range(codes.shape[1]):
        for first in range(other):
            there = (codes[:, first] != NONE) | (codes[:, other] != NONE)
            same = there.any() and bool((codes[there, first] == codes[there, other]).all())
            long = np.isfinite(lengths[:, [first, other]]).all(1)
            alike = long.any() and bool((lengths[long, first] == lengths[long, other]).all())
            if same and (alike or there.sum() >= MANY):
                found.append((first, other))
                break
    return found


def candidates(answers: Answers) -> Floats:
    """Give the signals of each model's answer as a candidate: [n, models, WIDTH]; the first is 1."""
    there = answers.codes != NONE
    same = (answers.codes[:, :, None] == answers.codes[:, None, :]) & there[:, :, None]
    # A model that is thought to be bad is weak support, never evidence against: hence not the odds themselves.
    weight = np.logaddexp(0.0, answers.odds)
    support = (same * weight[:, None, :]).sum(2)
    rival = np.where(same | ~there[:, None, :], 0.0, support[:, None, :]).max(2)
    others = (weight * there).sum(1)[:, None] - support
    count = same.sum(2) - 1.0
    own = np.where(same, answers.levels[:, None, :], -_FAR).max(2, initial=-_FAR)
    other = np.where(same | ~there[:, None, :], -_FAR, answers.levels[:, None, :]).max(2, initial=-_FAR)
    level = np.broadcast_to(answers.levels.mean(1)[:, None], own.shape)
    ahead = np.where((own > -_FAR) & (other > -_FAR), own - other, 0.0)
    own = np.where(own > -_FAR, own, 0.0)
    models = answers.codes.shape[1]
    everyone = same.all(2).astype(float)
    easy = np.broadcast_to(answers.odds.mean(1)[:, None], support.shape)
    chance = np.broadcast_to(answers.luck[:, None], support.shape)
    long = answers.lengths - 0.5
    long_support = (same * long[:, None, :]).sum(2) / np.maximum(same.sum(2), 1)
    long_all = np.broadcast_to(long.mean(1)[:, None], support.shape)
    silent = np.broadcast_to((~there).mean(1)[:, None], support.shape)
    made: Floats = np.stack(
        [
            np.ones_like(support), easy, support, rival, others, count / models, everyone, everyone * easy,
            chance * count, long_support, long_all, silent, own, ahead, level,
        ],
        2,
    )  # fmt: skip
    assert made.shape[2] == WIDTH
    return made


def _rank(lengths: Floats) -> Floats:
    """Middle ranks in (0, 1): equal lengths have equal places."""
    ordered = np.sort(lengths)
    made: Floats = (np.searchsorted(ordered, lengths) + np.searchsorted(ordered, lengths, "right")) / (2 * len(lengths))
    return made


def _same(codes: NDArray[np.int64]) -> float:
    told = codes[codes != NONE]
    if len(told) < 2:
        return -1.0
    counts = np.unique(told, return_counts=True)[1]
    # Answers to one prompt are the same because they are right: a prompt counts once, by the first model's answer.
    first = codes[:, 0][codes[:, 0] != NONE]
    counts = np.unique(first, return_counts=True)[1] if len(first) >= FEW else counts
    n = counts.sum()
    return float(np.log10(max(float((counts * (counts - 1.0)).sum()) / max(1.0, n * (n - 1.0)), _LUCK)))
