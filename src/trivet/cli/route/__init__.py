"""`trivet route`: learn which model is good enough, and choose by it."""

import click

from trivet.cli.route.decide import decide
from trivet.cli.route.enrol import enrol
from trivet.cli.route.train import train

__all__ = ["command"]


@click.group("route")
def command() -> None:
    """Choose the cheapest model that is good enough, by what models did on labelled prompts."""


command.add_command(train)
command.add_command(enrol)
command.add_command(decide)
