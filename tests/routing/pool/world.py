"""A small world with known skills: prompts of two kinds, cheap and dear models, outcomes drawn from both."""

from typing import NamedTuple

import numpy as np

from trivet.routing.pool.logistic import Floats, chance


class World(NamedTuple):
    features: Floats
    names: list[str]
    scores: Floats
    costs: Floats
    true: Floats
    """[n, models]: the chances that the scores were drawn from."""


def world(*, n: int = 900, models: int = 12, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 12)) / np.sqrt(12)
    able = np.linspace(-1.0, 2.0, models) + rng.normal(size=models) * 0.2
    skilled = rng.normal(size=(models, 2))
    hidden = rng.normal(size=n) * 1.2
    asked = 3.0 * features[:, :2]
    true = chance(able + asked @ skilled.T - 2.0 * features[:, 2:3])
    drawn = chance(able + asked @ skilled.T - 2.0 * features[:, 2:3] + hidden[:, None])
    scores = (rng.random(drawn.shape) < drawn).astype(float)
    prices = np.exp(able + rng.normal(size=models) * 0.3) * 1e-4
    costs = prices * np.exp(features[:, 3:4] + rng.normal(size=(n, models)) * 0.05)
    return World(features, [f"m{i}" for i in range(models)], scores, costs, true)
