"""`trivet route`: routers trained on recorded outcomes, what they say, and what that is worth.

A module for each command; `prompts.py` has what they share, `picture.py` draws.
"""

import click

from trivet.cli.route.evaluate import evaluate
from trivet.cli.route.score import score
from trivet.cli.route.train import train


@click.group("route")
def command() -> None:
    """Train a router on recorded outcomes, and see what it is worth.

    \b
    Examples:
      trivet route train outcomes/ --out router.trivet
      trivet route eval router.trivet fresh/ --small gpt-4o-mini --large gpt-4o --picture curve.svg
      trivet route score router.trivet prompts.jsonl --small gpt-4o-mini --large gpt-4o --out scores.csv
    """


command.add_command(train)
command.add_command(score)
command.add_command(evaluate)

__all__ = ["command"]
