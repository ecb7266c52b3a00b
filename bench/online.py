"""Learning on the job, in virtual time over recorded outcomes: swaps noticed, regret, and floors kept while trying.

    python -m bench.online DATA [--seeds 5] [--quick] [--out NAME]

DATA is a folder as for `trivet route train`. A request is a prompt that the router was not trained on, drawn by chance,
with replacement; what a model does with it is what was recorded.

*Swaps*: the small model becomes a worse one without a word. Delays are requests of all traffic until it is noticed, by
each signal alone: agreement with the large model on a share of the requests (a shadow's), and the length of the small
model's answers, which needs no label but is only of requests that it serves. False alarms are of 100,000 requests
without a swap.

*Regret*: the loss of a request is 1 - score + weight * price, where the large model's mean price is 1. It is held
against the threshold on the router's estimated gain that was the best in hindsight on the same requests: 10 % more is
the goal. A weight is a part of the gap between the two models: at 1, both alone lose the same. *Seen*: prompts
left out of training at random; *unseen*: domains that were left out whole; *swapped*: the small model is swapped in the
middle, hindsight has a threshold for each half.

*Floors*: the same learner, which would save twice what the gap is worth, kept to a floor by `allowance.py` and
`guard.py`, with a tenth of the requests labelled by shadows.
"""

import argparse
import datetime as dt
import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench.drift import delays, false_alarms, swaps
from bench.machine import CORES
from bench.online_report import as_markdown
from bench.traffic import PAIRS, Data, PairOf, Row, Traffic
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.online.allowance import Allowance
from trivet.routing.online.drift import Watch
from trivet.routing.online.estimate import ips, robust
from trivet.routing.online.guard import Guard
from trivet.routing.online.thompson import Learner
from trivet.routing.pool.logistic import Floats

RESULTS = Path(__file__).parent / "results"
REQUESTS = 5000
WEIGHTS = (0.5, 1.0, 2.0)
FLOORS = (0.9, 0.95, 0.98)
SHADOWS = 0.1
EPSILON = 0.1


def hindsight(gains: Floats, losses: Floats) -> float:
    """Give the mean loss of the best threshold: small where the gain is at least that."""
    order = np.argsort(-gains, kind="stable")
    _, last = np.unique(-gains[order], return_index=True)
    ends = np.append(last[1:], len(gains)) if len(gains) else last
    moved = np.cumsum((losses[:, 0] - losses[:, 1])[order])
    return float((losses[:, 1].sum() + min(0.0, float(moved[ends - 1].min()))) / len(gains))


def methods(
    traffic: Traffic, rows: NDArray[np.int64], scores: Floats, weight: float, seed: int
) -> Iterator[tuple[str, Floats, Row]]:
    """Give each method's choices, [n], and what else there is to tell."""
    n, price = len(rows), traffic.price
    rng = np.random.default_rng([seed, 2])
    chances = traffic.chances[rows]
    worth = chances - weight * np.array([price, 1.0])
    yield "always large", np.ones(n), {}
    yield "always small", np.zeros(n), {}
    yield "random", (rng.random(n) < 0.5).astype(float), {}
    yield "static router", (worth[:, 1] > worth[:, 0]).astype(float), {}
    for name, share, epsilon in (
        ("epsilon-greedy, all served labelled", 1.0, EPSILON),
        ("Thompson, all served labelled", 1.0, None),
        ("Thompson, a tenth labelled", SHADOWS, None),
    ):
        yield name, *learning(chances, scores, [price, 1.0], weight, share, epsilon, rng)


def learning(
    chances: Floats, scores: Floats, prices: list[float], weight: float, share: float, epsilon: float | None,
    rng: np.random.Generator,
) -> tuple[Floats, Row]:  # fmt: skip
    """Learn on the job. A tenth: drawn by chance for a shadow, so that both scores are known. An alarm forgets."""
    learner = Learner(prices, weight=weight)
    watch = Watch(collect=300)
    made, logged, large, guesses = np.zeros(len(scores)), np.ones(len(scores)), np.zeros(len(scores)), []
    forgot = 0
    for t, (told, had) in enumerate(zip(chances.tolist(), scores.tolist(), strict=True)):
        if epsilon is None:
            choice = learner.choose(told, rng.random())
            made[t], logged[t], large[t] = choice.target, choice.propensity, choice.probabilities[1]
        else:
            e = learner.expected(told)
            best = int(e[1] - weight * prices[1] > e[0] - weight * prices[0])
            made[t] = best if rng.random() >= epsilon else rng.integers(2)
        guesses.append(learner.expected(told))
        shadowed = share < 1.0 and rng.random() < share
        labelled = [shadowed or (share == 1.0 and made[t] == target) for target in range(2)]
        for target in np.flatnonzero(labelled).tolist():
            learner.learn(target, told[target], had[target])
        # What the small model scores beside what it was thought to: half is as good as thought.
        if labelled[0] and watch.take(0.5 + (had[0] - told[0]) / 2.0):
            learner.forget(0)
            forgot += 1
    row: Row = {"forgot": forgot}
    if epsilon is None and share == 1.0:
        row |= replayed(made, logged, np.array(guesses), chances, scores, prices, weight)
    return made, row


def replayed(
    made: Floats, logged: Floats, guesses: Floats, chances: Floats, scores: Floats, prices: list[float], weight: float
) -> Row:
    """Estimate from what was logged what the static router would have scored, and how far off that is."""
    at, chosen = np.arange(len(made)), made.astype(int)
    static = (chances[:, 1] - weight * prices[1] > chances[:, 0] - weight * prices[0]).astype(int)
    true = float(scores[at, static].mean())
    rewards, wanted = scores[at, chosen], (static == chosen).astype(float)
    one = ips(rewards, logged, wanted)
    two = robust(rewards, logged, wanted, guess=guesses[at, chosen], guess_policy=guesses[at, static])
    return {
        f"{name}_{what}": value
        for name, e in (("ips", one), ("robust", two))
        for what, value in (("off", (e.mean - true) / e.error), ("error", e.error), ("clipped", e.clipped))
    }


def regrets(traffic: Traffic, pair: PairOf, seed: int, scenario: str) -> Iterator[Row]:
    """Measure every method on one stream, for each weight."""
    rng = np.random.default_rng([seed, 3])
    rows = rng.integers(0, len(traffic.scores), REQUESTS)
    gap = float((traffic.scores[:, 1] - traffic.scores[:, 0]).mean())
    scores = traffic.scores[rows][:, :2].copy()
    half = REQUESTS // 2
    if scenario == "swapped":
        scores[half:, 0] = traffic.scores[rows[half:], 3]
    gains = traffic.chances[rows] @ np.array([1.0, -1.0])
    for part in WEIGHTS:
        weight = part * max(gap, 0.02) / (1.0 - traffic.price)
        losses = 1.0 - scores + weight * np.array([traffic.price, 1.0])
        parts = [slice(0, half), slice(half, None)] if scenario == "swapped" else [slice(None)]
        best = float(np.mean([hindsight(gains[p], losses[p]) for p in parts]))
        for name, made, more in methods(traffic, rows, scores, weight, seed):
            loss = float(losses[np.arange(REQUESTS), made.astype(int)].mean())
            yield {
                "pair": pair.name, "scenario": scenario, "seed": seed, "weight": part, "method": name, "loss": loss,
                "best": best, "over": loss / best - 1.0, "large": float(made.mean()),
            } | more  # fmt: skip


def floors(traffic: Traffic, pair: PairOf, seed: int, scenario: str) -> Iterator[Row]:
    """Let the learner try what it likes within a floor."""
    rng = np.random.default_rng([seed, 4])
    rows = rng.integers(0, len(traffic.scores), 2 * REQUESTS)
    scores = traffic.scores[rows][:, :2].copy()
    if scenario == "swapped":
        scores[REQUESTS:, 0] = traffic.scores[rows[REQUESTS:], 3]
    gap = max(0.02, float((traffic.scores[:, 1] - traffic.scores[:, 0]).mean()))
    gains = traffic.chances[rows] @ np.array([1.0, -1.0])
    for floor in FLOORS:
        learner = Learner([traffic.price, 1.0], weight=2.0 * gap / (1.0 - traffic.price))
        allowance, guard = Allowance(quality=floor, confidence=0.9), Guard(quality=floor, confidence=0.9)
        over, least, small, went = 0.0, 0.0, 0, None
        got = np.zeros(len(rows))
        for t, (told, had) in enumerate(zip(traffic.chances[rows].tolist(), scores.tolist(), strict=True)):
            room = allowance.room() if guard.state == "on" else 0.0
            choice = learner.choose(told, rng.random(), safe=1, bold=(0,), room=room)
            allowance.asked(choice.bold)
            small += choice.target == 0
            got[t] = had[choice.target]
            over += had[choice.target] - floor * had[1]
            if t >= 500:
                least = min(least, over / (t + 1))
            if rng.random() < SHADOWS:
                for target in range(2):
                    learner.learn(target, told[target], had[target])
                allowance.labelled(had[choice.target], had[1])
                if guard.take(had[choice.target], had[1]):
                    went = t
                    learner.forget(0)
                    allowance.changed()
        yield {
            "pair": pair.name, "scenario": scenario, "seed": seed, "floor": floor,
            "quality": float(got.mean() / scores[:, 1].mean()), "small": small / len(rows),
            "hindsight": _most(gains, scores, floor), "under": -least, "back": went,
        }  # fmt: skip


def _most(gains: Floats, scores: Floats, floor: float) -> float:
    """Give the largest share to the small model that a threshold holds the floor with, by hindsight."""
    order = np.argsort(-gains, kind="stable")
    quality = scores[:, 1].sum() + np.cumsum((scores[:, 0] - scores[:, 1])[order])
    held = np.flatnonzero(quality >= floor * scores[:, 1].sum())
    return float((held[-1] + 1) / len(gains)) if len(held) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few runs")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-online")
    told = parser.parse_args()
    begun, seeds, runs = time.perf_counter(), 1 if told.quick else told.seeds, 5 if told.quick else 60
    try:
        data = Data(told.data)
    except ConfigError as error:
        sys.exit(f"bench.online: {error}")
    found: dict[str, list[Row]] = {"swaps": [], "regret": [], "floors": []}
    for pair in (pair for pair in PAIRS if {pair.small, pair.large, *pair.worse} <= set(data.outcomes.models)):
        for seed in range(seeds):
            for unseen in (False, True):
                traffic = data.traffic(pair, seed, unseen=unseen)
                if not unseen:
                    found["swaps"] += swaps(traffic, pair, seed)
                for scenario in ("unseen",) if unseen else ("seen", "swapped") if pair.worse else ("seen",):
                    found["regret"] += regrets(traffic, pair, seed, scenario)
                    found["floors"] += floors(traffic, pair, seed, scenario)
            print(f"{time.perf_counter() - begun:6.0f} s  {pair.name}: seed {seed}", file=sys.stderr, flush=True)
    result = {
        "command": "python -m bench.online DATA " + ("--quick" if told.quick else f"--seeds {seeds}"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(CORES),
        "requests": REQUESTS,
        "delays": list(delays(runs)),
        "false_alarms": false_alarms(runs),
        **found,
        "seconds": time.perf_counter() - begun,
    }
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.with_name(told.out.name + ".json").write_text(json.dumps(result, indent=1) + "\n")
    text = as_markdown(result)
    told.out.with_name(told.out.name + ".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
