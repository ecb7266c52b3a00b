"""`trivet route train`: a router from what models did on labelled prompts.

Not here: how it is fitted (`routing/pool`).
"""

from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from trivet.cli.text import clean, table
from trivet.routing.learned import file
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.learned.features import learn
from trivet.routing.pool.pool import trained


@click.command("train")
@click.argument("outcomes", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The router file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(*, outcomes: Path, out: Path, as_json: bool) -> None:
    """Learn what each model can do from labelled prompts.

    DIR has `prompts` (`pid`, `prompt`) and `outcomes` (`pid`, `model`, `score` from 0 to 1, `cost_usd`), each as
    .parquet, .jsonl, .jsonl.gz or .csv; or it is one file of outcomes with a `prompt` column. Parquet needs
    `pip install 'trivet[route]'`. What is written names the models and holds no prompt, only words that were frequent.

    \b
    Examples:
      trivet route train outcomes/ --out router.trv
      trivet route train outcomes.jsonl --out router.trv --json
    """
    read = read_outcomes(outcomes)
    digest = file.write(out, trained(read, learn(read.prompts.texts)))
    models = _models(read)
    if as_json:
        report = {"file": str(out), "digest": digest, "prompts": len(read.prompts.texts), "models": models}
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
        return
    rows = [(clean(m["model"]), f"{m['labels']:,}", f"{m['score']:.3f}", _cost(m["cost_usd"])) for m in models]
    table(("MODEL", "LABELS", "MEAN SCORE", "MEAN COST $"), rows, numbers=range(1, 4))
    click.echo(f"Written: {out}", err=True)


def _models(read: Outcomes) -> list[dict[str, Any]]:
    scores, costs = read.matrix(), read.matrix("cost_usd")
    told = []
    for i, name in enumerate(read.models):
        known = costs[~np.isnan(costs[:, i]), i]
        labels = scores[~np.isnan(scores[:, i]), i]
        cost = float(known.mean()) if len(known) else None
        told.append({"model": name, "labels": len(labels), "score": float(labels.mean()), "cost_usd": cost})
    return told


def _cost(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.6f}"
