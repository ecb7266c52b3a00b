"""A policy's mode says who decides."""

import random

import pytest
from msgspec.structs import replace

from tests.cache.semantic.test_tier import RULES
from trivet.cache.semantic.deciders import decider
from trivet.cache.semantic.static import Static


@pytest.mark.parametrize(
    ("mode", "name"), [("static", "static"), ("vcache", "vcache"), ("verified", "verified"), ("shadow", "verified")]
)
@pytest.mark.parametrize("embedder", ["all-MiniLM-L6-v2-int8", "trivet-static-1", "somebody's own/../x"])
def test_a_mode_has_its_decider_over_any_embedder(mode: str, name: str, embedder: str) -> None:
    made = decider(replace(RULES, mode=mode, max_error=0.07), embedder, random=random.Random(1))
    assert made.name == name
    assert made.report().get("max_error", 0.07) == 0.07
    made.restore(made.save())


def test_the_threshold_is_the_policys() -> None:
    made = decider(replace(RULES, threshold=0.97), "any", random=random.Random(1))
    assert isinstance(made, Static)
    assert made.threshold == 0.97
