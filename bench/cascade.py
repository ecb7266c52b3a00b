"""Cascades: cheap models' answers that settle it, else the large model's, on prompts, domains and models held out.

    python -m bench.cascade DATA [--seeds 5] [--out NAME]

DATA is a folder as for `trivet route train`, with answers (`ans`). For each seed and combination a router is trained on
what is not held out: half of the prompts; all of gsm8k, or of math; six domains of mmlu_pro; or all of the
combination's models, with half of the prompts.

`curves` says what each order of prompts is worth: the large calls and the cost where quality is 95, 98 and 100 % of the
large model's, by hindsight on the fresh prompts, as in the note that the goals are from. `floors` is what the product
promises: `--quality` asked for, without a look at fresh scores, and how often it was missed. Every call is in the cost.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivet.cli.route.cascade import planned
from trivet.routing.cascade import section, stop
from trivet.routing.cascade.signals import NONE
from trivet.routing.learned import learned
from trivet.routing.learned.data import Outcomes, Prompts, read_outcomes
from trivet.routing.pool.logistic import Floats

RESULTS = Path(__file__).parent / "results"
MINI, FLASH, LLAMA = "gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "Meta-Llama-3.1-70B-Instruct"
HAIKU, SONNET, GPT = "claude-3-haiku-20240307", "claude-3-5-sonnet-20240620", "gpt-4o-2024-05-13"
LARGE_PRO = "Meta-Llama-3_1-70B-Instruct"
COMBINATIONS = {
    "mini, flash -> 4o": (MINI, FLASH, GPT),
    "mini, flash, 70b -> sonnet": (MINI, FLASH, LLAMA, SONNET),
    "mini, flash, 70b, gemma -> 4o": (MINI, FLASH, LLAMA, "gemma-2-9b-it", GPT),
    "haiku, mini, flash -> sonnet": (HAIKU, MINI, FLASH, SONNET),
    "8b, gemma-7b -> 70b": ("Meta-Llama-3_1-8B-Instruct", "gemma-7b", LARGE_PRO),
    "8b, mixtral -> 70b": ("Meta-Llama-3_1-8B-Instruct", "Mixtral-8x7B-v0.1", LARGE_PRO),
}
SHARES = (0.95, 0.98, 1.0)


def part(read: Outcomes, prompts: NDArray[np.bool_], models: NDArray[np.bool_]) -> Outcomes:
    """Take the outcomes of some prompts and models."""
    rows, p = np.flatnonzero(prompts), read.prompts
    pids = tuple(p.pids[i] for i in rows)
    told = Prompts(
        pids, tuple(p.texts[i] for i in rows), tuple(p.domains[i] for i in rows), {pid: i for i, pid in enumerate(pids)}
    )
    kept = np.flatnonzero(prompts[read.prompt] & models[read.model])
    used = np.unique(read.model[kept])
    return Outcomes(
        told,
        tuple(read.models[i] for i in used),
        np.searchsorted(rows, read.prompt[kept]),
        np.searchsorted(used, read.model[kept]),
        {name: column[kept] for name, column in read.numbers.items()},
        tuple(read.answers[i] for i in kept),
    )


def splits(read: Outcomes, names: tuple[str, ...], seed: int) -> Iterator[tuple[str, Outcomes, Outcomes]]:
    """Give what is trained on, and the fresh prompts that all of a combination answered."""
    random = np.random.default_rng(seed)
    at = [read.models.index(name) for name in names]
    domains = np.array(read.prompts.domains)
    scores = read.matrix()[:, at]
    all_ = np.isfinite(scores).all(1)
    every = np.ones(len(read.models), bool)
    own = np.isin(np.arange(len(read.models)), at)
    half = random.random(len(domains)) < 0.5
    named = [name for name in read.prompts.domains if name.startswith("mmlu_pro")]
    held = {"prompts": half, "models": half}
    if names[-1] == LARGE_PRO:
        held["domains"] = np.isin(domains, random.permutation(np.unique(named))[:6])
    for name, out in held.items():
        yield name, part(read, ~out, ~own if name == "models" else every), part(read, out & all_, own)
    if names[-1] != LARGE_PRO:
        # Two domains only: one after the other is held out whole, and tried on what chance draws of it.
        away = np.char.startswith(domains, "gsm8k" if seed % 2 else "math_l5")
        yield "domains", part(read, ~away, every), part(read, away & all_ & (random.random(len(domains)) < 0.8), own)


def curve(order: Floats, served: Floats, final: Floats, spent: tuple[Floats, Floats], large: Floats) -> list[float]:
    """Give large calls and cost at each share of the large model's quality; the lowest of `order` stop first.

    Args:
        served, final: [n], scores without the large model and with it.
        spent: cost of each prompt without it, and of it alone.
    """
    at = np.argsort(order, kind="stable")
    n = len(at)
    quality = (np.append(0.0, np.cumsum((served - final)[at])) + final.sum()) / n
    cost = (np.append(0.0, np.cumsum(-spent[1][at])) + (spent[0] + spent[1]).sum()) / spent[1].sum()
    made = []
    for share in SHARES:
        enough = np.flatnonzero(quality >= share * large.mean() - 1e-12)
        made += [1.0 - enough[-1] / n, cost[enough[-1]]] if len(enough) else [1.0, 1.0]
    return [float(value) for value in made]


def curves(
    asked: learned.Learned, known: section.Cascade, fresh: Outcomes, names: tuple[str, ...], seed: int
) -> dict[str, list[float]]:
    """Try every order of prompts, by hindsight."""
    random = np.random.default_rng(seed)
    answers = section.fresh(asked, known, fresh, names)
    at = [fresh.models.index(name) for name in names]
    scores, costs = fresh.matrix()[:, at], fresh.matrix("cost_usd")[:, at]
    k, n, rows = len(names) - 1, len(scores), np.arange(len(scores))
    large, alone = scores[:, -1], (costs[:, :k].sum(1), costs[:, -1])
    best = int(answers.odds[:, :k].mean(0).argmax())
    seen = stop.see(known.votes, answers, range(k))
    voted, final = scores[rows, seen.best[-1]], scores[rows, seen.final]
    codes = answers.codes[:, :k]
    count = ((codes[:, :, None] == codes[:, None, :]) & (codes[:, :, None] != NONE)).sum(2)
    most = k - 1 - count[:, ::-1].argmax(1)
    tie = random.random(n) * 0.1
    nothing = np.zeros(n)
    made = {
        "always large": [1.0, 1.0] * 3,
        "random": _either(random.random(n), scores[:, best], large, costs[:, best], costs[:, -1]),
        "prompt only": _either(
            answers.odds[:, -1] - answers.odds[:, best], scores[:, best], large, costs[:, best], costs[:, -1]
        ),
        "count, else large": curve(tie - count.max(1), scores[rows, most], large, alone, large),
        "learned": curve(seen.gains[-1], voted, large, alone, large),
        "learned, large votes": curve(seen.gains[-1], voted, final, alone, large),
        "oracle": curve(
            large - scores[:, :k].max(1),
            scores[:, :k].max(1),
            large,
            (nothing + costs[:, :k].min(1), costs[:, -1]),
            large,
        ),
    }
    made["learned, in turn"] = _in_turn(seen, scores, costs, large)
    return made


def _either(order: Floats, small: Floats, large: Floats, cheap: Floats, dear: Floats) -> list[float]:
    """Say the same where one model alone is asked."""
    at = np.argsort(order, kind="stable")
    n = len(at)
    quality = (np.append(0.0, np.cumsum((small - large)[at])) + large.sum()) / n
    cost = (np.append(0.0, np.cumsum((cheap - dear)[at])) + dear.sum()) / dear.sum()
    made = []
    for share in SHARES:
        last = np.flatnonzero(quality >= share * large.mean() - 1e-12)[-1]
        made += [float(1.0 - last / n), float(cost[last])]
    return made


def _in_turn(seen: stop.Seen, scores: Floats, costs: Floats, large: Floats) -> list[float]:
    """Cheap models in turn, with the cheapest shape and threshold by hindsight."""
    k, n = seen.gains.shape
    found: list[tuple[float, float, float]] = []
    for early in stop.EARLY:
        for vote in (False, True):
            shape = stop.Shape(tuple(range(k)), early, 0.0, vote)
            for threshold in stop.path(seen):
                made = stop.stages(seen, shape, float(threshold))
                quality = scores[np.arange(n), made.served].mean() / large.mean()
                dear = ((made.stage == stop.AT_ONCE) | (made.stage > k)).mean()
                cost = stop.paid(made, shape.order, costs).sum() / costs[:, -1].sum()
                found.append((float(quality), float(dear), float(cost)))
    told = []
    for share in SHARES:
        dear, cost = min(((d, c) for q, d, c in found if q >= share - 1e-12), key=lambda item: item[1])
        told += [dear, cost]
    return told


def floors(
    asked: learned.Learned, known: section.Cascade, fresh: Outcomes, names: tuple[str, ...]
) -> dict[str, list[float]]:
    """Ask for floors as a user would: what came out of it, as [quality, large calls, cost]."""
    at = [fresh.models.index(name) for name in names]
    scores = fresh.matrix()[:, at]
    # Nothing of the scores is there to be used.
    blind = fresh._replace(numbers=fresh.numbers | {"score": np.full(len(fresh.prompt), np.nan)})
    made = {}
    for share in SHARES:
        told = planned(asked, known, blind, names, quality=share, confidence=0.9)
        stage = told.made.stage
        quality = scores[np.arange(len(scores)), told.made.served].mean() / scores[:, -1].mean()
        dear = ((stage == stop.AT_ONCE) | (stage > len(told.order))).mean()
        made[f"{share:g}"] = [float(quality), float(dear), told.cost]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="cascade")
    told = parser.parse_args()
    read = read_outcomes(told.data)
    found: dict[tuple[str, str, str], list[list[float]]] = {}
    promised: dict[tuple[str, str, str], list[list[float]]] = {}
    for seed in range(told.seeds):
        # What is trained on is the same for many combinations.
        trained: dict[tuple[str, ...], learned.Learned] = {}
        for combination, names in COMBINATIONS.items():
            for split, train, fresh in splits(read, names, seed):
                key = (split, names[-1] if split == "domains" and names[-1] == LARGE_PRO else "", *train.models)
                if key not in trained:
                    trained[key] = learned.train(train, date="", seed=seed)
                    trained[key].others[section.NAME] = section.learn(trained[key], train, seed=seed)
                asked, known = trained[key], section.load(trained[key])
                for method, row in curves(asked, known, fresh, names, seed).items():
                    found.setdefault((combination, split, method), []).append(row)
                for share, row in floors(asked, known, fresh, names).items():
                    promised.setdefault((combination, split, share), []).append(row)
        print(f"seed {seed} done", flush=True)
        write(told.out, found, promised, seeds=seed + 1)


def write(
    name: str,
    found: dict[tuple[str, str, str], list[list[float]]],
    promised: dict[tuple[str, str, str], list[list[float]]],
    *,
    seeds: int,
) -> None:
    """Write both files."""
    table: list[dict[str, Any]] = [
        {"models": c, "held_out": s, "method": m, "calls_cost_at_95_98_100": np.mean(rows, 0).round(4).tolist()}
        for (c, s, m), rows in found.items()
    ]
    kept: list[dict[str, Any]] = []
    for (c, s, q), rows in promised.items():
        quality, dear, cost = np.mean(rows, 0).round(4).tolist()
        missed = sum(row[0] < float(q) - 1e-9 for row in rows)
        kept.append(
            {"models": c, "held_out": s, "floor": float(q), "quality": quality, "calls": dear, "cost": cost,
             "missed": missed, "of": len(rows)}
        )  # fmt: skip
    about = {"python": platform.python_version(), "machine": platform.machine(), "seeds": seeds}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**about, "curves": table, "floors": kept}, indent=1) + "\n")
    asked = f"`python -m bench.cascade DATA --seeds {seeds} --out {name}`"
    lines = [f"# Cascades\n\n{asked}: large calls and cost at shares of the large model's quality, by hindsight.\n"]
    lines += ["| models | held out | order | 95 % | 98 % | 100 % |", "|---|---|---|---|---|---|"]
    for row in table:
        r = row["calls_cost_at_95_98_100"]
        cells = " | ".join(f"{r[i]:.1%}, {r[i + 1]:.2f}" for i in (0, 2, 4))
        lines.append(f"| {row['models']} | {row['held_out']} | {row['method']} | {cells} |")
    lines += ["\nFloors that were asked for, at confidence 0.9, without scores of the fresh prompts.\n"]
    lines += ["| models | held out | floor | quality | large calls | cost | missed |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r['models']} | {r['held_out']} | {r['floor']:g} | {r['quality']:.3f} | {r['calls']:.1%} | {r['cost']:.2f} "
        f"| {r['missed']} of {r['of']} |"
        for r in kept
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
