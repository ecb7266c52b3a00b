"""JSON Schema, as far as structured outputs and tools use it: against the reference library where that is here."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.wire.schema import MOST, misfit

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "schema", "words"),
    [
        ({"name": "Ada", "age": 36}, PERSON, ""),
        ({"age": 36}, PERSON, "$.name is missing"),
        ({"name": 1}, PERSON, "$.name is no string"),
        ({"name": "Ada", "age": -1}, PERSON, "$.age is too small"),
        ({"name": "Ada", "age": True}, PERSON, "$.age is no integer"),
        ({"name": "Ada", "age": 1.0}, PERSON, ""),
        ({"name": "Ada", "town": "London"}, PERSON, "$.town is not allowed"),
        ([{"name": "Ada"}, {}], {"type": "array", "items": PERSON}, "$[1].name is missing"),
        ([1, "a"], {"prefixItems": [{"type": "integer"}], "items": {"type": "integer"}}, "$[1] is no integer"),
        ([], {"type": "array", "minItems": 1}, "$ is too short"),
        ("abcd", {"maxLength": 3}, "$ is too long"),
        (5, {"exclusiveMaximum": 5}, "$ is too large"),
        ("d", {"enum": ["a", "b"]}, "$ is none of those that are allowed"),
        (1, {"enum": [True]}, "$ is none of those that are allowed"),
        (None, {"type": ["string", "null"]}, ""),
        (1, {"type": ["string", "null"]}, "$ is no string or null"),
        (2, {"const": 3}, "$ is not what it has to be"),
        (1, {"anyOf": [{"type": "string"}, {"type": "integer"}]}, ""),
        (1.5, {"oneOf": [{"type": "string"}, {"type": "integer"}]}, "$ is no string"),
        (1, {"allOf": [{"type": "integer"}, {"minimum": 2}]}, "$ is too small"),
        ({"p": {}}, {"$defs": {"P": PERSON}, "properties": {"p": {"$ref": "#/$defs/P"}}}, "$.p.name is missing"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, "$.a is no string"),
        ("x", True, ""),
        ("x", False, "$ is not allowed"),
        ("x", {"type": "of another kind", "pattern": "((a+)+)$"}, ""),
        ("x", {"$ref": "https://elsewhere.test/schema"}, ""),
        ("x", {"type": 3, "required": 3, "properties": [], "enum": 3, "minLength": "a", "anyOf": {}}, ""),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(value: Any, schema: Any, words: str) -> None:
    assert misfit(value, schema) == words


def test_a_schema_that_is_its_own_part_ends() -> None:
    list_of = {"properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    value: dict[str, Any] = {}
    for _ in range(30):
        value = {"next": value}
    assert misfit(value, list_of).endswith(".next is missing")
    assert misfit(1, {"$ref": "#"}) == ""
    assert misfit(1, {"anyOf": [{"$ref": "#"}] * 10}) == "", f"after {MOST} looks it is taken to fit"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["", "a", "bcd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
TYPES = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])
SCHEMA = st.recursive(
    st.fixed_dictionaries({}, optional={"type": TYPES, "minimum": st.integers(-2, 2), "maxLength": st.integers(0, 2)}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "enum": st.lists(JSON, min_size=1, max_size=3),
            "additionalProperties": st.booleans() | inner,
        },
    ),
    max_leaves=5,
)


@given(value=JSON, schema=SCHEMA)
def test_it_says_what_the_reference_says(value: Any, schema: Any) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(schema)
    assert (misfit(value, schema) == "") is validator.is_valid(value)


@given(value=JSON, schema=JSON)
def test_nothing_raises(value: Any, schema: Any) -> None:
    assert isinstance(misfit(value, schema), str)
