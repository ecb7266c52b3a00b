"""`trivet route calibrate`: labels of one's own traffic, for the promise to rest on.

Not here: how they are kept (`routing/triangle/calibration.py`).
"""

from pathlib import Path

import click

from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json


@click.command("calibrate")
@click.argument("router", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("outcomes", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The router file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(*, router: Path, outcomes: Path, out: Path, as_json: bool) -> None:
    """Rest a router's promises on outcomes of your own traffic.

    FILE is a router. OUTCOMES is a folder of `prompts` and `outcomes`, or a file of outcomes with a `prompt` column, as
    for `trivet route train`: prompts of your traffic, drawn by chance, that the router was not trained on, each
    answered by the whole pool of a policy. What a policy holds is then tested on them, and not on the outcomes of
    training; of cascades too, where the outcomes have answers (`ans`). An earlier calibration is replaced. No prompt is
    kept in the file, only numbers.

    \b
    Examples:
      trivet route calibrate router.trv labels/ --out router2.trv
      trivet route calibrate router.trv labels.jsonl --out router2.trv --json
    """
    from trivet.routing.learned import data, learned
    from trivet.routing.triangle import calibration

    asked, read = learned.load(router), data.read_outcomes(outcomes)
    section, trained_on = calibration.section(asked, read)
    asked.others[calibration.NAME] = section
    digest = asked.save(out)
    scores = section.arrays["scores"]
    counts = {name: int((scores[:, i] >= 0).sum()) for i, name in enumerate(read.models)}
    whole = int((scores >= 0).all(axis=1).sum())
    answers = "codes" in section.arrays
    if as_json:
        print_json(
            {"out": str(out), "digest": digest, "prompts": len(scores), "labels": counts, "by_all_models": whole,
             "answers": answers, "left_out_as_trained_on": trained_on}
        )  # fmt: skip
        return
    table(("MODEL", "LABELS"), [(clean(name), f"{n:,}") for name, n in counts.items()], numbers=(1,))
    left = f" {trained_on:,} were left out: the router was trained on them." if trained_on else ""
    left += "" if answers else " Their answers (`ans`) are not there, so cascades still rest on training."
    click.echo(f"\n{len(scores):,} prompts, {whole:,} answered by all of these.{left} Written: {out}.")
