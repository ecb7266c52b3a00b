"""`trivet route train`: outcomes to a router file.

Not here: how it is trained (`routing/learned/`).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json
from trivet.cli.trial.vectors import bar
from trivet.errors import ConfigError


@click.command("train")
@click.argument("outcomes", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The router file to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is left out together, to calibrate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(*, outcomes: Path, out: Path, seed: int, as_json: bool) -> None:
    """Train a router on the outcomes in DIR: which prompt each model got right.

    DIR has prompts.* (pid, prompt; optional: ds, domain) and outcomes.* (pid, model, score from 0 to 1), as .parquet,
    .jsonl, .jsonl.gz or .csv. Parquet needs: pip install 'trivet[route]'. At least 20 outcomes of each model.

    \b
    Examples:
      trivet route train outcomes/ --out router.trv
      trivet route train outcomes/ --out router.trv --seed 7 --json
    """
    from trivet.routing.learned import data, learned
    from trivet.routing.pool import pool

    read = data.read_outcomes(outcomes)
    # By bytes, not by count: a bar is worth showing for a thousand prompts, whatever the number of models.
    with bar("training", max(len(read.models), len(read.prompts.pids))) as shown:
        per = max(len(read.models), len(read.prompts.pids)) / len(read.models)
        today = datetime.now(tz=UTC).date().isoformat()
        router = learned.train(
            read, date=today, seed=seed, tell=lambda done: shown.update(round(done * per) - shown.pos)
        )
    try:
        router.others |= pool.trained(read, router.space)
    except ConfigError as error:
        click.echo(f"The router has no pool, so `enrol` and `decide` cannot use it. {error}", err=True)
    router.digest = router.save(out)
    told = {"out": str(out), **learned.described(router)}
    if as_json:
        print_json(told)
        return
    _print(told)


def _print(told: dict[str, Any]) -> None:
    rows = sorted(told["models"].items(), key=lambda item: (-item[1], item[0]))
    table(("MODEL", "LABELS"), [(clean(name), f"{n:,}") for name, n in rows], numbers=(1,))
    click.echo(
        f"\n{told['prompts']:,} prompts of {len(told['domains'])} domains, {told['outcomes']:,} outcomes. "
        f"Written: {told['out']} (sha256 {told['digest'][:12]})."
    )
