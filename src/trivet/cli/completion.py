"""`trivet completion`: click's own script for the shell, printed."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  trivet completion bash >> ~/.bashrc
  trivet completion zsh >> ~/.zshrc
  trivet completion fish > ~/.config/fish/completions/trivet.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in your shell."""
    script = get_completion_class(shell)
    assert script is not None, "click has all three"
    click.echo(script(ctx.find_root().command, {}, "trivet", "_TRIVET_COMPLETE").source())
