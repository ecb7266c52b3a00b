"""`trivet route enrol`: a model that the router has not seen, from some labels.

Not here: how it is estimated (`routing/pool/enrolment.py`).
"""

from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from trivet.cli.text import clean, table
from trivet.errors import ConfigError
from trivet.routing.learned import file
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.pool import clusters
from trivet.routing.pool.enrolment import Told
from trivet.routing.pool.pool import load, load_space


@click.command("enrol")
@click.argument("router", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("outcomes", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Whose outcomes to learn from; others in OUTCOMES are compared with.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The router file to write.")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.999), default=0.9, show_default=True, help="Of the interval shown."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def enrol(*, router: Path, outcomes: Path, model: str, out: Path, confidence: float, as_json: bool) -> None:
    """Add a model to a router from labelled prompts, 20 or more; nothing is trained again.

    FILE is a router. OUTCOMES is a folder of `prompts` and `outcomes`, or a file of outcomes with a `prompt` column,
    as for `trivet route train`. Outcomes of known models on the same prompts make each label worth more. A model that
    is known already is estimated anew, from these labels alone.

    \b
    Examples:
      trivet route enrol router.trv labels/ --model gpt-5-mini --out router2.trv
      trivet route enrol router.trv labels.jsonl --model local --out router2.trv --json
    """
    sections, _ = file.read(router)
    pool, space, read = load(sections), load_space(sections), read_outcomes(outcomes)
    if model not in read.models:
        raise ConfigError(
            f"{outcomes} has no outcome of {model!r}; it has some of {', '.join(read.models)}. Name one of these."
        )
    scores, costs = read.matrix(), read.matrix("cost_usd")
    at = read.models.index(model)
    rows = [int(i) for i in np.flatnonzero(~np.isnan(scores[:, at]))]
    texts = [read.prompts.texts[i] for i in rows]
    grown, told = pool.enrol(
        model,
        space.dense(texts).astype(float),
        texts,
        scores[rows, at],
        costs[rows, at],
        others=_others(read, scores[rows], model),
        confidence=confidence,
    )
    kept = {name: section for name, section in sections.items() if name not in pool.sections()} | grown.sections()
    if clusters.NAME in sections:
        added = clusters.load(sections).added(model, space.dense(texts).astype(float), scores[rows, at])
        kept[clusters.NAME] = added.section(sections[clusters.NAME].arrays.get("seen"))
    digest = file.write(out, kept)
    _print(model, told, confidence=confidence, out=out, digest=digest, as_json=as_json)


def _others(read: Outcomes, scores: "np.ndarray[Any, np.dtype[np.float64]]", model: str) -> dict[str, Any]:
    return {name: scores[:, i] for i, name in enumerate(read.models) if name != model}


def _print(
    model: str, told: list[tuple[int, Told]], *, confidence: float, out: Path, digest: str, as_json: bool
) -> None:
    if as_json:
        parts = [
            {
                "labels": labels,
                "compared": found.known,
                "quality": found.quality,
                "low": found.low,
                "high": found.high,
                "low_before": found.before[0],
                "high_before": found.before[1],
                "price_known": not np.isnan(found.model.price),
            }
            for labels, found in told
        ]
        report = {"model": model, "confidence": confidence, "file": str(out), "digest": digest, "kinds": parts}
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
        return
    rows = [
        (
            f"{labels:,}",
            f"{found.known:,}",
            f"{found.quality:.3f}",
            f"{found.low:.3f} to {found.high:.3f}",
            f"{found.before[0]:.3f} to {found.before[1]:.3f}",
        )
        for labels, found in told
    ]
    click.echo(f"{clean(model)}: what it can do on prompts like these, {confidence:.0%} sure")
    table(("LABELS", "COMPARED", "QUALITY", "BETWEEN", "BEFORE ANY LABEL"), rows, numbers=range(3))
    if any(np.isnan(found.model.price) for _, found in told):
        click.echo("It has no `cost_usd`, so `decide` cannot weigh it. Add that column.", err=True)
    click.echo(f"Written: {out}", err=True)
