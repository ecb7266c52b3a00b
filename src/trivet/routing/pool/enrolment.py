"""A new model from a few labels: what models of its price are like, put right by how it did.

Not here: what models are like (`skills.py`). Invariant: fewer labels never make it surer; one label, or labels that are
all equal, give an estimate near the prior and an honest width.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from trivet.routing.pool.logistic import Floats, Normal, fit, softened
from trivet.routing.pool.skills import Model, Skills, ratio


class Told(NamedTuple):
    """What an enrolment found, for people."""

    model: Model
    quality: float
    """On prompts like the labelled ones."""
    low: float
    high: float
    """Between these it is, with the confidence asked for."""
    before: tuple[float, float]
    """The same two before any label."""
    known: int
    """Labelled prompts on which known models had been tried as well."""


def enrol(
    skills: Skills,
    features: Floats,
    scores: Floats,
    *,
    costs: Floats | None = None,
    ease: Floats | None = None,
    confidence: float = 0.9,
) -> Told:
    """Estimate a model from its labels.

    Args:
        features: [n, d], of the labelled prompts, n >= 1.
        scores: [n] in [0, 1].
        costs: [n] in USD, NaN where not known.
        ease: [n], of `Skills.ease`, NaN where no known model was tried on the prompt.

    Raises:
        ValueError: no label, or a score outside [0, 1] or NaN.
    """
    if not len(scores):
        raise ValueError("A new model needs at least one label.")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("Scores are from 0 (wrong) to 1 (right), and none is NaN.")
    rows = skills.of(features)
    told = np.full(len(scores), np.nan) if ease is None else ease
    paid = float("nan") if costs is None else ratio(np.exp(skills.cost(features)), costs)
    prior = skills.prior(paid)
    unknown = np.isnan(told)
    # Where the ease is not known, the chances are softer by what is thought of its weight.
    soft = np.where(unknown, 1.0 / np.sqrt(1.0 + np.pi / 8.0 * prior.mean[-1] ** 2 * skills.shown), 1.0)
    wide = np.column_stack([rows * soft[:, None], np.where(unknown, 0.0, told)])
    found = fit(wide, scores, prior)
    quality, low, high = _range(skills, rows, found, confidence)
    _, below, above = _range(skills, rows, prior, confidence)
    model = Model(found, paid, len(scores))
    return Told(model, quality, low, high, (below, above), int((~unknown).sum()))


def _range(skills: Skills, rows: Floats, weights: Normal, confidence: float) -> tuple[float, float, float]:
    """Give the mean chance over rows, and the interval about it (delta method, in log odds: it stays in [0, 1])."""
    known = weights.part(rows.shape[1])
    hidden = float(weights.mean[-1] ** 2 * skills.shown)
    unsure = np.einsum("ij,jk,ik->i", rows, known.covariance, rows)
    chances = softened(rows @ known.mean, unsure + hidden)
    middle = float(np.clip(chances.mean(), 1e-6, 1 - 1e-6))
    slope = (chances * (1 - chances))[:, None] * rows / np.sqrt(1 + np.pi / 8 * (unsure + hidden))[:, None]
    towards = slope.mean(axis=0)
    sd = float(np.sqrt(towards @ known.covariance @ towards)) / (middle * (1 - middle))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    odds = np.log(middle / (1 - middle))
    low, high = (float(1 / (1 + np.exp(-(odds + sign * z * sd)))) for sign in (-1, 1))
    return middle, low, high
