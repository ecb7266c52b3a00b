"""Names mean what the file says, and a policy's digest changes when its answers could."""

import pytest

from trivet.config import parse
from trivet.errors import UnknownModelError
from trivet.routing.policies import Policies
from trivet.types import Policy

FILE = """
[targets.small]
provider = "openai"
model = "s-1"
base_url = "http://127.0.0.1:1/v1"
region = "local"

[targets.large]
provider = "openai"
model = "l-1"
base_url = "http://127.0.0.1:2/v1"
region = "us"

[policies.support]
pool = ["small", "large"]
baseline = "large"
[policies.support.cache]
mode = "exact"
ttl = "1h"

[policies.here]
pool = ["small", "large"]
residency = ["local"]

[aliases]
"gpt-4o" = "support"
"""

WILD = """
[targets.openai]
provider = "openai"
[targets.anthropic]
provider = "openai"
base_url = "https://api.anthropic.com/v1"
"""


def policies(text: str = FILE) -> Policies:
    return Policies(parse(text, source="trivet.toml"))


def test_a_target_named_directly_has_no_levers() -> None:
    policy = policies().find("small")
    assert (policy.pool, policy.transparent, policy.cache, policy.baseline) == (("small",), True, None, None)


def test_a_policy_is_compiled_with_its_levers() -> None:
    policy = policies().find("support")
    assert (policy.pool, policy.transparent, policy.baseline) == (("small", "large"), False, "large")
    assert policy.cache is not None
    assert policy.cache.ttl_s == 3600


def test_an_alias_means_what_it_points_at() -> None:
    assert policies().find("gpt-4o") == policies().find("support")


def test_targets_outside_the_residency_are_not_in_the_pool() -> None:
    assert policies().find("here").pool == ("small",)


def test_the_baseline_is_the_last_of_the_pool_unless_it_is_said() -> None:
    assert policies().find("here").baseline == "large"


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownModelError, match=r"'gpt-5'.*support.*gpt-4o"):
        policies().find("gpt-5")


def test_a_single_wildcard_target_takes_every_name() -> None:
    only = policies('[targets.up]\nprovider = "openai"\n')
    assert only.find("gpt-5").model == "gpt-5"
    assert only.find("up/gpt-5").model == "gpt-5"
    assert only.find("gpt-5").transparent


def test_several_wildcard_targets_are_told_apart_by_prefix_or_family() -> None:
    two = policies(WILD)
    assert two.find("gpt-5").pool == ("openai",)
    assert two.find("claude-opus-5").pool == ("anthropic",)
    assert (two.find("anthropic/some/model").pool, two.find("anthropic/some/model").model) == (
        ("anthropic",),
        "some/model",
    )
    with pytest.raises(UnknownModelError):
        two.find("mystery")


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ('"s-1"', '"s-2"', True),
        ("127.0.0.1:1", "127.0.0.1:9", True),
        ('["small", "large"]\nbaseline', '["large", "small"]\nbaseline', True),
        ('ttl = "1h"', 'ttl = "2h"', False),
        ('ttl = "1h"', 'ttl = "1h"\ntools = true', True),
        ('baseline = "large"', 'baseline = "small"', False),
    ],
)
def test_the_digest_covers_what_can_change_an_answer(old: str, new: str, *, changes: bool) -> None:
    assert old in FILE
    before, after = policies().find("support"), policies(FILE.replace(old, new)).find("support")
    assert (before.digest != after.digest) is changes


def classified(more: str = "", *, model: str = "small", file: str = FILE) -> Policy:
    """Compile the policy `here` with a classifier."""
    how = f'route = "classifier"\nclassifier = {{ model = "{model}"{more} }}\n'
    return policies(file.replace("residency", how + "residency")).find("here")


def test_a_classifier_is_compiled_without_targets_that_residency_takes_out() -> None:
    how = classified(', timeout = "0.5s", simple = ["small"], complex = ["large"], ttl = "1h"').classifier
    assert how is not None
    assert (how.model, how.within_ms, how.simple, how.complex, how.ttl_s) == ("small", 500, ("small",), (), 3600)


@pytest.mark.parametrize("model", ["judge", "court"])
def test_another_model_behind_the_name_that_is_asked_changes_what_is_remembered_and_no_answer(model: str) -> None:
    court = '[targets.judge]\nprovider = "openai"\nmodel = "j-1"\nregion = "local"\n'
    court += '[policies.court]\npool = ["judge"]\n'
    before = classified(model=model, file=court + FILE)
    after = classified(model=model, file=court.replace("j-1", "j-2") + FILE)
    assert before.classifier is not None
    assert after.classifier is not None
    assert before.classifier.digest != after.classifier.digest
    assert before.digest == after.digest


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        (', fallback = "simple"', True),
        (', prompt = "simple or complex?"', True),
        (', timeout = "9s"', False),
        (", memory = 5", False),
        (', ttl = "9s"', False),
    ],
)
def test_the_digest_of_a_policy_covers_what_its_classifier_does_and_no_times(more: str, *, changes: bool) -> None:
    assert (classified().digest != classified(more).digest) is changes
    assert classified().digest != policies().find("here").digest
