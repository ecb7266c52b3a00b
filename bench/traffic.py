"""Traffic in virtual time for `bench.online`: prompts that a router was not trained on, and what models did with them.

Not here: what is measured on it. Invariant: the router of a seed has seen none of the prompts of its traffic.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned import learned
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.pool.logistic import Floats

Row = dict[str, Any]


class PairOf(NamedTuple):
    """Two models, what the small one is swapped for, and the sets they are compared on."""

    name: str
    small: str
    large: str
    worse: tuple[str, ...]
    sets: tuple[str, ...]


PAIRS = (
    PairOf(
        "gpt-4 / mixtral, mmlu and gsm8k", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview", (),
        ("mmlu", "gsm8k"),
    ),
    PairOf(
        "llama 70b / 8b, mmlu_pro", "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct",
        ("Meta-Llama-3-8B", "gemma-7b", "Mistral-7B-Instruct-v0.2"), ("mmlu_pro",),
    ),
    PairOf(
        "gpt-4o / mini, gsm8k and math", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06",
        ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3-8B-Instruct", "gemma-2-2b-it"), ("gsm8k", "math_l5"),
    ),
)  # fmt: skip


class Traffic(NamedTuple):
    """Prompts that were left out of training, n of them; models in the order small, large, worse ones."""

    chances: Floats
    """[n, 2], as the router estimates the small and the large."""
    scores: Floats
    """[n, models]"""
    agree: Floats
    """[n, models], with the large model; NaN where answers were not kept."""
    lengths: Floats
    """[n, models], in tokens."""
    price: float
    """Of the small model, where the large one's is 1."""


class Data:
    """What is read once."""

    def __init__(self, folder: Path) -> None:
        self.outcomes = read_outcomes(folder)
        self.domains = np.array(self.outcomes.prompts.domains)
        self.sets = np.array([name.split("/")[0] for name in self.domains])
        self.scores, self.costs = self.outcomes.matrix(), self.outcomes.matrix("cost_usd")
        self.lengths = self.outcomes.matrix("out_tok")
        _, codes = np.unique(self.outcomes.answers, return_inverse=True)
        self.answers = np.full(self.scores.shape, np.nan)
        spoken = np.array([bool(answer) for answer in self.outcomes.answers])
        self.answers[self.outcomes.prompt, self.outcomes.model] = np.where(spoken, codes, -1)

    def traffic(self, pair: PairOf, seed: int, *, unseen: bool) -> Traffic:
        """Train a router on a part of the prompts of a pair's sets and give the rest."""
        rng = np.random.default_rng(seed)
        at = [self.outcomes.models.index(name) for name in (pair.small, pair.large, *pair.worse)]
        rows = np.flatnonzero(np.isin(self.sets, pair.sets) & np.isfinite(self.scores[:, at]).all(axis=1))
        if unseen:
            domains = np.unique(self.domains[rows])
            held = np.isin(self.domains[rows], rng.permutation(domains)[: max(1, len(domains) // 3)])
        else:
            held = rng.random(len(rows)) < 0.5
        router = learned.train(self._kept(rows[~held], at[:2]), date="2026-01-01", seed=seed)
        made = router.pair(pair.small, pair.large)
        fresh = rows[held]
        told = [made.estimate(self.outcomes.prompts.texts[i]) for i in fresh]
        answers = self.answers[fresh][:, at]
        same = np.where(np.isnan(answers), np.nan, (answers == answers[:, [1]]) & (answers >= 0))
        return Traffic(
            chances=np.clip([(t.p_large + t.gain, t.p_large) for t in told], 0.0, 1.0),
            scores=self.scores[fresh][:, at],
            agree=same if (answers >= 0).any() else np.full(answers.shape, np.nan),
            lengths=self.lengths[fresh][:, at],
            price=float(self.costs[rows, at[0]].mean() / self.costs[rows, at[1]].mean()),
        )

    def _kept(self, prompts: NDArray[np.int64], models: list[int]) -> Outcomes:
        read, use = self.outcomes, np.isin(self.outcomes.prompt, prompts) & np.isin(self.outcomes.model, models)
        column, place = np.full(len(read.models), -1), np.full(len(self.sets), -1)
        ordered = sorted(models)
        column[ordered], place[prompts] = np.arange(len(ordered)), np.arange(len(prompts))
        some, old = prompts.tolist(), read.prompts
        return read._replace(
            prompts=old._replace(
                pids=tuple(old.pids[i] for i in some),
                texts=tuple(old.texts[i] for i in some),
                domains=tuple(old.domains[i] for i in some),
                rows={old.pids[i]: k for k, i in enumerate(some)},
            ),
            models=tuple(read.models[i] for i in ordered),
            prompt=place[read.prompt[use]],
            model=column[read.model[use]],
            numbers={name: numbers[use] for name, numbers in read.numbers.items()},
            answers=tuple(read.answers[i] for i in np.flatnonzero(use)),
        )
