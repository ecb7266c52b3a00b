"""The triangle of a policy: which legs may be held together, and what is said where they may not."""

import pytest

from trivet.config import bound, floor, parse
from trivet.errors import ConfigError

TARGETS = "".join(f"[targets.{n}]\nprovider = 'openai'\nmodel = '{n}'\nregion = '{r}'\n" for n, r in ("ab", "cd"))
POLICY = f"{TARGETS}[policies.p]\npool = ['a', 'c']\nroute = 'learned'\nrouter = 'r.trv'\n"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text, source="t")
    return str(error.value)


@pytest.mark.parametrize(
    "legs",
    [
        "quality = '0.98 of c'",
        "quality = '1'\nminimize = 'latency'",
        "quality = '.5'\nttft = 'p95 <= 800ms'\nminimize = 'cost'",
        "maximize = 'quality'\ncost = '$0.002'",
        "maximize = 'quality'\nttft = 'p99.5 <= 1.5s'\ncost = '$0.002'",
    ],
)
def test_two_legs_and_one_left_over_are_taken(legs: str) -> None:
    assert parse(POLICY + legs, source="t").policies["p"].router == "r.trv"


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        ("", 't:9: policies.p: No leg is held. Write quality = "0.98 of large", or ttft = "p95 <= 800ms".'),
        ("maximize = 'quality'", 'policies.p: No leg is held. Write cost = "$0.002", or ttft = "p95 <= 800ms".'),
        ("cost = '$1'", 'policies.p.cost: This leg is the one that is made as good as it can be. Remove it, or'),
        ("maximize = 'quality'\nquality = '1'", "policies.p.quality: This leg is the one"),
        ("minimize = 'latency'\nttft = 'p95 <= 1s'", "policies.p.ttft: This leg is the one"),
        ("minimize = 'cost'\nmaximize = 'quality'\nttft = 'p95 <= 1s'", "policies.p.maximize: One leg is left over"),
        ("quality = '0.98 of b'", 'policies.p.quality: "b" is not in the pool of this policy. Write one of a or c.'),
        ("quality = '0.98 of c'\nresidency = ['b']", 'policies.p.quality: "c" is never called: `residency` leaves'),
        ("quality = '1.1'", "policies.p.quality: \"1.1\" is not a floor under quality. Write a share"),
        ("quality = '0'", "policies.p.quality: \"0\" is not a floor"),
        ("quality = '98 %'", "policies.p.quality: \"98 %\" is not a floor"),
        ("ttft = 'p5 <= 1s'", "policies.p.ttft: \"p5 <= 1s\" is not a bound on the time"),
        ("ttft = '800ms'", "policies.p.ttft: \"800ms\" is not a bound on the time"),
        ("quality = '1'\nconfidence = 1.0", "policies.p.confidence: 1.0 is not a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(legs: str, words: str) -> None:
    assert words in refused(POLICY + legs)


def test_only_a_trained_route_weighs_them_and_it_needs_its_file() -> None:
    text = f"{TARGETS}[policies.p]\npool = ['a', 'c']\n"
    assert 'policies.p.router: Only route = "learned" or "clusters" weighs that' in refused(text + "router = 'r.trv'\n")
    assert "policies.p: `router` is missing" in refused(text + "route = 'learned'\nquality = '1'\n")


def test_floors_and_bounds_are_numbers() -> None:
    assert floor("0.98 of large") == (0.98, "large")
    assert floor("1") == (1.0, "")
    assert bound("p95 <= 800ms") == (0.95, 0.8)
    assert list(bound("p99.5 <= 1.5s")) == pytest.approx([0.995, 1.5])
