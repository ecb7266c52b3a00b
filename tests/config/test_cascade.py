"""`[policies.X.cascade]`: what is refused, with line and words."""

import pytest

from tests.config.test_load import refused
from trivet.config import parse
from trivet.routing.policies import Policies
from trivet.types import CascadePolicy

TARGETS = "".join(f'[targets.{name}]\nprovider = "openai"\nmodel = "m"\nregion = "{name}"\n' for name in "abc")
CASCADE = TARGETS + '[policies.p]\nroute = "cascade"\npool = ["a", "b", "c"]\n'
AT = CASCADE.count("\n") + 1

REFUSED = {
    'cascade = { large = "d" }': f'{AT}: policies.p.cascade.large: "d" is not in the pool of this policy. Write one of '
    "a, b or c.",
    "cascade = { agree = 3 }": f"{AT}: policies.p.cascade.agree: At most 2 answers of cheap targets can agree, so "
    "never 3. Write 2 or less, or add a target or `samples`.",
    "cascade = { samples = 8 }": f"{AT}: policies.p.cascade.samples: 16 answers for one request are too many: 15 are "
    "the most.",
    'cascade = { samples = 2 }\nrouter = "r"\nquality = "0.9"': f"{AT}: policies.p.cascade.samples: A trained router "
    "knows one answer of each target. Remove the line, or `router`.",
    'cascade = { within = "0s" }': f"{AT}: policies.p.cascade.within: In no time nothing is answered. Write at least "
    "1ms.",
    'quality = "0.9 of c"': f"{AT}: policies.p.quality: Only a trained router can hold it. Write router = "
    '"router.trivet", or remove the line.',
    'router = "r"': f'{AT}: policies.p.router: No quality is held. Write quality = "0.98 of large", or remove the '
    "line.",
    'ttft = "p95 <= 1s"': f"{AT}: policies.p.ttft: A cascade holds a quality and makes the cost small, nothing else. "
    "Remove the line.",
    'quality = "0.9 of a"\nrouter = "r"': f'{AT}: policies.p.quality: In this cascade "c" is the large one. Write its '
    'name, or cascade = { large = "a" }.',
}


@pytest.mark.parametrize("more", REFUSED)
def test_what_cannot_be_is_refused(more: str) -> None:
    assert refused(f"{CASCADE}{more}\n") == f"trivet.toml:{REFUSED[more]}"


def test_a_cascade_needs_two_targets_and_its_section_a_cascade() -> None:
    alone = CASCADE.replace('["a", "b", "c"]', '["a"]')
    assert "A cascade has a cheap target and a large one." in refused(alone)
    other = CASCADE.replace('"cascade"', '"fixed"') + "cascade = { agree = 1 }\n"
    assert 'Only route = "cascade" asks cheap targets first.' in refused(other)


def test_it_is_compiled_with_what_users_expect() -> None:
    def compiled(more: str = "") -> CascadePolicy:
        found = Policies(parse(CASCADE + more, source="trivet.toml")).find("p").cascade
        assert found is not None
        return found

    assert compiled() == CascadePolicy(cheap=("a", "b"), large="c", agree=2)
    assert compiled('cascade = { large = "a" }\n').cheap == ("b", "c")
    assert compiled('residency = ["a", "c"]\n') == CascadePolicy(cheap=("a",), large="c", agree=1)
    two = Policies(parse(CASCADE.replace('"a", "b", "c"', '"a", "c"'), source="trivet.toml")).find("p").cascade
    assert two == CascadePolicy(cheap=("a",), large="c", agree=1)


def test_what_changes_an_answer_changes_the_digest() -> None:
    def digest(more: str) -> str:
        return Policies(parse(f"{CASCADE}{more}\n", source="trivet.toml")).find("p").digest

    assert len({digest(f"cascade = {{ {more} }}") for more in ("", "agree = 1", 'large = "a"', "sure = 0.5")}) == 4
    assert digest("") == digest('cascade = { within = "3s" }')
