"""`trivet route use`, `versions` and `rollback`: which router is in force, and the way back.

Not here: files and history (`routing/learned/versions.py`).
"""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from trivet import build
from trivet.cli.text import table
from trivet.cli.trial.evaluate import print_json
from trivet.config import Settings, load
from trivet.errors import ConfigError

_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Whose policies have to hold.  [default: ./trivet.toml, if there]"
)


@click.command("use")
@click.argument("router", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--as", "path", required=True, type=click.Path(path_type=Path), help="The path that policies name.")
@_CONFIG
def use(*, router: Path, path: Path, config: Path | None) -> None:
    """Put a router in force, in one step; what was in force is kept, and `trivet route rollback` brings it back.

    FILE is a router. Policies of trivet.toml that name the path are planned with it first: if one of them could not
    hold what it says, nothing is changed. A gateway that runs takes the new router within a second.

    \b
    Examples:
      trivet route use router2.trv --as router.trv
      trivet route use router2.trv --as /etc/trivet/router.trv --config /etc/trivet/trivet.toml
    """
    from trivet.routing.learned import versions

    settings = load(config, os.environ)
    told = _tried(settings, router, path)
    digest = versions.use(router, path, at=_now())
    for line in told:
        click.echo(line, err=True)
    click.echo(f"In force: {path} (sha256 {digest[:12]}).")


@click.command("versions")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def versions(*, path: Path, as_json: bool) -> None:
    """List the routers that were in force at a path, newest first.

    \b
    Examples:
      trivet route versions router.trv
      trivet route versions router.trv --json
    """
    from trivet.routing.learned.versions import versions

    found = versions(path)
    if not found:
        raise ConfigError(f"There is no router at {path}, and none was put in force there.")
    if as_json:
        print_json({"versions": msgspec.to_builtins(found)})
        return
    rows = [
        (
            v.digest[:12],
            "in force" if v.in_force else "kept" if v.kept else "gone",
            v.at or "by hand",
            v.trained,
            f"{v.models:,}",
            f"{v.prompts:,}",
        )
        for v in found
    ]
    table(("SHA256", "STATE", "PUT IN FORCE", "TRAINED", "MODELS", "PROMPTS"), rows, numbers=(4, 5))


@click.command("rollback")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def rollback(*, path: Path) -> None:
    """Put the router back in force that was before.

    Again: the one before that. A gateway that runs takes it within a second.

    \b
    Examples:
      trivet route rollback router.trv
    """
    from trivet.routing.learned import versions

    digest = versions.rollback(path, at=_now())
    click.echo(f"In force again: {path} (sha256 {digest[:12]}).")


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def _tried(settings: Settings, router: Path, path: Path) -> list[str]:
    """Plan the policies that name the path with another file; gives what they do with it. Raises ConfigError."""
    meant = path.expanduser().absolute()
    policies = {
        name: msgspec.structs.replace(policy, router=str(router))
        for name, policy in settings.policies.items()
        if policy.router and Path(policy.router).expanduser().absolute() == meant
    }
    told: list[str] = []
    if policies:
        asyncio.run(build.offline(msgspec.structs.replace(settings, policies=policies), os.environ, tell=told.append))
    return told
