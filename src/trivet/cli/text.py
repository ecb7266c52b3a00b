"""How money, times and names are written for people.

Invariants: money is written from whole nano-dollars without a float in between, so a sum on the screen is the sum in
the ledger; text that came from clients cannot move the cursor, change colours or hide itself.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trivet.ledger.money import usd
from trivet.types import Nanos

_PLAIN_WIDTH = 240
"""Columns of a table in a pipe or file: wide enough that nothing is cut."""


def dollars(nanos: int) -> str:
    """Write nano-dollars exactly, with at least two decimals: `$0.0001512`, `$12.50`, `-$0.01`."""
    whole, _, cents = usd(Nanos(abs(nanos))).partition(".")
    return f"{'-' if nanos < 0 else ''}${whole}.{cents.ljust(2, '0')}"


def cost(nanos: int | None, *, unknown: int) -> str:
    """Write a cost that may not be known for all requests: `$0.0123 + 3 unknown`; `-` where nothing was to pay."""
    if nanos is None:
        return f"{unknown} unknown" if unknown else "-"
    return f"{dollars(nanos)} + {unknown} unknown" if unknown else dollars(nanos)


def clean(text: str, *, most: int = 60) -> str:
    """Make a name from outside safe for a terminal: control and invisible characters are written out, not obeyed."""
    safe = "".join(f"\\x{ord(c):02x}" if unicodedata.category(c)[0] == "C" else c for c in text)
    return safe if len(safe) <= most else safe[: most - 3] + "..."


def clock(at_ns: int) -> str:
    """Write a time of day, always in UTC: the columns of a report say so once."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers: Iterable[int] = ()) -> None:
    """Print a table on stdout: with rules and bold heads on a terminal, plain columns elsewhere."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH, no_color=True, highlight=False)
    right = set(numbers)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for i, title in enumerate(head):
        shown.add_column(title, justify="right" if i in right else "left", no_wrap=not console.is_terminal)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    # Without the spaces that pad the last column: people paste this into files.
    with console.capture() as taken:
        console.print(shown)
    console.file.write(re.sub(r" +$", "", taken.get(), flags=re.MULTILINE))
