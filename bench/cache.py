"""The semantic cache's deciders on labelled streams: hits against wrong hits, same embedder, same requests, one run.

    python -m bench.cache STREAMS [--embedder minilm] [--seeds 5] [--limit N] [--out NAME]

STREAMS is a folder of `.jsonl.gz` files, lines of `{"text", "cls"}`. Classes are halved by a digest of their name, all
questions of a class together (of `hard:half:family:value`, all of a family). Priors are fitted on our own cases and one
half of `bank`, `clinc` and `hwu`, so what is measured has been seen by nobody, and each stream is measured on the other
half; classes of other origins are never fitted on and stay whole. Seeds decide the order of the questions, and which
hits are audited. GPTCache's rule is simulated: it serves where the cosine is at least 2 T - 1, by default T = 0.8.
`hindsight` is the threshold that would have served most within the error, known only afterwards. vCache is our reading
of the paper, behind the same exact cache, and its judge never errs.
"""

import argparse
import hashlib
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from bench.machine import CORES
from tools.cases import cases
from tools.prior import NAMES, SEED, pairs_of, stream_of

from trivet.build import SystemClock
from trivet.cache.semantic.fitting import Stream, fit
from trivet.cache.semantic.look import Decider
from trivet.cache.semantic.priors import Prior
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.trial import Labelled, Result, replay, summary
from trivet.cache.semantic.vcache import VCache
from trivet.cache.semantic.verified import Verified
from trivet.cli.trial.labelled import read_stream
from trivet.cli.trial.vectors import Embedded, embed

PROMISES = (0.01, 0.02, 0.05)
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.83, 0.86, 0.9, 0.93, 0.97)
WINDOW = 2000
RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]


def held_out(cls: str) -> bool:
    """Whether a class is of the half that is measured."""
    origin, _, _ = cls.partition(":")
    if origin not in (*NAMES, "hard"):
        return True
    key = ":".join(cls.split(":")[:3]) if origin == "hard" else cls
    return bool(int(hashlib.sha256(key.encode()).hexdigest(), 16) % 2)


def fitted(questions: dict[str, list[Labelled]], vectors: Embedded) -> Prior:
    """Fit a prior as `tools/prior.py` does, on our own cases and the half that is not measured."""
    rng = random.Random(SEED)
    ours = list(cases())
    halves = [[q for q in questions.get(name, ()) if not held_out(q.cls)] for name in NAMES]
    halves.append([Labelled(case.text, case.cls) for case in ours])
    for rows in halves:
        rng.shuffle(rows)
    streams = [stream_of(rows, vectors) for rows in halves if rows]
    pairs = pairs_of(ours, vectors, rng)
    return fit(streams, pairs, name="half", made_from="the half that is not measured", clock=SystemClock())


def measured(stream: Stream, decider: Decider, seed: int) -> tuple[Row, Result]:
    """Replay a stream once."""
    stream.vicinity.forget()
    result = replay(
        stream.questions, stream.vicinity, decider, rows=stream.rows, random=random.Random(seed), clock=SystemClock()
    )
    return summary(result) | {"worst_window": result.worst_window(WINDOW, after=500)}, result


def compared(name: str, orders: Sequence[Stream], prior: Prior) -> Iterator[Row]:
    """Give a row for each decider at each setting, over all orders."""
    makers: list[tuple[str, float, Callable[[int], Decider]]] = [
        ("gptcache", 0.8, lambda seed: Static(2 * 0.8 - 1)),
        ("static", 0.93, lambda seed: Static()),
    ]
    for promise in PROMISES:
        makers.append(("vcache", promise, lambda seed, promise=promise: VCache(promise, random.Random(seed))))  # type: ignore[misc]
        makers.append(("verified", promise, lambda seed, promise=promise: Verified(prior, promise)))  # type: ignore[misc]
    for decider, setting, make in makers:
        yield averaged(name, decider, setting, [measured(s, make(seed), seed)[0] for seed, s in enumerate(orders)])
    curve = []
    for threshold in THRESHOLDS:
        runs = [measured(s, Static(threshold), seed)[0] for seed, s in enumerate(orders[:1])]
        curve.append(averaged(name, "static", threshold, runs))
    yield from curve
    for promise in PROMISES:
        yield {"stream": name, "decider": "hindsight", "setting": promise, "hit_rate": at(curve, promise)}


def averaged(name: str, decider: str, setting: float, runs: Sequence[Row]) -> Row:
    """Put the runs of several orders together."""
    told: Row = {"stream": name, "decider": decider, "setting": setting, "runs": len(runs)}
    told |= {key: mean(float(r[key]) for r in runs) for key in runs[0]}
    told["most_error"] = max(r["error_rate"] for r in runs)
    told["worst_window"] = max(r["worst_window"] for r in runs)
    # Of precision over hits: what share of the hits was right.
    told["precision"] = 1.0 - told["wrong_of_hits"]
    return told


def at(curve: Sequence[Row], error: float) -> float | None:
    """Give the hit rate of a curve at an error, between its points; None where it does not get there."""
    points = sorted((r["error_rate"], r["hit_rate"]) for r in curve)
    for (low, hits), (high, more) in pairwise(points):
        if low <= error <= high:
            return float(hits + (more - hits) * (error - low) / (high - low or 1.0))
    return None


def written(told: dict[str, Any]) -> str:
    """Write the rows for people."""
    lines = [
        f"# Deciders of the semantic cache, {told['embedder']}",
        "",
        f"`{told['command']}` on {told['machine']}, {told['seconds']} s.",
        f"Shares of all requests, means over {told['seeds']} orders; the worst of any {WINDOW:,} requests on end, of",
        "any order, after the first 500.",
        "",
        "| stream | decider | setting | hits | wrong | most | worst window | audits | decision ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        hits = "-" if row["hit_rate"] is None else f"{row['hit_rate']:.1%}"
        cells = [row["stream"], row["decider"], f"{row['setting']:g}", hits]
        if row["decider"] == "hindsight":
            cells += ["-"] * 5
        else:
            cells += [f"{row[k]:.2%}" for k in ("error_rate", "most_error", "worst_window")]
            cells += [f"{row['audits'] / row['requests']:.1%}", f"{row['decision_ms_p50']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run it and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", type=Path)
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", nargs="*", help="Streams to measure.")
    parser.add_argument("--out", default="cache")
    given = parser.parse_args()
    began = time.monotonic()
    questions = {f.name.split(".")[0]: read_stream(f) for f in sorted(given.streams.glob("*.jsonl.gz"))}
    texts = [q.text for rows in questions.values() for q in rows]
    vectors = embed([*texts, *(case.text for case in cases())], given.embedder)
    prior = fitted(questions, vectors)
    print(f"fitted after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    rows: list[Row] = []
    for name, asked in questions.items():
        if given.only and name not in given.only:
            continue
        measure = [q for q in asked if held_out(q.cls)]
        orders = []
        for seed in range(given.seeds):
            mixed = list(measure)
            if seed:  # the first is the order of the file
                random.Random(seed).shuffle(mixed)
            mixed = mixed[: given.limit]
            orders.append(stream_of(mixed, vectors))
        rows += list(compared(name, orders, prior))
        print(f"{name} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    told = {
        "command": f"python -m bench.cache STREAMS {' '.join(sys.argv[2:])}".strip(),
        "machine": f"{platform.machine()}, {len(CORES)} cores, Python {platform.python_version()}",
        "embedder": vectors.name,
        "embed_ms_p50": vectors.embed_ms_p50,
        "seeds": given.seeds,
        "seconds": round(time.monotonic() - began),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{given.out}.json").write_text(json.dumps(told, indent=1) + "\n")
    (RESULTS / f"{given.out}.md").write_text(written(told))
    print(written(told))


if __name__ == "__main__":
    main()
