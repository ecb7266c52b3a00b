"""The promise holds, whoever asks and whatever the predictions are worth."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.cache.semantic.calibration import Calibration
from trivet.cache.semantic.promise import MOST_RISK, STARTING, WINDOW, Kept, Promise

TYPICAL = [0.0] * 60 + [0.02] * 60 + [0.3] * 20 + [2.0] * 60


def served(promise: Promise, requests: int, *, lie: float = 1.0, noise: float = 0.0, seed: int = 0) -> tuple[int, int]:
    """Send requests whose hits are wrong `lie` times as often as is said; give hits, and wrong ones.

    A judge errs in `noise` of its verdicts.
    """
    rng = random.Random(seed)
    hits = wrong = 0
    for _ in range(requests):
        risk = rng.choice((0.002, 0.01, 0.05, 0.1, 0.3, 2.0))
        promise.asked(risk)
        is_wrong = rng.random() < min(1.0, risk * lie)
        said = is_wrong != (rng.random() < noise)
        if promise.allows(risk):
            hits += 1
            wrong += is_wrong
            if rng.random() < promise.audit(risk):
                promise.judged(risk, wrong=said)
        elif risk < 1:
            promise.judged(risk, wrong=said)
    return hits, wrong


@pytest.mark.parametrize("max_error", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_where_predictions_are_true_the_promise_is_kept_and_used(max_error: float, seed: int) -> None:
    hits, wrong = served(Promise(max_error, TYPICAL), 4000, seed=seed)
    assert wrong / 4000 <= max_error
    assert hits / 4000 > 0.3


@pytest.mark.parametrize("lie", [2.0, 3.0])
def test_predictions_that_are_too_rosy_are_found_out(lie: float) -> None:
    promise = Promise(0.02, TYPICAL)
    served(promise, 5000, lie=lie)
    _, wrong = served(promise, 5000, lie=lie, seed=1)
    assert wrong / 5000 <= 0.02 + 2 * (0.02 * 0.98 / 5000) ** 0.5


def test_a_judge_that_errs_makes_it_careful_and_never_bold() -> None:
    honest, noisy = Promise(0.02, TYPICAL), Promise(0.02, TYPICAL)
    served(honest, 4000)
    _, wrong = served(noisy, 4000, noise=0.1)
    assert noisy.threshold <= honest.threshold
    assert wrong / 4000 <= 0.02


def test_a_promise_of_nothing_serves_only_exact_hits() -> None:
    promise = Promise(0.0, TYPICAL)
    assert served(promise, 500) == (0, 0)
    assert promise.allows(0.0)


def test_a_request_may_ask_for_a_stricter_promise_and_for_no_looser_one() -> None:
    promise = Promise(0.02, TYPICAL)
    served(promise, 2000)
    risks = [i / 1000 for i in range(200)]
    let_through = {asked: sum(promise.allows(r, asked) for r in risks) for asked in (None, 0.5, 0.02, 0.01, 0.002, 0.0)}
    assert let_through[None] == let_through[0.5] == let_through[0.02] > let_through[0.01] > let_through[0.002]
    assert let_through[0.0] == 1  # no risk at all


def test_what_the_start_can_cost_is_bounded() -> None:
    promise = Promise(0.01, TYPICAL)
    said = 0.0
    for _ in range(STARTING):  # all of it as risky as is just still served
        risk = promise.threshold
        promise.asked(risk)
        said += risk if promise.allows(risk) else 0.0
    assert said <= 0.01 * 2 * STARTING + MOST_RISK


@settings(max_examples=20)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=300))
def test_at_the_threshold_the_risks_of_the_window_use_up_no_more_than_is_promised(risks: list[float]) -> None:
    promise = Promise(0.05, TYPICAL)
    for risk in risks:
        promise.asked(risk)
    assert 0 <= promise.threshold <= MOST_RISK
    assert promise.expected() <= 0.05 + 1e-9 or promise.threshold == 0.0


def test_the_window_forgets_what_traffic_was() -> None:
    promise = Promise(0.01, TYPICAL)
    for _ in range(WINDOW):
        promise.asked(0.2)
    strict = promise.threshold
    for _ in range(WINDOW):
        promise.asked(0.001)
    assert strict < 0.2
    assert promise.allows(0.001)


def test_what_was_saved_goes_on() -> None:
    promise, again = Promise(0.02, TYPICAL), Promise(0.02, TYPICAL)
    served(promise, 700)
    again.restore(promise.save())
    assert again.threshold == pytest.approx(promise.threshold, abs=1e-4)
    assert again.calibration.save() == promise.calibration.save()
    with pytest.raises(ValueError, match="damaged"):
        again.restore(Kept([0.1], 1, 1, Calibration().save()))


@pytest.mark.parametrize("max_error", [-0.1, 1.0, float("nan")])
def test_a_promise_that_is_no_share_is_refused(max_error: float) -> None:
    with pytest.raises(ValueError, match="max_error"):
        Promise(max_error, TYPICAL)
