"""`trivet help-markdown`: all help as one Markdown page, from which `docs/cli.md` is made."""

from collections.abc import Iterator

import click

_WIDTH = 110


@click.command(hidden=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print all help as Markdown; `docs/cli.md` is made of it, and a test compares the two."""
    click.echo("# The command line\n\nMade by `trivet help-markdown > docs/cli.md`.")
    root = ctx.find_root().command
    for path, one in _commands("trivet", root):
        page = click.Context(one, info_name=path, terminal_width=_WIDTH, help_option_names=["-h", "--help"])
        click.echo(f"\n## {path}\n\n```text\n{one.get_help(page)}\n```")


def _commands(path: str, command_: click.Command) -> Iterator[tuple[str, click.Command]]:
    if command_.hidden:
        return
    yield path, command_
    if isinstance(command_, click.Group):
        ctx = click.Context(command_, info_name=path)
        for name in command_.list_commands(ctx):
            below = command_.get_command(ctx, name)
            assert below is not None
            yield from _commands(f"{path} {name}", below)
