from pathlib import Path

import numpy as np
import pytest

from tests.routing.pool.words import outcomes, router
from trivet.errors import ConfigError
from trivet.routing.learned import file
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.file import Section
from trivet.routing.pool.plan import Ask, Plan
from trivet.routing.pool.pool import families, load, load_space, mark


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return router(tmp_path_factory.mktemp("router"), n=1500)


def test_a_file_gives_back_the_pool_that_was_written(path: Path, tmp_path: Path) -> None:
    sections, _ = file.read(path)
    pool = load(sections)
    file.write(tmp_path / "again.trv", pool.sections())
    again = load(file.read(tmp_path / "again.trv")[0])
    features = load_space(sections).dense(["About tensor tensor?", "About a cat?"]).astype(float)
    for one, other in zip(pool.estimates(features, pool.names), again.estimates(features, pool.names), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_hard_texts_go_to_the_large_model_and_the_floor_holds(path: Path, tmp_path: Path) -> None:
    sections, _ = file.read(path)
    fresh = read_outcomes(outcomes(tmp_path / "fresh", models=("tiny", "small", "large"), seed=1))
    features = load_space(sections).dense(fresh.prompts.texts).astype(float)
    made = load(sections).decide(features, ["tiny", "small", "large"], Ask(quality=0.93))
    assert isinstance(made.plan, Plan)
    assert made.plan.names[made.plan.reference] == "large"
    at = [fresh.models.index(name) for name in made.models]
    rows = np.arange(len(at))
    scores, costs, large = fresh.matrix(), fresh.matrix("cost_usd"), fresh.models.index("large")
    assert scores[rows, at].mean() >= 0.93 * scores[:, large].mean()
    assert costs[rows, at].mean() < 0.8 * costs[:, large].mean()
    assert made.plan.labels == 1500


def test_a_new_model_is_estimated_and_can_be_chosen(path: Path, tmp_path: Path) -> None:
    sections, _ = file.read(path)
    pool, space = load(sections), load_space(sections)
    read = read_outcomes(outcomes(tmp_path / "labels", n=200, models=("middle",), seed=2))
    features = space.dense(read.prompts.texts).astype(float)
    grown, told = pool.enrol("middle", features, read.prompts.texts, read.matrix()[:, 0], read.matrix("cost_usd")[:, 0])
    assert "middle" in grown.names
    assert "middle" not in pool.names
    assert told[0][1].low <= 0.775 <= told[0][1].high
    hard, easy = grown.estimates(
        space.dense(["integral of the tensor entropy", "cat garden river"]).astype(float), ["middle"]
    )[0]
    assert hard[0] < easy[0]


def test_prompts_of_training_are_known_again(path: Path) -> None:
    sections, _ = file.read(path)
    pool = load(sections)
    train = read_outcomes(path.parent / "train")
    features = load_space(sections).dense(train.prompts.texts[:30]).astype(float)
    _, told = pool.enrol("new", features, train.prompts.texts[:30], np.ones(30), np.full(30, 1e-4))
    assert told[0][1].known == 30
    assert mark("a  b\n") == mark("a b") != mark("ab")


def test_a_pool_that_is_empty_unknown_or_doubled_is_refused(path: Path) -> None:
    pool = load(file.read(path)[0])
    with pytest.raises(ConfigError, match="empty"):
        pool.check([])
    with pytest.raises(ConfigError, match=r"'gpt'; it knows large, small, tiny\. Add a model.*route enrol"):
        pool.check(["large", "gpt"])
    with pytest.raises(ConfigError, match="twice"):
        pool.check(["large", "large"])
    with pytest.raises(ConfigError, match="no outcome of 'new'"):
        pool.enrol("new", np.zeros((0, 762)), [], np.zeros(0), np.zeros(0))


def test_a_router_without_a_pool_or_with_half_a_one_is_refused(path: Path) -> None:
    sections, _ = file.read(path)
    with pytest.raises(ConfigError, match="knows nothing of pools"):
        load({})
    with pytest.raises(ConfigError, match="no words"):
        load_space({})
    words = sections["pool/words"]
    with pytest.raises(ConfigError, match=r"features of another kind than this Trivet has \(words-2\). Train it again"):
        load_space({"pool/words": Section({**words.facts, "features": "words-1"}, words.arrays)})
    half = sections["pool/0"]
    with pytest.raises(ConfigError, match="damaged"):
        load({"pool/0": Section(half.facts, {k: v for k, v in half.arrays.items() if k != "home"})})
    with pytest.raises(ConfigError, match="damaged"):
        load({"pool/0": Section(half.facts, half.arrays | {"rows": half.arrays["rows"][:5]})})


def test_prompts_that_other_models_were_tried_on_are_another_family() -> None:
    tried = np.array([[1, 1, 1, 0, 0, 0]] * 5 + [[1, 1, 0, 0, 0, 0]] * 3 + [[0, 0, 0, 1, 1, 1]] * 4, bool)
    of = families(tried)
    assert (of == [0] * 8 + [1] * 4).all()
