"""The mode of a policy says who decides, and with what."""

import random

import pytest

from trivet.cache.semantic.deciders import decider
from trivet.cache.semantic.verified import Verified
from trivet.types import CachePolicy


def rules(mode: str) -> CachePolicy:
    return CachePolicy(
        mode=mode, ttl_s=60.0, max_temperature=1.0, tools=False, partition=(), threshold=0.8, max_error=0.02
    )


@pytest.mark.parametrize(
    ("mode", "name"), [("static", "static"), ("vcache", "vcache"), ("verified", "verified"), ("shadow", "verified")]
)
def test_each_mode_has_its_decider(mode: str, name: str) -> None:
    assert decider(rules(mode), "any", random=random.Random(0)).name == name


def test_the_settings_reach_it() -> None:
    assert decider(rules("static"), "any", random=random.Random(0)).report()["threshold"] == 0.8
    made = decider(rules("verified"), "all-MiniLM-L6-v2-int8", random=random.Random(0))
    assert isinstance(made, Verified)
    assert made.report()["max_error"] == 0.02
