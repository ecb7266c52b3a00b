"""Routing on real models in this machine: cost against quality for every way to choose between them.

    make demo-routing                                 200 questions, three models: half an hour on two cores
    python -m bench.demo_routing [--questions 200] [--halves 5] [--out bench/results/NAME] [--work FOLDER]

Each question (`questions.py`) is put to each embedded model once, through the gateway's own engine, and the answers are
kept in --work as `trivet route train` reads them; a second run goes on where the first ended. Then halves are drawn:
on one a router is trained and a floor is calibrated, on the other it is seen what came of it. A call costs what its
tokens do, at a dollar a billion parameters a million tokens: what a token takes of a machine.

Not here: the cascade and the router (`src/trivet/routing/`).
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec
import numpy as np
from bench.cascade import part
from bench.questions import Question, questions, right
from numpy.typing import NDArray

import trivet
from trivet.cli.route.cascade import planned
from trivet.cli.route.picture import draw
from trivet.routing.cascade import section, stop
from trivet.routing.cascade.formed import certainty
from trivet.routing.learned import learned
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.pool.logistic import Floats
from trivet.wire.canonical import canonical

MODELS = {"smollm2-135m-instruct": 0.135, "qwen2.5-coder-0.5b-instruct": 0.494, "qwen2.5-coder-1.5b-instruct": 1.54}
"""Billions of parameters of each; the last is the large one."""

NAMES = tuple(MODELS)
TOKENS = 32
FLOORS = (0.9, 0.95)
CONFIDENCE = 0.9

_TARGET = """[targets."{name}"]
provider = "llamacpp"
model = "{name}"
price = {{ input = "${price}", output = "${price}" }}
"""


def answered(asked: Sequence[Question], work: Path) -> None:
    """Put every question to every model that has not answered it yet, and keep what each said."""
    work.mkdir(parents=True, exist_ok=True)
    rows = [{"pid": f"q{i}", "prompt": q.text, "domain": q.domain} for i, q in enumerate(asked)]
    (work / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, config = work / "outcomes.jsonl", work / "trivet.toml"
    done = {(row["pid"], row["model"]) for row in _lines(kept)}
    config.write_text("".join(_TARGET.format(name=name, price=price) for name, price in MODELS.items()))
    left = [(name, i) for name in NAMES for i in range(len(asked)) if (f"q{i}", name) not in done]
    if left:
        print(f"{len(left)} answers to get; {len(done)} are kept in {work}", flush=True)
        with kept.open("a") as told:
            asyncio.run(_answered(asked, left, config, told))


async def _answered(asked: Sequence[Question], left: Sequence[tuple[str, int]], config: Path, told: TextIO) -> None:
    began, count = time.monotonic(), 0
    turns = asyncio.Semaphore(2)
    async with trivet.async_openai(config, max_retries=8, timeout=600) as client:

        async def one(name: str, i: int) -> None:
            nonlocal count
            async with turns:
                at = time.monotonic()
                reply = await client.chat.completions.create(
                    model=name,
                    messages=[{"role": "user", "content": asked[i].text}],
                    temperature=0,
                    max_tokens=TOKENS,
                    logprobs=True,
                )
            row = _outcome(f"q{i}", name, asked[i], reply, time.monotonic() - at)
            told.write(json.dumps(row) + "\n")
            told.flush()
            count += 1
            if sys.stdout.isatty() or count % 50 == 0:
                print(f"\r{count} of {len(left)}, {time.monotonic() - began:.0f} s", end="", flush=True)

        for name in NAMES:
            await asyncio.gather(*(one(model, i) for model, i in left if model == name))
    print()


def _outcome(pid: str, name: str, question: Question, reply: Any, took_s: float) -> dict[str, Any]:
    said = reply.choices[0].message.content or ""
    found = canonical(said)
    usage = reply.usage
    return {
        "pid": pid,
        "model": name,
        "score": float(right(question, said)),
        "in_tok": usage.prompt_tokens,
        "out_tok": usage.completion_tokens,
        "cost_usd": MODELS[name] * (usage.prompt_tokens + usage.completion_tokens) / 1e6,
        "latency_s": round(took_s, 3),
        "ans": "" if found is None else f"{found.kind} {found.text}",
        "sure": certainty(reply.choices[0].model_dump()),
        "said": said,
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read what is kept; a line that was cut off by the end of an earlier run is left out, and asked for again."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rfind(b"\n") + 1])
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


class Ways(NamedTuple):
    """What a half shows."""

    points: dict[str, tuple[float, float]]
    """(cost, quality) of a way, both of the large model's alone."""
    curves: dict[str, list[tuple[float, float]]]
    """The same, from all to the large model to none."""


def ways(asked: learned.Learned, known: section.Cascade, fresh: Outcomes, sure: Floats, *, seed: int) -> Ways:
    """Try every way on a half that was not learned from."""
    at = [fresh.models.index(name) for name in NAMES]
    scores, costs = fresh.matrix()[:, at], fresh.matrix("cost_usd")[:, at]
    large, dear = scores[:, -1], costs[:, -1]
    whole = (float(large.sum()), float(dear.sum()))
    answers = section.fresh(asked, known, fresh, NAMES)
    seen = stop.see(known.votes, answers, range(len(NAMES) - 1))
    rows = np.arange(len(scores))
    small = 1  # the better of the two that are cheap
    both = costs[:, 0] + costs[:, 1]
    same = (answers.codes[:, 0] == answers.codes[:, 1]) & (answers.codes[:, 0] >= 0)
    voted = scores[rows, seen.best[-1]]
    gain = answers.odds[:, -1] - answers.odds[:, small]
    random = np.random.default_rng(seed).random(len(rows))
    best = scores[:, :-1].max(1)

    def line(order: Floats, served: Floats, cheap: Floats, *, before: bool) -> list[tuple[float, float]]:
        """Stop the lowest of `order` first; `before`: the cheap ones are only asked where they are served."""
        path = np.argsort(order, kind="stable")
        quality = np.append(0.0, np.cumsum((served - large)[path])) + whole[0]
        less = np.cumsum((cheap - dear if before else -dear)[path])
        cost = np.append(0.0, less) + (0.0 if before else cheap.sum()) + whole[1]
        return list(zip((cost / whole[1]).tolist(), (quality / whole[0]).tolist(), strict=True))

    return Ways(
        {
            **{f"always {name}": (float(costs[:, i].sum() / whole[1]), float(scores[:, i].sum() / whole[0]))
               for i, name in enumerate(NAMES)},
            "two agree, else large": (
                float((both + dear * ~same).sum() / whole[1]),
                float(np.where(same, scores[:, small], large).sum() / whole[0]),
            ),
        },
        {
            "random": line(random, scores[:, small], costs[:, small], before=True),
            "prompt only": line(gain, scores[:, small], costs[:, small], before=True),
            "logprobs of one": line(-sure[:, small], scores[:, small], costs[:, small], before=False),
            "cascade": line(seen.gains[-1], voted, both, before=False),
            "oracle": line(large - best, best, costs[:, :-1].min(1), before=True),
        },
    )  # fmt: skip


def least(curve: Sequence[tuple[float, float]], quality: float) -> float:
    """Give the least cost at which a curve has a quality."""
    return min((cost for cost, q in curve if q >= quality - 1e-12), default=float("nan"))


def _mean(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Give the mean of curves at as many places of each."""
    grid = np.linspace(0.0, 1.0, 41)
    made = np.mean([np.array(curve)[(grid * (len(curve) - 1)).astype(int)] for curve in curves], 0)
    return [(float(cost), float(quality)) for cost, quality in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--halves", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "trivet-demo-routing")
    parser.add_argument("--out", type=Path, default=Path("bench/results/demo-routing"))
    told = parser.parse_args()
    os.environ.setdefault("TRIVET_HOME", str(told.work / "home"))
    asked = questions(told.questions)
    answered(asked, told.work)
    read = read_outcomes(told.work)
    table = {(row["pid"], row["model"]): row["sure"] for row in _lines(told.work / "outcomes.jsonl")}
    sure = np.array([[table.get((pid, name)) or 0.0 for name in NAMES] for pid in read.prompts.pids])
    made, promises = [], []
    for seed in range(told.halves):
        half = _half(read.prompts.domains, seed)
        every = np.ones(len(read.models), bool)
        train, fresh = part(read, half, every), part(read, ~half, every)
        router = learned.train(train, date="", seed=seed)
        router.others[section.NAME] = section.learn(router, train, seed=seed)
        known = section.load(router)
        made.append(ways(router, known, fresh, sure[~half], seed=seed))
        promises += [_promised(router, known, fresh, floor, seed) for floor in FLOORS]
        print(f"half {seed + 1} of {told.halves}", flush=True)
    _write(told.out, read, made, promises, halves=told.halves)


def _half(domains: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Draw half of each domain."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(domains), bool)
    for domain in sorted(set(domains)):
        at = random.permutation(np.flatnonzero(np.array(domains) == domain))
        chosen[at[: (len(at) + 1) // 2]] = True
    return chosen


def _promised(
    router: learned.Learned, known: section.Cascade, fresh: Outcomes, floor: float, seed: int
) -> dict[str, Any]:
    """Ask for a floor, without a look at fresh scores, and see what came of it."""
    blind = fresh._replace(numbers=fresh.numbers | {"score": np.full(len(fresh.prompt), np.nan)})
    told = planned(router, known, blind, NAMES, quality=floor, confidence=CONFIDENCE)
    scores = fresh.matrix()[:, [fresh.models.index(name) for name in NAMES]]
    served = scores[np.arange(len(scores)), told.made.served].mean()
    return {
        "half": seed,
        "floor": floor,
        "quality": round(float(served / scores[:, -1].mean()), 4),
        "cost": round(told.cost, 4),
        "large_calls": round(
            float(((told.made.stage == stop.AT_ONCE) | (told.made.stage > len(told.order))).mean()), 4
        ),
        "labels": told.held.labels,
    }


def _write(out: Path, read: Outcomes, made: Sequence[Ways], promises: Sequence[dict[str, Any]], *, halves: int) -> None:
    """Write the numbers, a table and a picture, and show the table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    points = {name: np.mean([one.points[name] for one in made], 0).tolist() for name in made[0].points}
    shares = (0.9, 0.95, 0.98, 1.0)
    costs = {
        name: [float(np.nanmean([least(one.curves[name], share) for one in made])) for share in shares]
        for name in made[0].curves
    }
    about: dict[str, Any] = {
        "command": f"python -m bench.demo_routing --questions {len(read.prompts.pids)} --halves {halves}",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "right": dict(zip(read.models, np.nanmean(read.matrix(), 0).round(4).tolist(), strict=True)),
    }
    whole = {**about, "points": points, "costs_at": {"quality": list(shares), **costs}, "promises": promises}
    out.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    lines = {name: _mean([one.curves[name] for one in made]) for name in made[0].curves}
    out.with_suffix(".svg").write_text(draw(lines, title="Cost against quality", height="of the large model's"))
    text = [f"# Routing between three models in this machine\n\n`{about['command']}`, {about['machine']}.\n"]
    text.append("Right: " + ", ".join(f"{name} {share:.1%}" for name, share in about["right"].items()) + ".\n")
    text += ["| one point | cost | quality |", "|---|---:|---:|"]
    text += [f"| {name} | {cost:.2f} | {quality:.3f} |" for name, (cost, quality) in points.items()]
    text += ["\nLeast cost at a share of the large model's quality, by hindsight; mean of the halves.\n"]
    text += ["| way | " + " | ".join(f"{share:.0%}" for share in shares) + " |", "|---|" + "---:|" * len(shares)]
    text += [f"| {name} | " + " | ".join(f"{cost:.2f}" for cost in row) + " |" for name, row in costs.items()]
    text += ["\nFloors that were asked for, on the half that was not learned from.\n"]
    text += ["| floor | missed | quality | large calls | cost |", "|---|---:|---:|---:|---:|"]
    for floor in FLOORS:
        mine = [p for p in promises if p["floor"] == floor]
        missed = sum(p["quality"] < floor - 1e-9 for p in mine)
        mean = {key: np.mean([p[key] for p in mine]) for key in ("quality", "large_calls", "cost")}
        text.append(
            f"| {floor:g} | {missed} of {len(mine)} | {mean['quality']:.3f} | {mean['large_calls']:.0%} "
            f"| {mean['cost']:.2f} |"
        )
    out.with_suffix(".md").write_text("\n".join(text) + "\n")
    print(out.with_suffix(".md").read_text())
    print(f"The picture is {out.with_suffix('.svg')}, the numbers are in {out.with_suffix('.json')}.")


if __name__ == "__main__":
    main()
