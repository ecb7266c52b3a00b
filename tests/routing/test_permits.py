"""What a key may not ask for does not exist for it, and whom it may not call is in no pool of its requests."""

import pytest

from tests.routing.test_policies import FILE, WILD, policies
from trivet.errors import PermitError, UnknownModelError
from trivet.routing import permits
from trivet.types import Permit

KNOWN = policies()
"""small, large, support (both), here (small), and gpt-4o, an alias of support."""


@pytest.mark.parametrize(
    ("models", "asked", "found"),
    [
        ((), "gpt-4o", "support"),
        (("support",), "support", "support"),
        (("support",), "gpt-4o", "support"),  # another name of the same thing
        (("gpt-4o",), "gpt-4o", "support"),
        (("gpt-4o",), "support", None),  # one name of it, and no other
        (("support",), "large", None),
        (("small",), "here", None),
        (("gone",), "gone", None),
    ],
)
def test_a_key_asks_for_what_it_was_made_for(models: tuple[str, ...], asked: str, found: str | None) -> None:
    permit = Permit(models=models)
    if found:
        assert permits.find(KNOWN, asked, permit) == KNOWN.find(found)
        return
    with pytest.raises(UnknownModelError) as refused:
        permits.find(KNOWN, asked, permit)
    told = str(refused.value).partition("Known: ")[2]
    assert told.rstrip(".") == (", ".join(permits.names(KNOWN, permit)) or "none")  # and not what others may


def test_a_name_that_is_forbidden_and_one_that_is_not_there_are_told_in_the_same_words() -> None:
    permit, said = Permit(models=("support",)), []
    for name in ("large", "nobody"):
        with pytest.raises(UnknownModelError) as refused:
            permits.find(KNOWN, name, permit)
        said.append(str(refused.value).replace(name, "X"))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("allowed", "asked", "may"),
    [
        ("openai/*", "openai/gpt-4o", True),
        ("openai/*", "gpt-4o", True),  # which the target claims
        ("openai/gpt-4o", "gpt-4o", True),
        ("openai/gpt-4o", "openai/o3", False),
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "openai/gpt-4o", False),
        ("openai/*", "claude-sonnet-4-5", False),
        ("openai", "openai/gpt-4o", False),
    ],
)
def test_models_of_wildcard_targets_are_allowed_one_by_one_or_all(allowed: str, asked: str, *, may: bool) -> None:
    wild, permit = policies(WILD), Permit(models=(allowed,))
    if may:
        assert permits.find(wild, asked, permit) == wild.find(asked)
    else:
        with pytest.raises(UnknownModelError):
            permits.find(wild, asked, permit)


def test_a_pool_has_only_what_the_key_may_call_and_its_answers_are_kept_apart() -> None:
    whole = KNOWN.find("support")
    assert permits.narrowed(whole, Permit()) is whole
    assert permits.narrowed(whole, Permit(targets=("large", "small", "more"))) is whole
    small, large = (permits.narrowed(whole, Permit(targets=(name,))) for name in ("small", "large"))
    assert (small.pool, large.pool) == (("small",), ("large",))
    assert len({whole.digest, small.digest, large.digest}) == 3
    assert small == permits.narrowed(whole, Permit(targets=("small", "more")))


@pytest.mark.parametrize("name", ["large", "support", "here"])
def test_where_nobody_is_left_that_is_refused_in_words(name: str) -> None:
    with pytest.raises(PermitError, match=f"none of the targets that answer '{name}'. It may call: other") as refused:
        permits.narrowed(KNOWN.find(name), Permit(targets=("other",)))
    assert refused.value.status == 403


def test_names_are_listed_that_can_be_asked_for_and_answered() -> None:
    assert permits.names(KNOWN, Permit()) == KNOWN.names()
    assert permits.names(KNOWN, Permit(targets=("large",))) == ("large", "support", "gpt-4o")
    assert permits.names(KNOWN, Permit(models=("here", "support"))) == ("support", "here", "gpt-4o")
    assert permits.names(KNOWN, Permit(models=("here",), targets=("large",))) == ()
    wild = policies(FILE + WILD)
    assert permits.names(wild, Permit(models=("openai/o3", "nobody"))) == ("openai/o3",)
