"""The command `trivet doctor`: every check in order, one line for each, and how to put right what is not in place.

Each check is a function that gives the lines it found; none raises, none changes anything but making the home folder
and the ledger's tables. Not here: what a check is about (each has a module beside this one, and asks the room that
knows).
Invariant: no key is written, only where it was looked for.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click
import msgspec

from trivet.cli.doctor import call, clock, credentials, disk, file, ledger, modes, port, routers, targets
from trivet.cli.doctor.check import Check, bad
from trivet.config import home

_MARKS = {"ok": ("✔", "ok  ", "green"), "warn": ("!", "warn", "yellow"), "bad": ("✘", "FAIL", "red")}
_WHOSE = {"": "", "operator": "yours to fix", "upstream": "the provider's to fix", "trivet": "Trivet's own doing"}


@click.command("doctor")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The file to check.  [default: ./trivet.toml, if there]"
)
@click.option("--call", "calls", is_flag=True, help="Ask every target for one token as well; costs what that costs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, config: Path | None, *, calls: bool, as_json: bool) -> None:
    """Check that everything is in place, and say how to put it right.

    Looks at Python, trivet.toml, each target (can it be reached, is its key there, is its price known), the routers of
    policies, engines and keys that could be used, the port, the ledger, disk, clock and file modes. Asks the targets
    for their lists of models, which costs nothing; with --call, for an answer too. Each line that is not in place says
    whose it is to fix, and how. Ends with 1 if something would stop the gateway or a target, else with 0.

    \b
    Examples:
      trivet doctor
      trivet doctor --call
      trivet doctor --config trivet.toml --json
    """
    checks = asyncio.run(_checks(config, os.environ, calls=calls))
    fine = not any(check.state == "bad" for check in checks)
    if as_json:
        told = {"ok": fine, "checks": [c._asdict() for c in checks]}
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        _print(checks)
    ctx.exit(0 if fine else 1)


async def _checks(config: Path | None, env: Mapping[str, str], *, calls: bool) -> list[Check]:
    # Who can read is looked at first: what comes later may make files, or change their modes.
    path = config or Path(env.get("TRIVET_CONFIG") or "trivet.toml")
    about_file, settings = await file.settings_checks(config, env)
    about_modes = list(_told("file modes", modes.mode_checks(settings, env, config=path)))
    checks = [file.python_check(), *about_file, *await file.found_checks(settings, env)]
    if settings is not None:
        answers = await targets.reach(settings, env)
        checks += [*credentials.credential_checks(settings, env), *(answer.check for answer in answers.values())]
        if calls:
            checks += await call.call_checks(settings, env)
        checks += [*await routers.router_checks(settings, env)]
        checks += [*targets.price_checks(settings), *_told("engine", disk.engine_checks(settings, env))]
        checks += [port.port_check(settings, env), port.key_ring_check(env), port.files_check()]
        checks += clock.witness_checks({name: a.date for name, a in answers.items() if a.date is not None})
    checks += _told("home", disk.home_checks(settings, env))
    if settings is not None:
        checks += ledger.ledger_checks(settings, env)
    return [*checks, *about_modes, *_told("clock", clock.clock_checks(time.time_ns(), home(env)))]


def _told(what: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Have what cannot be looked at told as a finding too."""
    try:
        yield from checks
    except OSError as error:
        words = f"{error.filename or 'it'} cannot be looked at: {error.strerror or error}"
        yield bad(what, words, "Run as the user whose it is, or name another place: export TRIVET_HOME=FOLDER")


def _print(checks: Iterable[Check]) -> None:
    encoding = sys.stdout.encoding or "ascii"
    pictures = "✔✘".encode(encoding, "replace") == "✔✘".encode()
    colours = not os.environ.get("NO_COLOR") and sys.stdout.isatty()
    for check in checks:
        picture, word, colour = _MARKS[check.state]
        mark = picture if pictures else word
        whose = f" ({_WHOSE[check.whose]})" if check.whose else ""
        click.echo(f"{click.style(mark, fg=colour) if colours else mark} {check.what}: {check.words}{whose}")
        for line in check.fix.splitlines():
            click.echo(f"    {line}")
