import numpy as np
import pytest

from trivet.routing.pool.logistic import Normal, chance, fit, softened

PRIOR = Normal(np.array([0.5, 0.0]), np.eye(2))


def test_many_labels_give_back_the_weights_they_came_from() -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack([np.ones(20_000), rng.normal(size=20_000)])
    scores = (rng.random(20_000) < chance(rows @ np.array([-0.3, 1.2]))).astype(float)
    found = fit(rows, scores, PRIOR)
    assert found.mean == pytest.approx([-0.3, 1.2], abs=0.1)
    assert (np.diag(found.covariance) < 0.01).all()


def test_no_label_gives_back_the_prior() -> None:
    found = fit(np.zeros((0, 2)), np.zeros(0), PRIOR)
    assert found.mean == pytest.approx(PRIOR.mean)
    assert found.covariance == pytest.approx(PRIOR.covariance)


@pytest.mark.parametrize("scores", [np.ones(1000), np.zeros(1000), np.tile([0.0, 1.0], 500)])
def test_equal_and_contradictory_labels_stay_finite(scores: np.ndarray) -> None:
    rows = np.column_stack([np.ones(1000), np.full(1000, 50.0)])
    found = fit(rows, scores, PRIOR)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.covariance).all()


def test_doubt_brings_chances_nearer_to_a_half() -> None:
    sums = np.array([-2.0, 0.0, 2.0])
    sure, unsure = softened(sums, 0.0), softened(sums, 4.0)
    assert sure[0] < unsure[0] < 0.5 == unsure[1] < unsure[2] < sure[2]
