"""Routers to compare: ours, and others re-made from their papers over the same embedder and the same labels.

Each learns an order of prompts for one pair of models from the training rows: the highest go to the small model. All
but ours see the builtin embedder's vector of the whole prompt. Where a method can be fitted on the pair's gain (small
minus large) it is, since that ranks better than whether the small model is right; K, learning rates and the like are
the papers' or a library's, none was tuned on what is measured.

Not here: splits, measures, the report (`routing.py`).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned.learned import Learned

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

NEIGHBOURS = 60
"""Of kNN: between 20 and 100 makes little difference with some thousand labels."""

CLUSTERS = 48
"""Of UniRoute, as far as its validation sets of some hundred prompts go."""

WIDTH = 128
"""Of matrix factorisation's latent space (RouteLLM, `MODEL_DIM`)."""


class MissingError(Exception):
    """A library that only the bench needs is not there."""


class Task(NamedTuple):
    """A pair of models on a split."""

    ours: Learned
    """Trained on the same rows."""
    texts: tuple[str, ...]
    vectors: Floats
    """[n, 256], unit length, of all prompts."""
    scores: Floats
    """[n, models]; NaN: no outcome, or a model that is held out."""
    small: int
    large: int
    """Columns of `scores`."""
    names: tuple[str, str]
    train: Places
    """Rows of any model's training outcomes."""
    both: Places
    """Those of them that both models of the pair answered."""
    test: Places
    seed: int

    def gain(self) -> Floats:
        """Give what the small model scored more than the large one, of `both`."""
        made: Floats = self.scores[self.both, self.small] - self.scores[self.both, self.large]
        return made


Method = Callable[[Task], Floats]


def chance(task: Task) -> Floats:
    """Put all prompts on one level: APGR counts them in expectation."""
    return np.zeros(len(task.test))


def length(task: Task) -> Floats:
    """Send the longest to the large model."""
    return -np.array([float(len(task.texts[i])) for i in task.test])


def trivet(task: Task) -> Floats:
    """Ask the router that is in the product."""
    pair = task.ours.pair(*task.names)
    return np.array([pair.estimate(task.texts[i]).gain for i in task.test])


def neighbours(task: Task) -> Floats:
    """Take the mean gain of the nearest training prompts."""
    near = task.vectors[task.test] @ task.vectors[task.both].T
    k = min(NEIGHBOURS, len(task.both))
    found = np.argpartition(-near, k - 1, axis=1)[:, :k]
    made: Floats = task.gain()[found].mean(1)
    return made


def uniroute(task: Task) -> Floats:
    """Take the mean gain of the prompt's cluster (UniRoute, K-means; 2502.08773, section 5.1)."""
    centres = _centres(task)
    home, asked = (_nearest(task.vectors[at], centres) for at in (task.both, task.test))
    return _means(home, task.gain())[asked]


def learned_map(task: Task) -> Floats:
    """Weigh the clusters by a map that is learned on all models' labels (UniRoute, LearnedMap; section 5.2).

    phi(x) = softmax(theta . v); theta by Adam on the log loss of phi(x) . (mean score of each model in each cluster).
    """
    centres, rng = _centres(task), np.random.default_rng(task.seed)
    scores = task.scores[task.train]
    known = np.isfinite(scores)
    filled = np.where(known, scores, 0.0)
    home = np.eye(len(centres))[_nearest(task.vectors[task.train], centres)]
    overall = filled.sum(0) / np.maximum(known.sum(0), 1)
    psi = (home.T @ filled + overall) / (home.T @ known + 1.0)  # [K, models]
    theta = centres.T * 10.0  # begins at the clusters themselves
    x = task.vectors[task.train]
    step = _Adam(1e-2)
    for _ in range(10):
        for some in _batches(len(x), 256, rng):
            phi = _softmax(x[some] @ theta)
            p = np.clip(phi @ psi, 1e-3, 1 - 1e-3)
            error = np.where(known[some], (p - filled[some]) / (p * (1 - p)), 0.0)
            error /= np.maximum(known[some].sum(1, keepdims=True), 1)
            towards = error @ psi.T
            inner = phi * (towards - (phi * towards).sum(1, keepdims=True))
            theta = theta - step("theta", x[some].T @ inner / len(some))
    phi = _softmax(task.vectors[task.test] @ theta)
    made: Floats = phi @ (psi[:, task.small] - psi[:, task.large])
    return made


def factorisation(task: Task) -> Floats:
    """Fit a Bradley-Terry model of who wins on a prompt (RouteLLM, matrix factorisation; 2406.18665, section 4.1).

    delta(M, q) = w . (v_M * (W v_q + b)); P(M beats N on q) = sigmoid(delta(M, q) - delta(N, q)). Trained on all pairs
    of models that scored differently on a training prompt, four drawn for each prompt and pass.
    """
    rng = np.random.default_rng(task.seed)
    models, width = task.scores.shape[1], task.vectors.shape[1]
    known = [np.flatnonzero(np.isfinite(row)) for row in task.scores[task.train]]
    weights = {
        "v": rng.normal(0, 1.0, (models, WIDTH)),
        "W": rng.normal(0, 1 / np.sqrt(width), (width, WIDTH)),
        "b": np.zeros(WIDTH),
        "w": rng.normal(0, 1 / np.sqrt(WIDTH), WIDTH),
    }
    step = _Adam(1e-3)
    for _ in range(10):
        drawn = _duels(task, known, rng)
        for some in _batches(len(drawn), 256, rng):
            prompt, won, lost = drawn[some].T
            x = task.vectors[prompt]
            hidden = x @ weights["W"] + weights["b"]
            apart = weights["v"][won] - weights["v"][lost]
            error = -1 / (1 + np.exp(np.clip((apart * hidden) @ weights["w"], -30, 30)))
            to_apart = error[:, None] * hidden * weights["w"]
            to_hidden = error[:, None] * apart * weights["w"]
            to_v = np.zeros_like(weights["v"])
            np.add.at(to_v, won, to_apart)
            np.add.at(to_v, lost, -to_apart)
            slopes = {"v": to_v, "W": x.T @ to_hidden, "b": to_hidden.sum(0), "w": (apart * hidden).T @ error}
            for name, slope in slopes.items():
                weights[name] = weights[name] * (1 - 1e-5) - step(name, slope / len(some))
    hidden = task.vectors[task.test] @ weights["W"] + weights["b"]
    made: Floats = (hidden * (weights["v"][task.small] - weights["v"][task.large])) @ weights["w"]
    return made


def perceptron(task: Task) -> Floats:
    """Fit scikit-learn's MLP, one hidden layer of 64, stopped early on a tenth of its rows."""
    made = _library("sklearn.neural_network", "scikit-learn").MLPRegressor(
        hidden_layer_sizes=(64,), early_stopping=True, max_iter=100, random_state=task.seed
    )
    return _fitted(made, task)


def boosting(task: Task) -> Floats:
    """Fit LightGBM, 200 trees of 15 leaves."""
    made = _library("lightgbm", "lightgbm").LGBMRegressor(
        n_estimators=200, num_leaves=15, learning_rate=0.05, n_jobs=1, random_state=task.seed, verbose=-1
    )
    return _fitted(made, task)


def oracle(task: Task) -> Floats:
    """Know what nobody knows."""
    at = task.test
    made: Floats = task.scores[at, task.small] - task.scores[at, task.large]
    return made


METHODS: dict[str, Method] = {
    "random": chance,
    "length": length,
    "trivet": trivet,
    "kNN": neighbours,
    "UniRoute, K-means": uniroute,
    "UniRoute, learned map": learned_map,
    "matrix factorisation": factorisation,
    "MLP": perceptron,
    "gradient boosting": boosting,
    "oracle": oracle,
}


QUICK = ("random", "length", "trivet", "kNN", "UniRoute, K-means", "gradient boosting", "oracle")
"""Those that take seconds."""


def check() -> None:
    """Raise MissingError, before an hour is spent, where a library is not there."""
    _library("sklearn.neural_network", "scikit-learn")
    _library("lightgbm", "lightgbm")


def _library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingError(
            f"This bench needs {package}, which Trivet does not: pip install {package} ({error})."
        ) from None


def _fitted(made: Any, task: Task) -> Floats:
    made.fit(task.vectors[task.both], task.gain())
    return np.asarray(made.predict(task.vectors[task.test]), np.float64)


def _duels(task: Task, known: list[Places], rng: np.random.Generator) -> Places:
    """Draw (prompt, winner, loser): up to four of each prompt, none where both did equally well."""
    found = []
    for row, models in zip(task.train.tolist(), known, strict=True):
        for _ in range(min(4, len(models) * (len(models) - 1) // 2)):
            one, other = rng.choice(models, 2, replace=False).tolist()
            difference = task.scores[row, one] - task.scores[row, other]
            if difference:
                found.append((row, one, other) if difference > 0 else (row, other, one))
    return np.array(found, np.int64)


def _centres(task: Task) -> Floats:
    """K-means on the training prompts, by Lloyd's steps from random rows."""
    x = task.vectors[task.train]
    centres = x[np.random.default_rng(task.seed).choice(len(x), CLUSTERS, replace=False)]
    for _ in range(20):
        near = _nearest(x, centres)
        centres = np.array([x[near == i].mean(0) if (near == i).any() else centres[i] for i in range(CLUSTERS)])
    return centres


def _nearest(x: Floats, centres: Floats) -> Places:
    found: Places = np.argmin((centres**2).sum(1) - 2 * x @ centres.T, axis=1)
    return found


def _means(home: Places, gain: Floats) -> Floats:
    counts, sums = np.bincount(home, minlength=CLUSTERS), np.bincount(home, gain, minlength=CLUSTERS)
    made: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), gain.mean())
    return made


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(1, keepdims=True))
    made: Floats = e / e.sum(1, keepdims=True)
    return made


def _batches(n: int, size: int, rng: np.random.Generator) -> Iterator[Places]:
    order = rng.permutation(n)
    for begin in range(0, n, size):
        yield order[begin : begin + size]


class _Adam:
    """Adam (1412.6980), a state for each name."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._state: dict[str, tuple[int, Floats, Floats]] = {}

    def __call__(self, name: str, slope: Floats) -> Floats:
        n, m, v = self._state.get(name, (0, np.zeros_like(slope), np.zeros_like(slope)))
        n, m, v = n + 1, 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        self._state[name] = n, m, v
        made: Floats = self._rate * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8)
        return made
