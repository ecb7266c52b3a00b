"""`/openapi.json`: the routes as OpenAPI 3.1, made from the route table and the types that read the bodies.

Not here: the routes themselves (`server/app.py`).
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from trivet import __version__
from trivet.wire.chat import ChatBody

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


def _chat_schema() -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(ChatBody)["$defs"]["ChatBody"]
    properties = {name: value for name, value in schema["properties"].items() if name != "stream_options"}
    properties["messages"] = {"type": "array", "items": {"type": "object"}}
    options = {"type": "object", "properties": {"include_usage": {"type": ["boolean", "null"]}}}
    properties["stream_options"] = {"anyOf": [options, {"type": "null"}]}
    return {"type": "object", "required": ["model", "messages"], "properties": properties}


def _operation(method: str, path: str, words: str, *, needs_key: bool) -> dict[str, Any]:
    name = f"{method.lower()}_{path.strip('/').replace('/', '_').replace('.', '_')}"
    failed = {"description": "An error in OpenAI's shape.", "content": {"application/json": {"schema": _ERROR}}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": words,
        "security": [{"key": []}] if needs_key else [],
        "responses": {"200": {"description": "As it says."}, "default": failed},
    }
    if method == "POST":
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/ChatBody"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def document(routes: Sequence[tuple[str, str, str, bool]]) -> dict[str, Any]:
    """Describe routes given as (method, path, what it does, whether it needs a key)."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, words, needs_key in routes:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, words, needs_key=needs_key)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trivet", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"ChatBody": _chat_schema()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
