"""`trivet route decide`: a model for each of some prompts, with a floor under their quality.

Not here: how far one may save (`routing/pool/promise.py`).
"""

import csv
from collections import Counter
from pathlib import Path

import click
import msgspec
import numpy as np

from trivet.cli.text import clean, table
from trivet.errors import ConfigError
from trivet.routing.learned import file, learned
from trivet.routing.learned.data import read_prompts
from trivet.routing.pool.plan import Ask, More, Plan, Point, Refused
from trivet.routing.pool.pool import load, load_space
from trivet.routing.triangle import calibration

_AT_ONCE = 20_000
"""Prompts whose features are made at once: 120 MB."""


@click.command("decide")
@click.argument("router", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--pool", required=True, help="Models to choose from, with commas between them.")
@click.option("--quality", type=click.FloatRange(0, 1, min_open=True), required=True, help="Floor, of the reference's.")
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.9, show_default=True, help="That it holds.")
@click.option("--reference", default="", help="Whose quality; without, that of the best model, as estimated.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV to write: pid, model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def decide(
    *,
    router: Path,
    prompts: Path,
    pool: str,
    quality: float,
    confidence: float,
    reference: str,
    out: Path,
    as_json: bool,
) -> None:
    """Choose the cheapest model for each prompt so that quality stays at its floor.

    FILE is a router; PROMPTS has `pid` and `prompt` (Parquet, JSON Lines or CSV). The floor is kept on the labels of
    your own traffic that `trivet route calibrate` put into the file; without, on those of training, as if whole domains
    had been drawn. Prompts of other kinds than these have no such promise.

    \b
    Examples:
      trivet route decide router.trv prompts.jsonl --pool small,large --quality 0.98 --out chosen.csv
      trivet route decide router.trv prompts.csv --pool a,b,c --quality 0.95 --confidence 0.95 --out chosen.csv --json
    """
    sections, _ = file.read(router)
    known, space, read = load(sections), load_space(sections), read_prompts(prompts)
    names = [name.strip() for name in pool.split(",") if name.strip()]
    known.check(names)
    if reference and reference not in names:
        raise ConfigError(f"--reference {reference!r} is not in the pool: {', '.join(names)}.")
    parts = [read.texts[i : i + _AT_ONCE] for i in range(0, len(read.texts), _AT_ONCE)]
    features = np.concatenate([space.dense(part) for part in parts]).astype(float)
    made = known.decide(
        features,
        names,
        Ask(quality=quality, confidence=confidence, reference=reference),
        labels=calibration.labels(learned.load(router), names, by="skills") if calibration.NAME in sections else None,
    )
    if isinstance(made.plan, Refused):
        _refuse(made.plan)
        return
    _write(out, read.pids, made.models)
    _print(made.plan, made.models, made.more, quality=quality, confidence=confidence, as_json=as_json)


def _write(out: Path, pids: tuple[str, ...], models: list[str]) -> None:
    try:
        with out.open("w", newline="", encoding="utf-8") as written:
            rows = csv.writer(written)
            rows.writerow(("pid", "model"))
            rows.writerows(zip(pids, models, strict=True))
    except OSError as error:
        raise ConfigError(f"Cannot write {out}: {error.strerror or error}.") from error


def _print(
    plan: Plan, models: list[str], more: tuple[More, ...], *, quality: float, confidence: float, as_json: bool
) -> None:
    counts = Counter(models)
    shares = {name: counts[name] / max(1, len(models)) for name in plan.names}
    reference = plan.names[plan.reference]
    saves = plan.weight >= 0
    if as_json:
        told = {
            "prompts": len(models),
            "reference": reference,
            "shares": shares,
            "labels": plan.labels,
            "quality": plan.point.quality,
            "at_least": plan.point.at_least,
            "cost_of_reference": _cost(plan, plan.point),
            "with_more_labels": [{"labels": m.labels, "cost_of_reference": _cost(plan, m.point)} for m in more],
        }
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=1).decode())
        return
    table(("MODEL", "SHARE"), [(clean(name), f"{share:.1%}") for name, share in shares.items()], numbers=[1])
    if saves:
        click.echo(
            f"At least {plan.point.at_least:.3f} of the quality of {clean(reference)}, {confidence:.0%} sure, on "
            f"prompts like the labels; it rests on {plan.labels:,} prompts that the whole pool was tried on."
        )
    else:
        click.echo(
            f"All to {clean(reference)}: {plan.labels:,} prompts that the whole pool was tried on are too few to "
            f"promise {quality:g} of its quality, {confidence:.0%} sure. "
            "Add outcomes, or lower --quality or --confidence."
        )

    if more:
        now = f"now, {plan.labels:,} labels: {_cost(plan, plan.point):.2f}"
        later = ", ".join(f"{m.labels:,} labels: {_cost(plan, m.point):.2f}" for m in more)
        click.echo(f"What more labels like these would buy, as the cost of {clean(reference)} alone: {now}; {later}.")


def _cost(plan: Plan, point: Point) -> float:
    """Give what a point costs on the labels, of what the reference costs there."""
    return 1.0 if point.weight < 0 else point.cost_usd / plan.prices[plan.reference]


def _refuse(refused: Refused) -> None:
    click.echo(f"trivet: {refused.why}", err=True)
    if refused.curve:
        rows = [(f"{point.quality:.3f}", f"{point.cost_usd:.3g}") for point in refused.curve]
        table(("QUALITY, OF THE REFERENCE'S", "USD A PROMPT"), rows, numbers=range(2))
    raise click.exceptions.Exit(3)
