"""Whether a JSON value fits a JSON Schema, as far as structured outputs and tools use it.

Checked are `type`, `enum`, `const`, `required`, `properties`, `additionalProperties`, `items`, `prefixItems`, `anyOf`,
`oneOf` (as `anyOf`), `allOf`, bounds of numbers, lengths and counts, and `$ref` within the schema: JSON Schema 2020-12,
without what takes regular expressions or a network. A keyword that is not known asks for nothing.

Not here: what follows from it. Invariants: no schema and no value raises, loops, or takes more than `MOST` looks; what
was not looked at any more is taken to fit.
"""

from collections.abc import Mapping
from typing import Any

MOST = 20_000
"""Looks at a part of a value with a part of a schema: some 20 milliseconds."""

_DEEP = 100
"""Schemas within schemas."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def misfit(value: Any, schema: Any) -> str:
    """Say what does not fit, and where: `"$.city is missing"`; "": nothing.

    Args:
        value: as JSON is decoded. schema: too; anything but an object asks for nothing (`false`: fits nothing).
    """
    return _Look(schema).at(value, schema, "$", 0)


class _Look:
    def __init__(self, root: Any) -> None:
        self._root, self._left = root, MOST

    def at(self, value: Any, schema: Any, path: str, depth: int) -> str:
        self._left -= 1
        if schema is False:
            return f"{path} is not allowed"
        if not isinstance(schema, dict) or depth > _DEEP or self._left < 0:
            return ""
        for check in (self._reference, self._kind, self._either, self._object, self._array, _size):
            found = check(value, schema, path, depth)
            if found:
                return found
        return ""

    def _reference(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        name = schema.get("$ref")
        if not isinstance(name, str) or not name.startswith("#"):
            return ""
        found = self._root
        for part in name[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return self.at(value, found, path, depth + 1)

    def _kind(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        wanted = schema.get("type")
        names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
        known = [name for name in names if name == "integer" or (isinstance(name, str) and name in _TYPES)]
        if known and len(known) == len(names) and not any(_is(value, name) for name in known):
            return f"{path} is no {' or '.join(known)}"
        if isinstance(schema.get("enum"), list) and not any(_equal(value, one) for one in schema["enum"]):
            return f"{path} is none of those that are allowed"
        if "const" in schema and not _equal(value, schema["const"]):
            return f"{path} is not what it has to be"
        return ""

    def _either(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        for name in ("anyOf", "oneOf"):
            some = schema.get(name)
            if isinstance(some, list) and some:
                found = [self.at(value, one, path, depth + 1) for one in some]
                if all(found):
                    return found[0]
        every = schema.get("allOf")
        for one in every if isinstance(every, list) else ():
            if found_here := self.at(value, one, path, depth + 1):
                return found_here
        return ""

    def _object(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        if not isinstance(value, dict):
            return ""
        required = schema.get("required")
        for name in required if isinstance(required, list) else ():
            if isinstance(name, str) and name not in value:
                return f"{path}.{name} is missing"
        properties = schema.get("properties")
        inside = properties if isinstance(properties, dict) else {}
        for name, part in inside.items():
            if name in value and (found := self.at(value[name], part, f"{path}.{name}", depth + 1)):
                return found
        rest = schema.get("additionalProperties", True)
        if rest is not True and not isinstance(schema.get("patternProperties"), dict):
            for name in value:
                if name not in inside and (found := self.at(value[name], rest, f"{path}.{name}", depth + 1)):
                    return found
        return ""

    def _array(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        if not isinstance(value, list):
            return ""
        first = schema.get("prefixItems")
        parts = first if isinstance(first, list) else []
        for i, item in enumerate(value):
            part = parts[i] if i < len(parts) else schema.get("items", True)
            if part is not True and (found := self.at(item, part, f"{path}[{i}]", depth + 1)):
                return found
        return ""


def _size(value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
    """Check the bounds of numbers, lengths and counts."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = _number(schema, "minimum"), _number(schema, "maximum")
        over, under = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
        small = (least is not None and value < least) or (over is not None and value <= over)
        large = (most is not None and value > most) or (under is not None and value >= under)
        return f"{path} is too {'small' if small else 'large'}" if small or large else ""
    for kind, names in ((str, ("minLength", "maxLength")), (list, ("minItems", "maxItems"))):
        if isinstance(value, kind):
            least, most = (_number(schema, name) for name in names)
            if (least is not None and len(value) < least) or (most is not None and len(value) > most):
                return f"{path} is too {'short' if least is not None and len(value) < least else 'long'}"
    return ""


def _is(value: Any, name: str) -> bool:
    if name == "integer":  # 1.0 is one, in JSON Schema
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if name == "number" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[name])


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _number(schema: dict[str, Any], name: str) -> float | None:
    found = schema.get(name)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None
