"""Where in the file a key stands: `tomllib` does not say.

The text is TOML by now, so this need not refuse anything.
"""

import re
from collections import deque
from collections.abc import Mapping

from trivet.config.misfits import Place

_TOKEN = re.compile(
    r"""[ \t\r]+ | \#[^\n]*  # nothing
    | (?P<token> \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' | [\w-]+ | . )""",
    re.VERBOSE | re.DOTALL,
)
_Tokens = deque[tuple[str, int]]


def line_of(places: Mapping[Place, int], at: Place) -> int:
    return next((places[at[:n]] for n in range(len(at), 0, -1) if at[:n] in places), 1)


def places(text: str) -> dict[Place, int]:
    """Map each key of a TOML text, and each item of its lists, to the line it stands in."""
    tokens: _Tokens = deque()
    line = 1
    for match in _TOKEN.finditer(text):
        if match["token"]:
            tokens.append((match["token"], line))
        line += match[0].count("\n")
    places: dict[Place, int] = {}
    section: Place = ()
    while tokens:
        if tokens[0][0] == "\n":
            tokens.popleft()
        elif tokens[0][0] == "[":
            section = _key(tokens, (), places)
        else:
            _value(tokens, _key(tokens, section, places), places)
    return places


def _key(tokens: _Tokens, above: Place, places: dict[Place, int]) -> Place:
    """Take a key up to its `=`, or a header up to the end of its line."""
    path = above
    while tokens and tokens[0][0] not in ("=", "\n"):
        token, line = tokens.popleft()
        if token not in (".", "[", "]"):
            path = (*path, token.strip("\"'"))
            places.setdefault(path, line)
    if path:
        places[path] = line
    if tokens:
        tokens.popleft()
    return path


def _value(tokens: _Tokens, at: Place, places: dict[Place, int]) -> None:
    opening = tokens[0][0]
    if opening not in ("{", "["):
        while tokens and tokens[0][0] not in (",", "\n", "]", "}"):
            tokens.popleft()
        return
    tokens.popleft()
    count = 0
    while tokens[0][0] not in ("]", "}"):
        if tokens[0][0] in (",", "\n"):
            tokens.popleft()
        elif opening == "{":
            _value(tokens, _key(tokens, at, places), places)
        else:
            places[(*at, count)] = tokens[0][1]
            _value(tokens, (*at, count), places)
            count += 1
    tokens.popleft()
