"""The priors that are shipped: whole, sensible, attributed; and what an embedder without one gets."""

from importlib.resources import files

import msgspec
import pytest

from trivet.cache.semantic.features import NAMES
from trivet.cache.semantic.priors import parse, prior
from trivet.embed import builtin, minilm

SHIPPED = [builtin.NAME, minilm.NAME, "unknown"]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_embedder_of_the_package_has_a_prior_of_its_own(name: str) -> None:
    made = prior(name)
    assert made.name == name
    assert [n.name for n in made.numbers] == list(NAMES)
    assert all(n.scale > 0 and n.variance > 0 for n in made.numbers)
    assert list(made.typical) == sorted(made.typical)
    assert min(made.typical) >= 0
    assert max(made.typical) <= 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_prior_says_what_it_was_made_from_and_holds_no_text_of_it(name: str) -> None:
    data = (files("trivet.cache.semantic") / "priors" / f"{name}.json").read_bytes()
    assert all(word in prior(name).made_from for word in ("BANKING77", "CLINC150", "HWU64", "CC BY"))
    told = msgspec.json.decode(data)
    strings = {n["name"] for n in told["numbers"]} | {told["name"], told["made_from"]}
    assert strings == {*NAMES, told["name"], told["made_from"]}
    assert len(data) < 20_000


@pytest.mark.parametrize("name", ["text-embedding-3-small", "../../../etc/passwd", "", "unknown"])
def test_an_embedder_that_nobody_measured_gets_the_careful_one(name: str) -> None:
    assert prior(name).name == "unknown"


def test_a_prior_of_other_numbers_is_refused() -> None:
    made = prior("unknown")
    other = msgspec.structs.replace(made, numbers=made.numbers[1:])
    with pytest.raises(ValueError, match="this version works with"):
        parse(msgspec.json.encode(other))
