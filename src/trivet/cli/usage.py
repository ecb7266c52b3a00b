"""`trivet usage`: what was asked, what it cost, what was saved.

Not here: any sum. `ledger/report.py` adds up; this writes it down.
Invariants: money is exact; a cost that is not known is said, never counted as nothing; times are UTC and say so.
"""

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from trivet.cli.text import clean, clock, cost, dollars, table
from trivet.config import home, load, seconds
from trivet.ledger import report
from trivet.ledger.money import usd
from trivet.ledger.sqlite import folder
from trivet.types import Entry

_ENTRIES = 50
"""Shown if nothing else is said: a page or two of a terminal."""

_ROW_HEAD = ("REQUESTS", "OK", "NOT OK", "HITS", "IN", "OUT", "COST", "SAVED", "TTFT P50", "P95")
_ENTRY_HEAD = (
    "TIME (UTC)", "ID", "TENANT", "ASKED FOR", "TARGET", "STATUS", "HOW", "IN", "OUT", "COST", "SAVED", "TTFT"
)  # fmt: skip


class _Since(click.ParamType[int]):
    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Give nanoseconds since 1970 for a span that ends now, a date, or a date with a time; all UTC."""
        now_ns = time.time_ns()
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?(m|h|d)", value):
            return max(0, now_ns - round(seconds(value) * 1e9))
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a span such as 7d, 24h or 30m, nor a date such as 2026-11-01.", param, ctx)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if at.timestamp() * 1e9 > now_ns:
            self.fail(f"{value!r} is in the future.", param, ctx)
        return max(0, int(at.timestamp())) * 1_000_000_000


@click.command("usage")
@click.option(
    "--since", "since_ns", type=_Since(), default="7d", show_default=True, help="7d, 24h, 30m, or a UTC date."
)
@click.option(
    "--by", type=click.Choice(get_args(report.By)), default="policy", show_default=True, help="Group by this."
)
@click.option("--entries", is_flag=True, help="Show the requests one by one, newest first.")
@click.option("--limit", type=click.IntRange(min=1), help=f"Show at most so many.  [default: all; {_ENTRIES} entries]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: money as whole nano-dollars and as decimal text.")
@click.option("--config", type=click.Path(path_type=Path), help="Whose ledger to read.  [default: ./trivet.toml]")
def command(
    *, since_ns: int, by: report.By, entries: bool, limit: int | None, as_json: bool, config: Path | None
) -> None:
    """Show what was asked, what it cost and what was saved.

    "$0.0123 + 3 unknown" means that three more requests cost something that no price is known for: set a `price` on
    their target. SAVED is against the baseline of each policy. HITS were answered from the cache.

    \b
    Examples:
      trivet usage --since 24h --by model
      trivet usage --since 2026-11-01 --by customer --json
      trivet usage --entries --limit 10
    """
    until_ns = time.time_ns()
    path = folder(load(config, os.environ).ledger, home(os.environ))
    span: dict[str, Any] = {"since": _iso(since_ns), "until": _iso(until_ns), "timezone": "UTC"}
    if not path.is_dir():
        click.echo("Nothing is recorded yet. Try: trivet run -- python app.py", err=True)
        if not as_json:
            return
    if entries:
        found = _entries(path, since_ns=since_ns, until_ns=until_ns, limit=limit or _ENTRIES)
        _print_json(span | {"entries": [_entry_told(e) for e in found]}) if as_json else _print_entries(found)
    else:
        sums = summed(path, since_ns=since_ns, until_ns=until_ns, by=by)
        rows = [_row_told(row) for row in sums.rows[:limit]]
        _print_json(span | {"by": by, "rows": rows, "total": _row_told(sums.total)}) if as_json else _print_rows(
            sums, by=by, limit=limit
        )
    if not as_json:
        click.echo(f"\n{clock(since_ns)} to {clock(until_ns)} UTC")


def summed(path: Path, *, since_ns: int, until_ns: int, by: report.By) -> report.Report:
    """Ask the ledger; one that does not exist yet has nothing in it."""
    if not path.is_dir():
        return report.Report([], report.Row(name=""))
    return report.usage(path, since_ns=since_ns, until_ns=until_ns, by=by, tell=_tell)


def _entries(path: Path, *, since_ns: int, until_ns: int, limit: int) -> list[Entry]:
    if not path.is_dir():
        return []
    return report.entries(path, since_ns=since_ns, until_ns=until_ns, limit=limit, tell=_tell)


def _print_rows(sums: report.Report, *, by: str, limit: int | None) -> None:
    shown = sums.rows[:limit]
    rows = [(clean(row.name) or "-", *_row_cells(row)) for row in shown]
    table((by.upper(), *_ROW_HEAD), [*rows, ("total", *_row_cells(sums.total))], numbers=range(1, 11))
    if len(shown) < len(sums.rows):
        click.echo(f"({len(sums.rows) - len(shown)} more in the total: --limit)")


def _row_cells(row: report.Row) -> tuple[str, ...]:
    bad = [f"{n} {word}" for word in ("refused", "failed", "cancelled") if (n := getattr(row, word))]
    return (
        f"{row.requests:,}",
        f"{row.ok:,}",
        ", ".join(bad) or "0",
        f"{row.hits:,}",
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        cost(row.cost_nanos, unknown=row.unknown_costs),
        "-" if row.saved_nanos is None else dollars(row.saved_nanos),
        _ms(row.ttft_p50_ns),
        _ms(row.ttft_p95_ns),
    )


def _print_entries(found: list[Entry]) -> None:
    table(_ENTRY_HEAD, [_entry_cells(entry) for entry in found], numbers=range(7, 12))


def _entry_cells(entry: Entry) -> tuple[str, ...]:
    outcome = entry.outcome
    usage = outcome.usage
    how = f"{entry.cache} hit" if entry.decision == "serve" else entry.decision
    return (
        clock(entry.at_ns),
        clean(entry.id),
        clean(entry.tenant),
        clean(entry.model),
        clean(outcome.target) or "-",
        outcome.status if outcome.status == "ok" else f"{outcome.status} {outcome.http_status}",
        how,
        f"{usage.input_tokens:,}" if usage else "-",
        f"{usage.output_tokens:,}" if usage else "-",
        cost(outcome.cost_nanos, unknown=0) if not outcome.cost_unknown else "unknown",
        dollars(sum(entry.saved.values())) if entry.saved else "-",
        _ms(outcome.timing.ttft_ns or None),
    )


def _ms(nanos: int | None) -> str:
    if nanos is None:
        return "-"
    return f"{nanos / 1e6:,.0f} ms" if nanos >= 10_000_000 else f"{nanos / 1e6:.2f} ms"


def _row_told(row: report.Row) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(row)
    for name in ("cost", "baseline", "saved"):
        nanos = told[f"{name}_nanos"]
        told[f"{name}_usd"] = None if nanos is None else usd(nanos)
    return told


def _entry_told(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(entry)
    nanos = entry.outcome.cost_nanos
    told["cost_usd"] = None if nanos is None else usd(nanos)
    return told


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC).isoformat().replace("+00:00", "Z")


def _print_json(document: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def _tell(line: str) -> None:
    click.echo(f"trivet: {clean(line, most=300)}", err=True)
