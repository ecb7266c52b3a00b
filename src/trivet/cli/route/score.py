"""`trivet route score`: prompts to what a router says of them for a pair of models.

Not here: the estimate (`routing/learned/compiled.py`).
"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trivet.cli.trial.vectors import bar
from trivet.errors import ConfigError

if TYPE_CHECKING:
    from trivet.routing.learned.learned import Learned
    from trivet.routing.pool.pool import Pool

_AT_ONCE = 1000
"""Prompts between two moves of the bar."""


@click.command("score")
@click.argument("router", type=click.Path(path_type=Path), metavar="FILE")
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--small", required=True, help="The cheaper model, by the name it had in training.")
@click.option("--large", required=True, help="The dearer one.")
@click.option("--out", type=click.Path(path_type=Path, allow_dash=True), required=True, help="The CSV; - is stdout.")
def score(*, router: Path, prompts: Path, small: str, large: str, out: Path) -> None:
    """Say for each prompt whether the small model will do.

    PROMPTS has pid and prompt, as .parquet, .jsonl, .jsonl.gz or .csv. The CSV has pid, p_small_ok (the expected score
    of the small model) and gain (that less the large model's): route to the small model where gain is highest.

    \b
    Examples:
      trivet route score router.trv prompts.jsonl --small gpt-4o-mini --large gpt-4o --out scores.csv
      trivet route score router.trv prompts.parquet --small haiku --large sonnet --out -
    """
    from trivet.routing.learned import data, learned

    asked = learned.load(router)
    enrolled = _enrolled(asked, small, large)
    pair = asked.pair(small, large) if enrolled is None else None
    if pair is not None and not pair.rule.prompts:
        click.echo(f"No prompt was answered by both {small} and {large} in training: the gain is a guess.", err=True)
    read = data.read_prompts(prompts)
    text = io.StringIO(newline="")
    write = csv.writer(text, lineterminator="\n").writerow
    write(("pid", "p_small_ok", "gain"))
    with bar("scoring", len(read.pids)) as shown:
        for begin in range(0, len(read.pids), _AT_ONCE):
            told: list[tuple[float, float]] = []
            texts = read.texts[begin : begin + _AT_ONCE]
            if pair is not None:
                told = [(guess.p_small, guess.gain) for guess in map(pair.estimate, texts)]
            elif enrolled is not None:
                chances, _ = enrolled.estimates(asked.space.dense(texts).astype(float), (small, large))
                told = [(p, p - other) for p, other in chances.tolist()]
            for pid, (p_small, gain) in zip(read.pids[begin:], told, strict=False):
                write((pid, f"{p_small:.6f}", f"{gain:.8f}"))
            shown.update(len(texts))
    if str(out) == "-":
        click.echo(text.getvalue(), nl=False)
        return
    try:
        out.write_text(text.getvalue(), newline="")
    except OSError as error:
        raise ConfigError(f"Cannot write {out}: {error.strerror or error}.") from error
    click.echo(f"{len(read.pids):,} prompts scored: {out}.", err=True)


def _enrolled(asked: "Learned", small: str, large: str) -> "Pool | None":
    """Give the pool where it knows a model that was enrolled after training; None where the router's own heads do."""
    from trivet.routing.pool import pool

    if not {small, large} - set(asked.models) or not any(name.startswith(pool.PREFIX) for name in asked.others):
        return None
    known = pool.load(asked.others)
    return known if {small, large} <= set(known.names) else None
