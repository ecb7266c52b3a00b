"""Heads: what was there to be learned is learned, and nothing is predicted by weights that saw it."""

import numpy as np

from trivet.routing.learned.heads import REGIONS, fit, regions


def some(n: int = 600, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, width)).astype(np.float32)
    return rows, np.clip(0.5 + 0.2 * rows[:, :2] + 0.05 * random.standard_normal((n, 2)), 0, 1)


def test_scores_that_follow_from_the_numbers_are_foreseen() -> None:
    rows, scores = some()
    fitted = fit(rows, scores, regions=np.arange(600) % 4)
    for view in (fitted.seen, fitted.unseen):
        assert np.corrcoef(view[:, 0], scores[:, 0])[0, 1] > 0.9
    np.testing.assert_allclose(fitted.weights[0], [0.2, 0], atol=0.03)


def test_noise_is_not_foreseen_by_what_was_left_out() -> None:
    rows, _ = some(width=100)
    scores = np.random.default_rng(1).random((600, 1))
    fitted = fit(rows, scores, regions=np.arange(600) % 4)
    assert np.corrcoef((rows @ fitted.weights)[:, 0], scores[:, 0])[0, 1] > 0.3
    assert abs(np.corrcoef(fitted.seen[:, 0], scores[:, 0])[0, 1]) < 0.15


def test_what_only_one_region_shows_is_not_foreseen_without_it() -> None:
    rows, scores = some()
    region = (rows[:, 2] > 0).astype(np.int64)
    scores[region == 1] = 1 - scores[region == 1]
    fitted = fit(rows, scores, regions=region)
    assert np.corrcoef(fitted.unseen[:, 0], scores[:, 0])[0, 1] < -0.8


def test_models_may_have_been_tried_on_different_prompts() -> None:
    rows, scores = some()
    scores[:300, 1] = np.nan
    done: list[int] = []
    fitted = fit(rows, scores, regions=np.zeros(600, np.int64), tell=done.append)
    assert np.isfinite(fitted.seen[:, 0]).all()
    assert np.isnan(fitted.seen[:300, 1]).all()
    assert np.isfinite(fitted.seen[300:, 1]).all()
    assert np.isnan(fitted.unseen).all(), "with one region nothing is left to learn from"
    assert done == [1, 2]
    alone = fit(rows[300:], scores[300:, 1:], regions=np.zeros(300, np.int64))
    np.testing.assert_allclose(alone.weights[:, 0], fitted.weights[:, 1], atol=1e-6)


def test_the_gain_of_a_pair_is_the_difference_of_its_heads() -> None:
    rows, scores = some()
    both = fit(rows, scores, regions=np.arange(600) % 4)
    gain = fit(rows, scores[:, :1] - scores[:, 1:], regions=np.arange(600) % 4)
    np.testing.assert_allclose(both.weights[:, 0] - both.weights[:, 1], gain.weights[:, 0], atol=1e-5)


def test_similar_domains_are_left_out_together() -> None:
    random = np.random.default_rng(0)
    centres = np.repeat(10 * np.eye(4, dtype=np.float32), 3, 0)  # twelve domains, in threes
    rows = np.repeat(centres, 20, 0) + random.standard_normal((240, 4)).astype(np.float32) * 0.1
    domains = [f"d{i // 20}" for i in range(240)]
    found = regions(rows, domains)
    assert len(set(found)) <= REGIONS
    for name in set(domains):
        assert len({int(r) for r, d in zip(found, domains, strict=True) if d == name}) == 1


def test_prompts_without_domains_are_put_with_their_like() -> None:
    rows = np.repeat(10 * np.eye(4, dtype=np.float32), 50, 0)
    found = regions(rows, [""] * 200)
    assert len(set(found)) == 4
    assert len(set(found[:50])) == 1
    assert set(regions(np.ones((5, 3), np.float32), [""] * 5)) == {0}


def test_ease_is_on_one_scale_whichever_models_answered_a_prompt() -> None:
    """The first half was answered by two weak models, the second by two strong ones, and one answered all."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((600, 8)).astype(np.float32)
    easy = 0.1 * rows[:, 0]
    levels = np.array([0.2, 0.25, 0.5, 0.75, 0.8])
    scores = easy[:, None] + levels + 0.02 * random.standard_normal((600, 5))
    scores[300:, :2] = scores[:300, 3:] = np.nan
    fitted = fit(rows, scores, regions=np.arange(600) % 4)
    for view in (fitted.ease_seen, fitted.ease_unseen):
        assert np.corrcoef(view, easy)[0, 1] > 0.95
        assert abs(view[:300].mean() - view[300:].mean()) < 0.03
    np.testing.assert_allclose(rows @ fitted.ease[:-1] + fitted.ease[-1], fitted.ease_seen, atol=0.03)


def test_the_ease_of_a_prompt_was_not_learned_from_it() -> None:
    rows = np.random.default_rng(0).standard_normal((600, 100)).astype(np.float32)
    scores = np.random.default_rng(1).random((600, 2))
    fitted = fit(rows, scores, regions=np.zeros(600, np.int64))
    easy = scores.mean(1)
    assert np.corrcoef(rows @ fitted.ease[:-1], easy)[0, 1] > 0.3
    assert abs(np.corrcoef(fitted.ease_seen, easy)[0, 1]) < 0.15
    assert np.isnan(fitted.ease_unseen).all()
