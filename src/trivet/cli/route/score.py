"""`trivet route score`: prompts to what a router says of them for a pair of models.

Not here: the estimate (`routing/learned/compiled.py`).
"""

import csv
import io
from pathlib import Path

import click

from trivet.cli.trial.vectors import bar
from trivet.errors import ConfigError

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
      trivet route score router.trivet prompts.jsonl --small gpt-4o-mini --large gpt-4o --out scores.csv
      trivet route score router.trivet prompts.parquet --small haiku --large sonnet --out -
    """
    from trivet.routing.learned import data, learned

    pair = learned.load(router).pair(small, large)
    if not pair.rule.prompts:
        click.echo(f"No prompt was answered by both {small} and {large} in training: the gain is a guess.", err=True)
    read = data.read_prompts(prompts)
    text = io.StringIO(newline="")
    write = csv.writer(text, lineterminator="\n").writerow
    write(("pid", "p_small_ok", "gain"))
    with bar("scoring", len(read.pids)) as shown:
        for i, (pid, prompt) in enumerate(zip(read.pids, read.texts, strict=True)):
            told = pair.estimate(prompt)
            write((pid, f"{told.p_small:.6f}", f"{told.gain:.8f}"))
            if i % _AT_ONCE == 0:
                shown.update(i - shown.pos)
        shown.update(len(read.pids) - shown.pos)
    if str(out) == "-":
        click.echo(text.getvalue(), nl=False)
        return
    try:
        out.write_text(text.getvalue(), newline="")
    except OSError as error:
        raise ConfigError(f"Cannot write {out}: {error.strerror or error}.") from error
    click.echo(f"{len(read.pids):,} prompts scored: {out}.", err=True)
