"""Routers that read only the prompt, on domains that were held out: ours beside the papers', chance and the oracle.

    python -m bench.routing DATA [--seeds 5] [--quick] [--out bench/results/YYYY-MM-DD-routing]

DATA is a folder as for `trivet route train`; of the pairs below those that it has are measured. For each seed a quarter
of the domains of each set is held out whole (a set of one domain in one seed of four), a third of the models that are
in no pair, and three in ten of the other prompts; all routers learn from what is left. *Seen* are the held-out prompts
of domains that were trained on, *unseen* those of the other domains.

APGR is the mean share of the quality gap that is won, over all shares of large calls: 0.5 is chance. Where the large
model is hardly better it means nothing and is not told; *points* always are: how much quality, of 100, is won over
chance in that mean. CPT80 is the least share of large calls that wins 80 % of the gap. Intervals are of the mean over
seeds (t, 95 %): they tell how much the split matters, not how much other prompts would, since all splits are of the
same prompts. Needs `pip install scikit-learn lightgbm pyarrow`.
"""

import argparse
import datetime as dt
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench import routers
from bench.machine import CORES
from bench.routers import METHODS, Floats, MissingError, Places, Task
from numpy.typing import NDArray

from trivet.embed.builtin import Table
from trivet.errors import ConfigError
from trivet.routing.learned import learned
from trivet.routing.learned.curve import curve
from trivet.routing.learned.data import Outcomes, read_outcomes

RESULTS = Path(__file__).parent / "results"

ALIASES = {
    "Meta-Llama-3_1-8B-Instruct": "Meta-Llama-3.1-8B-Instruct",
    "Meta-Llama-3_1-70B-Instruct": "Meta-Llama-3.1-70B-Instruct",
}
"""The same model, as two sources spell it."""


class PairOf(NamedTuple):
    """Two models, and the sets on which they are compared."""

    name: str
    small: str
    large: str
    sets: tuple[str, ...]


_MIXTRAL, _GPT4 = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"

PAIRS = (
    PairOf("gpt-4 / mixtral", _MIXTRAL, _GPT4, ("mmlu", "gsm8k")),
    PairOf("the same, mmlu alone", _MIXTRAL, _GPT4, ("mmlu",)),
    PairOf(
        "llama 70b / 8b", "Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", ("mmlu_pro", "gsm8k", "math_l5")
    ),
    PairOf("gpt-4o / mini", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", ("gsm8k", "math_l5")),
    PairOf("sonnet / haiku", "claude-3-haiku-20240307", "claude-3-5-sonnet-20240620", ("gsm8k", "math_l5", "bfcl")),
)

PARTS = ("all", "seen", "unseen")

FEWEST = 50
"""Prompts of a part, below which nothing is told of it."""

LEAST_GAP = 0.03
"""By how much the large model has to be better for shares of that gap to mean something."""

_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t for 95 %, by how many seeds."""

Row = dict[str, Any]


class Data:
    """What is read once."""

    def __init__(self, folder: Path) -> None:
        read = read_outcomes(folder)
        self.outcomes = _renamed(read)
        self.texts, self.domains = read.prompts.texts, np.array(read.prompts.domains)
        self.sets = np.array([name.split("/")[0] for name in read.prompts.domains])
        self.scores, self.costs = self.outcomes.matrix(), self.outcomes.matrix("cost_usd")
        table = Table()
        begun = time.perf_counter()
        self.vectors = np.concatenate([table.rows([table.read(text)[0]]) for text in self.texts]).astype(np.float64)
        self.embed_us = (time.perf_counter() - begun) / len(self.texts) * 1e6
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True).clip(1e-9)


class Split(NamedTuple):
    """What is learned from, and what is held out."""

    train: Places
    test: Places
    foreign: NDArray[np.bool_]
    """[prompts]: of a domain that is held out."""
    models: tuple[int, ...]
    """That are learned from."""


def _renamed(read: Outcomes) -> Outcomes:
    names = [ALIASES.get(name, name) for name in read.models]
    models = tuple(sorted(set(names)))
    place = np.array([models.index(name) for name in names])
    return read._replace(models=models, model=place[read.model])


def split(data: Data, seed: int) -> Split:
    """Hold out domains, models and prompts."""
    rng = np.random.default_rng(seed)
    foreign = np.zeros(len(data.texts), bool)
    alone = 0
    for name in np.unique(data.sets):
        domains = np.unique(data.domains[data.sets == name])
        if len(domains) == 1:
            alone += 1
            held = domains if seed % 4 == alone else domains[:0]
        else:
            held = rng.permutation(domains)[: max(1, len(domains) // 4)]
        foreign |= np.isin(data.domains, held)
    kept = ~foreign & (rng.random(len(data.texts)) < 0.7)
    needed = {name for pair in PAIRS for name in (pair.small, pair.large)}
    others = [i for i, name in enumerate(data.outcomes.models) if name not in needed]
    out = set(rng.permutation(others)[: len(others) // 3].tolist())
    models = tuple(i for i in range(len(data.outcomes.models)) if i not in out)
    return Split(np.flatnonzero(kept), np.flatnonzero(~kept), foreign, models)


def restricted(data: Data, at: Split) -> Outcomes:
    """Give the outcomes that are learned from, as if the others had never been there."""
    read = data.outcomes
    labels = np.bincount(read.model[np.isin(read.prompt, at.train)], minlength=len(read.models))
    models = [i for i in at.models if labels[i] >= learned.LEAST]
    use = np.flatnonzero(np.isin(read.prompt, at.train) & np.isin(read.model, models))
    place = np.full(len(data.texts), -1)
    place[at.train] = np.arange(len(at.train))
    column = np.full(len(read.models), -1)
    column[models] = np.arange(len(models))
    prompts = read.prompts
    kept = at.train.tolist()
    return Outcomes(
        prompts=prompts._replace(
            pids=tuple(prompts.pids[i] for i in kept),
            texts=tuple(prompts.texts[i] for i in kept),
            domains=tuple(prompts.domains[i] for i in kept),
            rows={prompts.pids[i]: k for k, i in enumerate(kept)},
        ),
        models=tuple(read.models[i] for i in models),
        prompt=place[read.prompt[use]],
        model=column[read.model[use]],
        numbers={name: numbers[use] for name, numbers in read.numbers.items()},
        answers=tuple(read.answers[i] for i in use.tolist()),
    )


def measured(order: Floats, scores: Floats, costs: Floats | None) -> Row:
    """Give what an order of prompts is worth."""
    drawn = curve(order, scores[:, 0], scores[:, 1], costs=None if costs is None else (costs[:, 0], costs[:, 1]))
    calls, cost = drawn.at_quality(0.95)
    quality = drawn.quality
    gap = float(quality[-1] - quality[0])
    told: Row = {"gap": gap, "points": float((quality[1:] + quality[:-1]).mean() / 2 - quality[[0, -1]].mean()) * 100}
    told |= {"calls95": calls, "cost95": cost}
    if gap >= LEAST_GAP:
        told |= {"apgr": drawn.apgr(), "cpt50": drawn.cpt(0.5), "cpt80": drawn.cpt(0.8)}
    return told


def tried(data: Data, pairs: list[PairOf], seed: int, methods: list[str], say: Callable[[str], None]) -> list[Row]:
    """Train and measure every method on every pair of one split."""
    at = split(data, seed)
    begun = time.perf_counter()
    ours = learned.train(restricted(data, at), date="2026-01-01", seed=seed)
    say(f"seed {seed}: trained on {len(at.train):,} prompts in {time.perf_counter() - begun:.1f} s")
    scores = np.full_like(data.scores, np.nan)
    scores[:, at.models] = data.scores[:, at.models]
    parts: dict[str, NDArray[np.bool_]] = {
        "all": np.ones(len(data.texts), np.bool_),
        "seen": np.logical_not(at.foreign),
        "unseen": at.foreign,
    }
    rows: list[Row] = []
    for pair in pairs:
        columns = [data.outcomes.models.index(pair.small), data.outcomes.models.index(pair.large)]
        answered = np.logical_and.reduce(np.isfinite(scores[:, columns]), axis=1)
        test = at.test[answered[at.test] & np.isin(data.sets[at.test], pair.sets)]
        both = at.train[answered[at.train] & np.isin(data.sets[at.train], pair.sets)]
        task = Task(
            ours, data.texts, data.vectors, scores, columns[0], columns[1], (pair.small, pair.large), at.train, both,
            test, seed,
        )  # fmt: skip
        money = data.costs[test][:, columns]
        priced = bool(np.isfinite(money).all())
        for name in methods:
            begun = time.perf_counter()
            order = METHODS[name](task)
            took = time.perf_counter() - begun
            for part in PARTS:
                some = np.flatnonzero(parts[part][test])
                if len(some) < FEWEST:
                    continue
                told = measured(order[some], scores[test[some]][:, columns], money[some] if priced else None)
                rows.append(
                    {"pair": pair.name, "part": part, "method": name, "seed": seed, "prompts": len(some), "s": took}
                    | told
                )
            say(f"seed {seed}: {pair.name}: {name}: {took:.1f} s")
    return rows


def summed(rows: list[Row]) -> list[Row]:
    """Take means over seeds, with the half width of their interval."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["pair"], row["part"], row["method"]), []).append(row)
    made = []
    for (pair, part, method), some in found.items():
        told: Row = {"pair": pair, "part": part, "method": method, "seeds": len(some)}
        for name in ("prompts", "gap", "points", "apgr", "cpt50", "cpt80", "calls95", "cost95"):
            values = np.array([row[name] for row in some if row.get(name) is not None], float)
            told[name] = float(values.mean()) if len(values) else None
            if name in ("apgr", "points") and len(values):
                wide = (
                    _T.get(len(values), 1.96) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
                )
                told |= {
                    f"{name}_half": wide,
                    f"{name}_least": float(values.min()),
                    f"{name}_most": float(values.max()),
                }
        made.append(told)
    return made


def latency(data: Data, rounds: int) -> Row:
    """Time decisions on prompts of 2 KB, one call at a time in one thread, in microseconds."""
    router = learned.train(data.outcomes, date="2026-01-01")
    pair = router.pair(PAIRS[0].small, PAIRS[0].large)
    pool = list(router.models[:4])
    joined = "\n\n".join(data.texts[i] for i in np.random.default_rng(0).permutation(len(data.texts))[:4000])
    texts = [joined[i : i + 2048] for i in range(0, len(joined) - 2048, 2048)][:500]
    told: Row = {"prompts": len(texts), "characters": 2048, "rounds": rounds}
    asked: dict[str, Callable[[str], object]] = {
        "pair": pair.estimate,
        "four models": lambda text: router.estimate(text, pool),
    }
    gc.collect()
    gc.freeze()
    for name, estimate in asked.items():
        for text in texts:
            estimate(text)
        took = []
        for _ in range(rounds):
            for text in texts:
                begun = time.perf_counter_ns()
                estimate(text)
                took.append(time.perf_counter_ns() - begun)
        p50, p99 = np.quantile(np.array(took) / 1e3, (0.5, 0.99)).tolist()
        least = np.array(took).reshape(rounds, -1).min(0) / 1e3
        told[name] = {"p50_us": p50, "p99_us": p99, "least_p50_us": float(np.median(least))}
        told[name]["least_p99_us"] = float(np.quantile(least, 0.99))
    gc.unfreeze()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds, two pairs, the quick methods")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-routing")
    told = parser.parse_args()
    begun = time.perf_counter()

    def say(words: str) -> None:
        print(f"{time.perf_counter() - begun:6.0f} s  {words}", file=sys.stderr, flush=True)

    try:
        routers.check()
        data = Data(told.data)
    except (MissingError, ConfigError) as error:
        sys.exit(f"bench.routing: {error}")
    say(f"{len(data.texts):,} prompts of {len(np.unique(data.domains))} domains read and embedded")
    known = set(data.outcomes.models)
    pairs = [pair for pair in PAIRS if {pair.small, pair.large} <= known and set(pair.sets) & set(data.sets)]
    methods = list(METHODS)
    if told.quick:
        pairs, methods = pairs[:1] + pairs[-1:], [m for m in methods if m in routers.QUICK]
    rows = [row for seed in range(2 if told.quick else told.seeds) for row in tried(data, pairs, seed, methods, say)]
    result = {
        "command": "python -m bench.routing DATA " + ("--quick" if told.quick else f"--seeds {told.seeds}"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(CORES),
        "embed_us": data.embed_us,
        "latency": latency(data, 5 if told.quick else 20),
        "summary": summed(rows),
        "runs": rows,
    }
    result["seconds"] = time.perf_counter() - begun
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.with_name(told.out.name + ".json").write_text(json.dumps(result, indent=1) + "\n")
    text = as_markdown(result)
    told.out.with_name(told.out.name + ".md").write_text(text)
    print(text)


def as_markdown(result: Row) -> str:
    """Give the tables: one for each pair, and one of times."""
    about = f"{result['machine']}, {result['cores']} cores, Python {result['python']}, {result['seconds']:.0f} s"
    parts = [
        "# Routers that read only the prompt\n",
        f"`{result['command']}` on {about}.",
        "Means over seeds; ± is their 95 % interval, over splits. Costs are relative to the large model alone.\n",
    ]
    for name in dict.fromkeys(row["pair"] for row in result["summary"]):
        parts += [*_table(name, [row for row in result["summary"] if row["pair"] == name]), ""]
    latency = result["latency"]
    parts.append("## Time\n")
    parts.append(f"One decision on a prompt of {latency['characters']:,} characters, one thread, microseconds:\n")
    parts.append("| | p50 | p99 | p50, p99 of each prompt's least |\n|---|---|---|---|")
    for name in ("pair", "four models"):
        t = latency[name]
        least = f"{t['least_p50_us']:.1f}, {t['least_p99_us']:.1f}"
        parts.append(f"| trivet, {name} | {t['p50_us']:.1f} | {t['p99_us']:.1f} | {least} |")
    parts.append(f"\nThe embedder, which all others but length need first: {result['embed_us']:.0f} on average.")
    return "\n".join(parts) + "\n"


def _table(name: str, rows: list[Row]) -> list[str]:
    mine = {(row["method"], row["part"]): row for row in rows}
    sizes = {part: row for (_, part), row in mine.items()}
    told = [f"{part} {row['prompts']:,.0f} (gap {row['gap']:.3f}, {row['seeds']} seeds)" for part, row in sizes.items()]
    made = [f"## {name}\n", f"Prompts: {', '.join(told)}.\n"]
    made.append("| router | APGR, all | seen | unseen | points, all | CPT50 | CPT80 | calls, cost at 95 % |")
    made.append("|---|---|---|---|---|---|---|---|")
    for method in dict.fromkeys(method for method, _ in mine):
        whole = mine[method, "all"]
        apgrs = [_interval(mine.get((method, part)), "apgr", 3) for part in PARTS]
        calls = [_share(whole["cpt50"]), _share(whole["cpt80"]), f"{_share(whole['calls95'])}, {whole['cost95']:.2f}"]
        shown = f"**{method}**" if method == "trivet" else method
        made.append("| " + " | ".join([shown, *apgrs, _interval(whole, "points", 2), *calls]) + " |")
    return made


def _interval(row: Row | None, name: str, digits: int) -> str:
    if row is None or row[name] is None:
        return "-"
    wide, shown = row[f"{name}_half"], round(row[name], digits) + 0.0  # no "-0.00"
    return f"{shown:.{digits}f}" + (f" ± {wide:.{digits}f}" if wide is not None else "")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


if __name__ == "__main__":
    main()
