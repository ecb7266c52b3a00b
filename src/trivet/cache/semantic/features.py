"""A question and a kept one in numbers: how alike they are in vectors and in words, and what is known around them.

Not here: what the numbers are worth (`belief.py`), what forbids a hit outright (`words.py`).
Invariants: the same look gives the same numbers; all are finite; none holds anything of an answer or a tenant.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, log1p

from trivet.cache.semantic.look import NEIGHBOURS, Near
from trivet.cache.semantic.words import Reading

PAIR = (
    "one", "cosine", "log(1.02 - cosine)", "cosine squared", "shared", "only left", "only right", "swapped", "numbers",
    "negation", "names", "question differs", "question missing", "kind missing", "order", "length ratio", "length",
)  # fmt: skip
"""What the two texts say."""

EVIDENCE = ("margin", "agreement", "others of the group", "size of the group", "record", "residual", "alone")
"""What the neighbourhood says."""

ALONE = ("cosine", "shared", "only left", "only right", "swapped", "length")
"""Of the pair: what counts for more, or less, where there is no neighbourhood yet."""

NAMES = (*PAIR, *EVIDENCE, *(f"alone, {name}" for name in ALONE))

_ALONE_AT = tuple(PAIR.index(name) for name in ALONE)

_NEARER = 15.0
"""How much nearer neighbours count for more: a cosine 0.05 lower counts half."""

_LONELY_MARGIN = 0.2
"""Taken for the margin where fewer than all neighbours were found: the next would be no nearer than that."""


def numbers(asked: Reading, near: Sequence[Near], chosen: int, known: Reading) -> list[float]:
    """Give the numbers of `NAMES`, for one of the neighbours, whose text reads `known`."""
    made = pair(asked, known, near[chosen].cosine)
    around = evidence(near, chosen)
    return [*made, *around, *(around[-1] * made[i] for i in _ALONE_AT)]


def pair(a: Reading, b: Reading, cosine: float) -> list[float]:
    """Give the numbers of `PAIR` for two texts; the same in both orders, but for rounding."""
    of_a, of_b = a.stems, b.stems
    lost_a = [w for s, w in of_a.items() if s not in of_b]
    lost_b = [w for s, w in of_b.items() if s not in of_a]
    total = sum(of_a.values()) + sum(of_b.values()) or 1.0
    least, most = sorted((sum(lost_a), sum(lost_b)))
    heavy_a, heavy_b = sum(w == 1.0 for w in lost_a), sum(w == 1.0 for w in lost_b)
    names = len(a.names - b.bag) + len(b.names - a.bag)
    short, long = sorted((max(len(a.words), 1), max(len(b.words), 1)))
    return [
        1.0,
        cosine,
        log(1.02 - min(cosine, 1.0)),
        cosine * cosine,
        1.0 - (least + most) / total,
        log1p(least),
        log1p(most),
        float(heavy_a == 1 and heavy_b == 1),
        float(bool(a.numbers or b.numbers)),
        float((a.negations - b.negations) % 2),
        min(names, 3) / 3,
        float(a.question != b.question and bool(a.question) and bool(b.question)),
        float(bool(a.question) != bool(b.question)),
        float(len(a.kinds.keys() ^ b.kinds.keys()) > 0),
        _exchanged(a, b),
        log(long / short),
        log(short),
    ]


def _exchanged(a: Reading, b: Reading) -> float:
    """Give the share of words in both that come in another order, in [0, 1]."""
    place = {word: i for i, word in enumerate(b.words)}
    at = [place[word] for word in a.words if word in place]
    return sum(one > two for one, two in pairwise(at)) / (len(at) - 1) if len(at) > 1 else 0.0


def evidence(near: Sequence[Near], chosen: int) -> list[float]:
    """Give the numbers of `EVIDENCE` for one of the neighbours, nearest first."""
    kept, cosine = near[chosen].kept, near[chosen].cosine
    top = near[0].cosine
    others = [n.cosine for n in near if n.kept.group != kept.group]
    if others:
        margin = cosine - others[0]
    else:
        margin = cosine - min(near[-1].cosine, cosine) + (0.0 if len(near) >= NEIGHBOURS else _LONELY_MARGIN)
    total = agreeing = drift = 0.0
    fellows = -1
    for neighbour in near:
        other = neighbour.kept
        counts = exp(_NEARER * (neighbour.cosine - top))
        total += counts
        drift += counts * other.residual
        if other.group == kept.group:
            agreeing += counts
            fellows += 1
    record = (kept.right - 2.0 * kept.wrong) / (kept.right + kept.wrong + 2.0)
    return [
        margin,
        agreeing / (total + 0.3),  # 0.3: one neighbour alone does not agree with everybody
        log1p(fellows),
        log1p(max(kept.group_size - 1, 0)),
        record,
        drift / (total + 0.5),
        1.0 - len(near) / NEIGHBOURS,
    ]
