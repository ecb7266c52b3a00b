"""What was predicted is put right by what came of it, at once when all has changed, and never to be bolder."""

import random
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trivet.cache.semantic.calibration import OFFSET, Calibration


def odds(p: float) -> float:
    return p / (1 - p)


def taught(calibration: Calibration, verdicts: int, *, times: float, seed: int = 0) -> Calibration:
    """Tell it of risks whose odds are so many times what was predicted."""
    rng = random.Random(seed)
    for _ in range(verdicts):
        risk = rng.choice((0.003, 0.01, 0.03, 0.1, 0.3))
        truth = odds(risk) * times
        calibration.learn(risk, wrong=rng.random() < truth / (1 + truth))
    return calibration


def test_before_any_verdict_it_is_careful() -> None:
    fresh = Calibration()
    assert odds(fresh.put_right(0.03)) / odds(0.03) == pytest.approx(exp(OFFSET), rel=0.01)
    assert fresh.times == pytest.approx(exp(OFFSET))


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_predictions_that_are_too_low_are_put_right(times: float) -> None:
    calibration = taught(Calibration(), 3000, times=times)
    assert calibration.times == pytest.approx(times, rel=0.35)
    assert odds(calibration.put_right(0.02)) / odds(0.02) == pytest.approx(times, rel=0.35)


def test_predictions_that_are_too_high_are_left_as_they_are() -> None:
    calibration = taught(Calibration(), 3000, times=0.2)
    assert calibration.times == 1.0
    assert calibration.put_right(0.03) == pytest.approx(0.03, rel=0.1)


def test_the_more_is_known_the_nearer_is_the_upper_end() -> None:
    risks = np.full(50, 0.02)
    fresh, known = Calibration(), taught(Calibration(), 3000, times=1.3)
    assert fresh.totals(risks, 0.0)[-1] == pytest.approx(known.totals(risks, 0.0)[-1], rel=0.35)
    doubt = [c.totals(risks, 1.0)[-1] / c.totals(risks, 0.0)[-1] for c in (fresh, known)]
    assert doubt[0] > 1.5 > 1.2 > doubt[1] > 1.0


def test_a_sudden_change_is_noticed_after_some_wrong_hits_though_thousands_of_verdicts_say_otherwise() -> None:
    calibration = taught(Calibration(), 5000, times=0.8)
    assert calibration.drifts <= 2
    before = calibration.drifts
    taught(calibration, 200, times=8.0, seed=1)
    assert calibration.drifts > before
    assert calibration.times > 3.0


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=300))
def test_whatever_it_hears_it_gives_probabilities_that_rise_with_what_was_predicted(
    verdicts: list[tuple[float, bool]],
) -> None:
    calibration = Calibration()
    for risk, wrong in verdicts:
        calibration.learn(risk, wrong=wrong)
    risks = [0.0, 1e-12, 1e-6, 0.001, 0.1, 0.5, 0.9, 1.0, 2.0]
    said = [calibration.put_right(risk) for risk in risks]
    assert said == sorted(said)
    assert (said[0], said[-2], said[-1]) == (0.0, 1.0, 1.0)
    totals = calibration.totals(np.array(risks[:-2]), 0.84)
    assert np.isfinite(totals).all()
    assert (np.diff(totals) >= 0).all()
    again = Calibration()
    again.restore(calibration.save())
    assert again.save() == calibration.save()


@pytest.mark.parametrize(
    "damage",
    [
        {"offset": float("nan")}, {"slope": 0.0}, {"slope": float("inf")}, {"covariance": (0.0, 0.0, 1.0)},
        {"covariance": (1.0, 2.0, 1.0)}, {"covariance": (float("nan"), 0.0, 1.0)}, {"surprise": -1.0}, {"drifts": -1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_damaged_is_refused(damage: dict[str, object]) -> None:
    calibration = Calibration()
    with pytest.raises(ValueError, match="damaged"):
        calibration.restore(replace(calibration.save(), **damage))
    assert calibration.save() == Calibration().save()


def test_log_odds_are_what_is_shifted() -> None:
    fresh = Calibration()
    shifts = [log(odds(fresh.put_right(risk)) / odds(risk)) for risk in (0.003, 0.03, 0.3)]
    assert shifts == pytest.approx([OFFSET] * 3, abs=0.02)
