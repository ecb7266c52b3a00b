"""`/openapi.json` has the shape of OpenAPI 3.1, and is about the routes that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.edge_kit import ASK, get, raw
from trivet.server.openapi import document
from trivet.testing.house import house
from trivet.wire.chat import read_chat


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


def test_the_body_that_it_describes_is_the_one_that_is_read() -> None:
    schema = document([("POST", "/x", "X.", True)])["components"]["schemas"]["ChatBody"]
    assert set(schema["required"]) == {"model", "messages"}
    assert schema.get("additionalProperties") is not False
    read_chat(json.dumps(ASK).encode(), [], id="r", tenant="t", key_id="", at_ns=0)
    assert {"model", "messages", "stream", "stream_options", "temperature", "n", "trivet"} == set(schema["properties"])
