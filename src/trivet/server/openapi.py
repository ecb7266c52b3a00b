"""`/openapi.json`: the routes as OpenAPI 3.1, made from the route table and the types that read the bodies.

Not here: the routes themselves (`server/app.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from trivet.types import Kind
from trivet.version import VERSION
from trivet.wire.request import BODIES

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}


_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array"}]}
_OPTIONS = {"type": "object", "properties": {"include_usage": {"type": ["boolean", "null"]}}}
_WORD = {"type": ["string", "null"], "maxLength": 256}
_CONTROLS: dict[str, Any] = {
    "cache": {"enum": ["auto", "off", "refresh", "only", None]},
    "report": {"enum": ["on", "off", True, False, None]},
    "deadline": {"type": ["string", "integer", "null"], "pattern": "^[1-9][0-9]{0,8}(ms|s|m|h)?$", "minimum": 1,
                 "maximum": 999_999_999},
    "max_error": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 1},
    "quality": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
    **dict.fromkeys(("namespace", "cache_tags", "baseline", "feature", "agent", "customer"), _WORD),
}  # fmt: skip
"""As headers they begin with `x-trivet-`; docs/http.md says what they mean."""

_RAW: dict[str, Any] = {
    "messages": {"type": "array", "items": {"type": "object"}},
    "prompt": _TEXTS,
    "input": _TEXTS,
    "stream_options": {"anyOf": [_OPTIONS, {"type": "null"}]},
    "trivet": {"type": "object", "properties": _CONTROLS, "additionalProperties": False},
}
"""Of members that are passed on unread, and of our own words: no type of ours says all that is known of them."""


def _body(kind: Kind) -> dict[str, Any]:
    name = BODIES[kind].__name__
    schema: dict[str, Any] = msgspec.json.schema(BODIES[kind])["$defs"][name]
    properties = {name: _RAW.get(name, value) for name, value in schema["properties"].items()}
    return {"type": "object", "required": schema["required"], "properties": properties}


class Described(NamedTuple):
    """A route, as far as it is described."""

    method: str
    path: str
    words: str
    needs_key: bool
    kind: Kind | None
    """What a model is asked for there, if it is."""
    body: type[Struct] | None
    """What is sent there, where that is our own."""


def _operation(route: Described) -> dict[str, Any]:
    method, path, words, needs_key, kind, body = route
    name = f"{method.lower()}_{path.strip('/').replace('/', '_').replace('.', '_').strip('{}')}"
    failed = {"description": "An error in OpenAI's shape.", "content": {"application/json": {"schema": _ERROR}}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": words,
        "security": [{"key": []}] if needs_key else [],
        "responses": {"200": {"description": "As it says."}, "default": failed},
    }
    if "{" in path:
        name = path.partition("{")[2].partition("}")[0]
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]
    if kind is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{BODIES[kind].__name__}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if body is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def document(routes: Sequence[Described]) -> dict[str, Any]:
    """Describe routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    own = [route.body for route in routes if route.body is not None]
    _, ours = msgspec.json.schema_components(own, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trivet", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": {body.__name__: _body(kind) for kind, body in BODIES.items()} | ours,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
