"""A router trained on outcomes: it knows what they show, is the same again, and survives its file or refuses it."""

from pathlib import Path

import numpy as np
import pytest

from tests.routing.pool.words import outcomes
from trivet.errors import ConfigError
from trivet.routing.learned import file, learned
from trivet.routing.learned.data import Outcomes, read_outcomes

DATE = "2026-11-23"
EASY, HARD = "About cat river bread?", "About tensor quantum entropy?"


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return read_outcomes(outcomes(tmp_path_factory.mktemp("outcomes")))


@pytest.fixture(scope="module")
def router(read: Outcomes) -> learned.Learned:
    return learned.train(read, date=DATE)


def test_it_knows_what_is_hard_and_for_whom(router: learned.Learned) -> None:
    easy, hard = (router.estimate(text, ["small", "large"]) for text in (EASY, HARD))
    assert easy[0] > 0.75
    assert hard[0] < 0.5
    assert hard[1] > 0.75
    pair = router.pair("small", "large")
    assert pair.estimate(EASY).gain > -0.15
    assert pair.estimate(HARD).gain < -0.4
    assert pair.rule.apgr_seen is not None
    assert pair.rule.apgr_seen > 0.65
    assert pair.rule.prompts == 600


def test_words_that_it_never_saw_are_judged_by_their_neighbours(router: learned.Learned) -> None:
    """`kitten` and `algebra` are in no prompt of the training."""
    pair = router.pair("small", "large")
    assert pair.estimate("kitten").gain > pair.estimate("algebra").gain


def test_what_is_written_is_what_is_loaded_with_what_others_have_in_the_file(
    router: learned.Learned, read: Outcomes, tmp_path: Path
) -> None:
    router.others["mine"] = file.Section({"a": 1}, {"b": np.arange(3)})
    digest = router.save(tmp_path / "r")
    again = learned.load(tmp_path / "r")
    assert again.digest == digest
    assert again.others["mine"].facts == {"a": 1}
    assert again.estimate(HARD, ["tiny", "large"]) == router.estimate(HARD, ["tiny", "large"])
    assert again.pair("small", "large").estimate(EASY) == router.pair("small", "large").estimate(EASY)
    assert again.trained_on(read.prompts.texts[0])
    assert not again.trained_on(EASY)
    assert again.save(tmp_path / "r2") == digest
    del router.others["mine"]
    told = learned.described(again)
    assert told["models"] == {"large": 600, "middle": 600, "small": 600, "tiny": 600}
    assert told["date"] == DATE


def test_the_same_outcomes_give_the_same_file(read: Outcomes, router: learned.Learned, tmp_path: Path) -> None:
    assert learned.train(read, date=DATE).save(tmp_path / "a") == router.save(tmp_path / "b")


def test_an_unknown_model_is_an_error_that_names_those_there_are(router: learned.Learned) -> None:
    with pytest.raises(ConfigError, match=r"does not know 'smal'. Did you mean 'small'\? It knows: large, middle"):
        router.pair("smal", "large")
    with pytest.raises(ConfigError, match=r"does not know 'x'"):
        router.estimate("a", ["x"])


def test_too_few_outcomes_are_an_error(tmp_path: Path) -> None:
    few = read_outcomes(outcomes(tmp_path / "few", n=19))
    with pytest.raises(ConfigError, match=r"Too few outcomes of large \(19\), .*20 of each"):
        learned.train(few, date=DATE)


def test_equal_scores_train_a_router_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text(
        "\n".join(
            f'{{"pid": "{i}", "prompt": "word{i % 7} and more", "model": "{m}", "score": 1}}'
            for i in range(40)
            for m in "ab"
        )
    )
    router = learned.train(read_outcomes(path), date=DATE)
    told = router.pair("a", "b").estimate("word3")
    assert told.p_small > 0.85
    assert told.gain == pytest.approx(0.0, abs=0.01)


def test_a_file_that_lacks_a_part_or_was_trained_for_others_features_is_refused(
    router: learned.Learned, tmp_path: Path
) -> None:
    path = tmp_path / "r"
    router.save(path)
    sections, _ = file.read(path)
    heads = sections["heads"]
    for wrong, words in (
        ({"heads": heads}, r"has not the parts of a router: 'evidence'"),
        (
            sections | {"heads": file.Section({**heads.facts, "features": "words-9"}, heads.arrays)},
            r"features of another kind \(words-9\)",
        ),
        ({"heads": file.Section({**heads.facts, "features": "words-1"}, {})}, r"another kind \(words-1\)"),
        (sections | {"heads": file.Section({**heads.facts, "models": ["a"]}, heads.arrays)}, r"does not fit together"),
        (sections | {"heads": file.Section({**heads.facts, "seed": "x"}, heads.arrays)}, r"has not the parts"),
        (
            sections | {"heads": file.Section(heads.facts, heads.arrays | {"bias": np.zeros(9, np.float32)})},
            r"does not fit together",
        ),
    ):
        file.write(path, wrong)
        with pytest.raises(ConfigError, match=words):
            learned.load(path)


def test_a_pair_whose_order_sees_the_ease_is_compiled_into_the_same_numbers(tmp_path: Path) -> None:
    """Two models with few labels, whose heads know little, beside twelve with many, which show what is easy."""
    random = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    ease = dict(zip(words, random.normal(0, 1.5, 40), strict=True))
    lines = []
    for i in range(900):
        some = random.choice(words, 5)
        models = {f"m{k}": 0.2 * k - 1 for k in range(12)} if i >= 60 else {"small": -1.0, "large": 1.5}
        for name, level in models.items():
            right = int(random.random() < 1 / (1 + np.exp(-level - 2 * sum(ease[w] for w in some))))
            row = f'"pid": "{i}", "prompt": "{" ".join(some)}", "domain": "d{i % 12}"'
            lines.append(f'{{{row}, "model": "{name}", "score": {right}}}')
    (tmp_path / "o.jsonl").write_text("\n".join(lines))
    router = learned.train(read_outcomes(tmp_path / "o.jsonl"), date=DATE)
    assert router.rule("small", "large").eased
    texts = [" ".join(random.choice(words, 5)) for _ in range(20)]
    rows = router.space.dense(texts)
    sums = rows @ router.weights + router.bias
    at = [router.place(name) for name in ("small", "large")]
    told = router.chances(["small", "large"], sums[:, at].astype(float), rows @ router.ease[:-1] + router.ease[-1])
    pair = router.pair("small", "large")
    for text, (small, large) in zip(texts, told, strict=True):
        guess = pair.estimate(text)
        assert (guess.gain, guess.p_large) == pytest.approx((small - large, large), abs=1e-4)
