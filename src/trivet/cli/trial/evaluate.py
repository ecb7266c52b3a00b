"""`trivet cache eval`: labelled traffic replayed; how many hits, and how many of them wrong.

Not here: how a trial goes (`cache/semantic/trial.py`), which is what the tier does, with the deciders it does it with.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from trivet.build import SystemClock
from trivet.cache.semantic import static, trial
from trivet.cache.semantic.look import Decider
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.vcache import VCache
from trivet.cache.semantic.verified import Verified, interval
from trivet.cli.text import clean, table
from trivet.cli.trial.labelled import LabelledPair, Turns, read_pairs, read_stream
from trivet.cli.trial.vectors import Embedded, bar, embed

DECIDERS = ("static", "vcache", "verified")

MAX_ERROR = 0.01
"""As in a policy that says nothing else."""


@click.command("eval")
@click.argument("stream", type=click.Path(path_type=Path), required=False)
@click.option("--pairs", type=click.Path(path_type=Path), help="Labelled pairs in place of a stream: a, b, y, kind.")
@click.option("--decider", type=click.Choice(DECIDERS), default="verified", show_default=True, help="Who decides.")
@click.option(
    "--threshold", type=click.FloatRange(-1, 1), default=static.THRESHOLD, show_default=True, help="static: cosine."
)
@click.option(
    "--max-error",
    type=click.FloatRange(0, 0.5),
    default=MAX_ERROR,
    show_default=True,
    help="vcache, verified: wrong hits, of all answers.",
)
@click.option(
    "--embedder", default="auto", show_default=True, help="builtin, minilm, ...; auto: the one that trivet.toml means."
)
@click.option("--config", type=click.Path(path_type=Path), help="Whose [embedder] it is.  [default: ./trivet.toml]")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first so many lines.")
@click.option("--seed", type=int, default=0, show_default=True, help="What chance depends on: which hits are audited.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    *,
    stream: Path | None,
    pairs: Path | None,
    decider: str,
    threshold: float,
    max_error: float,
    embedder: str,
    config: Path | None,
    limit: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Replay labelled traffic through the cache and count hits and wrong hits.

    STREAM has a line of JSON for each request, in their order, plain or gzip: {"text": "...", "cls": "..."}. Questions
    of one cls have one right answer. A line of --pairs has two questions, and whether one answer is right for both:
    {"a": ..., "b": ..., "y": 1, "kind": "negation"}; a and b are texts, or conversations as lists of messages.

    \b
    Examples:
      trivet cache eval traffic.jsonl.gz
      trivet cache eval traffic.jsonl --decider static --threshold 0.9 --json
      trivet cache eval --pairs pairs.jsonl --max-error 0.02
    """
    if (stream is None) == (pairs is None):
        raise click.UsageError("Name a stream, or --pairs and a file; one of the two.")
    rng = random.Random(seed)  # noqa: S311  # chance that can be repeated, no secret
    if stream is not None:
        questions = read_stream(stream, limit=limit)
        vectors = embed([q.text for q in questions], embedder, config=config)
        made = make(decider, vectors.name, threshold=threshold, max_error=max_error, rng=rng)
        result = replay(questions, trial.Foreseen(vectors.vectors), vectors, made, rng)
        told = trial.summary(result) | {"embed_ms_p50": vectors.embed_ms_p50}
        print_json(told) if as_json else _print_stream(told)
    else:
        assert pairs is not None
        read = read_pairs(pairs, limit=limit)
        vectors = embed(
            [t for p in read for side in (p.a, p.b) for t in (side.text, side.context) if t], embedder, config=config
        )
        made = make(decider, vectors.name, threshold=threshold, max_error=max_error, rng=rng)
        told_pairs = _try_pairs(read, vectors, made, rng)
        print_json(told_pairs) if as_json else _print_pairs(told_pairs)


def make(kind: str, embedder: str, *, threshold: float, max_error: float, rng: random.Random) -> Decider:
    """Make a decider as a policy would have it."""
    if kind == "static":
        return Static(threshold)
    if kind == "vcache":
        return VCache(max_error, rng)
    return Verified(prior(embedder), max_error)


def replay(
    questions: Sequence[trial.Labelled],
    vicinity: trial.Foreseen,
    vectors: Embedded,
    decider: Decider,
    rng: random.Random,
) -> trial.Result:
    """Replay a stream, with a bar on a terminal."""
    rows = [vectors.rows.get(q.text, -1) for q in questions]
    vicinity.forget()
    with bar(f"{decider.name:9}", len(questions)) as shown:
        return trial.replay(
            questions,
            vicinity,
            decider,
            rows=rows,
            random=rng,
            clock=SystemClock(),
            tell=lambda done: shown.update(done - shown.pos),
        )


def _try_pairs(read: Sequence[LabelledPair], vectors: Embedded, decider: Decider, rng: random.Random) -> dict[str, Any]:
    # In no order: files have their kinds one after the other, and a decider learns as it goes.
    order = list(range(len(read)))
    rng.shuffle(order)
    pairs = [_pair(read[i], vectors) for i in order]
    served, decision_ns, audits = trial.replay_pairs(pairs, decider, random=rng, clock=SystemClock())
    kinds = {}
    for kind in sorted({p.kind for p in pairs}):
        kinds[kind] = _counted([(p.same, s) for p, s in zip(pairs, served, strict=True) if p.kind == kind])
    decision_ns.sort()
    return _counted([(p.same, s) for p, s in zip(pairs, served, strict=True)]) | {
        "audits": audits,
        "decision_ms_p50": decision_ns[len(decision_ns) // 2] / 1e6 if decision_ns else 0.0,
        "embed_ms_p50": vectors.embed_ms_p50,
        "kinds": kinds,
    }


def _pair(read: LabelledPair, vectors: Embedded) -> trial.Pair:
    a, b = read.a, read.b
    return trial.Pair(
        a.text,
        b.text,
        read.same,
        read.kind,
        _cosine(a.text, b.text, vectors),
        a.context,
        b.context,
        1.0 if a.context == b.context else _cosine(a.context, b.context, vectors),
        a.frame != b.frame or not _comparable(a, b, vectors),
    )


def _comparable(a: Turns, b: Turns, vectors: Embedded) -> bool:
    """Whether there are vectors to compare, or the texts are the same anyway."""
    return a == b or (a.text in vectors.rows and b.text in vectors.rows)


def _cosine(a: str, b: str, vectors: Embedded) -> float:
    one, other = vectors.rows.get(a), vectors.rows.get(b)
    return 0.0 if one is None or other is None else float(vectors.vectors[one] @ vectors.vectors[other])


def _counted(told: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    same, other = [s for y, s in told if y], [s for y, s in told if not y]
    return {
        "pairs": len(told),
        "same": len(same),
        "hits": sum(same),
        "recall": sum(same) / len(same) if same else None,
        "different": len(other),
        "false_hits": sum(other),
        "false_hit_rate": sum(other) / len(other) if other else None,
    }


def print_json(told: Any) -> None:
    """Print JSON for people and programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())


def _print_stream(told: dict[str, float | int]) -> None:
    requests, hits, wrong = int(told["requests"]), int(told["hits"]), int(told["wrong"])
    low, high = interval(wrong, requests)
    table(
        ("", "COUNT", "OF ALL", "95 % INTERVAL"),
        [
            ("requests", f"{requests:,}", "", ""),
            ("hits", f"{hits:,}", f"{told['hit_rate']:.1%}", ""),
            ("wrong hits", f"{wrong:,}", f"{told['error_rate']:.2%}", f"{low:.2%} to {high:.2%}"),
            ("audits", f"{int(told['audits']):,}", f"{told['audits'] / requests:.1%}", ""),
        ],
        numbers=(1, 2, 3),
    )
    click.echo(
        f"\nOf the hits, {told['wrong_of_hits']:.2%} were wrong. A decision took {told['decision_ms_p50']:.2f} ms, "
        f"an embedding {told['embed_ms_p50']:.2f} ms (medians)."
    )


def _print_pairs(told: dict[str, Any]) -> None:
    rows = [(clean(kind), *_pair_cells(of_kind)) for kind, of_kind in told["kinds"].items()]
    head = ("KIND", "SAME", "HITS", "RECALL", "DIFFERENT", "FALSE HITS", "RATE")
    table(head, [*rows, ("total", *_pair_cells(told))], numbers=range(1, 7))


def _pair_cells(told: dict[str, Any]) -> tuple[str, ...]:
    rates = tuple("-" if told[k] is None else f"{told[k]:.1%}" for k in ("recall", "false_hit_rate"))
    return (str(told["same"]), str(told["hits"]), rates[0], str(told["different"]), str(told["false_hits"]), rates[1])
