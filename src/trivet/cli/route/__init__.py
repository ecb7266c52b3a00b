"""`trivet route`: routers trained on recorded outcomes, what they say, and what that is worth.

A module for each command; `prompts.py` has what they share, `picture.py` draws.
"""

import click

from trivet.cli.route.calibrate import calibrate
from trivet.cli.route.cascade import cascade
from trivet.cli.route.decide import decide
from trivet.cli.route.enrol import enrol
from trivet.cli.route.evaluate import evaluate
from trivet.cli.route.explain import explain
from trivet.cli.route.labels import labels
from trivet.cli.route.score import score
from trivet.cli.route.train import train
from trivet.cli.route.version import rollback, use, versions


@click.group("route")
def command() -> None:
    """Train a router on recorded outcomes, see what it is worth, and choose by it.

    \b
    Examples:
      trivet route labels export outcomes/
      trivet route train outcomes/ --out router.trivet
      trivet route eval router.trivet fresh/ --small gpt-4o-mini --large gpt-4o --picture curve.svg
      trivet route enrol router.trivet labels/ --model new-model --out router2.trivet
      trivet route decide router2.trivet prompts.jsonl --pool new-model,gpt-4o --quality 0.98 --out chosen.csv
      trivet route cascade router.trivet answers/ --small mini,flash --large gpt-4o --quality 0.98 --out served.csv
      trivet route use router2.trivet --as router.trivet
      trivet route explain request.json
    """


command.add_command(train)
command.add_command(score)
command.add_command(evaluate)
command.add_command(enrol)
command.add_command(enrol, "add-model")
command.add_command(decide)
command.add_command(labels)
command.add_command(cascade)
command.add_command(calibrate)
command.add_command(use)
command.add_command(versions)
command.add_command(rollback)
command.add_command(explain)

__all__ = ["command"]
