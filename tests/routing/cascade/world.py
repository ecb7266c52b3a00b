"""Answers of models that agree where they are right and seldom where they are wrong, as files and as a router."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np

from tests.routing.pool.words import EASY, HARD
from trivet.routing.cascade import section
from trivet.routing.learned import learned
from trivet.routing.learned.data import read_outcomes

MODELS = {
    "a": (0.92, 0.55, 1e-5), "b": (0.9, 0.5, 2e-5), "c": (0.88, 0.5, 2e-5), "d": (0.85, 0.45, 1e-5),
    "large": (0.95, 0.85, 1e-3),
}  # fmt: skip
"""How often each is right where it is easy, where it is hard, and what it costs."""


def answers(
    folder: Path,
    *,
    n: int = 600,
    models: dict[str, str] | None = None,
    seed: int = 0,
    scores: bool = True,
    of: str = "d",
    ans: bool = True,
) -> Path:
    """Write prompts and outcomes with answers; `models` says under which names, and as which of `MODELS`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    with (folder / "prompts.jsonl").open("w") as prompts, (folder / "outcomes.jsonl").open("w") as told:
        for i in range(n):
            hard = bool(rng.random() < 0.5)
            words = rng.choice(HARD if hard else EASY, 6)
            pid = f"{seed}-{i}"
            row = {"pid": pid, "prompt": f"About {' '.join(words)} {i}?", "domain": f"{of}{i % 10}"}
            prompts.write(json.dumps(row) + "\n")
            truth = f"{i}"
            for name, kind in (models or {name: name for name in MODELS}).items():
                easy, tough, usd = MODELS[kind]
                right = bool(rng.random() < (tough if hard else easy))
                said = truth if right else f"w{rng.integers(40)}" if rng.random() < 0.9 else ""
                out = {
                    "pid": pid,
                    "model": name,
                    "cost_usd": usd,
                    "out_tok": int(rng.integers(50, 90) + 20 * (not right)),
                }
                told.write(
                    json.dumps(out | ({"ans": said} if ans else {}) | ({"score": float(right)} if scores else {}))
                    + "\n"
                )
    return folder


@functools.cache
def _file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        read = read_outcomes(answers(Path(folder) / "train", n=1200))
        made = learned.train(read, date="2026-11-23")
        made.others[section.NAME] = section.learn(made, read)
        made.save(Path(folder) / "r.trv")
        return (Path(folder) / "r.trv").read_bytes()


def file(folder: Path) -> Path:
    """Write a router that has a cascade of a, b, c, d and large."""
    (folder / "router.trv").write_bytes(_file())
    return folder / "router.trv"


def router(folder: Path) -> learned.Learned:
    """Load it."""
    return learned.load(file(folder))
