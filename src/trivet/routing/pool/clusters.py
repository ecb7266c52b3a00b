"""Clusters of prompts, and how each model does in them: UniRoute (2502.08773), shrunk.

A text belongs a little to each cluster: a softmax of linear sums of its features, the learned map. Where it begins are
the clusters of K-means; the labels of all models then move it (log loss), so that prompts go together on which the same
models are right. How a model does in a cluster is the mean of its labels there, with some of its own mean added: few
labels in a cluster say little.

    chance (model m is right on x) = sum over clusters: share_k(x) * rate_mk

Not here: which model is chosen (`plan.py`), files (`clustered` and `load` make and read a section for `learned/file`).
Invariants: shares are positive and sum to 1; rates are in [0, 1] and, without a label in a cluster, the model's mean;
equal outcomes and seed give equal clusters.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.learned.file import Section
from trivet.routing.pool.logistic import Floats

NAME = "clusters"
"""Of the section."""

SIZE = 32
"""Clusters: 16 and 64 do alike on domains that were seen, 64 worse on others."""

SHRINK = 10.0
"""Labels of a model's mean that are added to each cluster."""

SHARP = 8.0
"""How fast a share falls with the distance, where the map begins."""

STEPS, RATE = 50, 0.03
"""Of the map's fit (Adam): 60 steps of 0.1 learned domains by heart, and knew less of others than K-means alone."""

FEWEST = 200
"""Prompts, with fewer of which nothing is grouped."""

_LEAST = 1e-4


class Clusters(NamedTuple):
    """What was learned."""

    mapping: Floats
    """[features + 1, clusters]: from features, and 1, to sums whose softmax are the shares."""
    names: tuple[str, ...]
    rates: Floats
    """[models, clusters]"""
    labels: tuple[int, ...]
    """Of each model."""

    def shares(self, features: Floats) -> Floats:
        """Say how much texts belong to each cluster: [n, clusters]."""
        return softmax(features @ self.mapping[:-1] + self.mapping[-1])

    def place(self, model: str) -> int:
        """Give the place of a model. Raises ConfigError: it is not known."""
        try:
            return self.names.index(model)
        except ValueError:
            near = difflib.get_close_matches(model, self.names, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"The router's clusters do not know {model!r}.{meant} Teach it with `trivet route enrol`."
            ) from None

    def estimates(self, features: Floats, names: Sequence[str]) -> Floats:
        """Give the chance that each model is right: [n, models]. Raises ConfigError: one is not known."""
        made: Floats = self.shares(features) @ self.rates[[self.place(name) for name in names]].T
        return made

    def added(self, name: str, features: Floats, scores: Floats) -> "Clusters":
        """Add a model, or put one right that is there, from labels: features [n, d], scores [n] in [0, 1]."""
        row = rates(self.shares(features), scores[:, None])
        if name in self.names:
            at = self.names.index(name)
            told, labels = self.rates.copy(), list(self.labels)
            told[at], labels[at] = row[0], len(scores)
            return self._replace(rates=told, labels=tuple(labels))
        return self._replace(
            names=(*self.names, name),
            rates=np.concatenate([self.rates, row]),
            labels=(*self.labels, len(scores)),
        )

    def section(self, seen: NDArray[np.floating] | None = None) -> Section:
        """Give what is to be written; `seen` are estimates of training's outcomes, kept for promises."""
        arrays = {"mapping": self.mapping.astype(np.float32), "rates": self.rates.astype(np.float32)}
        if seen is not None:
            arrays["seen"] = seen.astype(np.float16)
        return Section({"names": list(self.names), "labels": list(self.labels)}, arrays)


def load(sections: dict[str, Section]) -> Clusters:
    """Read the section. Raises ConfigError: there is none, or it is damaged."""
    found = sections.get(NAME)
    if found is None:
        raise ConfigError("The router has no clusters: it was trained on too few prompts, or before there were any.")
    try:
        names, labels = tuple(map(str, found.facts["names"])), tuple(map(int, found.facts["labels"]))
        mapping, told = found.arrays["mapping"].astype(float), found.arrays["rates"].astype(float)
        if told.shape != (len(names), mapping.shape[1]) or len(labels) != len(names):
            raise ValueError("its arrays do not fit together")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"The router's clusters are damaged ({error}). Train it again.") from error
    return Clusters(mapping, names, told, labels)


def learn(
    features: Floats, scores: Floats, names: Sequence[str], *, seed: int = 0, size: int = SIZE
) -> tuple[Clusters, Floats]:
    """Learn clusters, and estimate the same outcomes without their own labels: [n, models].

    Args:
        features: [n, d], rows about 1 long.
        scores: [n, models] in [0, 1], NaN where there is none.

    Raises:
        ConfigError: too few prompts.
    """
    n = len(features)
    if n < FEWEST:
        raise ConfigError(f"{n} prompts are too few for clusters; {FEWEST} are the least.")
    random = np.random.default_rng(seed)
    half = random.permutation(n) % 2 == 0
    seen = np.empty(scores.shape)
    for part in (half, ~half):  # of prompts that the map was not fitted on, by rates without their own label
        shares = softmax(_with_one(features[~part]) @ _map(features[part], scores[part], random, size))
        seen[~part] = _without_own(shares, scores[~part])
    mapping = _map(features, scores, random, size)
    told = rates(softmax(_with_one(features) @ mapping), scores)
    counts = (~np.isnan(scores)).sum(axis=0)
    return Clusters(mapping, tuple(names), told, tuple(counts.tolist())), seen


def rates(shares: Floats, scores: Floats) -> Floats:
    """Say how models do in each cluster, from labels: [models, clusters]."""
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0.0)
    mean = (filled.sum(axis=0) + 1.0) / (known.sum(axis=0) + 2.0)
    made: Floats = (filled.T @ shares + SHRINK * mean[:, None]) / (known.T.astype(float) @ shares + SHRINK)
    return made


def softmax(sums: Floats) -> Floats:
    """Turn sums into shares, row by row."""
    raised = np.exp(sums - sums.max(axis=1, keepdims=True))
    made: Floats = raised / raised.sum(axis=1, keepdims=True)
    return made


def _without_own(shares: Floats, scores: Floats) -> Floats:
    """Estimate each outcome by rates from which its own label is taken out."""
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0.0)
    made = np.empty(scores.shape)
    for model in range(scores.shape[1]):
        is_known, label = known[:, model], filled[:, model]
        own = shares * is_known[:, None]
        counts, sums = own.sum(axis=0) - own, (own * label[:, None]).sum(axis=0) - own * label[:, None]
        mean = (label.sum() - label + 1.0) / (is_known.sum() - is_known + 2.0)
        made[:, model] = (shares * (sums + SHRINK * mean[:, None]) / (counts + SHRINK)).sum(axis=1)
    return made


def _map(features: Floats, scores: Floats, random: np.random.Generator, size: int) -> Floats:
    """Fit the map: [features + 1, clusters]."""
    centres = _means(features, random, min(size, len(features)))
    mapping = np.concatenate([2.0 * centres.T, -(centres**2).sum(axis=1)[None]]) * SHARP
    known = ~np.isnan(scores)
    filled, weight = np.where(known, scores, 0.0), known / max(1, known.sum())
    wide = _with_one(features)
    first, second = np.zeros_like(mapping), np.zeros_like(mapping)
    for step in range(1, STEPS + 1):
        shares = softmax(wide @ mapping)
        told = rates(shares, scores)
        p = np.clip(shares @ told.T, _LEAST, 1 - _LEAST)
        slope = ((p - filled) / (p * (1 - p)) * weight) @ told
        slope = shares * (slope - (shares * slope).sum(axis=1, keepdims=True))
        gradient = wide.T @ slope
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        mapping = mapping - RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-9)
    return mapping


def _means(features: Floats, random: np.random.Generator, size: int) -> Floats:
    """K-means, begun as k-means++ (Arthur and Vassilvitskii 2007)."""
    centres = [features[int(random.integers(len(features)))]]
    nearest = ((features - centres[0]) ** 2).sum(axis=1)
    for _ in range(size - 1):
        total = float(nearest.sum())
        at = int(random.choice(len(features), p=nearest / total)) if total > 0 else 0
        centres.append(features[at])
        nearest = np.minimum(nearest, ((features - centres[-1]) ** 2).sum(axis=1))
    made = np.array(centres)
    for _ in range(20):
        home = np.argmax(features @ made.T - 0.5 * (made**2).sum(axis=1), axis=1)
        counts = np.bincount(home, minlength=size)
        sums = np.zeros_like(made)
        np.add.at(sums, home, features)
        made = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], made)
    return made


def _with_one(features: Floats) -> Floats:
    return np.column_stack([features, np.ones(len(features))])
