"""A learned router: trained on outcomes, written to a file, compiled for the models that a policy has.

Not here: features, fitting, calibration, the file's bytes, each in a module of its own; sections of others in the file,
which are kept as they are.
Invariants: the same outcomes, seed and date give the same file; a file that cannot be used in full is not used at all.
"""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivet.embed.builtin import TABLE_SHA256
from trivet.errors import ConfigError
from trivet.routing.learned import compiled, file, heads
from trivet.routing.learned.calibrate import Logistic, Numbers, PairRule, View, logistic, pair_rule
from trivet.routing.learned.data import Outcomes
from trivet.routing.learned.features import KIND, Floats, Space, learn

LEAST = 20
"""Labels of a model: with fewer its curve says nothing."""


class Trained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a router was trained on."""

    features: str
    vectors: str
    """Digest of the embedder's table that weights are spread by."""
    date: str
    seed: int
    prompts: int
    outcomes: int
    domains: dict[str, int]
    """Prompts of each."""
    frequent: int
    models: tuple[str, ...]
    labels: tuple[int, ...]
    """Of each model."""


class Evidence(NamedTuple):
    """What each model did in training, beside what was predicted by weights that had not seen it."""

    prompt: NDArray[np.int32]
    """[outcomes], in the order of (prompt, model)."""
    model: NDArray[np.int32]
    score: Floats
    seen: Floats
    """The prompt left out."""
    unseen: Floats
    """Its region of domains left out; where `regional` is 0, there was no other to learn from."""
    regional: NDArray[np.uint8]
    ease: Floats
    """[prompts], with the prompt left out."""
    ease_unseen: Floats
    """[prompts], with its region left out."""
    domain: NDArray[np.int32]
    """[prompts], places in `Trained.domains`."""
    text: NDArray[np.int64]
    """[prompts]: digests of the texts, so that nobody takes what was trained on for a trial."""


class Learned:
    """A router that can be asked. Compiling takes a second the first time; asking, microseconds."""

    def __init__(
        self,
        *,
        about: Trained,
        space: Space,
        weights: Floats,
        bias: Floats,
        ease: Floats,
        curves: Sequence[Logistic],
        evidence: Evidence,
        others: dict[str, file.Section] | None = None,
        digest: str = "",
    ) -> None:
        """See `train` and `load`. `weights` are of dense rows, [width, models], `ease` of these and 1, [width + 1]."""
        self.ease = ease
        self.about, self.space, self.evidence = about, space, evidence
        self.models = about.models
        self.weights, self.bias, self.curves = weights, bias, tuple(curves)
        self.others = dict(others or {})
        """Sections of the file that belong to others, by name."""
        self.digest = digest
        """Of the file that it was loaded from; "" before it was written."""
        self._texts: frozenset[int] | None = None
        self._pairs: dict[tuple[str, str], compiled.Pair] = {}
        self._pools: dict[tuple[str, ...], compiled.Pool] = {}

    def pair(self, small: str, large: str) -> compiled.Pair:
        """Compile a pair of models, once.

        Raises:
            ConfigError: one of them is not known.
        """
        made = self._pairs.get((small, large))
        if made is None:
            at = [self.place(small), self.place(large)]
            rule = self.rule(small, large)
            weights, bias = self.weights[:, at], self.bias[at]
            curves = self.curves[at[0]], self.curves[at[1]]
            orders = Logistic(rule.small.a, rule.small.b), Logistic(rule.large.a, rule.large.b)
            if rule.eased:  # the ease is linear too: it goes into the weights, and what is summed are log odds
                of = np.array([rule.small, rule.large], np.float32)  # a, b, ease of each
                weights = weights * of[:, 1] + np.outer(self.ease[:-1], of[:, 2])
                bias = of[:, 0] + bias * of[:, 1] + self.ease[-1] * of[:, 2]
                curves = orders = Logistic(0.0, 1.0), Logistic(0.0, 1.0)
            spread = self.space.spread(weights)
            made = compiled.pair(self.space, spread, bias, curves=curves, orders=orders, rule=rule)
            self._pairs[small, large] = made
        return made

    def estimate(self, text: str, targets: Sequence[str]) -> tuple[float, ...]:
        """Estimate the chance of each target to be right, in [0, 1]; the targets are compiled the first time.

        Raises:
            ConfigError: one of them is not known.
        """
        return self.pool(targets).estimate(text)

    def pool(self, targets: Sequence[str]) -> compiled.Pool:
        """Compile models, once. Raises ConfigError: one of them is not known."""
        key = tuple(targets)
        pool = self._pools.get(key)
        if pool is None:
            at = [self.place(name) for name in key]
            spread = self.space.spread(self.weights[:, at])
            pool = self._pools[key] = compiled.Pool(self.space, spread, self.bias[at], [self.curves[i] for i in at])
        return pool

    def chances(self, models: Sequence[str], sums: Numbers, ease: Numbers) -> Numbers:
        """Turn sums of heads [n, models], and the ease [n], into chances [n, models]; of a pair the difference is the
        gain.

        Raises:
            ConfigError: one of the models is not known.
        """
        at = [self.place(name) for name in models]
        made = np.stack([self.curves[i].at(sums[:, k]) for k, i in enumerate(at)], 1)
        if len(models) == 2:  # whose gain was fitted as such
            rule = self.rule(models[0], models[1])
            if rule.eased:
                made[:, 1] = rule.large.at(sums[:, 1], ease)
            gain = np.clip(rule.a + rule.b * rule.order(sums, ease), -1.0, 1.0)
            made = np.stack([made[:, 1] + gain, made[:, 1]], 1)
        return made

    def rule(self, small: str, large: str) -> PairRule:
        """Say how a pair is ordered, from the prompts that both answered in training. Raises ConfigError."""
        return pair_rule(*self.common(small, large))

    def common(self, small: str, large: str) -> tuple[View, View]:
        """Give the training prompts that both answered, as they were predicted when left out at random, and when left
        out with their region; of these there may be fewer.
        """
        e = self.evidence
        one, other = (np.flatnonzero(e.model == self.place(name)) for name in (small, large))
        prompts, i, j = np.intersect1d(e.prompt[one], e.prompt[other], assume_unique=True, return_indices=True)
        at = np.stack([one[i], other[j]], 1)
        scores = e.score[at].astype(np.float64)
        regional = (e.regional[at] == 1).all(1)
        unseen, away = e.unseen[at].astype(np.float64), e.ease_unseen[prompts].astype(np.float64)
        return (
            View(e.seen[at].astype(np.float64), e.ease[prompts].astype(np.float64), scores),
            View(unseen[regional], away[regional], scores[regional]),
        )

    def place(self, model: str) -> int:
        """Give the place of a model. Raises ConfigError: it is not known."""
        try:
            return self.models.index(model)
        except ValueError:
            near = difflib.get_close_matches(model, self.models, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            names = ", ".join(self.models[:100]) + (", ..." if len(self.models) > 100 else "")
            raise ConfigError(
                f"The router does not know {model!r}.{meant} It knows: {names}. Teach it a new one with "
                "`trivet route enrol`."
            ) from None

    def trained_on(self, text: str) -> bool:
        """Say whether a text was among those of the training."""
        if self._texts is None:
            self._texts = frozenset(self.evidence.text.tolist())
        return _digest(text) in self._texts

    def save(self, path: Path) -> str:
        """Write the file, with the sections of others; gives its digest. Raises ConfigError."""
        e = self.evidence
        words = np.frombuffer(b"\n".join(self.space.words), np.uint8)
        curves = np.array([(c.a, c.b) for c in self.curves], np.float64).reshape(-1, 2)
        made = {
            "heads": file.Section(
                msgspec.to_builtins(self.about),
                {"words": words, "weights": self.weights, "bias": self.bias, "ease": self.ease, "curves": curves},
            ),
            "evidence": file.Section({}, e._asdict()),
        }
        return file.write(path, made | {name: s for name, s in self.others.items() if name not in made})


def load(path: Path) -> Learned:
    """Load a router.

    Raises:
        ConfigError: there is none, or it cannot be used: truncated, changed, of another version, or not whole.
    """
    sections, digest = file.read(path)
    _check_kind(path, sections)
    try:
        heads_, evidence = sections["heads"], sections["evidence"]
        about = msgspec.convert(heads_.facts, Trained)
        words, weights, bias, ease, curves = (
            heads_.arrays[name] for name in ("words", "weights", "bias", "ease", "curves")
        )
        told = Evidence(**{name: evidence.arrays[name] for name in Evidence._fields})
    except (KeyError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} has not the parts of a router: {error}. Train it again.") from error
    space = Space(words.tobytes().split(b"\n"), frequent=about.frequent)
    models, outcomes = len(about.models), len(told.score)
    whole = (
        weights.shape == (space.dense_width, models)
        and bias.shape == (models,)
        and ease.shape == (space.dense_width + 1,)
        and curves.shape == (models, 2)
        and len(about.labels) == models == len(set(about.models))
        and all(column.shape == (outcomes,) for column in told[:6])
        and all(column.shape == (about.prompts,) for column in told[6:])
        and bool(((told.model >= 0) & (told.model < models)).all())
        and bool(((told.prompt >= 0) & (told.prompt < len(told.domain))).all())
    )
    if not whole:
        raise ConfigError(f"{path} does not fit together. Train it again.")
    return Learned(
        about=about,
        space=space,
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        ease=ease.astype(np.float32),
        curves=[Logistic(float(a), float(b)) for a, b in curves],
        evidence=told,
        others={name: section for name, section in sections.items() if name not in ("heads", "evidence")},
        digest=digest,
    )


def train(outcomes: Outcomes, *, date: str, seed: int = 0, tell: Callable[[int], None] = lambda done: None) -> Learned:
    """Train a router on outcomes.

    Args:
        outcomes: with scores.
        date: that the file shall say.
        seed: of what is left out together.
        tell: is told how many models are done.

    Raises:
        ConfigError: a model has fewer than `LEAST` outcomes.
    """
    labels = np.bincount(outcomes.model, minlength=len(outcomes.models))
    few = [f"{name} ({n})" for name, n in zip(outcomes.models, labels.tolist(), strict=True) if n < LEAST]
    if few:
        raise ConfigError(
            f"Too few outcomes of {', '.join(few[:10])}: {LEAST} of each model are the least. Add some, or take the "
            "model out and use `trivet route enrol`, which needs fewer."
        )
    prompts = outcomes.prompts
    space = learn(prompts.texts)
    rows = space.dense(prompts.texts)
    scores = outcomes.matrix()
    regions = heads.regions(rows, prompts.domains, seed=seed)
    fitted = heads.fit(rows, scores, regions=regions, seed=seed, tell=tell)
    names = sorted(set(prompts.domains))
    place = {name: i for i, name in enumerate(names)}
    domain = np.array([place[name] for name in prompts.domains], np.int32)
    counts = np.bincount(domain, minlength=len(names)).tolist()
    order = np.lexsort((outcomes.model, outcomes.prompt))
    prompt, model = outcomes.prompt[order], outcomes.model[order]
    unseen = fitted.unseen[prompt, model]
    evidence = Evidence(
        prompt=prompt.astype(np.int32),
        model=model.astype(np.int32),
        score=scores[prompt, model].astype(np.float32),
        seen=np.nan_to_num(fitted.seen[prompt, model], nan=0.5).astype(np.float32),
        unseen=np.nan_to_num(unseen, nan=0.5).astype(np.float32),
        regional=np.isfinite(unseen).astype(np.uint8),
        ease=fitted.ease_seen.astype(np.float32),
        ease_unseen=np.nan_to_num(fitted.ease_unseen, nan=0.0).astype(np.float32),
        domain=domain,
        text=np.array([_digest(text) for text in prompts.texts], np.int64),
    )
    about = Trained(
        features=KIND,
        vectors=TABLE_SHA256,
        date=date,
        seed=seed,
        prompts=len(prompts.pids),
        outcomes=len(prompt),
        domains=dict(zip(names, counts, strict=True)),
        frequent=space.frequent,
        models=outcomes.models,
        labels=tuple(labels.tolist()),
    )
    curves = [_curve(evidence, i) for i in range(len(outcomes.models))]
    return Learned(
        about=about,
        space=space,
        weights=fitted.weights,
        bias=fitted.bias,
        ease=fitted.ease.astype(np.float32),
        curves=curves,
        evidence=evidence,
    )


def _check_kind(path: Path, sections: dict[str, file.Section]) -> None:
    """Raise ConfigError where a file is an older or a newer Trivet's, before its parts are looked for."""
    facts = sections["heads"].facts if "heads" in sections else {}
    made = facts.get("features", KIND), facts.get("vectors", TABLE_SHA256)
    if made != (KIND, TABLE_SHA256):
        raise ConfigError(
            f"{path} was trained for features of another kind ({made[0]}) than this Trivet has ({KIND}). "
            "Train it again."
        )


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "little", signed=True)


def _curve(evidence: Evidence, model: int) -> Logistic:
    at = np.flatnonzero(evidence.model == model)
    regional = at[evidence.regional[at] == 1]
    sums = np.concatenate([evidence.seen[at], evidence.unseen[regional]]).astype(np.float64)
    scores = np.concatenate([evidence.score[at], evidence.score[regional]]).astype(np.float64)
    return logistic(sums, scores, np.full(len(sums), len(at) / len(sums)))  # each label counts once in all


def described(router: Learned) -> dict[str, Any]:
    """Say what a router is, for people and programs."""
    a = router.about
    return {
        "digest": router.digest,
        "date": a.date,
        "seed": a.seed,
        "prompts": a.prompts,
        "outcomes": a.outcomes,
        "domains": a.domains,
        "models": dict(zip(a.models, a.labels, strict=True)),
        "words": len(router.space.words),
    }
