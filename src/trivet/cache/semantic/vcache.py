"""vCache's decider: for each kept question a logistic curve of its own, over the cosine, and a chance to explore.

After Schroeder et al., "vCache: Verified Semantic Prompt Caching" (arXiv 2502.03771), from the paper alone. A
question is explored (the model is asked, and the answers compared) until four others were compared with it; then with
a probability such that wrong hits stay at most `max_error` of all requests. Nothing is shared between questions, and
no guard is asked. One thing is ours: where the verdicts of a question can be told apart by a threshold, the logistic
fit has no variance that means anything; the paper's program looks one up in a table, here the threshold is taken to
be anywhere between the last "different" and the first "same", each place as likely (variance: the square of the gap
over 12).
Invariant: whether it serves is drawn from the `Random` it is given, so the same seed decides the same.
"""

from functools import lru_cache
from math import exp, sqrt
from statistics import NormalDist

from trivet.cache.semantic.look import Kept, Look, Verdict
from trivet.seams import Random

SEEDED = ((0.0, False), (1.0, True))
"""What each question is taken to have seen: nothing like it was different, and itself."""

FEWEST = 6
"""Observations, the two above among them, before anything is served."""

MOST_SEEN = 64
"""Of one question, the newest are kept: the curve does not change much any more, and a question stays small."""

_QUANTILES = tuple((i + 0.5) / 50 for i in range(50))
_Z = tuple(NormalDist().inv_cdf(1.0 - eps) for eps in _QUANTILES)

_TOLERANCE = 1e-8
"""Of the gradient, at which the fit stops; where there is no best fit, this is what makes it end."""

_STEPS = 60

_LEAST_STEEPNESS = 1e-6


@lru_cache(maxsize=4096)  # a question is looked at more often than it is compared
def fit(seen: tuple[tuple[float, bool], ...]) -> tuple[float, float, float]:
    """Fit the curve of what was seen, cosine and verdict: its steepness, its threshold in [0, 1], and the variance of
    that.

    Unpenalised, by Newton's method.
    """
    slope = bias = 0.0
    for _ in range(_STEPS):
        g1 = g0 = h11 = h10 = h00 = 0.0
        for s, same in seen:
            p = _logistic(slope * s + bias)
            w = p * (1.0 - p)
            g1, g0 = g1 + (same - p) * s, g0 + (same - p)
            h11, h10, h00 = h11 + w * s * s, h10 + w * s, h00 + w
        det = h11 * h00 - h10 * h10
        if max(abs(g1), abs(g0)) < _TOLERANCE or det < 1e-18:
            break
        slope += (h00 * g1 - h10 * g0) / det
        bias += (h11 * g0 - h10 * g1) / det
    steep = max(slope, _LEAST_STEEPNESS)
    threshold = min(1.0, max(0.0, -bias / steep))
    last_wrong = max(s for s, same in seen if not same)
    first_right = min(s for s, same in seen if same)
    if last_wrong < first_right:
        return steep, threshold, (first_right - last_wrong) ** 2 / 12.0
    # The delta method: threshold = -bias / slope.
    d1, d0 = bias / steep**2, -1.0 / steep
    variance = (d1 * d1 * h00 - 2.0 * d1 * d0 * h10 + d0 * d0 * h11) / det if det > 0 else 1.0
    return steep, threshold, max(variance, 0.0)


def explores(cosine: float, curve: tuple[float, float, float], max_error: float) -> float:
    """Give the probability with which the model is asked, in [0, 1]: the least that keeps the promise."""
    steep, threshold, variance = curve
    least = 1.0
    for eps, z in zip(_QUANTILES, _Z, strict=True):
        moved = min(1.0, max(0.0, threshold + z * sqrt(variance)))
        right = (1.0 - eps) * _logistic(steep * (cosine - moved))
        least = min(least, 1.0 - max_error / (1.0 - right) if right < 1.0 else 0.0)
    return max(least, 0.0)


class VCache:
    """The decider."""

    name = "vcache"
    keeps_same = False
    in_context = False
    least = -1.0

    def __init__(self, max_error: float, random: Random) -> None:
        if not 0.0 <= max_error < 1.0:
            raise ValueError(f"max_error is {max_error}, and must be at least 0 and less than 1.")
        self.max_error, self._random = max_error, random
        self._requests = self._served = self._feedback = 0

    def decide(self, look: Look) -> Verdict:
        """Serve or explore the nearest."""
        self._requests += 1
        if not look.near:
            return Verdict(serve=False, chosen=-1, p_correct=None, audit=0.0, why="nothing near")
        near = look.near[0]
        if near.barred:  # it is explored all the same: what comes of that is about the two questions
            return Verdict(serve=False, chosen=0, p_correct=None, audit=0.0, why=near.barred)
        cosine, seen = round(near.cosine, 3), SEEDED + near.kept.seen
        if len(seen) < FEWEST:
            return Verdict(serve=False, chosen=0, p_correct=None, audit=0.0, why="few verdicts")
        curve = fit(seen)
        right = _logistic(curve[0] * (cosine - curve[1]))
        max_error = self.max_error if look.max_error is None else min(self.max_error, look.max_error)
        if self._random.random() <= explores(cosine, curve, max_error):
            return Verdict(serve=False, chosen=0, p_correct=right, audit=0.0, why="explored")
        self._served += 1
        return Verdict(serve=True, chosen=0, p_correct=right, audit=0.0, why="likely")

    def passed(self) -> None:
        """Note an exact hit."""
        self._requests += 1

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        """Take in what came of an exploration."""
        near = look.near[verdict.chosen]
        near.kept.seen = (*near.kept.seen, (round(near.cosine, 3), same))[-MOST_SEEN:]

    def feedback(self, kept: Kept) -> None:
        """Count it: without the cosine there is nothing to learn from."""
        kept.wrong += 1
        self._feedback += 1

    def report(self) -> dict[str, float]:
        """Say how it stands."""
        return {
            "max_error": self.max_error,
            "requests": self._requests,
            "served": self._served,
            "feedback": self._feedback,
        }

    def save(self) -> bytes:
        """Give nothing: what it learns is saved with the questions."""
        return b'{"vcache":1}'

    def restore(self, saved: bytes) -> None:
        """Go on. Raises ValueError: that is of another decider."""
        if saved.strip() != b'{"vcache":1}':
            raise ValueError("That was learned by another decider, or another version of this one.")


def _logistic(z: float) -> float:
    return 1.0 / (1.0 + exp(-max(-700.0, min(700.0, z))))
