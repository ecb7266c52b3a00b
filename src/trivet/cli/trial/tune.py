"""`trivet cache tune`: every decider at many settings on one's own labelled traffic; what to set, on what evidence.

Not here: a trial (`cache/semantic/trial.py`), the drawing (`picture.py`).
Invariant: nothing is recommended whose error could, at 95 %, be above what may be, nor what promises less than that.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from trivet.cache.semantic import trial
from trivet.cache.semantic.verified import interval
from trivet.cli.text import table
from trivet.cli.trial.evaluate import MAX_ERROR, make, print_json, replay
from trivet.cli.trial.labelled import read_stream
from trivet.cli.trial.picture import draw
from trivet.cli.trial.vectors import Embedded, embed
from trivet.errors import ConfigError

SETTINGS = {
    "static": (0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.93, 0.95, 0.97),
    "vcache": (0.01, 0.02, 0.05),
    "verified": (0.005, 0.01, 0.02, 0.03, 0.05),
}
"""Thresholds, and promises: what people set."""


@click.command("tune")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--max-error",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=MAX_ERROR,
    show_default=True,
    help="Wrong hits that may be, of all answers.",
)
@click.option(
    "--embedder", default="auto", show_default=True, help="builtin, minilm, ...; auto: the one that trivet.toml means."
)
@click.option("--config", type=click.Path(path_type=Path), help="Whose [embedder] it is.  [default: ./trivet.toml]")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first so many lines.")
@click.option("--seed", type=int, default=0, show_default=True, help="What chance depends on: which hits are audited.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the curves into this SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def tune(
    ctx: click.Context,
    *,
    log: Path,
    max_error: float,
    embedder: str,
    config: Path | None,
    limit: int | None,
    seed: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Try every decider on labelled traffic of your own and say what to set.

    LOG has a line of JSON for each request, in their order, plain or gzip: {"text": "...", "cls": "..."}. Questions of
    one cls have one right answer. Ends with 4 if there are too few lines to say.

    \b
    Examples:
      trivet cache tune traffic.jsonl --max-error 0.02
      trivet cache tune traffic.jsonl.gz --picture curves.svg --json
    """
    questions = read_stream(log, limit=limit)
    vectors = embed([q.text for q in questions], embedder, config=config)
    points = list(_points(questions, vectors, seed))
    best = recommended(points, max_error)
    told = {
        "labels": len(questions),
        "classes": len({q.cls for q in questions}),
        "embedder": vectors.name,
        "max_error": max_error,
        "points": points,
        "recommended": best,
    }
    if picture is not None:
        curves = {kind: [(p["error_rate"], p["hit_rate"]) for p in points if p["decider"] == kind] for kind in SETTINGS}
        try:
            picture.write_text(draw(curves, title=f"Hits against wrong hits, {len(questions):,} labelled requests"))
        except OSError as error:
            raise ConfigError(f"Cannot write {picture}: {error.strerror or error}.") from error
    print_json(told) if as_json else _print(told)
    if best is None:
        click.echo(why_none(len(questions), points, max_error), err=True)
        ctx.exit(4)


def _points(questions: Sequence[trial.Labelled], vectors: Embedded, seed: int) -> Iterator[dict[str, Any]]:
    vicinity = trial.Foreseen(vectors.vectors)
    for kind, settings in SETTINGS.items():
        for setting in settings:
            rng = random.Random(seed)  # noqa: S311  # chance that can be repeated, no secret
            threshold, promise = (setting, 0.0) if kind == "static" else (0.0, setting)
            decider = make(kind, vectors.name, threshold=threshold, max_error=promise, rng=rng)
            told = trial.summary(replay(questions, vicinity, vectors, decider, rng))
            low, high = interval(int(told["wrong"]), int(told["requests"]))
            yield {"decider": kind, "setting": setting, **told, "error_low": low, "error_high": high}


def recommended(points: Sequence[dict[str, Any]], max_error: float) -> dict[str, Any] | None:
    """Choose the point of most hits whose error is, at 95 %, within what may be; None: there is none.

    A promise looser than that is no choice, however little went wrong: on other traffic it would be used up.
    """
    kept = [p for p in points if p["decider"] == "static" or p["setting"] <= max_error]
    good = [p for p in kept if p["error_high"] <= max_error]
    return max(good, key=lambda p: float(p["hit_rate"])) if good else None


def why_none(labels: int, points: Sequence[dict[str, Any]], max_error: float) -> str:
    """Say what is missing where nothing can be recommended."""
    least = interval(0, labels)[1]
    if least > max_error:
        return (
            f"Not enough evidence: with {labels:,} requests, not one wrong hit would still mean up to {least:.2%}. "
            f"To show {max_error:.2%} takes {int(3.85 / max_error):,} or more."  # 1.96 squared: Wilson's bound of none
        )
    lowest = min(float(p["error_high"]) for p in points)
    return (
        f"No setting is shown to stay within {max_error:.2%}: the best may be wrong in {lowest:.2%}. "
        "Label more requests, or use the exact cache."
    )


def _print(told: dict[str, Any]) -> None:
    best = told["recommended"]
    rows = [
        (
            p["decider"],
            f"{p['setting']:g}",
            f"{p['hit_rate']:.1%}",
            f"{p['error_rate']:.2%}",
            f"{p['error_low']:.2%} to {p['error_high']:.2%}",
            f"{p['audits']:,}",
            "<" if p is best else "",
        )
        for p in told["points"]
    ]
    table(("DECIDER", "SETTING", "HITS", "WRONG", "95 % INTERVAL", "AUDITS", ""), rows, numbers=range(1, 6))
    labels, classes = f"{told['labels']:,}", f"{told['classes']:,}"
    click.echo(f"\nOn {labels} labelled requests of {classes} classes, embedded by {told['embedder']}.")
    if best is not None:
        key = "threshold" if best["decider"] == "static" else "max_error"
        click.echo(f'Set: mode = "{best["decider"]}", {key} = {best["setting"]:g}')
