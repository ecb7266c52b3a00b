"""Outcomes on texts whose words say what they ask for, as files: what a router is trained on in tests."""

import json
from pathlib import Path

import numpy as np

from trivet.routing.learned import file
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.features import learn
from trivet.routing.pool.pool import trained

EASY = ("cat", "house", "river", "bread", "garden", "winter")
HARD = ("integral", "tensor", "quantum", "topology", "eigenvalue", "entropy")
MODELS = {
    "tiny": (0.9, 0.15, 1e-5),
    "small": (0.95, 0.35, 5e-5),
    "middle": (0.95, 0.6, 3e-4),
    "large": (0.97, 0.9, 2e-3),
}
"""How often each is right where it is easy, where it is hard, and what it costs."""


def outcomes(folder: Path, *, n: int = 600, models: tuple[str, ...] = tuple(MODELS), seed: int = 0) -> Path:
    """Write prompts and outcomes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    with (folder / "prompts.jsonl").open("w") as prompts, (folder / "outcomes.jsonl").open("w") as told:
        for i in range(n):
            hard = bool(rng.random() < 0.5)
            words = rng.choice(HARD if hard else EASY, 6)
            row = {"pid": f"{seed}-{i}", "prompt": f"About {' '.join(words)} {i}?", "domain": f"d{i % 10}"}
            prompts.write(json.dumps(row) + "\n")
            for model in models:
                easy, tough, usd = MODELS[model]
                right = float(rng.random() < (tough if hard else easy))
                told.write(json.dumps({"pid": f"{seed}-{i}", "model": model, "score": right, "cost_usd": usd}) + "\n")
    return folder


def router(folder: Path, **more: int) -> Path:
    """Write a router trained on such outcomes, without the model `middle`."""
    read = read_outcomes(outcomes(folder / "train", models=("tiny", "small", "large"), **more))
    path = folder / "router.trv"
    file.write(path, trained(read, learn(read.prompts.texts)))
    return path
