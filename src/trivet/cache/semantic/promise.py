"""The controller of the promise "at most `max_error` of all answers are wrong hits": what risk of a hit may be taken.

Not here: the risk of one hit (`belief.py`).
Each request has a risk: the predicted probability that its hit would be wrong; 0 for an exact hit. Of the last `WINDOW`
requests, those of the least risk may be served until their risks, put right by what came of such predictions lately
(`calibration.py`) and taken at the upper end of its doubt, use up the promise. It starts with a short history of
typical requests, which is worth `STARTING` of them: from the first request on there is a threshold, and what it can
cost before real requests count for more is `STARTING` times the promise.
Invariants: the threshold is in [0, `MOST_RISK`]; a promise of 0 serves nothing but exact hits; a stricter promise never
serves what a looser one does not.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import msgspec

from trivet.cache.semantic.calibration import Calibration, Line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 2000
"""Requests over which the promise is kept: over twice as many, a change of traffic could spend both halves in one."""

STARTING = 200
"""Requests that the typical history is worth: at 1 % it can cost two wrong hits."""

MOST_RISK = 0.5
"""Nothing is served that is likelier wrong than right, however much of the promise is left. At 0.8 a promise of 5 % had
1 to 2 % more hits, of which four in five were wrong; and when the topic changed, one window had 15 % wrong."""

AIM = 0.8
"""Of the promise that is spent on purpose; the rest is for luck, so that most windows of 2,000 requests keep it too.
With 0.9, 4 of 9 orders of mixed traffic broke it by a tenth, with 0.8 one, for 0.4 % less hits."""

CONFIDENCE = 0.8
"""That predictions are no more wrong than is reckoned with; the calibration begins on the careful side already."""

_AUDIT_FIRST, _AUDIT_LAST, _AUDIT_HALF = 0.5, 0.02, 150
"""Share of hits that is audited: at first, in the end, and after how many hits it is halfway."""

_AUDIT_SURE, _AUDIT_RISKY = 0.25, 2.0
"""Times that share: of a hit without any risk, and added for the riskiest that is served: there is more to learn."""

_OFTEN = 50
"""Requests between two reckonings, once there are `_SETTLED`; before that it is done at each."""

_SETTLED = 500


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A promise's state as it is saved."""

    risks: list[float]
    requests: int
    served: int
    line: Line


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
        self.calibration = Calibration()
        self._risks: NDArray[np.float64] = np.ones(WINDOW)
        start = np.asarray(typical, float)
        self._risks[:STARTING] = np.resize(start, STARTING) if len(start) else 1.0
        self.requests = self.served = 0
        self._z = NormalDist().inv_cdf(CONFIDENCE)
        self._reckon()

    def asked(self, risk: float) -> None:
        """Count a request: 0 is an exact hit, 1 or more one with nothing to serve."""
        self._risks[(STARTING + self.requests) % WINDOW] = risk
        self.requests += 1
        if self.requests < _SETTLED or self.requests % _OFTEN == 0:
            self._reckon()

    def allows(self, risk: float, max_error: float | None = None) -> bool:
        """Say whether a hit of that risk may be served, where one request may want a stricter promise."""
        if max_error is None or max_error >= self.max_error:
            return risk <= self.threshold
        return risk <= self._threshold(max_error)

    def audit(self, risk: float) -> float:
        """Count a served hit, and say with what probability it is to be audited: more where more is at risk."""
        self.served += 1
        share = _AUDIT_LAST + (_AUDIT_FIRST - _AUDIT_LAST) / (1.0 + self.served / _AUDIT_HALF)
        return min(1.0, share * (_AUDIT_SURE + _AUDIT_RISKY * min(1.0, risk / max(self.threshold, 1e-9))))

    def judged(self, risk: float, *, wrong: bool) -> None:
        """Take in what came of a risk that had been predicted."""
        self.calibration.learn(risk, wrong=wrong)

    def expected(self) -> float:
        """Say what share of all answers is reckoned to be wrong hits at the present threshold, carefully."""
        within = int(self._np.searchsorted(self._sorted, self.threshold, side="right"))
        return float(self._spent[within - 1]) if within else 0.0

    def _seen(self) -> "NDArray[np.float64]":
        return self._risks[: min(STARTING + self.requests, WINDOW)]

    def _reckon(self) -> None:
        np, seen = self._np, self._seen()
        self._sorted = np.sort(seen[seen <= MOST_RISK])
        self._spent = self.calibration.totals(self._sorted, self._z) / len(seen)
        self.threshold = self._threshold(self.max_error)

    def _threshold(self, max_error: float) -> float:
        """Give the highest risk that may be taken."""
        risks = self._sorted
        within = int(self._np.searchsorted(self._spent, AIM * max_error, side="right"))
        if 0 < within < len(risks) and risks[within] == risks[within - 1]:
            # Of risks that are equal all would be served, and not all fit.
            within = int(self._np.searchsorted(risks, risks[within], side="left"))
        return float(risks[within - 1]) if within else 0.0

    def save(self) -> Kept:
        """Give what is to be kept."""
        return Kept([round(float(r), 5) for r in self._risks], self.requests, self.served, self.calibration.save())

    def restore(self, kept: Kept) -> None:
        """Go on from there. Raises ValueError: it is damaged."""
        risks = self._np.array(kept.risks, float)
        if risks.shape != (WINDOW,) or not self._np.isfinite(risks).all() or min(kept.requests, kept.served) < 0:
            raise ValueError("What was kept of the promise is damaged.")
        self.calibration.restore(kept.line)
        self._risks, self.requests, self.served = risks, kept.requests, kept.served
        self._reckon()
