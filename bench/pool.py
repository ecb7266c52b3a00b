"""New models from a few labels, and the promise of a quality floor, on models and domains that were held out.

    python -m bench.pool DATA [--seeds 5] [--draws 200] [--out NAME]

DATA is a folder as for `trivet route train`. For each seed a third of the models and some whole domains are held out;
`enrolment` prices the held-out models from n labels and routes among them alone; `promise` draws n labels 200 times and
counts how often the floor is missed on all prompts of the part they were drawn from. Hindsight is the threshold that
would have saved most within the floor, known only from all labels.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.features import learn as learn_space
from trivet.routing.pool.enrolment import enrol
from trivet.routing.pool.logistic import Floats
from trivet.routing.pool.promise import pair
from trivet.routing.pool.skills import FEWEST, Learned, learn

RESULTS = Path(__file__).parent / "results"
SETS = {"mmlu_pro": ("mmlu_pro",), "zeroeval": ("gsm8k", "math_l5")}
LABELS = (20, 100, 400)
PAIRS = (
    ("mmlu", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview", 20),
    ("mmlu_pro", "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct", 4),
    ("gsm8k", "Meta-Llama-3-8B-Instruct", "claude-3-5-sonnet-20240620", 0),
)
CLUSTERS = 16


class Data:
    """What is read once."""

    def __init__(self, folder: Path) -> None:
        read = read_outcomes(folder)
        self.models = read.models
        self.scores, self.costs = read.matrix(), read.matrix("cost_usd")
        self.domains = np.array(read.prompts.domains)
        self.sets = np.array([d.split("/")[0] for d in read.prompts.domains])
        self.texts = read.prompts.texts

    def features(self, train: NDArray[np.int64]) -> Floats:
        """Words are those of the training texts alone."""
        made: Floats = learn_space([self.texts[i] for i in train]).dense(self.texts).astype(float)
        return made


def curve(chances: Floats, paid: Floats, scores: Floats, costs: Floats) -> tuple[float, float, float]:
    """Give the area under the hull, the cost at 95 % of the best single model's quality, and the Brier score."""
    best = int(np.argmax(scores.mean(axis=0)))
    quality, price = scores[:, best].mean(), costs[:, best].mean()
    at, points = np.arange(len(scores)), []
    for weight in [0.0, *np.geomspace(1e-4, 1e2, 200) / paid.mean()]:
        chosen = np.argmax(chances - weight * paid, axis=1)
        points.append((costs[at, chosen].mean() / price, scores[at, chosen].mean()))
    points.sort()
    spent, got = np.array([c for c, _ in points]), np.maximum.accumulate([q for _, q in points])
    enough = spent[got >= 0.95 * quality]
    area = np.interp(np.linspace(0, 1, 101), spent, got).mean()
    return float(area), float(min(1.0, enough.min(initial=1.0))), float(((chances - scores) ** 2).mean())


def means(features: Floats, k: int, rng: np.random.Generator) -> Floats:
    """K-means on rows, by Lloyd's steps from random rows."""
    centres = features[rng.choice(len(features), k, replace=False)]
    for _ in range(20):
        near = np.argmin(((centres**2).sum(1) - 2 * features @ centres.T), axis=1)
        centres = np.array([features[near == i].mean(axis=0) if (near == i).any() else centres[i] for i in range(k)])
    return centres


def clustered(near: NDArray[np.int64], to: NDArray[np.int64], scores: Floats, *, shrink: float) -> Floats:
    """UniRoute's estimate: the mean of a cluster's labels; `shrink` labels of the model's mean are added to each."""
    mean = (scores.sum() + 1) / (len(scores) + 2)
    counts, sums = np.bincount(near, minlength=CLUSTERS), np.bincount(near, scores, minlength=CLUSTERS)
    made: Floats = np.where(counts + shrink > 0, (sums + shrink * mean) / np.maximum(counts + shrink, 1e-9), mean)[to]
    return made


def nearest(features: Floats, fresh: Floats, scores: Floats) -> Floats:
    """Estimate by the nearest labelled prompts, shrunk as the clusters are."""
    k = min(len(scores), max(5, len(scores) // 8))
    near = np.argpartition(-(fresh @ features.T), k - 1, axis=1)[:, :k]
    made: Floats = (scores[near].sum(axis=1) + 5 * scores.mean()) / (k + 5)
    return made


def enrolment(data: Data, seeds: int) -> list[dict[str, Any]]:
    """Price held-out models from n labels by several methods; the mean over seeds and three draws of labels."""
    found: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    took: list[float] = []
    for seed in range(seeds):
        for name, sets in SETS.items():
            for method, n, result, ms in _enrolled(data, sets, seed):
                found.setdefault((name, method, n), []).append(result)
                took.extend([ms] if method == "skills, compared" else [])
        print(f"enrolment: seed {seed} done", flush=True)
    rows: list[dict[str, Any]] = []
    for (of, method, n), results in found.items():
        area, cost, brier = np.mean(results, axis=0).round(4).tolist()
        rows.append({"set": of, "method": method, "labels": n, "area": area, "cost95": cost, "brier": brier})
    return [*rows, {"enrol_ms_p50": round(float(np.median(took)), 2), "enrol_ms_max": round(max(took), 2)}]


def _enrolled(
    data: Data, sets: Sequence[str], seed: int
) -> Iterator[tuple[str, int, tuple[float, float, float], float]]:
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.isin(data.sets, sets))
    whole = [i for i in range(len(data.models)) if not np.isnan(data.scores[rows, i]).any()]
    held = rng.permutation(whole)[: len(whole) // 3 + 1]
    domains = np.unique(data.domains[rows])
    foreign = np.isin(data.domains[rows], rng.permutation(domains)[:3] if len(domains) > 5 else [])
    chance = rng.random(len(rows))
    train, rest = rows[~foreign & (chance < 0.55)], rng.permutation(rows[foreign | (chance >= 0.55)])
    labelled, fresh = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    kept = [i for i in range(len(data.models)) if i not in held and (~np.isnan(data.scores[train, i])).sum() >= FEWEST]
    features = data.features(train)
    learned: Learned = learn(features[train], data.scores[train][:, kept], data.costs[train][:, kept])
    skills = learned.skills
    seen, asked = skills.of(features[labelled]), skills.of(features[fresh])
    ease = skills.ease(seen, data.scores[labelled][:, kept], learned.models)
    dense = features[:, :256] / np.linalg.norm(features[:, :256], axis=1, keepdims=True).clip(1e-9)
    centres = means(dense[train], CLUSTERS, rng)
    home = np.argmin((centres**2).sum(1) - 2 * dense @ centres.T, axis=1)
    scores, costs = data.scores[fresh][:, held], data.costs[fresh][:, held]
    methods = ("mean", "kNN", "clusters", "clusters, shrunk", "skills", "skills, compared")
    for n in LABELS:
        for _ in range(3):
            made = {m: np.zeros(scores.shape) for m in methods}
            flat, ms = np.zeros(scores.shape), 0.0
            told = np.zeros(scores.shape)
            for j, model in enumerate(held):
                at = rng.choice(len(labelled), min(n, len(labelled)), replace=False)
                rows_, y, usd = labelled[at], data.scores[labelled[at], model], data.costs[labelled[at], model]
                made["mean"][:, j] = (y.sum() + 1) / (len(y) + 2)
                made["kNN"][:, j] = nearest(dense[rows_], dense[fresh], y)
                made["clusters"][:, j] = clustered(home[rows_], home[fresh], y, shrink=0)
                made["clusters, shrunk"][:, j] = clustered(home[rows_], home[fresh], y, shrink=10)
                alone = enrol(skills, features[rows_], y, costs=usd)
                begun = time.perf_counter()
                compared = enrol(skills, features[rows_], y, costs=usd, ease=ease[at])
                ms = (time.perf_counter() - begun) * 1e3
                made["skills"][:, j] = skills.chances(asked, alone.model)
                made["skills, compared"][:, j] = skills.chances(asked, compared.model)
                flat[:, j] = usd.mean()
                told[:, j] = np.exp(skills.cost(features[fresh]) + compared.model.price)
            for method, chances in made.items():
                yield method, n, curve(chances, told if "skills" in method else flat, scores, costs), ms
            yield "oracle", n, curve(scores, costs, scores, costs), ms


def promise(data: Data, seeds: int, draws: int) -> list[dict[str, Any]]:
    """Count how often the floor is missed, and how many large calls it takes beside hindsight."""
    found: dict[tuple[str, str, float, int], list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        for of, small, large, domains in PAIRS:
            for part, gains, ours, theirs in _parts(data, of, small, large, domains, seed):
                rng = np.random.default_rng(seed)
                order = np.argsort(-gains, kind="stable")
                curve_ = np.append(0.0, np.cumsum((ours - theirs)[order])) / len(gains) + theirs.mean()
                for quality in (0.95, 0.98):
                    floor = quality * theirs.mean()
                    hindsight = 1.0 - np.flatnonzero(curve_ >= floor - 1e-12)[-1] / len(gains)
                    for n in (100, 300, 1000):
                        missed = calls = 0.0
                        for _ in range(draws):
                            at = rng.integers(0, len(gains), n)
                            least, _held = pair(gains[at], ours[at], theirs[at], quality=quality, confidence=0.9)
                            missed += np.where(gains >= least, ours, theirs).mean() < floor - 1e-12
                            calls += (gains < least).mean() / draws
                        key = (of, part, quality, n)
                        found.setdefault(key, []).append((missed / draws, calls, hindsight))
        print(f"promise: seed {seed} done", flush=True)
    rows = []
    for (of, part, quality, n), r in found.items():
        missed, calls, hindsight = np.array(r).T
        rows.append(
            {
                "set": of,
                "part": part,
                "quality": quality,
                "labels": n,
                "missed": round(float(missed.mean()), 3),
                "missed_most": round(float(missed.max()), 3),
                "calls": round(float(calls.mean()), 3),
                "hindsight": round(float(hindsight.mean()), 3),
                "ratio": round(float(calls.mean() / hindsight.mean()), 3),
            }
        )
    return rows


def _parts(
    data: Data, of: str, small: str, large: str, domains: int, seed: int
) -> Iterator[tuple[str, Floats, Floats, Floats]]:
    rng = np.random.default_rng(seed)
    pair_ = [data.models.index(small), data.models.index(large)]
    rows = np.flatnonzero(data.sets == of)
    foreign = np.isin(data.domains[rows], rng.permutation(np.unique(data.domains[rows]))[:domains])
    train = rows[~foreign & (rng.random(len(rows)) < 0.5)]
    features = data.features(train)
    kept = [i for i in range(len(data.models)) if (~np.isnan(data.scores[train, i])).sum() >= FEWEST]
    learned = learn(features[train], data.scores[train][:, kept], data.costs[train][:, kept])
    both = [learned.models[kept.index(i)] for i in pair_]
    rest = np.setdiff1d(rows[~foreign], train)
    for part, at in (("seen", rest), ("unseen", rows[foreign])):
        if len(at):
            asked = learned.skills.of(features[at])
            gains = learned.skills.chances(asked, both[0]) - learned.skills.chances(asked, both[1])
            yield part, gains, data.scores[at, pair_[0]], data.scores[at, pair_[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", default="pool")
    told = parser.parse_args()
    data = Data(told.data)
    result = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seeds": told.seeds,
        "draws": told.draws,
        "enrolment": enrolment(data, told.seeds),
        "promise": promise(data, told.seeds, told.draws),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{told.out}.json").write_text(json.dumps(result, indent=1, default=float) + "\n")
    for row in (*result["enrolment"], *result["promise"]):
        print(*(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
