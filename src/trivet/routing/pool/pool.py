"""All that is known of a pool of models, as sections of a router file: families of prompts, skills, outcomes.

A family is a set of prompts on which about the same models were tried: exams with exams, tool calls with tool calls.
Each has skills of its own, since models of one were not seen on the other. A text belongs to the family that its
features say, among those in which the models asked about were tried.

The outcomes of training stay in the file, beside estimates by weights that did not see them: a promise for any pool
and any floor rests on them, and a new model is compared on prompts that others were tried on.

Not here: reading outcomes and texts (`learned/`), the mathematics (`skills.py`, `promise.py`).
Invariants: a model is known or an error says which are; no number in the file is NaN.
"""

import difflib
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.learned.data import Outcomes
from trivet.routing.learned.features import KIND, Space
from trivet.routing.learned.file import Section
from trivet.routing.pool.enrolment import Told, enrol
from trivet.routing.pool.logistic import Floats, Normal
from trivet.routing.pool.plan import Ask, Evidence, More, Plan, Refused, choices, forecast, plan
from trivet.routing.pool.skills import FEWEST, REGULAR, Model, Skills, learn

PREFIX = "pool/"
"""What the names of our sections begin with."""

ALIKE = 0.5
"""Of the models tried on two sets of prompts, the share that both have (Jaccard), from which they are one family."""

_SHOWN = 12
"""Known models that an error names, the likest first."""

_NONE = 255
_SCALE = 254.0
"""Scores are kept as whole numbers from 0 to 254; 255 is none."""

_STRAY = 0.2
"""Of the labels in the family that has most of a new model's, that another has to have a say."""

_LEAST_SHARE = 0.02
"""Of the traffic, that a family has: outcomes of others are no evidence."""


class Family(NamedTuple):
    """Prompts on which about the same models were tried."""

    skills: Skills
    names: tuple[str, ...]
    models: tuple[Model, ...]
    home: Floats
    """[d + 1]: weights of features, and 1, whose sum is highest in the family of a text."""
    rows: Floats
    """[n, 1 + k]: skills of the prompts, by weights that did not see their labels."""
    ease: Floats
    """[n]"""
    scores: Floats
    """[n, models], NaN where not tried."""
    costs: Floats
    """[n, models] in USD, NaN where not known."""
    marks: NDArray[np.int64]
    """[n], of the prompts' texts."""
    domains: NDArray[np.int64]
    """[n], equal numbers for equal domains."""

    def model(self, name: str) -> Model:
        return self.models[self.names.index(name)]


class Decided(NamedTuple):
    """Which model each prompt goes to, and what is promised."""

    models: list[str]
    plan: Plan | Refused
    more: tuple[More, ...] = ()
    """What more labels would buy."""


class Pool:
    """Families of prompts, and models in them."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = tuple(families)

    @property
    def names(self) -> list[str]:
        """All models that are known."""
        return sorted({name for family in self.families for name in family.names})

    def check(self, names: Sequence[str]) -> None:
        """Raise ConfigError where a name is not known, is there twice, or there is none."""
        if not names:
            raise ConfigError("The pool is empty. Name at least one model.")
        if len(set(names)) < len(names):
            raise ConfigError(f"The pool names a model twice: {', '.join(names)}.")
        known = set(self.names)
        if unknown := [name for name in names if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=_SHOWN, cutoff=0.3)
            shown = [*near, *(name for name in self.names if name not in near)][:_SHOWN]
            rest = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
            raise ConfigError(
                f"The router does not know {', '.join(map(repr, unknown))}; it knows {', '.join(shown)}{rest}. "
                "Add a model with some labels: trivet route enrol FILE OUTCOMES --model NAME --out FILE."
            )

    def homes(self, features: Floats, names: Sequence[str]) -> NDArray[np.int64]:
        """Say which family each text belongs to, of those where all these models were tried; -1: there is none."""
        common = [i for i, family in enumerate(self.families) if set(names) <= set(family.names)]
        if not common:
            return np.full(len(features), -1)
        sums = np.array([features @ self.families[i].home[:-1] + self.families[i].home[-1] for i in common])
        picked: NDArray[np.int64] = np.array(common)[np.argmax(sums, axis=0)]
        return picked

    def _labelled_homes(self, features: Floats) -> NDArray[np.int64]:
        """Say which family each labelled text belongs to: a stray one goes where most of the others are."""
        homes = self.homes(features, [])
        counts = np.bincount(homes, minlength=len(self.families))
        stray = counts[homes] < _STRAY * counts.max()
        homes[stray] = int(np.argmax(counts))
        return homes

    def estimates(self, features: Floats, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Give the chance that each model is right, and what it costs in USD (NaN: unknown): two of [n, models].

        Raises:
            ConfigError: a model is not known.
        """
        self.check(names)
        chances, costs = np.full((len(features), len(names)), np.nan), np.full((len(features), len(names)), np.nan)
        together = self.homes(features, names)
        for j, name in enumerate(names):
            # Models that were never tried on the same kind of prompts are each taken from where they were.
            homes = together if (together >= 0).all() else self.homes(features, [name])
            for i in np.unique(homes):
                at, family = homes == i, self.families[i]
                model = family.model(name)
                chances[at, j] = family.skills.chances(family.skills.of(features[at]), model)
                costs[at, j] = np.exp(family.skills.cost(features[at]) + model.price)
        return chances, costs

    def decide(self, features: Floats, names: Sequence[str], ask: Ask, *, labels: Evidence | None = None) -> Decided:
        """Choose a model for each text.

        Args:
            labels: what the promise is to rest on; None: the outcomes of training.

        Raises:
            ConfigError: a model is not known, or the ask is out of range.
        """
        chances, costs = self.estimates(features, names)
        evidence = self.evidence(features, names)
        if labels is not None:
            costs_known = np.isfinite(labels.costs).all()
            usual = np.tile(np.nanmean(costs, axis=0), (len(labels.scores), 1))
            evidence = labels if costs_known else labels._replace(costs=usual)
        if not ask.reference:
            # Whoever is best on the traffic: by estimates that are calibrated on labels.
            best = (chances if not len(evidence.estimates) else evidence.estimates).mean(axis=0)
            ask = Ask(
                **{f: getattr(ask, f) for f in ask.__struct_fields__} | {"reference": names[int(np.argmax(best))]}
            )
        try:
            found = plan(ask, evidence)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if isinstance(found, Refused):
            return Decided([], found)
        prices = costs if ask.aim != "latency" else np.tile(found.prices, (len(costs), 1))
        picked = choices(chances, prices, np.array([found.weight]), found.reference)[0]
        return Decided([names[int(i)] for i in picked], found, forecast(ask, evidence, found))

    def evidence(self, features: Floats, names: Sequence[str]) -> Evidence:
        """Gather what is known of these models on prompts of the kinds that the texts are of."""
        self.check(names)
        homes = self.homes(features, names)
        shares = np.bincount(homes[homes >= 0], minlength=len(self.families)) / max(1, len(homes))
        parts = [family for family, share in zip(self.families, shares, strict=True) if share >= _LEAST_SHARE]
        return self.gathered(parts, names, fresh=len(features))

    def gathered(self, parts: Sequence[Family], names: Sequence[str], *, fresh: int | None) -> Evidence:
        """Gather what these families know of models that were tried in each of them.

        Args:
            fresh: see `Evidence`.
        """
        width = max((p.rows.shape[1] for p in parts), default=1)
        estimates, costs, scores, groups = [np.zeros((0, len(names)))], [np.zeros((0, len(names)))], [], []
        slopes: list[Floats] = []
        for number, part in enumerate(parts):
            models = [part.model(name) for name in names]
            at = [part.names.index(name) for name in names]
            told = ~np.isnan(part.scores[:, at]).all(axis=1)
            rows = part.rows[told]
            estimates.append(np.column_stack([part.skills.chances(rows, m) for m in models]))
            paid = part.costs[told][:, at]
            usual = np.nanmean(paid, axis=0) if len(paid) and not np.isnan(paid).all(axis=0).any() else np.nan
            costs.append(np.where(np.isnan(paid), usual, paid))
            scores.append(part.scores[told][:, at])
            groups.append(part.domains[told] * len(parts) + number)
            slope = np.zeros((len(names), told.sum(), width))
            for j, m in enumerate(models):
                slope[j, :, : rows.shape[1]] = part.skills.slopes(rows, m)
            slopes.append(slope)
        one = len(parts) == 1
        return Evidence(
            names=tuple(names),
            estimates=np.concatenate(estimates),
            costs=np.concatenate(costs),
            scores=np.concatenate(scores) if scores else np.zeros((0, len(names))),
            groups=np.concatenate(groups) if groups else None,
            fresh=fresh,
            doubts=tuple(parts[0].model(name).weights.part(width) for name in names) if one else None,
            slopes=slopes[0] if one else None,
        )

    def enrol(
        self,
        name: str,
        features: Floats,
        texts: Sequence[str],
        scores: Floats,
        costs: Floats,
        *,
        others: dict[str, Floats] | None = None,
        confidence: float = 0.9,
    ) -> tuple["Pool", list[tuple[int, Told]]]:
        """Add a model, or put one right that is there: gives the new pool, and what was found in each family.

        Args:
            features: [n, d], of the labelled prompts.
            scores: [n] in [0, 1].
            costs: [n] in USD, NaN where not known.
            others: scores of known models on the same prompts, [n] each, NaN where not tried.

        Raises:
            ConfigError: there is no label.
        """
        if not len(scores):
            raise ConfigError(f"There is no outcome of {name!r}. Give at least one; 20 are worth much more.")
        families, told = list(self.families), []
        homes = self._labelled_homes(features)
        for i in (int(home) for home in np.unique(homes)):
            at = [int(j) for j in np.flatnonzero(homes == i)]
            family = families[i]
            rows, ease = _seen(
                family, features[at], [texts[j] for j in at], {k: v[at] for k, v in (others or {}).items()}
            )
            found = enrol(family.skills, features[at], scores[at], costs=costs[at], ease=ease, confidence=confidence)
            families[i] = _added(family, name, found.model, rows, [texts[j] for j in at], scores[at], costs[at], ease)
            told.append((len(at), found))
        return Pool(families), told

    def sections(self) -> dict[str, Section]:
        """Give what is to be written."""
        return {f"{PREFIX}{i}": _packed(family) for i, family in enumerate(self.families)}


def build(
    features: Floats,
    texts: Sequence[str],
    domains: Sequence[str],
    names: Sequence[str],
    scores: Floats,
    costs: Floats,
) -> Pool:
    """Learn a pool from outcomes. Raises ConfigError: nowhere were two models tried on enough prompts.

    Args:
        features: [n, d], rows about 1 long.
        scores: [n, models] in [0, 1]; costs likewise, in USD; NaN where there is none.
    """
    of = families(~np.isnan(scores))
    labels = {name: i for i, name in enumerate(sorted(set(domains)))}
    made: list[Family] = []
    for i in range(int(of.max(initial=-1)) + 1):
        at = [int(j) for j in np.flatnonzero(of == i)]
        tried = [int(j) for j in np.flatnonzero((~np.isnan(scores[at])).sum(axis=0) > 0)]
        if ((~np.isnan(scores[np.ix_(at, tried)])).sum(axis=0) >= FEWEST).sum() < 2:
            continue
        part = np.ix_(at, tried)
        learned = learn(features[at], scores[part], costs[part])
        made.append(
            Family(
                skills=learned.skills,
                names=tuple(names[j] for j in tried),
                models=tuple(learned.models),
                home=_home(features, of == i),
                rows=learned.rows,
                ease=learned.ease,
                scores=scores[part],
                costs=costs[part],
                marks=np.array([mark(texts[j]) for j in at], np.int64),
                domains=np.array([labels[domains[j]] for j in at], np.int64),
            )
        )
    if not made:
        raise ConfigError(
            f"Nowhere were two models tried on {FEWEST} prompts or more of one kind; a pool needs that. Add outcomes."
        )
    return Pool(made)


def space_section(space: Space) -> dict[str, Section]:
    """Give the words that features are made of, as they are written."""
    joined = np.frombuffer(b"\n".join(space.words), np.uint8)
    return {f"{PREFIX}words": Section({"features": KIND, "frequent": space.frequent}, {"words": joined})}


def load_space(sections: dict[str, Section]) -> Space:
    """Read them. Raises ConfigError: there are none, or they are damaged."""
    section = sections.get(f"{PREFIX}words")
    if section is None or "words" not in section.arrays or not isinstance(section.facts.get("frequent"), int):
        raise ConfigError("The router has no words for its pool. Train it again.")
    if section.facts.get("features") != KIND:
        raise ConfigError(
            f"The router's pool was trained for features of another kind than this Trivet has ({KIND}). Train it again."
        )
    words = section.arrays["words"].tobytes()
    return Space(words.split(b"\n") if words else [], frequent=section.facts["frequent"])


def trained(read: Outcomes, space: Space) -> dict[str, Section]:
    """Learn a pool from outcomes and give what is to be written. Raises ConfigError, as `build` does."""
    features = space.dense(read.prompts.texts).astype(float)
    scores, costs = read.matrix(), read.matrix("cost_usd")
    pool = build(features, read.prompts.texts, read.prompts.domains, read.models, scores, costs)
    return pool.sections() | space_section(space)


def load(sections: dict[str, Section]) -> Pool:
    """Read a pool from the sections of a router file. Raises ConfigError: it has none, or a damaged one."""
    ours = sorted(
        (int(n.removeprefix(PREFIX)), s) for n, s in sections.items() if n.startswith(PREFIX) and n[5:].isdigit()
    )
    if not ours:
        raise ConfigError("The router knows nothing of pools: it was trained without. Train it again.")
    try:
        return Pool([_unpacked(section) for _, section in ours])
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"What the router says of pools is damaged ({error}). Train it again.") from error


def families(tried: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give a family to each prompt, by which models were tried on it, [n, models]: the largest is number 0."""
    kinds, of, counts = np.unique(tried, axis=0, return_inverse=True, return_counts=True)
    found: list[NDArray[np.bool_]] = []
    place = np.zeros(len(kinds), np.int64)
    for i in np.argsort(-counts, kind="stable"):
        near = [(kinds[i] & other).sum() / max(1, (kinds[i] | other).sum()) for other in found]
        if near and max(near) >= ALIKE:
            place[i] = int(np.argmax(near))
        else:
            # A few prompts that lack most models are no kind of their own: they go where their models are.
            inside = [(kinds[i] & other).sum() / max(1, kinds[i].sum()) for other in found]
            if inside and max(inside) == 1.0 and counts[i] < FEWEST:
                place[i] = int(np.argmax(inside))
            else:
                place[i] = len(found)
                found.append(kinds[i])
    made: NDArray[np.int64] = place[of.reshape(-1)]
    return made


def mark(text: str) -> int:
    """Give a number for a text, by which it is known again: 64 bits of its digest, spaces aside."""
    digest = hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _home(features: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Fit, by ridge, whether a text is of a family: [d + 1]. Small families count as much as large ones."""
    weight = np.where(inside, 0.5 / max(1, inside.sum()), 0.5 / max(1, (~inside).sum())) * len(features)
    wide = np.column_stack([features, np.ones(len(features))])
    square = (wide * weight[:, None]).T @ wide + REGULAR * np.eye(wide.shape[1])
    made: Floats = np.linalg.solve(square, wide.T @ (weight * np.where(inside, 1.0, -1.0)))
    return made


def _seen(family: Family, features: Floats, texts: Sequence[str], others: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Give the skills and the ease of labelled prompts: as they are kept, where they are known."""
    rows = family.skills.of(features)
    known = [name for name in others if name in family.names]
    ease = np.full(len(features), np.nan)
    if known:
        ease = family.skills.ease(rows, np.column_stack([others[n] for n in known]), [family.model(n) for n in known])
    places = {int(m): i for i, m in enumerate(family.marks)}
    for j, text in enumerate(texts):
        if (i := places.get(mark(text))) is not None:
            rows[j], ease[j] = family.rows[i], family.ease[i]
    return rows, ease


def _added(
    family: Family,
    name: str,
    model: Model,
    rows: Floats,
    texts: Sequence[str],
    scores: Floats,
    costs: Floats,
    ease: Floats,
) -> Family:
    """Put a model and its outcomes into a family."""
    if name not in family.names:
        none = np.full((len(family.rows), 1), np.nan)
        family = family._replace(
            names=(*family.names, name),
            models=(*family.models, model),
            scores=np.column_stack([family.scores, none]),
            costs=np.column_stack([family.costs, none]),
        )
    j = family.names.index(name)
    family = family._replace(models=(*family.models[:j], model, *family.models[j + 1 :]))
    places = {int(m): i for i, m in enumerate(family.marks)}
    marks = [mark(text) for text in texts]
    fresh = [i for i, m in enumerate(marks) if m not in places]
    empty = np.full((len(fresh), len(family.names)), np.nan)
    # Prompts that only the new model was tried on are of no domain that is known: one of their own.
    own = int(family.domains.max(initial=-1)) + 1
    family = family._replace(
        rows=np.concatenate([family.rows, rows[fresh]]),
        ease=np.concatenate([family.ease, np.nan_to_num(ease[fresh])]),
        scores=np.concatenate([family.scores, empty]),
        costs=np.concatenate([family.costs, empty]),
        marks=np.concatenate([family.marks, np.array([marks[i] for i in fresh], np.int64)]),
        domains=np.concatenate([family.domains, np.full(len(fresh), own, np.int64)]),
    )
    places = {int(m): i for i, m in enumerate(family.marks)}
    for m, score, cost in zip(marks, scores, costs, strict=True):
        family.scores[places[m], j], family.costs[places[m], j] = score, cost
    return family


def _packed(family: Family) -> Section:
    skills = family.skills
    facts: dict[str, Any] = {
        "names": list(family.names),
        "labels": [m.labels for m in family.models],
        "spread": skills.spread,
        "shown": skills.shown,
        "prices": list(skills.prices),
        "model_prices": [None if np.isnan(m.price) else m.price for m in family.models],
    }
    arrays: dict[str, NDArray[Any]] = {
        "reading": skills.reading.astype("<f4"),
        "centre": skills.centre,
        "costing": skills.costing,
        "priced": skills.priced,
        "unlike": skills.unlike,
        "means": np.array([m.weights.mean for m in family.models]),
        "covariances": np.array([m.weights.covariance for m in family.models]),
        "home": family.home.astype("<f4"),
        "rows": family.rows.astype("<f4"),
        "ease": family.ease.astype("<f4"),
        "scores": np.where(np.isnan(family.scores), _NONE, np.round(np.nan_to_num(family.scores) * _SCALE)).astype(
            "|u1"
        ),
        "costs": np.where(np.isnan(family.costs), -1.0, family.costs).astype("<f4"),
        "marks": family.marks.astype("<i8"),
        "domains": family.domains.astype("<i4"),
    }
    return Section(facts, arrays)


def _unpacked(section: Section) -> Family:
    facts, arrays = section.facts, section.arrays
    wide = {name: arrays[name].astype(float) for name in arrays if name not in ("scores", "marks", "domains")}
    kept = arrays["scores"]
    n, models = kept.shape
    if not n == len(wide["rows"]) == len(arrays["marks"]) == len(arrays["domains"]) or models != len(facts["names"]):
        raise ValueError("its arrays do not fit together")
    skills = Skills(
        reading=wide["reading"],
        centre=wide["centre"],
        costing=wide["costing"],
        spread=float(facts["spread"]),
        shown=float(facts["shown"]),
        priced=wide["priced"],
        unlike=wide["unlike"],
        prices=(float(facts["prices"][0]), float(facts["prices"][1])),
    )
    return Family(
        skills=skills,
        names=tuple(facts["names"]),
        models=tuple(
            Model(Normal(mean, covariance), float("nan") if price is None else float(price), int(labels))
            for mean, covariance, price, labels in zip(
                wide["means"], wide["covariances"], facts["model_prices"], facts["labels"], strict=True
            )
        ),
        home=wide["home"],
        rows=wide["rows"],
        ease=wide["ease"],
        scores=np.where(kept == _NONE, np.nan, kept / _SCALE),
        costs=np.where(wide["costs"] < 0, np.nan, wide["costs"]),
        marks=arrays["marks"].astype(np.int64),
        domains=arrays["domains"].astype(np.int64),
    )
