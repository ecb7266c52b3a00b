import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.online.estimate import ips, robust, snips

Log = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def log(seed: int, n: int = 2000) -> Log:
    """Choices between two targets, and what a policy that likes the second would have earned."""
    rng = np.random.default_rng(seed)
    right = np.stack([rng.uniform(0.2, 0.6, n), rng.uniform(0.5, 0.9, n)], 1)
    second = rng.uniform(0.1, 0.9, n)
    chosen = (rng.random(n) < second).astype(int)
    logged = np.where(chosen == 1, second, 1.0 - second)
    at = np.arange(n)
    rewards = (rng.random(n) < right[at, chosen]).astype(float)
    wanted = np.where(chosen == 1, 0.8, 0.2)
    true = float((0.2 * right[:, 0] + 0.8 * right[:, 1]).mean())
    return rewards, logged, wanted, right[at, chosen], 0.2 * right[:, 0] + 0.8 * right[:, 1], true


def test_each_finds_what_the_other_policy_would_have_earned_as_often_as_its_error_says() -> None:
    off = []
    for seed in range(60):
        rewards, logged, wanted, guess, guess_policy, true = log(seed)
        found = (
            ips(rewards, logged, wanted),
            snips(rewards, logged, wanted),
            robust(rewards, logged, wanted, guess=guess, guess_policy=guess_policy),
        )
        off.append([(one.mean - true) / one.error for one in found])
    z = np.array(off)
    assert (np.abs(z.mean(axis=0)) < 0.4).all()
    assert ((z**2).mean(axis=0) < 1.7).all()
    assert ((z**2).mean(axis=0) > 0.4).all()


def test_robust_is_right_with_wrong_guesses_and_surer_with_good_ones() -> None:
    rewards, logged, wanted, guess, guess_policy, true = log(7, 20_000)
    wrong = robust(rewards, logged, wanted, guess=guess * 0, guess_policy=guess_policy * 0 + 0.0)
    good = robust(rewards, logged, wanted, guess=guess, guess_policy=guess_policy)
    assert wrong.mean == pytest.approx(true, abs=4 * wrong.error)
    assert good.mean == pytest.approx(true, abs=4 * good.error)
    assert good.error < wrong.error


def test_robust_is_right_with_wrong_chances_where_guesses_are_right() -> None:
    rewards, logged, wanted, guess, guess_policy, true = log(8, 20_000)
    found = robust(rewards, np.full_like(logged, 0.5), wanted, guess=guess, guess_policy=guess_policy)
    assert found.mean == pytest.approx(true, abs=4 * found.error)
    blind = ips(rewards, np.full_like(logged, 0.9), wanted)
    assert abs(blind.mean - true) > 4 * blind.error


def test_labels_that_are_missing_by_chance_change_the_error_and_not_the_mean() -> None:
    rewards, logged, wanted, guess, guess_policy, true = log(9, 20_000)
    gone = np.random.default_rng(1).random(len(rewards)) > 0.2
    few = np.where(gone, np.nan, rewards)
    for found in (
        ips(few, logged, wanted, known=0.2),
        snips(few, logged, wanted, known=0.2),
        robust(few, logged, wanted, guess=guess, guess_policy=guess_policy, known=np.full(len(few), 0.2)),
    ):
        assert found.mean == pytest.approx(true, abs=4 * found.error)
        assert found.error > ips(rewards, logged, wanted).error


def test_the_same_policy_earned_what_it_earned() -> None:
    rewards, logged, *_ = log(3)
    for found in (ips(rewards, logged, logged), snips(rewards, logged, logged)):
        assert found.mean == pytest.approx(rewards.mean())
        assert found.equal == pytest.approx(len(rewards))
        assert found.clipped == 0.0
        low, high = found.interval()
        assert low < rewards.mean() < high


def test_large_weights_are_cut_and_it_is_told() -> None:
    rewards, logged, wanted = np.ones(4), np.array([0.001, 0.5, 0.5, 0.5]), np.array([1.0, 0.5, 0.5, 0.5])
    assert ips(rewards, logged, wanted, clip=np.inf).mean == pytest.approx(1003 / 4)
    cut = ips(rewards, logged, wanted, clip=10.0)
    assert cut.mean == pytest.approx(13 / 4)
    assert cut.clipped == pytest.approx(990 / 1003)


def test_one_label_has_no_error_that_is_known_and_none_leaves_guesses() -> None:
    one = np.array([1.0])
    assert ips(one, one, one).error == np.inf
    none = np.full(5, np.nan)
    half = np.full(5, 0.5)
    assert robust(none, half, half, guess=half, guess_policy=half).mean == 0.5
    assert ips(none, half, half).mean == 0.0
    with pytest.raises(ValueError, match="Nothing"):
        snips(none, half, half)


@pytest.mark.parametrize(
    ("rewards", "logged", "wanted", "clip"),
    [
        ([1.0], [0.0], [0.5], 50.0),
        ([1.0], [1.1], [0.5], 50.0),
        ([1.0], [np.nan], [0.5], 50.0),
        ([1.0], [0.5], [-0.1], 50.0),
        ([1.0], [0.5], [np.nan], 50.0),
        ([np.inf], [0.5], [0.5], 50.0),
        ([1.0], [0.5], [0.5], 0.5),
        ([1.0], [0.5], [0.5], np.nan),
        ([], [], [], 50.0),
        ([1.0, 1.0], [0.5], [0.5], 50.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    rewards: list[float], logged: list[float], wanted: list[float], clip: float
) -> None:
    with pytest.raises(ValueError):
        ips(np.array(rewards), np.array(logged), np.array(wanted), clip=clip)


def test_guesses_have_to_be_numbers_one_for_each() -> None:
    half = np.full(3, 0.5)
    for guess in (np.full(3, np.nan), np.full(2, 0.5)):
        with pytest.raises(ValueError, match="guess"):
            robust(half, half, half, guess=guess, guess_policy=half)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 100.0))
def test_estimates_are_finite_and_cutting_never_makes_one_larger(seed: int, clip: float) -> None:
    rewards, logged, wanted, *_ = log(seed, 50)
    whole, cut = ips(rewards, logged, wanted, clip=np.inf), ips(rewards, logged, wanted, clip=clip)
    assert 0.0 <= cut.mean <= whole.mean
    assert 0.0 <= cut.clipped <= 1.0
    assert np.isfinite([cut.mean, cut.error, cut.equal]).all()
