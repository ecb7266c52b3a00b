"""Reads labelled traffic: JSON Lines, plain or gzip, a question a line; or pairs of questions.

Not here: what is done with it. Invariant: a line that cannot be used is an error that names the file, the line and what
is wrong with it; nothing is skipped in silence.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from trivet.cache.semantic.trial import Labelled
from trivet.errors import ConfigError

_GZIP = b"\x1f\x8b"

_LINE_BYTES = 16_000_000
"""Of one line: more than a request may have."""

T = TypeVar("T")


class _Asked(msgspec.Struct):
    text: str
    cls: str


class _Message(msgspec.Struct):
    role: str
    content: str


_Said = str | Annotated[list[_Message], Meta(min_length=1)]


class _Texts(msgspec.Struct):
    a: _Said
    b: _Said
    y: bool | float
    kind: str = "all"


class Turns(NamedTuple):
    """One side of a pair."""

    text: str
    """The last turn."""
    context: str
    """What the user said before."""
    frame: tuple[tuple[str, str], ...]
    """Everything else, with roles: what must be the same word by word."""


class LabelledPair(NamedTuple):
    """A line of a file of pairs."""

    a: Turns
    b: Turns
    same: bool
    kind: str


def read_stream(path: Path, *, limit: int | None = None) -> list[Labelled]:
    """Read lines of `{"text": ..., "cls": ...}`. Raises ConfigError: the file or a line cannot be used."""
    return [Labelled(row.text, row.cls) for _, row in _rows(path, _Asked, limit=limit)]


def read_pairs(path: Path, *, limit: int | None = None) -> list[LabelledPair]:
    """Read lines of `{"a": ..., "b": ..., "y": 0 or 1, "kind": ...}`; a and b are texts, or messages.

    Raises ConfigError: the file or a line cannot be used.
    """
    pairs = []
    for number, row in _rows(path, _Texts, limit=limit):
        place = f"{path}, line {number}"
        if row.y not in (0, 1):
            raise ConfigError(f"{place}: `y` is {row.y:g}. Write 1 if one answer is right for both, else 0.")
        if isinstance(row.a, str) != isinstance(row.b, str):
            raise ConfigError(f"{place}: one of `a` and `b` is a text, the other messages. Write both alike.")
        pairs.append(LabelledPair(_turns(row.a), _turns(row.b), bool(row.y), row.kind))
    return pairs


def _turns(said: str | list[_Message]) -> Turns:
    if isinstance(said, str):
        return Turns(said, "", ())
    *before, last = said
    users = [m.content for m in before if m.role == "user"]
    frame = tuple((m.role, "" if m.role == "user" else m.content) for m in before)
    return Turns(last.content, "\n".join(users), (*frame, (last.role, "")))


def _rows(path: Path, kind: type[T], *, limit: int | None) -> Iterator[tuple[int, T]]:
    decoder: Any = msgspec.json.Decoder(kind)
    found = 0
    for number, line in enumerate(_lines(path), start=1):
        if limit is not None and found >= limit:
            return
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}, line {number}: {error}.") from error
        found += 1
        yield number, row
    if not found:
        raise ConfigError(f"{path} has no line in it.")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
        with gzip.open(path) if zipped else path.open("rb") as lines:
            while line := lines.readline(_LINE_BYTES):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
