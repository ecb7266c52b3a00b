"""Each value of the file against its type, in words that say what to write.

Not here: the sections against each other (`conflicts.py`).
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

Place = tuple[str | int, ...]
"""Where in the tree a value is: `("policies", "support", "pool", 0)`."""
Misfit = tuple[Place, str]
"""Where, and in words what is wrong and what to write."""

_INTERNAL = frozenset({"source", "name"})
"""Fields of the tree that are set here, not in the file."""

_LATER = frozenset({"budgets", "keys", "targets.*.limits"} | {f"policies.*.{k}" for k in ("tokens", "stream")})
"""Keys of later versions: ignoring them would be a promise broken."""

LATER_ROUTES = frozenset({"best_of_n", "orchestrate"})
NOT_YET = "This version of Trivet does not have it yet."

_PLAIN: Mapping[object, str] = {
    str: 'text. Write it in quotes: "..."',
    int: "a whole number.",
    float: "a number.",
    bool: "true or false.",
}


def misfits(raw: Any, hint: Any, at: Place) -> Iterator[Misfit]:
    """Compare what the file says with the type that the tree has there."""
    options = [a for a in get_args(hint) if a is not type(None)] if type(None) in get_args(hint) else [hint]
    hint = options[0]
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield from _misfits_of_section(raw, hint, at)
    elif get_origin(hint) is dict:
        yield from _misfits_of_table(raw, hint, at)
    elif get_origin(_bare(hint)) is tuple:
        yield from _misfits_of_list(raw, hint, at)
    else:
        try:
            msgspec.convert(raw, hint)
        except msgspec.ValidationError:
            yield at, _misfit(raw, hint, at)


def _misfits_of_section(raw: Any, section: type[Struct], at: Place) -> Iterator[Misfit]:
    if not isinstance(raw, dict):
        yield at, f"{shown(raw)} is not a section. Write [{dotted(at)}] and its keys below it."
        return
    hints = {k: h for k, h in get_type_hints(section, include_extras=True).items() if k not in _INTERNAL}
    for key, value in raw.items():
        if key in hints:
            yield from misfits(value, hints[key], (*at, key))
        else:
            yield (*at, key), _unknown(key, tuple(hints), (*at, key))
    for field in msgspec.structs.fields(section):
        if field.required and field.name not in raw:
            yield at, f"`{field.name}` is missing."


def _misfits_of_table(raw: Any, hint: Any, at: Place) -> Iterator[Misfit]:
    if not isinstance(raw, dict):
        yield at, f"{shown(raw)} is not a section. Write [{dotted(at)}] and its keys below it."
        return
    key_hint, value_hint = get_args(hint)
    for key, value in raw.items():
        yield from misfits(key, key_hint, (*at, key))
        yield from misfits(value, value_hint, (*at, key))


def _misfits_of_list(raw: Any, hint: Any, at: Place) -> Iterator[Misfit]:
    if not isinstance(raw, list):
        yield at, f"{shown(raw)} is not a list. Write it in brackets: [...]."
    elif not raw and hint is not _bare(hint):  # the one bound on a list is that it has something in it
        yield at, "The list is empty. Write at least one."
    else:
        for i, item in enumerate(raw):
            yield from misfits(item, get_args(_bare(hint))[0], (*at, i))


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _misfit(raw: Any, hint: Any, at: Place) -> str:
    if at[-1] in ("api_key", "base_url", "proxy") or "headers" in at:
        return f"This is not {_wanted(hint)}"
    return f"{shown(raw)} is not {_wanted(hint)}"


def _wanted(hint: Any) -> str:
    """Say what a type takes: `a whole number from 0 to 65535.`"""
    if get_origin(hint) is Literal:
        return f"{either(_choices(hint))}."
    if get_origin(hint) is not Annotated:
        return _PLAIN[hint]
    kind, meta = get_args(hint)[:2]
    if meta.title:
        return f"{meta.title}. {meta.description}"
    words = _wanted(kind).rstrip(".")
    if meta.gt is not None:
        return f"{words} above {meta.gt}, at most {meta.le}."
    return f"{words} from {meta.ge} to {meta.le}." if meta.le is not None else f"{words} of at least {meta.ge}."


def _choices(hint: Any) -> list[str]:
    return [json.dumps(a) for a in get_args(hint)]


def either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _unknown(key: str, known: tuple[str, ...], at: Place) -> str:
    pattern = ".".join("*" if i == 1 else str(part) for i, part in enumerate(at))
    if pattern in _LATER:
        return f"{NOT_YET} Remove the {'section' if len(at) == 1 else 'line'}."
    near = difflib.get_close_matches(key, known, n=1)
    return f"There is no such key.{f' Did you mean `{near[0]}`?' if near else ''} Known: {', '.join(known)}."


def shown(value: object) -> str:
    """Repeat a value of the file, unless it is so long and so random that it may be a key put in the wrong place."""
    if isinstance(value, str) and len(value) >= 20 and " " not in value and any(c.isdigit() for c in value):
        return f"The text of {len(value)} characters"
    return msgspec.json.encode(value).decode()[:60]


def dotted(path: Place) -> str:
    """Write a path as TOML would: `targets."gpt-4.1".price`."""
    return ".".join(p if re.fullmatch(r"[\w-]+", p) else json.dumps(p) for p in map(str, path))
