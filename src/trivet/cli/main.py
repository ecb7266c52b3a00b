"""`trivet`: the commands, the exit codes, and what an error looks like.

Not here: any command. Each has a module of its own, which is imported only when it is called or asked for its help,
so that `trivet --help` answers at once. Exit codes: 0 fine, 1 failed, 2 usage or configuration, 3 a threshold is not
met, 4 not enough evidence to say, 130 interrupted.
"""

import difflib
import importlib
import os
import sys
from typing import NamedTuple

import click

from trivet.version import VERSION


class _Lazy(NamedTuple):
    module: str
    words: str
    """Its line in the list of commands; repeated here so that the list needs no imports."""
    hidden: bool = False


_COMMANDS = {
    "demo": _Lazy("demo", "See it work: a real model, a few questions, what they cost. No key needed."),
    "init": _Lazy("init", "Write a first trivet.toml from the engines and keys that are here."),
    "serve": _Lazy("serve", "Start the gateway."),
    "run": _Lazy("run", "Run a program with its OpenAI calls going through the gateway."),
    "usage": _Lazy("usage", "Show what was asked, what it cost and what was saved."),
    "cache": _Lazy("cache", "Look into the cache, measure it, tune it, and take answers off."),
    "route": _Lazy("route", "Train a router on recorded outcomes, see what it is worth, and choose by it."),
    "keys": _Lazy("keys", "Make, list and revoke keys for the clients of the gateway."),
    "doctor": _Lazy("doctor", "Check that everything is in place, and say how to put it right."),
    "completion": _Lazy("completion", "Print a script that completes commands in your shell."),
    "help-markdown": _Lazy("help_markdown", "Print all help as Markdown.", hidden=True),
}
"""In the order in which a newcomer wants them. `NAME` is the object `command` in `trivet/cli/MODULE.py`."""

_ABOUT = """Trivet stands between your programs and their language models and makes answers faster and cheaper: it
repeats what it has answered before, chooses the model, and asks another when one fails. It speaks the OpenAI API, so
a program needs no change, and its ledger shows what every request cost and saved.
"""

_EXAMPLES = """\b
Examples, in order of use:
  trivet demo                        see it work, on a model in this machine
  trivet init                        write trivet.toml from what is found here
  trivet doctor                      what is found here, and what is missing
  trivet serve                       start the gateway on http://127.0.0.1:8088
  trivet run -- python app.py        an unchanged program, through the gateway
  trivet usage --since 24h --by model
  trivet keys create laptop --tenant acme

\b
With no trivet.toml, keys in the environment (OPENAI_API_KEY, ...) and engines on this machine
(Ollama, vLLM, llama.cpp) are used; with neither, a small model that is fetched once.
Exit codes: 0 fine, 1 failed, 2 usage or configuration, 3 a threshold is not met, 4 not enough evidence.
"""


class _Failure(click.ClickException):
    """One of our errors as click shows it: one message on stderr, no traceback."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(f"trivet: {self.format_message()}", err=True)


class _ConfigFailure(_Failure):
    """One that the operator's file, environment or words on the command line caused."""

    exit_code = 2


class _Group(click.Group):
    """Commands that are imported when they are needed, and errors that are shown once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = _COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = importlib.import_module(f"trivet.cli.{lazy.module}").command
        assert isinstance(command, click.Command)
        command.hidden = lazy.hidden
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and near:
            ctx.fail(f"There is no command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.words) for name, lazy in _COMMANDS.items() if not lazy.hidden])

    def invoke(self, ctx: click.Context) -> object:
        from trivet.errors import ConfigError, TrivetError  # here, because `--help` has no use for msgspec

        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise _ConfigFailure(str(error)) from error
        except TrivetError as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            # `trivet usage | head`: the reader has enough. Python would complain when it flushes stdout at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None


@click.group(
    cls=_Group,
    help=_ABOUT,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(VERSION, prog_name="trivet", message="%(prog)s %(version)s")
def cli() -> None:
    """Hold the commands."""


def main() -> None:
    """Run the command line."""
    cli(prog_name="trivet")


if __name__ == "__main__":
    main()
