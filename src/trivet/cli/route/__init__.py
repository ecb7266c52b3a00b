"""`trivet route`: routers trained on recorded outcomes, what they say, and what that is worth.

A module for each command; `prompts.py` has what they share, `picture.py` draws.
"""

import click

from trivet.cli.route.decide import decide
from trivet.cli.route.enrol import enrol
from trivet.cli.route.evaluate import evaluate
from trivet.cli.route.score import score
from trivet.cli.route.train import train


@click.group("route")
def command() -> None:
    """Train a router on recorded outcomes, see what it is worth, and choose by it.

    \b
    Examples:
      trivet route train outcomes/ --out router.trivet
      trivet route eval router.trivet fresh/ --small gpt-4o-mini --large gpt-4o --picture curve.svg
      trivet route enrol router.trivet labels/ --model new-model --out router2.trivet
      trivet route decide router2.trivet prompts.jsonl --pool new-model,gpt-4o --quality 0.98 --out chosen.csv
    """


command.add_command(train)
command.add_command(score)
command.add_command(evaluate)
command.add_command(enrol)
command.add_command(decide)

__all__ = ["command"]
