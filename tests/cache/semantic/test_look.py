"""What a decider sees can be built from little, and every decider fills the protocol."""

import random

import pytest

from trivet.cache.semantic.look import NEIGHBOURS, Decider, Kept, Look, Near
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.vcache import VCache
from trivet.cache.semantic.verified import Verified


@pytest.mark.parametrize("name", ["static", "vcache", "verified"])
def test_any_decider_takes_any_look_and_gives_a_verdict_that_can_be_acted_on(name: str) -> None:
    deciders: dict[str, Decider] = {
        "static": Static(0.5),
        "vcache": VCache(0.05, random.Random(0)),
        "verified": Verified(prior("unknown"), 0.05),
    }
    decider = deciders[name]
    assert decider.name == name
    rng = random.Random(1)
    for count in (*range(NEIGHBOURS + 1), *[NEIGHBOURS] * 40):
        cosines = sorted((rng.uniform(-1, 1) for _ in range(count)), reverse=True)
        near = [Near(Kept(text=f"kept {'ab'[i % 2]}", group=i % 3), c) for i, c in enumerate(cosines)]
        look = Look("asked a", near)
        verdict = decider.decide(look)
        assert (verdict.chosen == -1) == (count == 0)
        assert verdict.chosen < count
        assert 0 <= verdict.audit <= 1
        assert verdict.p_correct is None or 0 <= verdict.p_correct <= 1
        assert verdict.why
        if count:
            decider.learn(look, verdict, same=rng.random() < 0.5, audited=verdict.serve)
            decider.feedback(near[0].kept)
        decider.passed()
    assert all(isinstance(v, int | float) for v in decider.report().values())
    decider.restore(decider.save())
