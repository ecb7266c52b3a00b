import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.pool.promise import more, pair, walk


def population(seed: int, n: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted gains, and scores of a small and a large model, whose gain is as predicted on average."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(-0.12, 0.12, n)
    large = (rng.random(n) < 0.8).astype(float)
    lost = np.clip(-predicted, 0, 1) / 0.8
    small = np.where(large == 1, rng.random(n) > lost, rng.random(n) < np.clip(predicted, 0, 1) / 0.2)
    return predicted, small.astype(float), large


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("quality", [0.95, 0.98])
def test_the_floor_is_missed_in_few_draws_of_labels(n: int, quality: float) -> None:
    """At confidence .9, in 300 draws: 10 %, and what chance adds to that."""
    gains, small, large = population(3)
    rng, missed = np.random.default_rng(4), 0
    for _ in range(300):
        at = rng.choice(len(gains), n, replace=False)
        least, _ = pair(gains[at], small[at], large[at], quality=quality, confidence=0.9)
        missed += np.where(gains >= least, small, large).mean() < quality * large.mean()
    assert missed / 300 <= 0.13


def test_more_labels_save_more() -> None:
    gains, small, large = population(5)
    rng = np.random.default_rng(6)
    shares = []
    for n in (100, 1000, 10_000):
        at = [rng.choice(len(gains), n, replace=False) for _ in range(20)]
        least = [pair(gains[i], small[i], large[i], quality=0.97, confidence=0.9)[0] for i in at]
        shares.append(np.mean([(gains >= t).mean() for t in least]))
    assert shares[0] < shares[1] < shares[2]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.floats(0.5, 0.97), st.floats(0.5, 0.95))
def test_a_stricter_ask_never_goes_further(seed: int, n: int, quality: float, confidence: float) -> None:
    gains, small, large = population(seed, n)
    loose, held = pair(gains, small, large, quality=quality, confidence=confidence)
    assert pair(gains, small, large, quality=quality + 0.02, confidence=confidence)[0] >= loose
    assert pair(gains, small, large, quality=quality, confidence=confidence + 0.04)[0] >= loose
    assert held.labels == n


def test_few_labels_promise_nothing_but_the_large_model() -> None:
    gains, small, large = population(7, 9)
    assert pair(gains, small, large, quality=0.5, confidence=0.9)[0] == np.inf


def test_a_small_model_that_is_never_worse_gets_everything() -> None:
    gains = np.linspace(-1, 1, 500)
    right = np.tile([1.0, 1.0, 0.0, 1.0], 125)
    least, held = pair(gains, right, right, quality=0.98, confidence=0.9)
    assert least <= -1.0
    assert held.quality == 1.0
    assert held.at_least >= 0.98


def test_whole_domains_that_differ_make_it_careful() -> None:
    gains, small, large = population(8, 2000)
    domain = np.arange(2000) % 8
    small[domain == 0] *= 0.2
    alone, _ = pair(gains, small, large, quality=0.9, confidence=0.9)
    grouped, _ = pair(gains, small, large, quality=0.9, confidence=0.9, groups=domain)
    assert grouped >= alone


def test_it_says_what_more_labels_would_buy() -> None:
    gains, small, large = population(9, 200)
    path = np.array([np.where(gains >= t, small - large, 0.0) for t in np.append(np.inf, np.sort(gains)[::-10])])
    now = walk(path, large, quality=0.95, confidence=0.9).step
    assert now <= more(path, large, quality=0.95, confidence=0.9, labels=5000)


@pytest.mark.parametrize(("quality", "confidence"), [(1.1, 0.9), (-0.1, 0.9), (0.9, 1.0), (0.9, 0.4)])
def test_shares_and_confidences_out_of_range_are_refused(quality: float, confidence: float) -> None:
    gains, small, large = population(1, 50)
    with pytest.raises(ValueError, match="must be"):
        pair(gains, small, large, quality=quality, confidence=confidence)


def test_nan_is_refused() -> None:
    gains, small, large = population(1, 50)
    small[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        pair(gains, small, large, quality=0.9, confidence=0.9)
