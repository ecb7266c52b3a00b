"""The controller of the promise "at most `max_error` of all answers are wrong hits": what risk of a hit may be taken.

Not here: the risk of one hit (`belief.py`).
Each request has a risk: the predicted probability that its hit would be wrong; 0 for an exact hit. Of the last `WINDOW`
requests, those of the least risk may be served until their risks, put right by how wrong predictions were lately, use
up the promise. How wrong they were is the ratio of observed to predicted wrong verdicts in the region that is served
and just beyond: a Poisson count with a Gamma prior, taken at its upper `CONFIDENCE` quantile, so that little evidence
means caution. It starts with a short history of typical requests, which is worth `STARTING` of them: from the first
request on there is a threshold, and what it can cost before real requests count for more is `STARTING` times the
promise.
Invariants: the threshold is in [0, `MOST_RISK`]; a promise of 0 serves nothing but exact hits.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 2000
"""Requests over which the promise is kept: over twice as many, a change of traffic could spend both halves in one."""

STARTING = 200
"""Requests that the typical history is worth: at 1 % it can cost two wrong hits."""

MOST_RISK = 0.6
"""Nothing is served that is much more likely wrong than right, however much of the promise is left. At 0.5 a promise of
5 % was left unused on traffic of which a quarter repeats itself word by word."""

AIM = 0.9
"""Of the promise that is spent on purpose; the rest is for luck, so that most windows of 2,000 requests keep it too."""

CONFIDENCE = 0.8
"""That predictions are no more wrong than is reckoned with; the prior below is on the careful side already."""

_PRIOR_WRONG, _PRIOR_RATIO = 4.0, 1.3
"""Before any verdict: predictions are taken to be 1.3 times too low, on the evidence of four wrong hits."""

_PRIOR_SURPRISES, _PRIOR_FLOOR = 1.0, 0.005
"""Before any audit: of the hits that look sure one in two hundred is wrong, on the evidence of one."""

_SURE = 0.05
"""Risk below which a hit looks sure."""

_FORGET = 0.9997
"""Of the evidence about predictions, per verdict: that of the last 3,000 counts."""


_AUDIT_FIRST, _AUDIT_LAST, _AUDIT_HALF = 0.5, 0.02, 150
"""Share of hits that is audited: at first, in the end, and after how many hits it is halfway."""

_OFTEN = 50
"""Requests between two reckonings, once there are `_SETTLED`; before that it is done at each."""

_SETTLED = 500


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A promise's state as it is saved."""

    risks: list[float]
    requests: int
    served: int
    observed: float
    predicted: float
    surprises: float
    unsurprising: float


class Promise:
    """The controller and what it has seen."""

    def __init__(self, max_error: float, typical: Sequence[float]) -> None:
        """Start it.

        Args:
            max_error: in [0, 1): wrong hits, of all answers.
            typical: risks of some requests of typical traffic; 1 or more for those with nothing to serve.
        """
        import numpy as np

        if not 0.0 <= max_error < 1.0:
            raise ValueError(f"max_error is {max_error}, and must be at least 0 and less than 1.")
        self._np = np
        self.max_error = max_error
        self._risks: NDArray[np.float64] = np.ones(WINDOW)
        start = np.asarray(typical, float)
        self._risks[:STARTING] = np.resize(start, STARTING) if len(start) else 1.0
        self.requests = self.served = 0
        self._observed = self._predicted = 0.0
        self._surprises = self._sure = 0.0
        self._z = NormalDist().inv_cdf(CONFIDENCE)
        self._reckon()

    def asked(self, risk: float) -> None:
        """Count a request: 0 is an exact hit, 1 or more one with nothing to serve."""
        self._risks[(STARTING + self.requests) % WINDOW] = risk
        self.requests += 1
        if self.requests < _SETTLED or self.requests % _OFTEN == 0:
            self._reckon()

    def allows(self, risk: float) -> bool:
        """Say whether a hit of that risk may be served."""
        return risk <= self.threshold

    def floor(self) -> float:
        """Say how often a hit is wrong in which nothing speaks of a risk: what audits of such hits found.

        Whatever is not in the texts (two answers to one question, a judge that errs) is here.
        """
        return (_PRIOR_SURPRISES + self._surprises) / (_PRIOR_SURPRISES / _PRIOR_FLOOR + self._sure)

    def audited(self, said: float, *, wrong: bool) -> None:
        """Take in an audit of a hit that had been said to be wrong with that probability, without the floor."""
        if said <= _SURE:
            self._surprises = self._surprises * _FORGET + wrong
            self._sure = self._sure * _FORGET + 1.0

    def audit(self, risk: float) -> float:
        """Count a served hit, and say with what probability it is to be audited: more where more is at risk."""
        self.served += 1
        share = _AUDIT_LAST + (_AUDIT_FIRST - _AUDIT_LAST) / (1.0 + self.served / _AUDIT_HALF)
        return min(1.0, share * (0.5 + min(1.0, risk / max(self.threshold, 1e-9))))

    def judged(self, risk: float, *, wrong: bool) -> None:
        """Take in what came of a risk that had been predicted."""
        if risk <= max(self.threshold, self.max_error):
            self._observed = self._observed * _FORGET + wrong
            self._predicted = self._predicted * _FORGET + risk

    @property
    def ratio(self) -> float:
        """How many times more hits are wrong than is predicted, at most, with `CONFIDENCE`.

        At least 1: that predictions were too careful for a while is no reason to be bold. The quantile of a Gamma
        distribution after Wilson and Hilferty (1931): within 1 % where four or more were wrong.
        """
        count = _PRIOR_WRONG + self._observed
        rate = _PRIOR_WRONG / _PRIOR_RATIO + self._predicted
        return max(1.0, count * (1.0 - 1.0 / (9.0 * count) + self._z / (3.0 * sqrt(count))) ** 3 / rate)

    def expected(self) -> float:
        """Say what share of all answers is reckoned to be wrong hits at the present threshold, carefully."""
        seen = self._seen()
        return float(seen[seen <= self.threshold].sum()) / len(seen) * self.ratio

    def _seen(self) -> "NDArray[np.float64]":
        return self._risks[: min(STARTING + self.requests, WINDOW)]

    def _reckon(self) -> None:
        risks = self._np.sort(self._seen())
        # A risk of 1 or more is no hit, and costs nothing; it is never reached, for `MOST_RISK` is below it.
        spent = self._np.cumsum(risks) / len(risks)
        within = int(self._np.searchsorted(spent, AIM * self.max_error / self.ratio, side="right"))
        if 0 < within < len(risks) and risks[within] == risks[within - 1]:
            # Of risks that are equal all would be served, and not all fit.
            within = int(self._np.searchsorted(risks, risks[within], side="left"))
        self.threshold = min(float(risks[within - 1]), MOST_RISK) if within else 0.0

    def save(self) -> Kept:
        """Give what is to be kept."""
        return Kept(
            [round(float(r), 4) for r in self._risks],
            self.requests,
            self.served,
            self._observed,
            self._predicted,
            self._surprises,
            self._sure,
        )

    def restore(self, kept: Kept) -> None:
        """Go on from there. Raises ValueError: it is damaged."""
        risks = self._np.array(kept.risks, float)
        if risks.shape != (WINDOW,) or not self._np.isfinite(risks).all() or min(kept.requests, kept.served) < 0:
            raise ValueError("What was kept of the promise is damaged.")
        if not min(kept.observed, kept.predicted, kept.surprises, kept.unsurprising) >= 0.0:
            raise ValueError("What was kept of the promise is damaged: counts below 0.")
        self._risks, self.requests, self.served = risks, kept.requests, kept.served
        self._observed, self._predicted = kept.observed, kept.predicted
        self._surprises, self._sure = kept.surprises, kept.unsurprising
        self._reckon()
