"""What is believed before the first verdict: read from the files that `tools/prior.py` fitted, one for each embedder.

Not here: how they were fitted. An embedder that has none gets the prior "unknown", which trusts cosines less.
Invariant: a prior has one number for each of `features.NAMES`, in that order.
"""

from importlib.resources import files

import msgspec

from trivet.cache.semantic.features import NAMES


class Number(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is believed of one number of a look."""

    name: str
    mean: float
    """In the labelled questions: it is taken off."""
    scale: float
    """Its standard deviation there: it is divided by it."""
    weight: float
    variance: float
    """Of the weight: how far it may be off in other traffic."""


class Prior(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prior for one embedder."""

    name: str
    """Of the embedder whose vectors it is about."""
    version: int
    made_from: str
    numbers: tuple[Number, ...]
    typical: tuple[float, ...]
    """Risks of requests in typical traffic, from low to high: 0 an exact hit, 2 nothing to serve."""


def prior(embedder: str) -> Prior:
    """Read the prior of an embedder, by its name; that of "unknown" if there is none."""
    folder = files("trivet.cache.semantic") / "priors"
    file = folder / f"{embedder}.json"
    # An embedder's name comes from a plugin or an address: it is looked up among ours, not opened.
    known = any(entry.name == f"{embedder}.json" for entry in folder.iterdir())
    return parse((file if known else folder / "unknown.json").read_bytes())


def parse(text: bytes) -> Prior:
    """Read a prior. Raises ValueError: it is not about the numbers of this version."""
    made = msgspec.json.decode(text, type=Prior)
    names = tuple(number.name for number in made.numbers)
    if names != NAMES:
        raise ValueError(f"The prior {made.name!r} is about {names}, and this version works with {NAMES}.")
    return made
