"""`trivet route labels`: what live traffic has told of targets: looked at, written out for training, purged.

Not here: how labels come and are kept (`labels/`).
"""

import os
from pathlib import Path

import click

from trivet.build import SystemClock
from trivet.cli.text import clean, dollars, table
from trivet.cli.trial.evaluate import print_json
from trivet.config import home
from trivet.errors import ConfigError
from trivet.labels import report
from trivet.labels.file import FILE, SOURCES

_SPANS_NS = {"h": 3_600_000_000_000, "d": 86_400_000_000_000}


@click.group("labels")
def labels() -> None:
    """Look at the labels that live traffic gave, write them out for training, and purge them.

    A policy with `labels.keep = true` keeps the prompts it was asked and what is known of their answers: feedback of
    clients, and shadows. The text of prompts is in labels.db below TRIVET_HOME, and nowhere else.

    \b
    Examples:
      trivet route labels stats
      trivet route labels export outcomes/ --tenant acme
      trivet route train outcomes/ --out router.trivet
      trivet route labels purge --older-than 30d
    """


@labels.command("stats")
@click.option("--tenant", help="Of this tenant alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(*, tenant: str | None, as_json: bool) -> None:
    """Count labels by policy, target and source, with their mean score and how often targets agree.

    Intervals are Wilson's, of 95 %. Money for shadows is that of all tenants; it is counted by days of UTC.

    \b
    Examples:
      trivet route labels stats
      trivet route labels stats --tenant acme --json
    """
    found = report.stats(_file(), tenant=tenant, now_ns=SystemClock().now_ns())
    if as_json:
        print_json(report.told(found))
        return
    rows = [
        (
            clean(p.policy),
            f"{p.kept:,}",
            f"{p.compared:,}",
            "-" if p.agreed is None else f"{p.agreed:.1%}",
            _between(p.low, p.high, p.compared),
            dollars(p.spent_today_nanos),
            dollars(p.spent_nanos),
        )
        for p in found.policies
    ]
    table(("POLICY", "KEPT", "COMPARED", "AGREE", "95 %", "SPENT TODAY", "SPENT"), rows, numbers=range(1, 7))
    if found.scores:
        click.echo()
        scored = [
            (
                clean(s.policy),
                clean(s.target),
                f"{s.source} (reference)" if s.reference else s.source,
                f"{s.labels:,}",
                f"{s.mean:.3f}",
                "" if s.reference else _between(s.low, s.high, s.labels),
            )
            for s in found.scores
        ]
        table(("POLICY", "TARGET", "SOURCE", "LABELS", "MEAN SCORE", "95 %"), scored, numbers=range(3, 6))


@labels.command("export")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--tenant", help="Whose; needed where several have labels. They are never put together.")
@click.option("--policy", help="Of this policy alone.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Of this kind; repeat it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(*, folder: Path, tenant: str | None, policy: str | None, sources: tuple[str, ...], as_json: bool) -> None:
    """Write prompts.jsonl and outcomes.jsonl into DIR, as `trivet route train` reads them.

    One outcome for each prompt and target: feedback is believed before a model, and a model before a comparison of
    words. Shadows are drawn by chance, feedback is not: a promise (`trivet route calibrate`) may rest on shadows
    alone. Ends with 4 where there is none.

    \b
    Examples:
      trivet route labels export outcomes/
      trivet route labels export outcomes/ --tenant acme --policy support
      trivet route labels export drawn/ --source shadow --source judge
    """
    now_ns = SystemClock().now_ns()
    done = report.export(_file(), folder, tenant=tenant, policy=policy, sources=sources or SOURCES, now_ns=now_ns)
    if as_json:
        print_json({"out": str(folder), **done._asdict()})
    elif done.prompts:
        click.echo(f"{done.prompts:,} prompts and {done.outcomes:,} outcomes written: {folder}.", err=True)
    if not done.prompts:
        click.echo("There are no labels yet, so nothing was written.", err=True)
        raise click.exceptions.Exit(4)


@labels.command("purge")
@click.option("--tenant", help="Of this tenant.")
@click.option("--policy", help="Of this policy.")
@click.option("--id", "id_", help="Of the request with this x-trivet-id.")
@click.option("--older-than", help="Asked longer ago, such as 12h or 30d.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
def purge(*, tenant: str | None, policy: str | None, id_: str | None, older_than: str | None, everything: bool) -> None:
    """Delete prompts and their labels, for good: what several options say has to be so together.

    The text is overwritten in the file. What was spent on shadows stays counted. A running gateway goes on, and keeps
    what is asked from now on.

    \b
    Examples:
      trivet route labels purge --tenant acme
      trivet route labels purge --policy support --older-than 30d
      trivet route labels purge --all
    """
    if everything == any(word is not None for word in (tenant, policy, id_, older_than)):
        raise ConfigError("Say what to purge: --tenant, --policy, --id or --older-than; or --all, alone.")
    before_ns = None if older_than is None else SystemClock().now_ns() - _span_ns(older_than)
    gone, is_clean = report.purge(_file(), tenant=tenant, policy=policy, id_=id_, before_ns=before_ns)
    click.echo(f"{gone:,} requests purged, with their prompts and labels.", err=True)
    if not is_clean:
        click.echo(f"{_file()}-wal is in use and may still have text of theirs: run this again.", err=True)
        raise click.exceptions.Exit(1)


def _span_ns(span: str) -> int:
    number, unit = span[:-1], span[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 7) or unit not in _SPANS_NS:
        raise ConfigError(f"--older-than is {span[:40]!r}. Write hours or days, such as 12h or 30d.")
    return int(number) * _SPANS_NS[unit]


def _between(low: float, high: float, n: int) -> str:
    return f"{low:.1%} to {high:.1%}" if n else ""


def _file() -> Path:
    return home(os.environ) / FILE
