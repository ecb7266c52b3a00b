"""`trivet cache`: what is kept, how much it helped, and taking it off.

Not here: anything about answers themselves (`cache/semantic/`), sums of the ledger (`ledger/report.py`).
Invariant: nothing is taken off that was not shown with `--dry-run`, given the same words.
"""

import os
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from trivet.cache.semantic import contents, watch
from trivet.cache.semantic.shelf import Answer
from trivet.cache.semantic.tier import place
from trivet.cli.text import clean, clock, dollars, table
from trivet.cli.trial import evaluate, tune
from trivet.config import home, load, seconds
from trivet.errors import ConfigError
from trivet.ledger import report
from trivet.ledger.sqlite import folder

_SHOWN = 20
"""Answers of an invalidation that are listed."""


@click.group("cache")
def command() -> None:
    """Look into the cache, measure it, tune it, and take answers off.

    \b
    Examples:
      trivet cache stats
      trivet cache invalidate --tag prices --dry-run
    """


command.add_command(evaluate)
command.add_command(tune)


@command.command("stats")
@click.option("--since", default="7d", show_default=True, help="Of hits: a span such as 7d, 24h or 30m.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--config", type=click.Path(path_type=Path), help="Whose ledger to read.  [default: ./trivet.toml]")
def stats(*, since: str, as_json: bool, config: Path | None) -> None:
    """Show what is kept, what share of the requests it answered, and how well it keeps its promise.

    WRONG are comparisons in which another answer came back. ERROR is the share of all answers that were wrong hits, as
    audits measured it lately, with its 95 % interval; a gateway writes it down each ten seconds in which it learns.
    """
    now_ns = time.time_ns()
    try:
        since_ns = max(0, now_ns - round(seconds(since) * 1e9))
    except (AttributeError, ValueError):
        raise ConfigError(f"--since {since!r} is no span such as 7d, 24h or 30m.") from None
    file, ledger = place(home(os.environ)), folder(load(config, os.environ).ledger, home(os.environ))
    kept = contents.held(file, now_ns=now_ns) if file.exists() else []
    watched = contents.watched(file) if file.exists() else {}
    used = report.cache_use(ledger, since_ns=since_ns, until_ns=now_ns, tell=_tell) if ledger.is_dir() else []
    if as_json:
        found = {policy: _looked(state) for policy, state in watched.items()}
        told = {"since": since, "kept": msgspec.to_builtins(kept), "used": msgspec.to_builtins(used), "watched": found}
        _print_json(told)
        return
    if not kept and not used:
        click.echo("No policy has a cache that was used yet.", err=True)
        return
    rows = [
        (
            clean(use.policy),
            f"{use.requests:,}",
            _share(use.exact, use.requests),
            _share(use.semantic, use.requests),
            f"{use.audits:,}",
            f"{use.judged:,}",
            f"{use.embeds:,} ({dollars(use.embed_nanos)})" if use.embeds else "-",
            "-" if use.saved_nanos is None else dollars(use.saved_nanos),
        )
        for use in used
    ]
    table(
        ("POLICY", "REQUESTS", "EXACT", "SEMANTIC", "AUDITS", "JUDGED", "VECTORS", "SAVED"), rows, numbers=range(1, 8)
    )
    if kept:
        click.echo()
        held = [
            (
                clean(one.policy),
                f"{one.answers:,}",
                f"{one.groups:,}",
                f"{one.bytes / 1e6:,.1f} MB",
                f"{one.right:,}",
                f"{one.wrong:,}",
                clock(one.oldest_ns),
            )
            for one in kept
        ]
        head = ("ON THE DISK", "ANSWERS", "DIFFERENT", "SIZE", "RIGHT", "WRONG", "OLDEST (UTC)")
        table(head, held, numbers=range(1, 6))
    _print_watched(watched)


def _looked(state: watch.State) -> dict[str, Any]:
    error, low, high = state.error
    return {
        "at_ns": state.at_ns,
        "max_error": state.promise,
        "audits": state.audits,
        "audits_wrong": state.audits_wrong,
        "error": error,
        "error_low": low,
        "error_high": high,
        "broken": state.alarm.broken,
        "off": [{"tenant": s.tenant, "namespace": s.namespace, "why": g.off} for s, g in state.gains if g.off],
    }


def _print_watched(watched: dict[str, watch.State]) -> None:
    rows = []
    for policy, state in sorted(watched.items()):
        error, low, high = state.error
        promised = state.promise < 1
        rows.append(
            (
                clean(policy),
                f"{state.promise:.2%}" if promised else "-",
                f"{state.audits:,}",
                f"{error:.2%}" if state.audits else "-",
                f"{low:.2%} to {high:.2%}" if state.audits else "-",
                "" if not promised or not state.audits else "BROKEN" if state.alarm.broken else "kept",
            )
        )
    if rows:
        click.echo()
        table(("PROMISE", "MAX ERROR", "AUDITS", "ERROR", "95 % INTERVAL", ""), rows, numbers=range(1, 5))
    if any(state.alarm.broken for state in watched.values()):
        click.echo(f"\n{watch.WHAT_TO_DO}")
    off = [
        (clean(policy), clean(space.tenant), clean(space.namespace), gain.off)
        for policy, state in sorted(watched.items())
        for space, gain in state.gains
        if gain.off
    ]
    if off:
        click.echo()
        table(("LIKENESS IS OFF", "TENANT", "NAMESPACE", "IT DID NOT PAY"), off)


@command.command("invalidate")
@click.option("--tag", "tags", multiple=True, help="With this tag (`x-trivet-cache-tags`).")
@click.option("--namespace", help="In this namespace (`x-trivet-namespace`).")
@click.option("--id", "entry_id", help="The answer of this request (`x-trivet-id`).")
@click.option("--policy", help="Kept for this policy.")
@click.option("--tenant", help="Of this tenant.")
@click.option("--all", "everything", is_flag=True, help="All there is.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def invalidate(
    *,
    tags: tuple[str, ...],
    namespace: str | None,
    entry_id: str | None,
    policy: str | None,
    tenant: str | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take answers off that all the given words apply to. Running gateways hear of it within a tenth of a second.

    This is about the modes beyond `exact`; that one keeps its answers in memory, until a restart.

    \b
    Examples:
      trivet cache invalidate --tag prices --dry-run
      trivet cache invalidate --policy support --tenant acme
      trivet cache invalidate --all
    """
    if not (tags or everything) and (namespace, entry_id, policy, tenant) == (None,) * 4:
        raise ConfigError("Say what to take off: --tag, --namespace, --id, --policy, --tenant, or --all.")

    def wanted(answer: Answer) -> bool:
        return (
            (not tags or not set(tags).isdisjoint(answer.tags))
            and namespace in (None, answer.namespace)
            and entry_id in (None, answer.origin_id)
            and policy in (None, answer.policy)
            and tenant in (None, answer.tenant)
        )

    file = place(home(os.environ))
    gone = contents.forget(file, wanted=wanted, dry_run=dry_run) if file.exists() else []
    if as_json:
        _print_json({"dry_run": dry_run, "count": len(gone), "answers": [_told(a) for a in gone[:_SHOWN]]})
        return
    if gone:
        shown = [
            (clean(a.origin_id), clean(a.tenant), clean(a.policy), clean(a.kept.text, most=60)) for a in gone[:_SHOWN]
        ]
        table(("ID", "TENANT", "POLICY", "QUESTION"), shown)
    more = f" ({len(gone) - _SHOWN} more are not listed)" if len(gone) > _SHOWN else ""
    click.echo(f"{len(gone):,} answers {'would be' if dry_run else 'were'} taken off{more}.", err=True)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.origin_id,
        "tenant": answer.tenant,
        "policy": answer.policy,
        "namespace": answer.namespace,
        "tags": list(answer.tags),
        "question": answer.kept.text,
    }


def _print_json(document: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def _tell(line: str) -> None:
    click.echo(f"trivet: {clean(line, most=300)}", err=True)
