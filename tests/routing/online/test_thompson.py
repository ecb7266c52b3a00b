import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.routing.online.thompson import TRIED, Learner, capped, logit

CHANCES = (0.85, 0.7)
PRICES = (1.0, 0.05)


def taught(seed: int, rates: tuple[float, ...], n: int, *, weight: float = 0.15) -> Learner:
    """Teach a learner that was told CHANCES how often each target is right."""
    learner, chance = Learner(PRICES, weight=weight), random.Random(seed)
    for _ in range(n):
        for target, rate in enumerate(rates):
            learner.learn(target, CHANCES[target], float(chance.random() < rate))
    return learner


def test_without_a_label_it_goes_by_what_training_said() -> None:
    cheap, dear = Learner(PRICES, weight=0.5), Learner(PRICES, weight=0.0)
    assert cheap.probabilities(CHANCES)[1] > 0.95
    assert dear.probabilities(CHANCES)[0] > 0.8
    assert cheap.expected(CHANCES) == pytest.approx(CHANCES, abs=0.02)
    assert cheap.believed(0).labels == 0


def test_it_learns_from_labels_that_training_was_wrong() -> None:
    learner = taught(1, (0.85, 0.4), 300)
    assert learner.expected(CHANCES)[1] == pytest.approx(0.4, abs=0.07)
    assert learner.probabilities(CHANCES)[0] > 0.95
    assert learner.believed(1).labels == 300
    better = taught(2, (0.6, 0.75), 300)
    assert better.probabilities(CHANCES)[1] > 0.95


def test_what_is_uncertain_is_tried_and_what_is_known_is_not() -> None:
    learner = Learner(PRICES, weight=0.15)  # at which both are worth nearly the same
    before = min(learner.probabilities(CHANCES))
    after = min(taught(3, (0.85, 0.55), 1000).probabilities(CHANCES))
    assert before > 0.2
    assert after < 0.01


def test_one_label_moves_little_and_finite() -> None:
    for score in (0.0, 1.0, 0.5):
        learner = Learner(PRICES, weight=0.1)
        learner.learn(1, 0.7, score)
        assert abs(learner.expected(CHANCES)[1] - 0.7) < 0.05


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_labels_that_are_all_equal_stay_finite(score: float) -> None:
    learner = Learner(PRICES, weight=0.1)
    for _ in range(500):
        learner.learn(1, 0.7, score)
    assert learner.expected(CHANCES)[1] == pytest.approx(score, abs=0.06)
    assert all(math.isfinite(p) for p in learner.probabilities(CHANCES))


def test_contradictory_labels_are_half_and_half() -> None:
    learner = Learner(PRICES, weight=0.1)
    for k in range(600):
        learner.learn(1, 0.7, float(k % 2))
    assert learner.expected(CHANCES)[1] == pytest.approx(0.5, abs=0.05)


def test_labels_of_one_target_say_something_of_the_other() -> None:
    learner = Learner(PRICES, weight=0.1)
    for _ in range(50):
        learner.learn(0, 0.85, 0.0)
    assert learner.expected(CHANCES)[1] < 0.6


def test_the_order_of_labels_hardly_matters() -> None:
    labels = [(k % 2, CHANCES[k % 2], float(k % 3 == 0)) for k in range(200)]
    one, other = Learner(PRICES, weight=0.1), Learner(PRICES, weight=0.1)
    for label in labels:
        one.learn(*label)
    for label in reversed(labels):
        other.learn(*label)
    assert one.expected(CHANCES) == pytest.approx(other.expected(CHANCES), abs=0.02)


def test_a_choice_comes_as_often_as_its_probability_says() -> None:
    learner, chance = Learner((1.0, 0.05, 0.4), weight=0.15), random.Random(5)
    chances = (0.85, 0.7, 0.8)
    made = [learner.choose(chances, chance.random()) for _ in range(4000)]
    for target, probability in enumerate(made[0].probabilities):
        share = sum(choice.target == target for choice in made) / len(made)
        assert share == pytest.approx(probability, abs=0.03)
    assert all(choice.propensity == choice.probabilities[choice.target] for choice in made)


def test_for_two_and_for_three_the_probability_is_about_what_drawing_from_beliefs_gives() -> None:
    """Thompson's own way, by 20,000 draws of all levels and stretches."""
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(6)
    for prices, chances in ((PRICES, CHANCES), ((1.0, 0.05, 0.4), (0.85, 0.7, 0.8))):
        learner = Learner(prices, weight=0.15)
        for _ in range(100):
            learner.learn(1, 0.7, float(rng.random() < 0.65))
        kept = learner.save()
        drawn = rng.multivariate_normal(kept.mean, kept.covariance, 20_000)
        odds = drawn[:, ::2] + drawn[:, 1::2] * np.array([logit(chance) for chance in chances])
        worth = 1.0 / (1.0 + np.exp(-odds)) - 0.15 * np.array(prices)
        wins = np.bincount(worth.argmax(axis=1), minlength=len(prices)) / 20_000
        assert learner.probabilities(chances) == pytest.approx(wins.tolist(), abs=0.06)


def test_every_target_keeps_a_chance_where_there_is_room_for_it() -> None:
    learner = taught(7, (0.95, 0.05), 500)
    assert min(learner.choose(CHANCES, 0.5).probabilities) == pytest.approx(TRIED, abs=0.001)
    none = learner.choose(CHANCES, 0.5, safe=0, bold=(1,), room=0.0)
    assert none.probabilities == (1.0, 0.0)
    assert none.bold == 0.0


def test_what_is_bold_has_no_more_than_there_is_room_for() -> None:
    learner = Learner((1.0, 0.05, 0.1), weight=2.0)
    choice = learner.choose((0.9, 0.8, 0.8), 0.99, safe=0, bold=(1, 2), room=0.1)
    assert choice.bold == pytest.approx(0.1)
    assert choice.probabilities[1] + choice.probabilities[2] == pytest.approx(0.1)
    assert sum(choice.probabilities) == pytest.approx(1.0)
    assert capped((0.2, 0.8), safe=0, bold=(1,), room=0.9) == ((0.2, 0.8), 0.8)


def test_a_swapped_model_is_forgotten_and_the_other_is_not() -> None:
    learner = taught(8, (0.85, 0.4), 300)
    other = learner.believed(0)
    learner.forget(1)
    assert learner.believed(0) == other
    assert learner.believed(1).labels == 0
    assert learner.believed(1).level_sd > 1.0
    assert 0.1 < learner.probabilities(CHANCES)[1] < 0.9
    for _ in range(30):
        learner.learn(1, 0.7, 0.0)
    assert learner.probabilities(CHANCES)[1] < 0.01


def test_what_was_learned_can_be_kept_and_damage_is_refused() -> None:
    learner = taught(9, (0.8, 0.5), 50)
    fresh = Learner(PRICES, weight=0.15)
    fresh.restore(learner.save())
    assert fresh.probabilities(CHANCES) == learner.probabilities(CHANCES)
    kept = learner.save()
    for damaged in (
        kept._replace(mean=kept.mean[:2]),
        kept._replace(mean=[math.nan] * 4),
        kept._replace(covariance=[[0.0] * 4] * 4),
        kept._replace(labels=[1]),
    ):
        with pytest.raises(ValueError, match="damaged"):
            fresh.restore(damaged)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf])
def test_numbers_that_are_no_share_are_refused_and_change_nothing(bad: float) -> None:
    learner = Learner(PRICES, weight=0.1)
    before = learner.save()
    for call in (
        lambda: learner.learn(0, 0.5, bad),
        lambda: learner.learn(0, bad, 0.5),
        lambda: learner.learn(2, 0.5, 0.5),
        lambda: learner.probabilities((0.5, bad)),
        lambda: learner.probabilities((0.5,)),
        lambda: learner.choose(CHANCES, bad),
        lambda: learner.choose(CHANCES, 0.5, room=bad),
        lambda: learner.choose(CHANCES, 0.5, safe=1, bold=(1,)),
        lambda: Learner((1.0,), weight=0.1),
        lambda: Learner((1.0, bad if bad != bad or bad > 2 else math.nan), weight=0.1),
        lambda: Learner(PRICES, weight=-1.0),
        lambda: Learner(PRICES, weight=0.1, tried=0.6),
    ):
        with pytest.raises(ValueError):
            call()
    assert learner.save() == before


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=2, max_size=5),
    st.floats(0, 5),
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=5),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1),
)
def test_probabilities_are_shares_and_their_sum_is_1(
    targets: list[tuple[float, float]],
    weight: float,
    labels: list[tuple[int, float, float]],
    draw: float,
    room: float,
) -> None:
    learner = Learner([price for _, price in targets], weight=weight)
    for label in labels:
        learner.learn(*label)
    choice = learner.choose([chance for chance, _ in targets], draw, safe=0, bold=(1,), room=room)
    assert sum(choice.probabilities) == pytest.approx(1.0, abs=1e-9)
    assert all(0.0 <= p <= 1.0 + 1e-12 for p in choice.probabilities)
    assert choice.propensity > 0.0
    assert choice.probabilities[1] <= room + 1e-12
    assert choice == learner.choose([chance for chance, _ in targets], draw, safe=0, bold=(1,), room=room)
