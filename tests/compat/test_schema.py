"""Values that the scripted model makes: they fit the schema, and say what the prompt says."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from tests.compat.schema import Reading, fill


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    """Contains itself."""

    value: int
    next: "Node | None"


class Everything(BaseModel):
    colour: Colour
    born: date
    key: UUID
    kind: Literal["only"]
    shares: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3)]
    either: int | str | None
    word: Annotated[str, Field(min_length=30)]
    short: Annotated[str, Field(max_length=2)]
    small: Annotated[int, Field(gt=5, lt=7)]
    tree: Node
    names: dict[str, int]
    optional: str = "left out"
    yes: bool


@pytest.mark.parametrize(
    "text", ["", "Bob has 99 red balloons, small=3, and 'a quoted thing'.", "tree: 3, short: 'xyz'"]
)
def test_a_value_fits_the_schema_whatever_the_prompt_says(text: str) -> None:
    made = Everything.model_validate(fill(Everything.model_json_schema(), Reading(text)))
    assert made.small == 6
    assert made.optional == "left out"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("What is f(3)?", {"n": 3}),
        ("n = 7, not 9", {"n": 7}),
        ('{"n": 12}', {"n": 12}),
        ("9 lives, and n is 4.", {"n": 4}),
        ("nothing", {"n": 1}),
        ("n=3 and name=Ada Lovelace, please", {"n": 3, "name": "Ada Lovelace"}),
        ('n=1, tags: ["a", "b"]', {"n": 1, "tags": ["a", "b"]}),
        ("n=1, on: yes", {"n": 1, "on": True}),
    ],
)
def test_what_the_prompt_names_comes_first(text: str, made: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "on": {"type": ["boolean", "null"]},
        },
        "required": ["n"],
    }
    assert fill(schema, Reading(text)) == made


def test_numbers_and_names_are_each_used_once_in_their_order() -> None:
    class Trip(BaseModel):
        start: str
        end: str
        days: int
        cost: float

    made = fill(Trip.model_json_schema(), Reading("A trip from San Francisco to '東京' of 5 days for 99.5 dollars"))
    assert made == {"start": "San Francisco", "end": "東京", "days": 5, "cost": 99.5}


def test_a_choice_is_one_that_the_prompt_names() -> None:
    assert fill({"enum": ["red", "blue"]}, Reading("Something blue")) == "blue"
    assert fill({"enum": ["red", "blue"]}, Reading("Something green")) == "red"


def test_all_of_and_references_are_followed() -> None:
    schema = {
        "$defs": {"a/b": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        "allOf": [{"$ref": "#/$defs/a~1b"}],
    }
    assert fill(schema, Reading("8")) == {"n": 8}
