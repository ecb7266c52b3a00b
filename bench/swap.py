"""A cheap model is swapped for a worse one without a word: how soon a cascade notices, on recorded answers.

    python -m bench.swap /path/to/routing [--runs 100] [--out NAME]        two minutes

DATA has prompts and outcomes with answers, as for `trivet route train`. Requests are prompts drawn by chance from those
that both pairs of models answered; what is watched is whether the two cheap answers are the same. After a reference of
1,000 requests and 500 or 9,000 more the first model's answers are those of another, worse one. In virtual time: no
model is called. Then a hundred thousand requests without a swap, for each pair, count false alarms.

Not here: the alarm (`routing/online/drift.py`), what a gateway does after it (`routing/cascade/router.py`).
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from bench.cascade import RESULTS
from numpy.typing import NDArray

from trivet.routing.cascade import signals
from trivet.routing.cascade.drift import Drift
from trivet.routing.cascade.signals import NONE
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.online.drift import COLLECTED

SWAPS = (
    ("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "Meta-Llama-3-8B-Instruct"),
    ("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "gemma-2-2b-it"),
    ("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "claude-3-haiku-20240307"),
    ("Meta-Llama-3.1-70B-Instruct", "gemini-1.5-flash", "Meta-Llama-3.1-8B-Instruct"),
    ("Qwen1.5-72B-Chat", "Meta-Llama-3_1-8B-Instruct", "Qwen1.5-7B-Chat"),
)
"""(the model that is swapped, the other cheap one, what comes in its place)"""

BEFORE, AFTER, QUIET = (500, 9000), 3000, 100_000


def agreement(read: Outcomes, one: str, other: str) -> dict[int, bool]:
    """Say of each prompt that both answered whether their answers are the same."""
    codes = np.full((len(read.prompts.pids), len(read.models)), NONE)
    codes[read.prompt, read.model] = signals.codes(read.answers)
    here = np.zeros(codes.shape, bool)
    here[read.prompt, read.model] = True
    a, b = read.models.index(one), read.models.index(other)
    both = np.flatnonzero(here[:, a] & here[:, b] & (codes != NONE).any(1))
    return {int(i): bool(codes[i, a] == codes[i, b] != NONE) for i in both}


def delay(before: NDArray[np.bool_], after: NDArray[np.bool_], seed: int, *, quiet: int) -> int | None:
    """Give the requests after the swap until it is noticed; None: an alarm came before."""
    random = np.random.default_rng(seed)
    drift = Drift()
    for yes in random.choice(before, COLLECTED + quiet):
        if drift.note(yes=bool(yes)):
            return None
    for i, yes in enumerate(random.choice(after, AFTER), 1):
        if drift.note(yes=bool(yes)):
            return i
    return AFTER


def false_alarms(before: NDArray[np.bool_], seed: int) -> int:
    """Count alarms without a swap."""
    drift, alarms = Drift(), 0
    for yes in np.random.default_rng(seed).choice(before, COLLECTED + QUIET):
        alarms += drift.note(yes=bool(yes)) and drift.off
    return alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--out", default="swap")
    told = parser.parse_args()
    read = read_outcomes(told.data)
    rows: list[dict[str, Any]] = []
    for swapped, other, worse in SWAPS:
        was, now = agreement(read, swapped, other), agreement(read, worse, other)
        prompts = sorted(set(was) & set(now))
        before, after = (np.array([one[i] for i in prompts]) for one in (was, now))
        for quiet in BEFORE:
            delays = [delay(before, after, seed, quiet=quiet) for seed in range(told.runs)]
            known = sorted(d for d in delays if d is not None)
            rows.append(
                {
                    "swapped": swapped, "other": other, "for": worse, "prompts": len(prompts), "quiet": quiet,
                    "agreed_before": round(float(before.mean()), 4), "agreed_after": round(float(after.mean()), 4),
                    "noticed_after_median": float(np.median(known)),
                    "noticed_after_p95": float(np.quantile(known, 0.95)),
                    "within_300": round(float(np.mean([d <= 300 for d in known])), 4),
                    "alarms_before": len(delays) - len(known), "false_alarms_in_100000": false_alarms(before, 1),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    about = {"command": f"python -m bench.swap DATA --runs {told.runs}", "python": platform.python_version()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{told.out}.json").write_text(json.dumps({**about, "swaps": rows}, indent=1) + "\n")
    lines = [f"# A silent swap of a cheap model\n\n`{about['command']}`: requests until it is noticed.\n"]
    heads = (
        "swapped",
        "for",
        "beside",
        "after",
        "agreed before, after",
        "median",
        "95 %",
        "within 300",
        "false alarms",
    )
    lines += [f"| {' | '.join(heads)} |", "|---|---|---|---:|---:|---:|---:|---:|---:|"]
    for r in rows:
        cells = (
            r["swapped"], r["for"], r["other"], f"{COLLECTED + r['quiet']:,}",
            f"{r['agreed_before']:.1%}, {r['agreed_after']:.1%}", f"{r['noticed_after_median']:.0f}",
            f"{r['noticed_after_p95']:.0f}", f"{r['within_300']:.0%}", str(r["false_alarms_in_100000"]),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    (RESULTS / f"{told.out}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
