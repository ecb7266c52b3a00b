"""The router file: sections by name, each of facts (JSON) and arrays (raw, little-endian), under one digest.

    magic (8 bytes) | version (u32) | length of the header (u32) | header, JSON | arrays, at multiples of 64 | sha256

Who has a section knows what is in it; this module knows none of them, so others can put theirs beside ours and every
writer keeps what it did not make. Never pickle.

Not here: what sections mean (`learned.py`, and whoever else has one).
Invariants: what is read is whole: the digest covers every byte before it, and every number is finite; a file is there
in full or not at all (written beside, synced, renamed).
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trivet.errors import ConfigError

MAGIC = b"trivetRT"
VERSION = 1
_HEAD = len(MAGIC) + 8
_DIGEST = 32
_ALIGN = 64
_TYPES = ("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "|i1", "|u1", "<u2", "<u4")

MOST_BYTES = 2_000_000_000
"""A router larger than this is none."""


class Section(NamedTuple):
    """A part of a router file."""

    facts: dict[str, Any]
    """What JSON can say."""
    arrays: dict[str, NDArray[Any]]
    """Of floats and whole numbers; floats are finite (mark what is missing in an array of its own)."""


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    shape: tuple[int, ...]
    at: int


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    facts: dict[str, Any]
    arrays: dict[str, _Array]


def write(path: Path, sections: Mapping[str, Section]) -> str:
    """Write a router file, in place of one that may be there; gives its digest.

    Raises:
        ConfigError: it cannot be written there.
        ValueError: a number is not finite, or an array is of a type that has no place in a file.
    """
    data = _packed(sections)
    digest = hashlib.sha256(data).digest()
    try:
        put(path, data + digest)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    return digest.hex()


def put(path: Path, data: bytes) -> None:
    """Write a file in one step: it is there in full, or what was there before is. Raises OSError."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def read(path: Path) -> tuple[dict[str, Section], str]:
    """Read a router file: its sections, and its digest.

    Raises:
        ConfigError: there is none, or it is truncated, changed, of another version, or holds what is no number.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES:,} bytes: it is no router.")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    return parse(data, path=path)


def parse(data: bytes, *, path: Path) -> tuple[dict[str, Section], str]:
    """Read the bytes of a router file; `path` is for what an error says. Raises ConfigError."""
    if data[: len(MAGIC)] != MAGIC:
        raise ConfigError(f"{path} is no router file. Make one with `trivet route train`.")
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
    if len(data) >= _HEAD and version != VERSION:
        raise ConfigError(
            f"{path} is of version {version}; this Trivet reads version {VERSION}. Train it again, or use the Trivet "
            "that wrote it."
        )
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if len(data) < _HEAD + _DIGEST or hashlib.sha256(body).digest() != digest:
        raise ConfigError(f"{path} is truncated or was changed: its digest does not match. Copy or train it again.")
    try:
        length = int.from_bytes(body[_HEAD - 4 : _HEAD], "little")
        parts = msgspec.json.decode(body[_HEAD : _HEAD + length], type=dict[str, _Part])
        sections = {
            name: Section(part.facts, {key: _array(body, key, array) for key, array in part.arrays.items()})
            for name, part in parts.items()
        }
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no router that can be used: {error}. Train it again.") from error
    return sections, digest.hex()


def _packed(sections: Mapping[str, Section]) -> bytes:
    parts: dict[str, _Part] = {}
    blocks: list[bytes] = []
    at = 0
    for name, section in sections.items():
        arrays = {}
        for key, array in section.arrays.items():
            plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
            _check(f"{name}.{key}", plain)
            arrays[key] = _Array(plain.dtype.str, plain.shape, at)
            block = plain.tobytes()
            blocks.append(block + bytes(-len(block) % _ALIGN))
            at += len(blocks[-1])
        parts[name] = _Part(section.facts, arrays)
    header = msgspec.json.encode(parts)
    header += b" " * (-(_HEAD + len(header)) % _ALIGN)
    lengths = VERSION.to_bytes(4, "little") + len(header).to_bytes(4, "little")
    return MAGIC + lengths + header + b"".join(blocks)


def _array(body: bytes, key: str, told: _Array) -> NDArray[Any]:
    if told.type not in _TYPES or any(n < 0 for n in told.shape):
        raise ValueError(f"the array {key!r} is of type {told.type!r} and shape {told.shape}")
    begin = _HEAD + int.from_bytes(body[_HEAD - 4 : _HEAD], "little") + told.at
    count = math.prod(told.shape)
    if told.at < 0 or begin + count * np.dtype(told.type).itemsize > len(body):
        raise ValueError(f"the array {key!r} reaches past the end")
    array = np.frombuffer(body, told.type, count=count, offset=begin).reshape(told.shape)
    _check(key, array)
    return array


def _check(name: str, array: NDArray[Any]) -> None:
    if array.dtype.str not in _TYPES:
        raise ValueError(f"the array {name!r} is of type {array.dtype.str!r}; a file has {', '.join(_TYPES)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the array {name!r} has a number in it that is not finite")
