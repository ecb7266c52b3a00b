"""How predicted risks of a wrong hit relate to what came of them: by how much they are to be put right, and how sure
that is.

Not here: predicting (`belief.py`), what may be served (`promise.py`).
Log odds of being wrong are taken to be a line in the predicted ones (Platt 1999, "Probabilistic outputs for support
vector machines"), and offset and slope of the line to have a normal distribution, which each verdict moves
(`evidence.py`). A miss is a verdict too, and there are many of those: they say whether predictions are
true for this traffic at all, and the slope, which hardly moves, carries that over to the hits, of which only some are
audited.
Invariants: what is put right is in [0, 1], and rises with what was predicted; evidence fades, and is thrown away at a
sudden drift. That predictions were too careful for a while is no reason to be bold: an offset below 0 is not used.
"""

from math import exp, log
from typing import TYPE_CHECKING

import msgspec

from trivet.cache.semantic.evidence import EXTREME, logistic, mode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIVOT = -3.5
"""Log odds at which a change of slope alone changes nothing: a risk of 3 %, about what is just still served."""

OFFSET, OFFSET_DEVIATION = 0.3, 0.7
"""Before any verdict: predictions are 1.35 times too low, between two thirds and 2.7 times."""

SLOPE, SLOPE_DEVIATION = 1.0, 0.1
"""Before any verdict. Of five streams that were held out, 0.2 lost 4 points of hits on BANKING77 and gained nothing on
the mixed one; 0.05 was the same as 0.1."""

FORGET = 0.9997
"""Of the evidence, per verdict: that of the last 3,000 counts."""

DRIFT = 1.0
"""That a drift raises the log odds of being wrong by, to be told from luck."""

ALARM = 5.0
"""Of the log likelihood ratio that tells a drift (Page 1954, "Continuous inspection schemes"), summed up while it is
above 0. A false one costs some hits for a while."""

RISE = 0.5
"""Added to the offset at a drift, which is then open to be found out anew."""

REACH = 0.5
"""Predicted risk up to which a verdict counts: what is likelier wrong than right is never served, and its misses would
drown all others."""

_LEAST, _MOST = 1e-9, 1.0 - 1e-9
_MIN_SLOPE = 1e-3
"""Of the logistic curve, p (1 - p), in an update: a verdict that was certain and is right moves nothing much."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was learned, as it is saved."""

    offset: float
    slope: float
    covariance: tuple[float, float, float]
    """Of offset with itself, with slope, and of slope with itself."""
    surprise: float
    drifts: int


class Calibration:
    """The line, and how sure it is."""

    def __init__(self) -> None:
        self._offset, self._slope = OFFSET, SLOPE
        self._oo, self._os, self._ss = OFFSET_DEVIATION**2, 0.0, SLOPE_DEVIATION**2
        self._surprise = 0.0
        self.drifts = 0
        """How often hits were suddenly wrong more often than had been learned."""

    @property
    def times(self) -> float:
        """How many times more often than predicted hits of a small risk are wrong, at least 1."""
        return exp(max(self._offset, 0.0))

    def put_right(self, risk: float) -> float:
        """Say how likely a hit of that predicted risk is wrong; 0 stays 0, and 1 or more is no hit and stays 1."""
        if not 0.0 < risk < 1.0:
            return min(max(risk, 0.0), 1.0)
        return logistic(self._log_odds(_centred(risk)))

    def learn(self, risk: float, *, wrong: bool) -> None:
        """Take in what came of a predicted risk."""
        if not 0.0 < risk <= REACH:
            return
        x = _centred(risk)
        said = logistic(self._log_odds(x))
        self._watch(said, wrong=wrong)
        oo, os, ss = self._oo / FORGET, self._os / FORGET, self._ss / FORGET
        of_offset, of_slope = oo + os * x, os + ss * x
        variance = of_offset + of_slope * x
        after = logistic(mode(self._offset + self._slope * x + PIVOT, variance, yes=wrong))
        self._offset += of_offset * (float(wrong) - after)
        self._slope = max(self._slope + of_slope * (float(wrong) - after), _MIN_SLOPE)
        doubt = 1.0 / max(after * (1.0 - after), _MIN_SLOPE) + variance
        self._oo = oo - of_offset * of_offset / doubt
        self._os = os - of_offset * of_slope / doubt
        self._ss = ss - of_slope * of_slope / doubt

    def _watch(self, said: float, *, wrong: bool) -> None:
        """Notice a drift: after thousands of verdicts a few would move nothing."""
        p = min(max(said, 1e-4), 1.0 - 1e-4)
        drifted = logistic(log(p / (1.0 - p)) + DRIFT)
        ratio = drifted / p if wrong else (1.0 - drifted) / (1.0 - p)
        self._surprise = max(0.0, self._surprise + log(ratio))
        if self._surprise > ALARM:
            self._surprise = 0.0
            self.drifts += 1
            self._offset = max(self._offset, OFFSET) + RISE
            self._oo, self._os, self._ss = OFFSET_DEVIATION**2, 0.0, SLOPE_DEVIATION**2

    def totals(self, risks: "NDArray[np.float64]", z: float) -> "NDArray[np.float64]":
        """Say how many of the first one, two, ... hits are wrong at most.

        Args:
            risks: [n], each in [0, 1).
            z: standard deviations of the line to be careful by; its doubt is shared by all hits, so it does not average
            out, and as a factor it never makes a total negative.

        Returns:
            [n], not falling.
        """
        import numpy as np

        x = np.log(np.clip(risks, _LEAST, _MOST)) - np.log1p(-np.clip(risks, _LEAST, _MOST)) - PIVOT
        p = 1.0 / (1.0 + np.exp(-np.clip(max(self._offset, 0.0) + self._slope * x + PIVOT, -EXTREME, EXTREME)))
        p[risks <= 0.0] = 0.0
        steep = p * (1.0 - p)
        total, by_offset, by_slope = np.cumsum(p), np.cumsum(steep), np.cumsum(steep * x)
        variance = self._oo * by_offset**2 + 2.0 * self._os * by_offset * by_slope + self._ss * by_slope**2
        careful = total * np.exp(z * np.sqrt(np.maximum(variance, 0.0)) / np.maximum(total, _LEAST))
        most: NDArray[np.float64] = np.maximum.accumulate(careful)
        return most

    def save(self) -> Line:
        """Give what is to be kept."""
        return Line(self._offset, self._slope, (self._oo, self._os, self._ss), self._surprise, self.drifts)

    def restore(self, line: Line) -> None:
        """Go on from there. Raises ValueError: it is damaged."""
        oo, os, ss = line.covariance
        sound = abs(line.offset) < EXTREME and 0.0 < line.slope < EXTREME and oo > 0.0 and ss > 0.0
        if not sound or not os * os <= oo * ss < 1e12 or not 0.0 <= line.surprise <= ALARM or line.drifts < 0:
            raise ValueError("What was kept of the calibration is damaged.")
        self._offset, self._slope = line.offset, line.slope
        self._oo, self._os, self._ss = oo, os, ss
        self._surprise, self.drifts = line.surprise, line.drifts

    def _log_odds(self, x: float) -> float:
        return max(self._offset, 0.0) + self._slope * x + PIVOT


def _centred(risk: float) -> float:
    risk = min(max(risk, _LEAST), _MOST)
    return log(risk / (1.0 - risk)) - PIVOT
