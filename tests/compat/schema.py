"""Values made from a JSON schema and from what a prompt says: the arguments and documents of the scripted model.

    fill({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}, Reading("She is 41."))
    {"age": 41}

A value comes from the first of these that gives one: `const`, `enum` (one that the prompt names, else the first), the
prompt naming the property (`age=41`, `age: 41`, `age is 41`), the next number, quoted text or proper name of the
prompt, the schema's `default` or `examples`, the property's own name. Bounds and lengths are kept.

Not here: a validator, nor all of JSON schema: `pattern`, `not`, `if`, `patternProperties` and `dependentRequired` are
not read. Invariant: the same schema and prompt give the same value.
"""

import json
import re
from typing import Any

Schema = dict[str, Any]

DEEPEST = 4
"""From this depth on, what may be null is null and what may be empty is empty: schemas may contain themselves."""
FORMATS = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000001",
}
_NUMBER = r"-?\d+(?:\.\d+)?"
_QUOTED = r"""(?<!\w)["'](?P<quoted>[^"']+)["'](?!\w)"""
_PROPER = r"(?<=[a-z,] )(?P<proper>[A-Z]\w+(?: [A-Z]\w+)*)"  # not the first word of a sentence


class Reading:
    """A prompt that is read: each number and each name in it is used once, in order."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._numbers = re.findall(rf"(?<![\w.-]){_NUMBER}(?!\w)", text)
        self._names = [match["quoted"] or match["proper"] for match in re.finditer(f"{_QUOTED}|{_PROPER}", text)]

    def number(self) -> float | None:
        """Take the next number."""
        return float(self._numbers.pop(0)) if self._numbers else None

    def name(self) -> str | None:
        """Take the next quoted text or proper name."""
        return self._names.pop(0) if self._names else None

    def named(self, name: str) -> Any:
        """Find what the prompt says that `name` is; None if it does not say."""
        if not name:
            return None
        said = re.search(rf"""(?<!\w)["'`]?{re.escape(name)}["'`]?\s*(?:=|:|\bis\b)\s*(?P<value>.*)""", self.text)
        return _literal(said["value"]) if said else None

    def mentions(self, word: object) -> bool:
        """Say whether it has that word."""
        return re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", self.text, re.IGNORECASE) is not None


def _literal(text: str) -> Any:
    """Read the JSON value that a text begins with, or else its words up to a comma or the end of the sentence."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return re.split(r"[,;]|\.(?:\s|$)|\s+and\s", text)[0].strip(" '\"`")


def fill(schema: Schema, reading: Reading, *, root: Schema | None = None, name: str = "", depth: int = 0) -> Any:
    """Make a value for a schema.

    Args:
        root: where `$ref` is looked up; the schema itself if it is not given.
        name: the property that the value is for.
    """
    root = schema if root is None else root
    schema = resolved(schema, root, null=depth >= DEEPEST)
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return next((choice for choice in choices if reading.mentions(choice)), choices[0])
    kind = _kind(schema)
    said = reading.named(name)
    if said is not None and (fitting := _fitting(schema, said, kind)) is not None:
        return fitting
    if kind == "object":
        return _object(schema, reading, root=root, depth=depth)
    if kind == "array":
        length = max(schema.get("minItems", 0), int(depth < DEEPEST))
        items = schema.get("items", {"type": "string"})
        return [fill(items, reading, root=root, depth=depth + 1) for _ in range(length)]
    return _plain(schema, kind, reading, name)


def resolved(schema: Schema, root: Schema, *, null: bool = False) -> Schema:
    """Follow `$ref`, join `allOf`, and choose of `anyOf` and `oneOf` the first that is null, or that is not."""
    while "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")] if step else found
        schema = {key: value for key, value in schema.items() if key != "$ref"} | found
    for part in schema.get("allOf", ()):
        schema = {key: value for key, value in schema.items() if key != "allOf"} | resolved(part, root, null=null)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        fitting = (one for one in options if (one.get("type") == "null") == null)
        return resolved(next(fitting, options[0]), root, null=null)
    return schema


def _kind(schema: Schema) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind)


def _object(schema: Schema, reading: Reading, *, root: Schema, depth: int) -> dict[str, Any]:
    """Make what is required, and of the rest what the prompt names."""
    properties: dict[str, Schema] = schema.get("properties", {})
    required = schema.get("required", ())
    return {
        name: fill(part, reading, root=root, name=name, depth=depth + 1)
        for name, part in properties.items()
        if name in required or reading.named(name) is not None
    }


def _fitting(schema: Schema, said: Any, kind: str) -> Any:
    """Give what the prompt says as the type that is wanted; None if it is not one."""
    match kind:
        case "string":
            return _sized(schema, said) if isinstance(said, str) and "format" not in schema else None
        case "integer" | "number":
            found = said if isinstance(said, (int, float)) else re.match(_NUMBER, str(said))
            if found is None or isinstance(found, bool):
                return None
            return _bounded(schema, float(found if isinstance(found, (int, float)) else found[0]), kind)
        case "boolean":
            return said if isinstance(said, bool) else {"yes": True, "no": False}.get(str(said).lower())
        case "array":
            return said if isinstance(said, list) else None
        case "object":
            return said if isinstance(said, dict) else None
    return None


def _plain(schema: Schema, kind: str, reading: Reading, name: str) -> Any:
    match kind:
        case "integer" | "number":
            return _bounded(schema, reading.number(), kind)
        case "boolean":
            return schema.get("default", True)
        case "null":
            return None
    if "format" in schema and schema["format"] in FORMATS:
        return FORMATS[schema["format"]]
    text = reading.name() or schema.get("default") or next(iter(schema.get("examples", ())), None)
    return _sized(schema, str(text or name.replace("_", " ") or "text"))


def _bounded(schema: Schema, number: float | None, kind: str) -> float:
    """Keep a number within the schema's bounds."""
    value, step = float(schema.get("default") or 1.0) if number is None else number, 1.0 if kind == "integer" else 0.5
    lowest = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else value)
    highest = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else value)
    within = min(max(value, lowest), highest)
    return int(within) if kind == "integer" else float(within)


def _sized(schema: Schema, text: str) -> str:
    """Bring a text to the schema's length."""
    while len(text) < schema.get("minLength", 0):
        text += f" {text}"
    return text[: schema.get("maxLength")]
