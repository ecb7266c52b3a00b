"""What texts ask for and what models can do, both as a few skills; learned from outcomes of many models.

A text's skills are a linear function of its features, so they cost nothing that the features do not cost. A model is a
level, a weight for each skill, and one for the part of a prompt's difficulty that its text does not show. What the
models of training have been like, given their price, is the prior for the next one (empirical Bayes).

    log odds (model m is right on x) = level_m + weights_m . skills(x) + hardness_m * ease(x)

`ease` is unknown for a new prompt, so it only softens the chances there; of a prompt on which known models were tried
it is known, and then twenty labels say more about a new model: whether it failed on what all fail on.

Not here: a new model (`enrolment.py`), files (`pool.py`).
Invariants: equal outcomes give equal skills, up to rounding; a model with few labels is near the prior.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.pool.logistic import Floats, Normal, fit, softened

SKILLS = 4
"""Of 2, 4, 6 and 8, on models and domains held out: more did not lower the Brier score, and cost more at 20 labels."""

REGULAR = 3.0
"""Ridge on rows about 1 long: 1 to 10 do alike."""

FOLDS = 4
"""A prompt's own labels must not be in the skills that models are fitted on: those would look surer than they are."""

FEWEST = 50
"""Labels that a model of training has at least, to have a say in what models are like."""

_NODES, _MASS = np.polynomial.hermite_e.hermegauss(15)
_SPREADS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0)
"""Variances of ease that are tried; the likeliest is taken."""

_LOOSE = 10.0
"""Variance of each weight of a training model: they have hundreds of labels, so it hardly counts."""

_DIAGONAL, _LEAST = 0.1, 1e-3
"""What a covariance from a few dozen models is shrunk towards, and added to it, so that it can be inverted."""

_USUAL = 2.0
"""Models that the usual variances (a level: 1, a skill: .3, hardness: .1) count as: two models of training are few."""

_LEAST_USD = 1e-9
"""A model that costs nothing has a price too, in logarithms."""


class Model(NamedTuple):
    """What is known of a model."""

    weights: Normal
    """Level, skills, hardness: [1 + k + 1]."""
    price: float
    """Log of what it costs beside what such a prompt costs the models of training on average; NaN: unknown."""
    labels: int


class Skills(NamedTuple):
    """What was learned of texts and of models in general."""

    reading: Floats
    """[features, k]: from features to skills."""
    centre: Floats
    """[k], taken off them, so that a skill is 0 on average."""
    costing: Floats
    """[features + 1]: from features, and 1, to the log of what a prompt costs on average."""
    spread: float
    """Variance of ease, as it is drawn."""
    shown: float
    """Variance of ease as it is known from outcomes: less, since a few outcomes show it only in part."""
    priced: Floats
    """[2, 1 + k + 1]: what a model is like on average; how that changes with its price."""
    unlike: Floats
    """[1 + k + 1, 1 + k + 1]: covariance of models about that."""
    prices: tuple[float, float]
    """Mean and variance of the prices of training."""

    def of(self, features: Floats) -> Floats:
        """Give rows of 1 and the skills of texts, [n, 1 + k]."""
        made: Floats = np.concatenate([np.ones((len(features), 1)), features @ self.reading - self.centre], axis=1)
        return made

    def cost(self, features: Floats) -> Floats:
        """Give the log of what such prompts cost the models of training on average, [n]."""
        made: Floats = features @ self.costing[:-1] + self.costing[-1]
        return made

    def prior(self, price: float) -> Normal:
        """Say what a model of that price is like, before any label. NaN: a price that is not known."""
        if np.isnan(price):
            mean, variance = self.prices
            slope = self.priced[1]
            return Normal(np.array([1.0, mean]) @ self.priced, self.unlike + variance * np.outer(slope, slope))
        return Normal(np.array([1.0, price]) @ self.priced, self.unlike)

    def chances(self, rows: Floats, model: Model) -> Floats:
        """Give the chance that a model is right: [n], for rows of `of`."""
        known = model.weights.part(rows.shape[1])
        unsure = np.einsum("ij,jk,ik->i", rows, known.covariance, rows) + model.weights.mean[-1] ** 2 * self.shown
        return softened(rows @ known.mean, unsure)

    def slopes(self, rows: Floats, model: Model) -> Floats:
        """Say how those chances change with the model's level and skills: [n, 1 + k]."""
        known = model.weights.part(rows.shape[1])
        soft = 1.0 + np.pi / 8.0 * (
            np.einsum("ij,jk,ik->i", rows, known.covariance, rows) + model.weights.mean[-1] ** 2 * self.shown
        )
        p = self.chances(rows, model)
        made: Floats = (p * (1.0 - p) / np.sqrt(soft))[:, None] * rows
        return made

    def ease(self, rows: Floats, scores: Floats, models: list[Model]) -> Floats:
        """Give how easy prompts were, beyond what their text shows: [n]; NaN where no known model was tried.

        Args:
            rows: of `of`, [n, 1 + k].
            scores: [n, models], NaN where not tried.
        """
        weights = np.array([m.weights.mean for m in models]).reshape(len(models), -1)
        made = _mean(
            _sum(
                _told(rows @ weights[:, :-1].T, weights[:, -1], scores, self.spread),
                np.ones(len(models), bool),
            ),
            self.spread,
        )
        made[np.isnan(scores).all(axis=1)] = np.nan
        return made


class Learned(NamedTuple):
    """What `learn` made."""

    skills: Skills
    models: list[Model]
    rows: Floats
    """[n, 1 + k]: of the prompts of training, by weights that did not see their labels."""
    ease: Floats
    """[n]"""


def learn(features: Floats, scores: Floats, costs: Floats, *, size: int = SKILLS) -> Learned:
    """Learn skills and models from outcomes.

    Args:
        features: [n, d], rows about 1 long.
        scores: [n, models] in [0, 1], NaN where there is none.
        costs: [n, models] in USD, NaN where not known.

    Raises:
        ConfigError: too few models or labels to say what models are like.
    """
    enough = (~np.isnan(scores)).sum(axis=0) >= FEWEST
    if enough.sum() < 2:
        raise ConfigError(
            f"{int(enough.sum())} models have {FEWEST} outcomes or more; skills need at least 2 of them. Add outcomes."
        )
    size = int(min(size, enough.sum()))
    fold = (np.arange(len(features)) * 2654435761 >> 16) % FOLDS  # as good as by chance (Knuth), and always the same
    whole = _heads(features, scores)
    asked = features @ whole
    centre = asked.mean(axis=0)
    # The directions in which the models' estimates differ most from prompt to prompt.
    _, values, turn = np.linalg.svd((asked - centre)[:, enough], full_matrices=False)
    scale = np.sqrt(len(features)) / np.maximum(values[:size], 1e-9)
    to_skills = np.zeros((scores.shape[1], size))
    to_skills[enough] = turn[:size].T * scale
    rows = np.ones((len(features), 1 + size))
    for k in range(FOLDS):
        held = fold == k
        rows[held, 1:] = (features[held] @ _heads(features[~held], scores[~held]) - centre) @ to_skills
    # Estimates of other labels vary less than those that were fitted on them: so that both are on one scale.
    shrunk = np.maximum(rows[:, 1:].std(axis=0), 1e-9)
    rows[:, 1:] /= shrunk
    reading, middle = whole @ to_skills / shrunk, centre @ to_skills / shrunk
    costing = _costing(features, costs)
    prompts = np.exp(features @ costing[:-1] + costing[-1])
    prices = np.array([ratio(prompts, column) for column in costs.T])
    # What the other models' outcomes show of a prompt's ease and its text shows too is one skill more: what is left
    # is then 0 on average for texts of every kind.
    _, _, ease = _models(rows, scores, enough)
    easy = _heads(features, ease[:, None])
    shown = np.zeros(len(features))
    for k in range(FOLDS):
        held = fold == k
        shown[held] = (features[held] @ _heads(features[~held], ease[~held, None]))[:, 0]
    middle, reading = np.append(middle, features.mean(axis=0) @ easy), np.column_stack([reading, easy])
    rows = np.column_stack([rows, shown - shown.mean()])
    weights, spread, ease = _models(rows, scores, enough)
    shown_variance = float((ease**2).mean())
    known = enough & ~np.isnan(prices)
    told = prices[known]
    priced, unlike = _alike(np.array([weights[i].mean for i in np.flatnonzero(enough)]), prices[enough])
    skills = Skills(
        reading=reading,
        centre=middle,
        costing=costing,
        spread=spread,
        shown=shown_variance,
        priced=priced,
        unlike=unlike,
        prices=(float(told.mean()), float(told.var())) if len(told) else (0.0, 0.0),
    )
    models = []
    for i, of in enumerate(weights):
        tried = ~np.isnan(scores[:, i])
        # Once more, with the prior: what few labels a model has are not all that is known of it. And without the ease,
        # since that is how it is used: what the softening does to its chances is then fitted too.
        soft = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * of.mean[-1] ** 2 * skills.shown)
        wide = np.column_stack([rows[tried] * soft, np.zeros(tried.sum())])
        models.append(Model(fit(wide, scores[tried, i], skills.prior(prices[i])), float(prices[i]), int(tried.sum())))
    return Learned(skills, models, rows, ease)


def _heads(features: Floats, scores: Floats) -> Floats:
    """Fit scores by ridge, of a model about their mean: [d, models]. Models tried on the same prompts go together."""
    made = np.zeros((features.shape[1], scores.shape[1]))
    tried = ~np.isnan(scores)
    alike: dict[bytes, list[int]] = {}
    for i in range(scores.shape[1]):
        alike.setdefault(np.packbits(tried[:, i]).tobytes(), []).append(i)
    for places in alike.values():
        rows = tried[:, places[0]]
        if rows.any():
            part, target = features[rows], scores[rows][:, places]
            middle = part.mean(axis=0)
            part = part - middle
            square = part.T @ part + REGULAR * np.eye(part.shape[1])
            made[:, places] = np.linalg.solve(square, part.T @ (target - target.mean(axis=0)))
    return made


def ratio(prompts: Floats, costs: Floats) -> float:
    """Give the log of what a model costs beside what such prompts cost [n], by their sums; NaN: none is known."""
    known = ~np.isnan(costs)
    if not known.any():
        return float("nan")
    return float(np.log(max(costs[known].mean(), _LEAST_USD) / prompts[known].mean()))


def _costing(features: Floats, costs: Floats) -> Floats:
    """Fit log costs by what a prompt costs, by its text, and what a model costs: [d + 1] weights of the former."""
    with np.errstate(invalid="ignore"):
        logs = np.log(np.maximum(costs, _LEAST_USD))
    known = ~np.isnan(logs)
    if not known.any():
        return np.zeros(features.shape[1] + 1)
    filled, prompts = np.where(known, logs, 0.0), known.any(axis=1)
    prices = np.zeros(costs.shape[1])
    each = np.maximum(known.sum(axis=1), 1)
    for _ in range(20):  # by turns: enough for five digits, also where two sets share few models
        prompt = (filled - prices * known).sum(axis=1) / each
        prices = ((filled - prompt[:, None]) * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    part, target = features[prompts], prompt[prompts]
    middle = part.mean(axis=0)
    square = (part - middle).T @ (part - middle) + REGULAR * np.eye(part.shape[1])
    weights = np.linalg.solve(square, (part - middle).T @ (target - target.mean()))
    return np.append(weights, target.mean() - middle @ weights)


def _models(rows: Floats, scores: Floats, enough: NDArray[np.bool_]) -> tuple[list[Normal], float, Floats]:
    """Fit each model with the ease of prompts as the other models show it; find the variance of ease on the way."""
    wide = rows.shape[1] + 1
    loose = np.eye(wide) * _LOOSE
    start = np.append(np.zeros(wide - 1), 1.0)
    tried = ~np.isnan(scores)
    found = [
        fit(np.column_stack([rows[t], np.zeros(t.sum())]), scores[t, i], Normal(start, loose))
        for i, t in enumerate(tried.T)
    ]
    spread = 1.0
    loose[-1, -1] = 1.0
    for turn in range(3):
        weights = np.array([of.mean for of in found])
        sums = rows @ weights[:, :-1].T
        if turn == 0:
            sums = sums * np.sqrt(1.0 + np.pi / 8.0)
        if turn < 2:
            spread = max(_SPREADS, key=lambda s: _evidence(sums, weights[:, -1], scores, s, enough))
        told = _told(sums, weights[:, -1], scores, spread)
        total = _sum(told, enough)
        for i, t in enumerate(tried.T):
            others = _mean(total[t] - told[i][t] * enough[i], spread)
            found[i] = fit(np.column_stack([rows[t], others]), scores[t, i], Normal(start, loose))
    weights = np.array([of.mean for of in found])
    told = _told(rows @ weights[:, :-1].T, weights[:, -1], scores, spread)
    return found, spread, _mean(_sum(told, enough), spread)


def _told(sums: Floats, hardness: Floats, scores: Floats, spread: float) -> list[Floats]:
    """Give the log likelihood of outcomes at each ease that is tried: [n, nodes] for each model."""
    told = []
    for at, weight, y in zip(sums.T, hardness, scores.T, strict=True):
        likely = np.zeros((len(y), len(_NODES)))
        t = ~np.isnan(y)
        odds = at[t, None] + weight * (np.sqrt(spread) * _NODES)
        # log of 1 / (1 + e^-odds) where right, of 1 minus that where wrong.
        likely[t] = y[t, None] * odds - np.logaddexp(0.0, odds)
        told.append(likely)
    return told


def _sum(told: list[Floats], enough: NDArray[np.bool_]) -> Floats:
    total = np.zeros_like(told[0])
    for likely, counts in zip(told, enough, strict=True):
        if counts:
            total += likely
    return total


def _mean(told: Floats, spread: float) -> Floats:
    """Give the mean ease, from log likelihoods at its nodes [n, nodes]."""
    mass = np.exp(told - told.max(axis=1, keepdims=True)) * _MASS
    mean: Floats = mass @ _NODES / mass.sum(axis=1) * np.sqrt(spread)
    return mean


def _evidence(sums: Floats, hardness: Floats, scores: Floats, spread: float, enough: NDArray[np.bool_]) -> float:
    told = _sum(_told(sums, hardness, scores, spread), enough)
    most = told.max(axis=1)
    return float((np.log(np.exp(told - most[:, None]) @ _MASS) + most).sum())


def _alike(weights: Floats, prices: Floats) -> tuple[Floats, Floats]:
    """Say what models are like given their price: a line [2, d], and the covariance about it [d, d]."""
    known = ~np.isnan(prices)
    at = np.where(known, prices, prices[known].mean() if known.any() else 0.0)
    design = np.column_stack([np.ones(len(at)), at - at.mean()])
    # A slope from few models is mostly luck: as if four models of middling price and ability had been seen as well.
    line = np.linalg.solve(design.T @ design + np.diag([0.0, 4.0 * max(float(at.var()), 1e-6)]), design.T @ weights)
    rest = weights - design @ line
    usual = np.diag([*([1.0] + [0.3] * (len(line[0]) - 2)), 0.1])
    covariance = (rest.T @ rest + _USUAL * usual) / (len(rest) - 1 + _USUAL)
    covariance = (1 - _DIAGONAL) * covariance + _DIAGONAL * np.diag(np.diag(covariance))
    line[0] -= at.mean() * line[1]
    return line, covariance + _LEAST * np.eye(len(covariance))
