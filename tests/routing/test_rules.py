"""Who can answer at all, and what the policy states, come before any router."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from trivet.config import parse
from trivet.errors import BadRequestError, ConfigError
from trivet.routing.fixed import Fixed
from trivet.routing.policies import Policies
from trivet.routing.rules import Able, Ruled, build
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.testing.router_suite import RouterSuite
from trivet.types import Candidate, Labels, Policy, Request, Rule

POOL = Policy(name="p", digest="d", pool=("small", "large", "vision"))
TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


class TestRuled(RouterSuite):
    def make(self) -> Ruled:
        return Ruled(Fixed(), {"a": Able(frozenset({"tools"}))})


class TestRules(RouterSuite):
    def make(self) -> Any:
        return build(parse("", source="t"), kit(Path("never-made")))


def ranked(
    request: Request, *rules: Rule, able: Mapping[str, Able] | None = None, policy: Policy = POOL
) -> tuple[Candidate, ...]:
    return asyncio.run(Ruled(Fixed(), able or {}).rank(request, replace(policy, rules=rules)))


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [c.target for c in candidates]


def said(content: Any, **more: Any) -> Request:
    return ask(messages=[{"role": "user", "content": content}], **more)


LONG = "four" * 3000
FITTING: list[tuple[Rule, Request, Request]] = [
    (Rule(use=("large",), needs=frozenset({"tools"})), said("x", tools=[TOOL]), said("x")),
    (Rule(use=("large",), lacks=frozenset({"tools"})), said("x"), said("x", tools=[TOOL])),
    (Rule(use=("large",), tokens_from=3000), said(LONG), said("x")),
    (Rule(use=("large",), tokens_below=3000), said("x"), said(LONG)),
    (Rule(use=("large",), language=frozenset({"de"})), said("wie ist das wetter und wo"), said("how is the weather")),
    (Rule(use=("large",), header=frozenset({(b"x-team", b"a")})), said("x", headers=[(b"x-team", b"a")]), said("x")),
    (Rule(use=("large",), key=frozenset({"key_1"})), replace(said("x"), key_id="key_1"), said("x")),
    (Rule(use=("large",), feature=frozenset({"f"})), replace(said("x"), labels=Labels(feature="f")), said("x")),
    (Rule(use=("large",), agent=frozenset({"f"})), replace(said("x"), labels=Labels(agent="f")), said("x")),
    (Rule(use=("large",), customer=frozenset({"f"})), said("x", customer="f"), said("x", customer="g")),
]


@pytest.mark.parametrize(("rule", "fitting", "other"), FITTING)
def test_a_rule_puts_its_targets_first_where_all_it_names_is_so(rule: Rule, fitting: Request, other: Request) -> None:
    first = ranked(fitting, rule)
    assert names(first) == ["large", "small", "vision"]
    assert [(c.probability, c.why) for c in first] == [(1.0, "rule 1"), (0.0, "rule 1"), (0.0, "rule 1")]
    assert names(ranked(other, rule)) == ["small", "large", "vision"]
    assert ranked(other, rule)[0].why == ""


def test_the_first_rule_that_fits_is_taken() -> None:
    rules = (Rule(use=("vision",), tokens_from=10**6), Rule(use=("large", "vision")), Rule(use=("small",)))
    found = ranked(said("x"), *rules)
    assert (names(found), found[0].why) == (["large", "vision", "small"], "rule 2")


ABLE = {
    "small": Able(frozenset({"tools", "images"}), lambda: 4096),
    "large": Able(frozenset({"images"}), lambda: 8000),
    "vision": Able(frozenset(), lambda: None),
}


def test_who_lacks_what_is_needed_is_never_ranked_not_even_by_a_rule() -> None:
    small_first = Rule(use=("small",))
    assert names(ranked(said("x"), small_first, able=ABLE)) == ["small", "large", "vision"]
    assert names(ranked(said("x", tools=[TOOL]), small_first, able=ABLE)) == ["large", "vision"]
    found = ranked(said(IMAGE, tools=[TOOL]), small_first, able=ABLE)
    assert names(found) == ["vision"]
    assert found[0].probability == 1.0
    assert "1 of 3 can: images tools" in found[0].why


def test_where_nobody_can_the_client_is_told_who_lacks_what() -> None:
    policy = replace(POOL, pool=("small", "large"))
    with pytest.raises(BadRequestError, match=r"'p' can answer.*small lacks images; large lacks images.*pool"):
        ranked(said(IMAGE), able=ABLE, policy=policy)


def test_a_prompt_goes_to_those_that_have_room_and_else_to_the_largest() -> None:
    policy = replace(POOL, pool=("small", "large"))
    assert names(ranked(said("x" * 4 * 4000), able=ABLE, policy=policy)) == ["small", "large"]
    assert names(ranked(said("x" * 4 * 4000, max_tokens=500), able=ABLE, policy=policy)) == ["large"]
    assert names(ranked(said("x" * 4 * 9000), able=ABLE, policy=policy)) == ["large"]
    assert names(ranked(said("x" * 4 * 9000), able=ABLE)) == ["vision"]


def test_a_target_that_is_named_directly_is_not_second_guessed() -> None:
    direct = Policy(name="small", digest="d", pool=("small",), transparent=True)
    assert names(ranked(said(IMAGE), able=ABLE, policy=direct)) == ["small"]


FILE = """
[targets.small]
provider = "openai"
model = "s"
region = "us"
lacks = ["images"]
[targets.large]
provider = "openai"
model = "l"
region = "eu"
[policies.p]
pool = ["small", "large"]
"""


def test_rules_are_read_from_the_file() -> None:
    rule = """
[[policies.p.rules]]
use = ["large"]
tools = true
images = false
language = ["de", "CYRILLIC"]
header = { "X-Team" = "a" }
"""
    (compiled,) = Policies(parse(FILE + rule, source="t")).find("p").rules
    assert compiled == Rule(
        use=("large",),
        needs=frozenset({"tools"}),
        lacks=frozenset({"images"}),
        language=frozenset({"de", "CYRILLIC"}),
        header=frozenset({(b"x-team", b"a")}),
    )
    other = Policies(parse(FILE, source="t")).find("p")
    assert other.digest != Policies(parse(FILE + rule, source="t")).find("p").digest


def test_a_rule_for_a_target_that_residency_takes_out_does_not_bring_it_back() -> None:
    text = FILE + 'residency = ["us"]\n[[policies.p.rules]]\nuse = ["large"]\n'
    policy = Policies(parse(text, source="t")).find("p")
    assert names(asyncio.run(Ruled(Fixed(), {}).rank(said("x"), policy))) == ["small"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('use = ["huge"]', '"huge" is not in the pool'),
        ("use = []", "at least one"),
        ('use = ["large"]\ntokens_from = 9\ntokens_below = 9', "fewer tokens"),
        ('use = ["large"]\nlanguage = ["german"]', 'script such as "CYRILLIC"'),
        ('use = ["large"]\ntool = true', "Did you mean `tools`"),
        ("tools = true", "`use` is missing"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(f"{FILE}[[policies.p.rules]]\n{rule}\n", source="t")
