"""What a router file says of the targets of a pool: an estimate for any text, and the labels that a promise rests on.

Targets are known by their own name or else by their model's, whichever the router was trained with. Where all of them
were there in training their heads are asked, compiled: microseconds. Where one was enrolled later all are estimated
from their skills, so that they can be compared: some tens of microseconds. Or, where a policy says so, by clusters.

The labels are those of the file's calibration (`calibration.py`) where it has any for this pool, else the outcomes of
training, as predicted by weights that had not seen them; these are weighed as if whole domains had been drawn.

Not here: what is held and what is chosen (`pool/plan.py`, `router.py`).
Invariants: `read` does no I/O, takes no locks, and never raises; columns of the evidence are in the order
of `names`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.learned.features import Space, words
from trivet.routing.learned.learned import Learned
from trivet.routing.pool import clusters
from trivet.routing.pool import pool as pools
from trivet.routing.pool.logistic import Floats
from trivet.routing.pool.plan import Evidence
from trivet.routing.pool.pool import Family, Pool
from trivet.routing.triangle import calibration
from trivet.seams import Profile


class Basis(NamedTuple):
    """What is known of a pool."""

    names: tuple[str, ...]
    """Targets."""
    read: Callable[[str], tuple[Sequence[float], float]]
    """A text to the chance of each target to be right, in [0, 1] (of two targets what counts is the difference), and
    the share of its words that training or the embedder's vocabulary has, in [0, 1]."""
    evidence: Evidence
    of: str
    """What the evidence is, for people."""
    digest: str
    """Of the router file."""


By = Literal["learned", "clusters"]


def basis(router: Learned, models: Mapping[str, str], profiles: Mapping[str, Profile], *, by: By = "learned") -> Basis:
    """Gather what is known of a pool.

    Args:
        models: the model of each target, in the order of the pool.
        by: whether targets are estimated by heads and skills, or by clusters.
        profiles: what was measured of targets; costs where the outcomes have none, and times.

    Raises:
        ConfigError: the router does not know one of them, or all but one.
    """
    names = tuple(models)
    known = Pool(()) if not _has_pool(router) else pools.load(router.others)
    called = [_called(name, models[name], router, known) for name in names]
    trained = all(name in router.models for name in called)
    labels = calibration.labels(router, called, by=by)
    if by == "clusters":
        made = _of_clusters(router, called, needed=labels is None)
    else:
        made = _of_heads(router, called) if trained else _of_skills(known, pools.load_space(router.others), called)
    evidence, of = (made.evidence, "the outcomes of training") if labels is None else (labels, "calibration")
    costs = _costs(evidence.costs, names, profiles, _usual(known, called))
    return Basis(
        names=names,
        read=made.read,
        evidence=evidence._replace(
            names=names, costs=costs, ttfts={name: profiles[name].ttfts_s for name in names if name in profiles}
        ),
        of=of,
        digest=router.digest,
    )


class _Made(NamedTuple):
    read: Callable[[str], tuple[Sequence[float], float]]
    evidence: Evidence


def _has_pool(router: Learned) -> bool:
    return any(name.startswith(pools.PREFIX) for name in router.others)


def _called(target: str, model: str, router: Learned, known: Pool) -> str:
    """Say by which name the router knows a target."""
    names = {*router.models, *known.names}
    for name in (target, model):
        if name in names:
            return name
    try:
        router.place(target)
    except ConfigError as error:
        raise ConfigError(f"{error} (Target {target!r} may also be known by its model, {model!r}.)") from None
    raise AssertionError


def _common(router: Learned, models: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the prompts of training that all of these answered, [n], and where their outcomes are, [n, models]."""
    e = router.evidence
    at = [np.flatnonzero(e.model == router.place(name)) for name in models]
    prompts = e.prompt[at[0]]
    for rows in at[1:]:
        prompts = np.intersect1d(prompts, e.prompt[rows], assume_unique=True)
    return prompts, np.stack([rows[np.searchsorted(e.prompt[rows], prompts)] for rows in at], 1)


def _evidence(router: Learned, models: Sequence[str], estimates: Callable[[NDArray[np.int64]], Floats]) -> Evidence:
    """Gather the outcomes of training; `estimates` gives those of some outcomes, [n, models]."""
    prompts, place = _common(router, models)
    scores = router.evidence.score[place].astype(float)
    return Evidence(
        names=tuple(models),
        estimates=estimates(place),
        costs=np.full(scores.shape, np.nan),
        scores=scores,
        groups=router.evidence.domain[prompts].astype(np.int64),
    )


def _of_heads(router: Learned, models: Sequence[str]) -> _Made:
    e = router.evidence
    evidence = _evidence(
        router,
        models,
        lambda at: router.chances(models, e.seen[at].astype(float), e.ease[e.prompt[at[:, 0]]].astype(float)),
    )
    if len(models) != 2:
        return _Made(router.pool(models).read, evidence)
    pair = router.pair(*models)

    def of_two(text: str) -> tuple[Sequence[float], float]:
        (_, p_large, gain), known = pair.read(text)
        return (p_large + gain, p_large), known

    return _Made(of_two, evidence)


def _of_skills(known: Pool, space: Space, models: Sequence[str]) -> _Made:
    parts = [family for family in known.families if set(models) <= set(family.names)]
    if not parts:
        raise ConfigError(
            f"The router has seen {', '.join(models)} on no prompts of one kind, so they cannot be compared. Enrol "
            "them with outcomes on prompts that the others were tried on."
        )
    return _Made(_Skilled(parts, space, models), known.gathered(parts, models, fresh=None))


def _of_clusters(router: Learned, models: Sequence[str], *, needed: bool) -> _Made:
    """Estimate by clusters; `needed`: there are no labels but those of training."""
    known = clusters.load(router.others)
    rates = known.rates[[known.place(name) for name in models]]
    none = np.zeros((0, len(models)))
    evidence = Evidence(tuple(models), none, none, none)
    seen = router.others[clusters.NAME].arrays.get("seen")
    if all(name in router.models for name in models) and seen is not None and len(seen) == len(router.evidence.score):
        evidence = _evidence(router, models, lambda at: seen[at].astype(float))
    elif needed:
        raise ConfigError(
            f"No prompt of training was answered by all of {', '.join(models)}, as far as clusters know, so nothing "
            "can be promised of them. Give outcomes of them all: trivet route calibrate."
        )
    return _Made(_Clustered(known.mapping, rates, router.space), evidence)


class _Clustered:
    """Estimates from clusters, compiled: a row of a table for each word, a softmax, and a product."""

    def __init__(self, mapping: Floats, rates: Floats, space: Space) -> None:
        self._get = {word: i for i, word in enumerate(space.words, start=1)}.get
        table = space.spread(mapping[:-1].astype(np.float32))
        self._table = np.concatenate([np.zeros((1, table.shape[1]), np.float32), table])
        self._bias, self._rates = mapping[-1].astype(np.float32), rates

    def __call__(self, text: str) -> tuple[list[float], float]:
        found = words(text)
        places = list(map(self._get, found, repeat(0)))
        sums = np.add.reduce(self._table.take(places, 0)) / sqrt(len(found) or 1) + self._bias
        raised = np.exp(sums - sums.max())
        return (self._rates @ (raised / raised.sum())).tolist(), _share(places)


class _Skilled:
    """Estimates from skills, compiled: a row of a table for each word, and a few small products."""

    def __init__(self, parts: Sequence[Family], space: Space, models: Sequence[str]) -> None:
        self._get = {word: i for i, word in enumerate(space.words, start=1)}.get
        columns = [space.spread(part.skills.reading.astype(np.float32)) for part in parts]
        columns += [space.spread(part.home[:-1, None].astype(np.float32)) for part in parts]
        table = np.concatenate(columns, axis=1)
        self._table = np.concatenate([np.zeros((1, table.shape[1]), np.float32), table])
        ends = np.cumsum([part.skills.reading.shape[1] for part in parts]).tolist()
        self._spans = list(zip([0, *ends], ends, strict=False))
        self._homes, self._bias = ends[-1], np.array([part.home[-1] for part in parts])
        self._parts = [(part.skills, tuple(part.model(name) for name in models)) for part in parts]

    def __call__(self, text: str) -> tuple[list[float], float]:
        found = words(text)
        places = list(map(self._get, found, repeat(0)))
        sums = np.add.reduce(self._table.take(places, 0)) / sqrt(len(found) or 1)
        at = int(np.argmax(sums[self._homes :] + self._bias))
        (begin, end), (skills, models) = self._spans[at], self._parts[at]
        row = np.concatenate([[1.0], sums[begin:end] - skills.centre])[None]
        return [float(skills.chances(row, model)[0]) for model in models], _share(places)


def _share(places: list[int]) -> float:
    """Give the share of words that have a place of their own; 0 is none."""
    return 1.0 - places.count(0) / len(places) if places else 0.0


def _usual(known: Pool, models: Sequence[str]) -> list[float]:
    """Give what each model cost on average, on the prompts that all of them were tried on; NaN: not known."""
    for family in known.families:
        if set(models) <= set(family.names):
            paid = family.costs[:, [family.names.index(name) for name in models]]
            both = np.isfinite(paid).all(axis=1)
            if both.any():
                return [float(cost) for cost in paid[both].mean(axis=0)]
    return [float("nan")] * len(models)


def _costs(costs: Floats, names: Sequence[str], profiles: Mapping[str, Profile], usual: Sequence[float]) -> Floats:
    """Give what a request costs each target, [n, targets]: what the labels say, or training, or else the ledger.

    One source for all targets: those of two cannot be compared, since routing sends each target other requests.
    """
    if len(costs) and np.isfinite(costs).any(axis=0).all():
        mean = np.nanmean(costs, axis=0)
    elif np.isfinite(usual).all():
        mean = np.array(usual)
    else:
        mean = np.array([profiles[name].cost_usd if name in profiles else np.nan for name in names], float)
    # At run time nothing is known of a request's own cost, so the mean is what is weighed there, and tested here.
    return np.tile(mean, (len(costs), 1))
