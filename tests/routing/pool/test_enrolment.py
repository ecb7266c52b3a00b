import numpy as np
import pytest

from tests.routing.pool.world import world
from trivet.routing.pool.enrolment import enrol
from trivet.routing.pool.skills import learn

OF = world()
NEW = 9
OTHERS = [i for i in range(12) if i != NEW]
LEARNED = learn(OF.features, OF.scores[:, OTHERS], OF.costs[:, OTHERS])
SKILLS = LEARNED.skills


def test_twenty_labels_tell_more_than_their_mean() -> None:
    """Over 40 draws: the model's chances beat its mean accuracy on the same labels."""
    ours, plain = [], []
    rows = SKILLS.of(OF.features)
    for draw in range(40):
        at = np.random.default_rng(draw).choice(900, 20, replace=False)
        told = enrol(SKILLS, OF.features[at], OF.scores[at, NEW], costs=OF.costs[at, NEW])
        ours.append(((SKILLS.chances(rows, told.model) - OF.scores[:, NEW]) ** 2).mean())
        plain.append(((OF.scores[at, NEW].mean() - OF.scores[:, NEW]) ** 2).mean())
    assert np.mean(ours) < np.mean(plain) - 0.01


def test_the_interval_covers_and_narrows() -> None:
    inside, widths = [], {10: 0.0, 100: 0.0}
    for draw in range(60):
        for n in widths:
            at = np.random.default_rng(draw).choice(900, n, replace=False)
            told = enrol(SKILLS, OF.features[at], OF.scores[at, NEW], costs=OF.costs[at, NEW], confidence=0.9)
            widths[n] += (told.high - told.low) / 60
            inside.append(told.low <= OF.scores[:, NEW].mean() <= told.high)
    assert np.mean(inside) > 0.85
    assert widths[100] < 0.6 * widths[10]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_label_hardly_moves_it_and_many_equal_ones_do(score: float) -> None:
    one = enrol(SKILLS, OF.features[:1], np.array([score]))
    many = enrol(SKILLS, OF.features[:200], np.full(200, score))
    assert 0.1 < one.quality < 0.95
    assert one.high - one.low > 0.2
    assert abs(many.quality - score) < 0.1
    assert np.isfinite(many.model.weights.mean).all()


def test_what_others_did_on_the_same_prompts_makes_labels_worth_more() -> None:
    """A model that fails where all fail is not a bad one."""
    rows = SKILLS.of(OF.features)
    ease = SKILLS.ease(rows, OF.scores[:, OTHERS], LEARNED.models)
    hard = np.argsort(ease)[:30]
    scores = OF.scores[hard, NEW]
    blind = enrol(SKILLS, OF.features[hard], scores)
    seeing = enrol(SKILLS, OF.features[hard], scores, ease=ease[hard])
    truth = OF.scores[:, NEW].mean()
    at = [SKILLS.chances(rows, told.model).mean() for told in (blind, seeing)]
    assert abs(at[1] - truth) < abs(at[0] - truth)
    assert seeing.known == 30


@pytest.mark.parametrize("scores", [np.zeros(0), np.array([np.nan]), np.array([1.5])])
def test_no_label_or_one_that_is_no_score_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"[Ss]core|label"):
        enrol(SKILLS, OF.features[: len(scores)], scores)
