"""`trivet keys`: the keys that clients of the gateway show.

Not here: how keys are kept and checked (`ledger/keys.py`).
Invariant: a key is written once, on stdout and alone, so that it can be piped to where it belongs.
"""

import os
from pathlib import Path

import click
import msgspec

from trivet.build import SystemClock
from trivet.cli.text import clean, clock, table
from trivet.config import home
from trivet.errors import ConfigError
from trivet.ledger import keys
from trivet.types import Permit


@click.group("keys")
def command() -> None:
    """Make, list and revoke keys for the clients of the gateway.

    Once there is a key, every request needs one, and `trivet serve` may listen beyond this machine.

    \b
    Examples:
      trivet keys create laptop --tenant acme
      trivet keys list
      trivet keys revoke laptop
    """


@command.command("create")
@click.argument("name")
@click.option("--tenant", required=True, help="Whom its requests are counted for; answers are never shared between.")
@click.option("--model", "models", multiple=True, help="A name it may ask for; repeat it. Without: all.")
@click.option("--target", "targets", multiple=True, help="A target that may be called for it; repeat it. Without: all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, tenant: str, *, models: tuple[str, ...], targets: tuple[str, ...], as_json: bool) -> None:
    """Make a key and print it, this once; only its digest is kept.

    With --model it can ask for those policies, targets and aliases alone (openai/* is every model of a wildcard
    target); with --target no other target is ever called for it, whatever it asks for.

    \b
    Examples:
      trivet keys create laptop --tenant acme
      trivet keys create app --tenant acme --model support --target small --target large
      export OPENAI_API_KEY="$(trivet keys create ci --tenant acme)"
    """
    if not name.strip() or not tenant.strip():
        raise ConfigError("A key needs a NAME and a --tenant that are not empty.")
    if not all(given.strip() for given in (*models, *targets)):
        raise ConfigError("A --model or --target needs a name that is not empty; leave it out to allow all.")
    folder = home(os.environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make {folder}: {error.strerror}. Set TRIVET_HOME to another folder.") from error
    permit = Permit(models=tuple(dict.fromkeys(models)), targets=tuple(dict.fromkeys(targets)))
    made = keys.create(folder / keys.FILE, name=name, tenant=tenant, clock=SystemClock(), permit=permit)
    if as_json:
        _print_json({**_told(made.key), "secret": made.secret.reveal()})
    else:
        click.echo(f"Key {clean(name)} of tenant {clean(tenant)}. It is shown this once: keep it.", err=True)
        click.echo(made.secret.reveal())


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List the keys, the revoked ones too. Times are UTC."""
    found = keys.listing(_file())
    if as_json:
        _print_json([_told(key) for key in found])
        return
    if not found:
        click.echo("No keys: the gateway is open to every program on this machine, and to nobody else.", err=True)
        return
    rows = [
        (clean(k.name), clean(k.tenant), k.id, f"...{k.last4}", *_allowed(k.permit), clock(k.created_ns), _ended(k))
        for k in found
    ]
    table(("NAME", "TENANT", "ID", "KEY", "MODELS", "TARGETS", "MADE (UTC)", "REVOKED (UTC)"), rows)


@command.command("revoke")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def revoke(name: str, *, as_json: bool) -> None:
    """End the key called NAME (or with that id), for good. A running gateway refuses it within a second."""
    key = keys.revoke(_file(), name, clock=SystemClock())
    if as_json:
        _print_json(_told(key))
    else:
        click.echo(f"Key {clean(key.name)} ({key.id}) is revoked.", err=True)


def _file() -> Path:
    return home(os.environ) / keys.FILE


def _allowed(permit: Permit) -> tuple[str, str]:
    """Say what a key may ask for and whom it may have called."""
    return clean(",".join(permit.models) or "all"), clean(",".join(permit.targets) or "all")


def _ended(key: keys.Key) -> str:
    return "" if key.revoked_ns is None else clock(key.revoked_ns)


def _told(key: keys.Key) -> dict[str, object]:
    told = {name: getattr(key, name) for name in key.__struct_fields__ if name != "permit"}
    return {**told, "models": key.permit.models, "targets": key.permit.targets}


def _print_json(document: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
