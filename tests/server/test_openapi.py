"""`/openapi.json` has the shape of OpenAPI 3.1, and is about the routes that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.edge_kit import get, raw
from trivet.errors import BadRequestError
from trivet.server.openapi import Described, document
from trivet.testing.house import house
from trivet.types import Controls, Kind, Labels
from trivet.wire.request import read_request


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from refs(value)


def pointed(whole: Any, ref: str) -> Any:
    assert ref.startswith("#/")
    for part in ref[2:].split("/"):
        whole = whole[part]
    return whole


@pytest.mark.anyio
async def test_it_describes_every_route_and_nothing_else() -> None:
    async with house({"a": "http://127.0.0.1:9/v1"}) as gateway:
        told = json.loads((await raw(gateway.url, get("/openapi.json"))).body)
        routes = gateway.app.routes
    assert re.fullmatch(r"3\.1\.\d+", told["openapi"])
    assert set(told["info"]) >= {"title", "version"}
    described = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in routes}
    assert all(path.startswith("/") for path in told["paths"])
    operations = [operation for methods in told["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert all(re.fullmatch(r"[1-5]\d\d|default", code) for code in operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        for wanted in operation["security"]:
            assert set(wanted) <= set(told["components"]["securitySchemes"])
    for route in routes:
        asks_for_a_key = bool(told["paths"][route.path][route.method.lower()]["security"])
        assert asks_for_a_key is (route.auth != "public")
    for ref in refs(told):
        assert pointed(told, ref)


@pytest.mark.parametrize(
    ("kind", "required", "more"),
    [
        ("chat", {"model", "messages"}, {"stream", "stream_options", "temperature", "n"}),
        ("completions", {"model", "prompt"}, {"stream", "stream_options", "temperature", "n"}),
        ("embeddings", {"model", "input"}, set()), ("moderations", {"input"}, {"model"}),
    ],
)  # fmt: skip
def test_the_bodies_that_it_describes_are_those_that_are_read(kind: Kind, required: set[str], more: set[str]) -> None:
    told = document([Described("POST", "/x", "X.", True, kind, None)])
    ref = told["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = pointed(told, ref)
    assert set(schema["required"]) == required
    assert schema.get("additionalProperties") is not False
    assert set(schema["properties"]) == required | more | {"trivet"}
    body = {"model": "m", "messages": [], "prompt": "", "input": []}
    asked = json.dumps({name: body[name] for name in required}).encode()
    assert read_request(asked, [], id="r", tenant="t", key_id="", at_ns=0, kind=kind).kind == kind


def test_the_controls_that_it_describes_are_those_that_are_taken() -> None:
    told = document([Described("POST", "/x", "X.", True, "chat", None)])
    told = told["components"]["schemas"]["ChatBody"]["properties"]["trivet"]
    known = {*Labels.__struct_fields__, *(name.removesuffix("_ms") for name in Controls.__struct_fields__)}
    assert set(told["properties"]) == known
    assert told["additionalProperties"] is False
    for name, schema in told["properties"].items():
        written = {"deadline": "1h", "max_error": 0.005, "quality": 0.99}.get(name, "x" * schema.get("maxLength", 1))
        values = schema.get("enum") or [None, written]
        for value in values:
            body = json.dumps({"model": "m", "messages": [], "trivet": {name: value}}).encode()
            assert read_request(body, [], id="r", tenant="t", key_id="", at_ns=0).model == "m"
    with pytest.raises(BadRequestError, match="no such control"):
        read_request(b'{"model":"m","messages":[],"trivet":{"x":1}}', [], id="r", tenant="t", key_id="", at_ns=0)
