"""What a router file keeps for cascades, and the prompts of training that a rule for some models is tested on.

Of each outcome of training: its answer as a number, its cost, how long it was. So any set of models that answered the
same prompts can be tried without a call. Where one of them was not in training, or they answered too few prompts
together, sets of known models that agree about as often stand in for it.

Not here: what is made of it (`vote.py`, `stop.py`), who reads the fresh answers (`cli/route/cascade.py`).
Invariants: no text and no answer is in the file, only numbers; what stands in for a model is told to be so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError
from trivet.routing.cascade import signals, vote
from trivet.routing.cascade.signals import NONE, Answers
from trivet.routing.learned.data import Outcomes
from trivet.routing.learned.file import Section
from trivet.routing.learned.learned import Learned
from trivet.routing.pool.logistic import Floats
from trivet.routing.triangle import calibration

NAME = "cascade"
"""Of the section."""

FEWEST = 50
"""Prompts that a set answered, with fewer of which others stand in."""

TRIED, KEPT, EACH = 300, 16, 120
"""Sets that are drawn to stand in, those of them that are kept, and prompts of each."""

_NO_COST = -1.0


class Trial(NamedTuple):
    """Labelled prompts for a rule to be tested on."""

    answers: Answers
    """Columns as asked for, the large model last."""
    scores: Floats
    groups: Floats | None
    """The stand-in set of each; None: the models themselves answered them."""


class Cascade(NamedTuple):
    """What the section holds, with what the router knows."""

    votes: vote.Votes
    models: tuple[str, ...]
    levels: Floats
    """[models]"""
    codes: NDArray[np.int64]
    """[prompts, models]"""
    lengths: Floats
    luck: Floats
    """[prompts]"""
    scores: Floats
    """[prompts, models], NaN where there is no outcome."""
    costs: Floats
    seen: Floats
    """[prompts, models]: log odds from weights that had not seen the prompt; NaN as scores."""
    unseen: Floats
    """The same, nor its domains."""
    answered: NDArray[np.int64]
    """Places of the models that have answers."""

    def trial(self, names: Sequence[str], *, agreement: float | None, foreign: bool, seed: int = 0) -> Trial | None:
        """Find labelled prompts for a set of models, the large one last; None: there are none.

        Args:
            agreement: how often two of the cheap models agree on the fresh prompts; None where it says nothing.
            foreign: the fresh prompts are of domains that were not in training.
            seed: of the sets that stand in.
        """
        place = {name: i for i, name in enumerate(self.models) if i in set(self.answered.tolist())}
        at = [place.get(name, -1) for name in names]
        if min(at) >= 0:
            rows = self._common(at)
            if len(rows) >= FEWEST:
                return Trial(self._answers(rows, at, at, foreign=foreign), self.scores[rows][:, at], None)
        return self._stand_in(at, agreement=agreement, foreign=foreign, seed=seed)

    def own(self, router: Learned, names: Sequence[str]) -> Trial | None:
        """Give labelled prompts of one's own traffic, from the file's calibration; None: it has too few of these.

        Raises:
            ConfigError: it is damaged.
        """
        kept = calibration.load(router)
        if kept is None or kept.answers is None or not set(names) <= set(kept.models):
            return None
        at = [kept.models.index(name) for name in names]
        codes, lengths, luck = kept.answers
        rows = np.flatnonzero((kept.scores[:, at] >= 0).all(1) & (codes[:, at] != NONE).any(1))
        if len(rows) < FEWEST:
            return None
        known = [self.models[i] for i in self.answered]
        told = np.clip(calibration.estimates(router, kept.features[rows], known), 1e-4, 1 - 1e-4)
        odds = np.log(told / (1 - told))
        place = {name: i for i, name in enumerate(known)}
        levels = [self.levels[self.models.index(name)] if name in place else 0.0 for name in names]
        answers = _whole(
            codes[rows][:, at],
            np.stack([odds[:, place[name]] if name in place else odds.mean(1) for name in names], 1),
            np.array(levels),
            lengths[rows][:, at],
            luck[rows],
        )
        return Trial(answers, kept.scores[rows][:, at], None)

    def _common(self, at: Sequence[int]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isfinite(self.scores[:, at]).all(1) & (self.codes[:, at] != NONE).any(1))

    def _answers(self, rows: NDArray[np.int64], at: Sequence[int], known: Sequence[int], *, foreign: bool) -> Answers:
        """Give answers of models; where `known` is -1, as if the model had not been in training."""
        odds = (self.unseen if foreign else self.seen)[rows]
        mean = np.nanmean(odds[:, self.answered], axis=1)
        strange = np.array(known) < 0
        return Answers(
            self.codes[rows][:, at],
            np.where(strange, mean[:, None], odds[:, at]),
            np.broadcast_to(np.where(strange, 0.0, self.levels[list(at)]), (len(rows), len(at))),
            self.lengths[rows][:, at],
            self.luck[rows],
        )

    def _stand_in(self, at: Sequence[int], *, agreement: float | None, foreign: bool, seed: int) -> Trial | None:
        random = np.random.default_rng(seed)
        found: list[tuple[float, list[int], NDArray[np.int64]]] = []
        known = [i for i in at if i >= 0]
        for _ in range(TRIED if len(self.answered) >= len(at) else 0):
            # Where the known ones answered no prompt with others, all are drawn.
            keep = bool(random.random() < 0.5)
            free = random.permutation([i for i in self.answered if not keep or i not in known]).tolist()
            drawn = [i if i >= 0 and keep else free.pop() for i in at]
            if not (keep and at[-1] >= 0):
                # The large model is the best of those that were drawn; where it is not, a cascade saves too easily.
                best = max(drawn, key=lambda i: self.levels[i])
                drawn = [*(i for i in drawn if i != best), best]
            rows = self._common(drawn)
            if len(rows) >= FEWEST:
                codes = self.codes[rows][:, drawn[:-1]]
                apart = abs(agree(codes) - agreement) if agreement is not None and len(at) > 2 else 0.0
                found.append((apart, drawn, rows))
        found.sort(key=lambda item: item[0])
        parts, scores, groups = [], [], []
        for number, (_, drawn, rows) in enumerate(found[:KEPT]):
            some = random.choice(rows, min(EACH, len(rows)), replace=False)
            parts.append(self._answers(some, drawn, [i if i >= 0 else -1 for i in at], foreign=foreign))
            scores.append(self.scores[some][:, drawn])
            groups.append(np.full(len(some), float(number)))
        if not parts:
            return None
        whole = Answers(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        return Trial(whole, np.concatenate(scores), np.concatenate(groups))


def agree(codes: NDArray[np.int64]) -> float:
    """Say how often two of some models agree, on average: 0 to 1; 1 for one model."""
    k = codes.shape[1]
    pairs = [((codes[:, i] == codes[:, j]) & (codes[:, i] != NONE)).mean() for i in range(k) for j in range(i)]
    return float(np.mean(pairs)) if pairs else 1.0


def learn(router: Learned, outcomes: Outcomes, *, seed: int = 0) -> Section:
    """Learn cascades from the outcomes that a router was trained on.

    Raises:
        ConfigError: they have no answers (`ans`), or no two models answered the same prompts.
    """
    if not any(outcomes.answers):
        raise ConfigError("The outcomes have no answers: write the parsed answer of each as `ans`.")
    order = np.lexsort((outcomes.model, outcomes.prompt))
    prompt, model = outcomes.prompt[order], outcomes.model[order]
    codes = np.full((len(outcomes.prompts.pids), len(outcomes.models)), NONE)
    codes[outcomes.prompt, outcomes.model] = signals.codes(outcomes.answers)
    domains = np.unique(outcomes.prompts.domains, return_inverse=True)[1].reshape(-1)
    scores = outcomes.matrix()
    answered = (codes != NONE).any(0)
    levels = signals.levels(np.where(answered, scores, np.nan))
    lengths, luck = signals.places(outcomes.matrix("out_tok"), domains), signals.luck(codes, domains)
    views = [_whole(codes, odds, levels, lengths, luck) for odds in _odds(router)]
    both = Answers(*(np.concatenate(columns) for columns in zip(*views, strict=True)))
    votes = vote.learn(vote.Known(both, np.concatenate([scores, scores]), np.tile(domains, 2)), seed=seed)
    costs = outcomes.numbers["cost_usd"][order]
    return Section(
        {"models": list(outcomes.models)},
        {
            "right": votes.right,
            "after": votes.after,
            "levels": levels,
            "codes": codes[prompt, model].astype(np.int32),
            "lengths": lengths[prompt, model].astype(np.float32),
            "costs": np.where(np.isnan(costs), _NO_COST, costs).astype(np.float32),
            "luck": luck.astype(np.float32),
        },
    )


def load(router: Learned) -> Cascade:
    """Read the section. Raises ConfigError: there is none, or it is damaged."""
    found = router.others.get(NAME)
    if found is None:
        raise ConfigError(
            "The router has no cascade: it was trained before there was any, or on outcomes without answers. Train it "
            "again on outcomes with the parsed answer of each as `ans`."
        )
    e, n, m = router.evidence, router.about.prompts, len(router.models)
    try:
        told = {name: array.astype(float) for name, array in found.arrays.items()}
        outcomes = (len(e.score),)
        shapes = {
            "right": (vote.MOST + 1, signals.WIDTH), "after": (vote.MOST + 1, vote.AFTER), "levels": (m,),
            "codes": outcomes, "lengths": outcomes, "costs": outcomes, "luck": (n,),
        }  # fmt: skip
        if tuple(found.facts["models"]) != router.models or any(told[k].shape != v for k, v in shapes.items()):
            raise ValueError("its arrays do not fit together")
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"The router's cascade is damaged ({error}). Train it again.") from error
    codes = np.full((n, m), NONE)
    codes[e.prompt, e.model] = told["codes"].astype(np.int64)
    lengths, scores, costs = np.full((n, m), 0.5), np.full((n, m), np.nan), np.full((n, m), np.nan)
    lengths[e.prompt, e.model], scores[e.prompt, e.model] = told["lengths"], e.score
    costs[e.prompt, e.model] = np.where(told["costs"] < 0, np.nan, told["costs"])
    seen, unseen = _odds(router)
    return Cascade(
        votes=vote.Votes(told["right"], told["after"]),
        models=router.models,
        levels=told["levels"],
        codes=codes,
        lengths=lengths,
        luck=told["luck"],
        scores=scores,
        costs=costs,
        seen=seen,
        unseen=unseen,
        answered=np.flatnonzero((codes != NONE).any(0)),
    )


def fresh(router: Learned, cascade: Cascade, outcomes: Outcomes, names: Sequence[str]) -> Answers:
    """Give the answers of models to fresh prompts: [prompts, names], the large model last.

    What router and cascade know of each is in it. Lengths and luck are told from the fresh prompts themselves; of the
    large model's answers, which may not be called, luck knows nothing.
    """
    n, place = len(outcomes.prompts.pids), {name: i for i, name in enumerate(outcomes.models)}
    at = [place[name] for name in names]
    codes = np.full((n, len(outcomes.models)), NONE)
    codes[outcomes.prompt, outcomes.model] = signals.codes(outcomes.answers)
    domains = np.unique(outcomes.prompts.domains, return_inverse=True)[1].reshape(-1)
    asked = [router.models[i] for i in cascade.answered]
    pool = router.pool(asked)
    told = np.array([pool.estimate(text) for text in outcomes.prompts.texts])
    odds = np.log(np.clip(told, 1e-4, 1 - 1e-4) / (1 - np.clip(told, 1e-4, 1 - 1e-4)))
    known = {name: i for i, name in enumerate(asked)}
    columns = [odds[:, known[name]] if name in known else odds.mean(1) for name in names]
    levels = [cascade.levels[router.place(name)] if name in known else 0.0 for name in names]
    return _whole(
        codes[:, at],
        np.stack(columns, 1),
        np.array(levels),
        signals.places(outcomes.matrix("out_tok")[:, at], domains),
        signals.luck(codes[:, at[:-1]] if len(at) > 1 else codes[:, at], domains),
    )


def _whole(codes: NDArray[np.int64], odds: Floats, levels: Floats, lengths: Floats, luck: Floats) -> Answers:
    return Answers(codes, odds, np.broadcast_to(levels, codes.shape), lengths, luck)


def _odds(router: Learned) -> tuple[Floats, Floats]:
    """Give log odds [prompts, models] of training: prompt left out, domains left out; NaN where there is no outcome."""
    e = router.evidence
    a, b = (np.array([curve[i] for curve in router.curves]) for i in (0, 1))
    made = []
    for sums in (e.seen, np.where(e.regional == 1, e.unseen, e.seen)):
        odds = np.full((router.about.prompts, len(router.models)), np.nan)
        odds[e.prompt, e.model] = a[e.model] + b[e.model] * sums
        made.append(odds)
    return made[0], made[1]
