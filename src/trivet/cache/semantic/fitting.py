"""Fits a prior: labelled questions are put before a decider that notes every verdict, and a curve is laid through them.

Not here: the questions (`tools/prior.py` for those that are shipped, `bench/cache.py` for those held out).
Invariant: the same questions in the same order give the same prior.
"""

from collections.abc import Sequence
from math import sqrt
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from trivet.cache.semantic.features import NAMES, numbers
from trivet.cache.semantic.look import Kept, Look, Near, Verdict
from trivet.cache.semantic.priors import Number, Prior
from trivet.cache.semantic.trial import Labelled, Vicinity, replay
from trivet.cache.semantic.verified import Verified
from trivet.cache.semantic.words import guard, read
from trivet.seams import Clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROUNDS = 2
"""What is near depends on what was served before, so the fit is repeated with the first one deciding."""

RIDGE = 10.0
"""Pull of each weight towards 0, in verdicts: 3 to 30 gave the same on intents that were held out."""

WIDER = 100.0
"""How much wider the prior is than the fit: other traffic is other. 100 learned faster than 10 and was better."""

TYPICAL = 200
"""Risks that are kept of what was met."""

_TRAINING_ERROR = 0.05
"""The promise while fitting: loose, so that there is something to be seen of what is served."""


class Stream(NamedTuple):
    """Labelled questions and where their neighbours are found."""

    questions: Sequence[Labelled]
    vicinity: Vicinity
    rows: Sequence[int]


class _Noting:
    """`Verified`, with every hit audited and every verdict noted."""

    keeps_same = True
    in_context = True
    least = -1.0

    def __init__(self, prior: Prior) -> None:
        self._inner = Verified(prior, _TRAINING_ERROR)
        self.name = self._inner.name
        self.numbers: list[Sequence[float]] = []
        self.right: list[bool] = []
        self.risks: list[float] = []

    def decide(self, look: Look) -> Verdict:
        verdict = self._inner.decide(look)
        self.risks.append(verdict.risk)
        return verdict._replace(audit=1.0)

    def passed(self) -> None:
        self._inner.passed()
        self.risks.append(0.0)

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        if verdict.features:
            self.numbers.append(verdict.features)
            self.right.append(same)
        self._inner.learn(look, verdict, same=same, audited=audited)

    def feedback(self, kept: Kept) -> None:
        self._inner.feedback(kept)

    def report(self) -> dict[str, float]:
        return self._inner.report()

    def save(self) -> bytes:
        return self._inner.save()

    def restore(self, saved: bytes) -> None:
        self._inner.restore(saved)


def fit(
    streams: Sequence[Stream],
    pairs: Sequence[tuple[str, str, float, bool]],
    *,
    name: str,
    made_from: str,
    clock: Clock,
    first: Prior | None = None,
) -> Prior:
    """Fit a prior on streams and on pairs (two texts, their cosine, whether one answer is right for both).

    A pair stands for a cache that holds one question: it is met without evidence.
    """
    prior = first or beginning(name)
    lonely = [(said, right) for a, b, cosine, right in pairs if (said := _alone(a, b, cosine))]
    for turn in range(ROUNDS):
        seen: list[Sequence[float]] = [said for said, _ in lonely]
        right = [r for _, r in lonely]
        risks: list[float] = []
        for at, (questions, vicinity, rows) in enumerate(streams):
            vicinity.forget()
            noting = _Noting(prior)
            replay(questions, vicinity, noting, rows=rows, random=Random(1000 * turn + at), clock=clock)  # noqa: S311
            seen += noting.numbers
            right += noting.right
            risks += noting.risks
        prior = _regress(seen, right, risks, name=name, made_from=made_from)
    return prior


def beginning(name: str) -> Prior:
    """Give a prior that knows only that nearer is likelier: where fitting begins."""
    weights = {"one": -1.0, "cosine": 1.0, "log(1.02 - cosine)": -1.0, "shared": 0.5, "agreement": 0.5}
    numbers = tuple(
        Number(name=n, mean=_MIDDLE.get(n, 0.0), scale=_SPREAD.get(n, 1.0), weight=weights.get(n, 0.0), variance=1.0)
        for n in NAMES
    )
    return Prior(name=name, version=1, made_from="nothing", numbers=numbers, typical=(0.0, 2.0))


_MIDDLE = {"cosine": 0.75, "log(1.02 - cosine)": -1.3, "shared": 0.5, "agreement": 0.5}
_SPREAD = {"cosine": 0.12, "log(1.02 - cosine)": 0.5, "shared": 0.2, "agreement": 0.3}


def _alone(a: str, b: str, cosine: float) -> Sequence[float]:
    """Give the numbers of a cache that holds one question; nothing where a guard refuses."""
    one, other = read(a), read(b)
    return () if guard(one, other) else numbers(one, [Near(Kept(text=b, group=0), cosine)], 0, other)


def _regress(
    seen: Sequence[Sequence[float]], right: Sequence[bool], risks: Sequence[float], *, name: str, made_from: str
) -> Prior:
    import numpy as np

    x = np.array(seen)
    y = np.array(right, float)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    mean[0], scale[0] = 0.0, 1.0
    scale[scale < 1e-6] = 1.0
    z = (x - mean) / scale
    weight, hessian = logistic(z, y, ridge=RIDGE)
    spread = np.linalg.inv(hessian)
    typical = np.quantile(risks, [(i + 0.5) / TYPICAL for i in range(TYPICAL)], method="nearest")
    return Prior(
        name=name,
        version=1,
        made_from=made_from,
        numbers=tuple(
            Number(
                name=n,
                mean=_short(mean[i]),
                scale=_short(scale[i]),
                weight=_short(weight[i]),
                variance=_short(spread[i, i] * WIDER),
            )
            for i, n in enumerate(NAMES)
        ),
        typical=tuple(_short(r) for r in typical),
    )


def logistic(
    x: "NDArray[np.float64]", y: "NDArray[np.float64]", *, ridge: float
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Fit a logistic regression without an intercept by Newton's method: its weights, and the curvature there.

    Args:
        x: [n, d]. y: [n], 0 or 1.
    """
    import numpy as np

    weight = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ weight, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, x.T @ (y - p) - ridge * weight)
        weight = weight + step
        if sqrt(float(step @ step)) < 1e-9:
            break
    return weight, hessian


def _short(value: float) -> float:
    """Round to four digits: files that people can read, and the same on every machine."""
    return float(f"{float(value):.4g}")
