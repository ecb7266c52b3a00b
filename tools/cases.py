"""Questions that look alike and are not, written by us: `cases.txt` read. Priors are fitted on them among others."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A question, and what it asks for."""

    text: str
    cls: str
    family: int


def cases() -> Iterator[Case]:
    """Give every question of every family, family by family."""
    lines = (Path(__file__).parent / "cases.txt").read_text().splitlines()
    for number, line in enumerate(line for line in lines if not line.startswith("#")):
        _, ways, abouts = (part.strip() for part in line.split(" | "))
        for about, way in product(abouts.split("; "), ways.split("; ")):
            yield Case(way.format(about), f"case:{number}:{about}", number)
