"""Labels of one's own traffic in a router file: what a promise rests on where they are, instead of the training's.

They are prompts that the router was not trained on, as the features of their words and the scores of the models that
answered them. Traffic like them is what the promise is for, so each counts as drawn by itself.

Not here: where they are gathered from (`cli/route/calibrate.py`), how they are tested (`pool/promise.py`).
Invariant: no text is in the file, only numbers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.cascade import signals
from trivet.routing.learned.data import Outcomes
from trivet.routing.learned.file import Section
from trivet.routing.learned.learned import Learned
from trivet.routing.pool import clusters
from trivet.routing.pool import pool as pools
from trivet.routing.pool.logistic import Floats
from trivet.routing.pool.plan import Evidence

NAME = "calibration"
"""Of the section."""

FEWEST = 10
"""Labels of a whole pool, with fewer of which nothing is tested."""

_NONE = -1.0
"""A score or cost that is not there: numbers in a file are finite."""


def section(router: Learned, outcomes: Outcomes) -> tuple[Section, int]:
    """Make the section from outcomes, and say how many prompts were left out because the router was trained on them.

    Raises:
        ConfigError: the router does not know a model of theirs, or no prompt is left.
    """
    known = {*router.models, *_pool_names(router)}
    strange = [name for name in outcomes.models if name not in known]
    if strange:
        raise ConfigError(
            f"The router does not know {', '.join(map(repr, strange[:10]))}; it knows {', '.join(sorted(known)[:20])}. "
            "Enrol them first: trivet route enrol."
        )
    texts = outcomes.prompts.texts
    fresh = np.array([i for i, text in enumerate(texts) if not router.trained_on(text)], np.int64)
    if not len(fresh):
        raise ConfigError("The router was trained on every one of these prompts. Calibrate on others.")
    scores, costs = outcomes.matrix()[fresh], outcomes.matrix("cost_usd")[fresh]
    arrays: dict[str, NDArray[Any]] = {
        "features": router.space.dense([texts[i] for i in fresh]).astype(np.float16),
        "scores": np.where(np.isnan(scores), _NONE, scores).astype(np.float32),
        "costs": np.where(np.isnan(costs), _NONE, costs).astype(np.float64),
    }
    if any(outcomes.answers):
        arrays |= _of_answers(outcomes, fresh)
    return Section({"models": list(outcomes.models)}, arrays), len(texts) - len(fresh)


def _of_answers(outcomes: Outcomes, fresh: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Give what cascades are tested by: answers as numbers, how long they are, how often two are the same by chance."""
    codes = np.full((len(outcomes.prompts.pids), len(outcomes.models)), signals.NONE)
    codes[outcomes.prompt, outcomes.model] = signals.codes(outcomes.answers)
    domains = np.unique(outcomes.prompts.domains, return_inverse=True)[1].reshape(-1)
    lengths, luck = signals.places(outcomes.matrix("out_tok"), domains), signals.luck(codes, domains)
    return {
        "codes": codes[fresh].astype(np.int32),
        "lengths": lengths[fresh].astype(np.float32),
        "luck": luck[fresh].astype(np.float32),
    }


class Kept(NamedTuple):
    """What a file's calibration has."""

    models: tuple[str, ...]
    features: Floats
    """[n, dense width of the router's space]"""
    scores: Floats
    """[n, models]; below 0: none."""
    costs: Floats
    """The same."""
    answers: "tuple[NDArray[np.int64], Floats, Floats] | None"
    """Codes [n, models], places of lengths [n, models], luck [n], as `cascade/signals.py` has them; None: there are
    none."""


def load(router: Learned) -> Kept | None:
    """Read the section; None: there is none. Raises ConfigError: it is damaged."""
    found = router.others.get(NAME)
    if found is None:
        return None
    try:
        names = tuple(str(name) for name in found.facts["models"])
        features, scores, costs = (found.arrays[name].astype(float) for name in ("features", "scores", "costs"))
        if not (len(features) == len(scores) == len(costs) and scores.shape == costs.shape == (len(costs), len(names))):
            raise ValueError("its arrays do not fit together")
        if features.shape[1:] != (router.space.dense_width,):
            raise ValueError("its features are of another width")
        answers = None
        if "codes" in found.arrays:
            codes, lengths, luck = (found.arrays[name] for name in ("codes", "lengths", "luck"))
            if not codes.shape == lengths.shape == scores.shape or luck.shape != (len(scores),):
                raise ValueError("its answers do not fit to its scores")
            answers = codes.astype(np.int64), lengths.astype(float), luck.astype(float)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"The router's calibration is damaged ({error}). Calibrate it again.") from error
    return Kept(names, features, scores, costs, answers)


def labels(router: Learned, models: Sequence[str], *, by: str = "learned") -> Evidence | None:
    """Give the labels that a whole pool has; None: the file has too few.

    Args:
        by: what estimates are made by: "learned" (heads, or skills where one was enrolled), "skills" or "clusters".

    Raises:
        ConfigError: the section is damaged.
    """
    found = load(router)
    if found is None:
        return None
    names, features, scores, costs, _ = found
    if not set(models) <= set(names):
        return None
    at = [names.index(name) for name in models]
    whole = (scores[:, at] >= 0).all(axis=1)
    if whole.sum() < FEWEST:
        return None
    paid = costs[whole][:, at]
    return Evidence(
        names=tuple(models),
        estimates=estimates(router, features[whole], models, by=by),
        costs=np.where(paid < 0, np.nan, paid),
        scores=scores[whole][:, at],
    )


def estimates(router: Learned, features: Floats, models: Sequence[str], *, by: str = "learned") -> Floats:
    """Give the chances of models to be right on calibrated prompts: [n, models]; `by` as for `labels`."""
    if by == "clusters":
        return clusters.load(router.others).estimates(features, models)
    if by == "skills" or any(name not in router.models for name in models):
        return pools.load(router.others).estimates(features, models)[0]
    at = [router.place(name) for name in models]
    sums = features.astype(np.float32) @ router.weights[:, at] + router.bias[at]
    ease = features @ router.ease[:-1] + router.ease[-1]
    return router.chances(models, sums.astype(float), ease)


def _pool_names(router: Learned) -> list[str]:
    return pools.load(router.others).names if any(n.startswith(pools.PREFIX) for n in router.others) else []
