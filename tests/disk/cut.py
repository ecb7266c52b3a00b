"""What a disk may hold after the power went, worked out from a recording (`disk.py`).

The model. A file's bytes are safe once its own fsync or fdatasync returned; a name (made, removed, renamed) once the
folder that it is in was fsynced. What is not safe may be there or not: writes by sectors of 512 bytes in any
combination, the names of one folder in the order in which they changed. After a flush that failed, what it should have
written stays uncertain though later flushes succeed (Linux marks such pages clean), until the same bytes are written
again. Not in the model: rot, misdirected writes, sectors torn within, a disk that lies about a flush.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.disk.disk import MKDIR, OPEN, RENAME, SAID, SYNC, TRUNCATE, UNLINK, WRITE, Call

SECTOR: Final = 512
Luck = Literal["none", "all"] | random.Random
"""How much of what is not safe is there all the same."""


@dataclass(slots=True)
class Change:
    """A write, or a new size."""

    offset: int
    data: bytes | None
    """None: `offset` is the new size."""
    state: Literal["open", "safe", "doomed"] = "open"
    """Doomed: its flush failed, so no later one makes it safe."""


@dataclass(slots=True)
class File:
    """A file's bytes, apart from its names."""

    safe: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    """After `safe`, in order; the safe ones among them stand behind one that is doomed."""

    def flush(self, *, worked: bool) -> None:
        for change in self.changes:
            if change.state == "open":
                change.state = "safe" if worked else "doomed"
        while self.changes and self.changes[0].state == "safe":
            _apply(self.safe, self.changes.pop(0))

    def after(self, luck: Luck) -> bytes:
        """Give what may be on the disk."""
        data, odds = bytearray(self.safe), luck.choice((0.1, 0.5, 0.9)) if isinstance(luck, random.Random) else 0.0
        for change in self.changes:
            if change.state == "safe" or luck == "all":
                _apply(data, change)
            elif isinstance(luck, random.Random):
                for part in _sectors(change):
                    if luck.random() < odds:
                        _apply(data, part)
        return bytes(data)


@dataclass(slots=True)
class Folder:
    """The names in a folder."""

    safe: "dict[str, Node]" = field(default_factory=dict)
    now: "dict[str, Node]" = field(default_factory=dict)
    changes: "list[tuple[str, Node | None]]" = field(default_factory=list)

    def name(self, name: str, node: "Node | None") -> None:
        self.changes.append((name, node))
        _rename(self.now, name, node)

    def flush(self) -> None:
        self.safe, self.changes = dict(self.now), []

    def after(self, luck: Luck) -> "dict[str, Node]":
        """Give the names that may be on the disk."""
        if luck == "all":
            return self.now
        names = dict(self.safe)
        if isinstance(luck, random.Random):
            for name, node in self.changes[: luck.randint(0, len(self.changes))]:
                _rename(names, name, node)
        return names


Node = File | Folder


class Image(NamedTuple):
    """A disk after a cut, not yet written anywhere."""

    files: dict[str, bytes]
    """By path."""
    folders: list[str]
    promised: list[str]
    """What had been said to be kept before the power went."""
    cut: int
    """After how many calls."""

    def write(self, folder: Path) -> None:
        """Lay it out below `folder`."""
        folder.mkdir()
        for path in self.folders:
            (folder / path).mkdir()
        for path, data in self.files.items():
            (folder / path).write_bytes(data)


class Machine:
    """A file system that goes through a recording, one call at a time."""

    def __init__(self) -> None:
        self._root = Folder()
        self._open: dict[tuple[int, int], Node] = {}
        self._said = b""
        self._calls = 0

    def take(self, call: Call) -> None:
        """Have a call take effect."""
        self._calls += 1
        if call.path == SAID:
            self._said += call.data
        elif call.kind == OPEN:
            self._opened(call)
        elif call.kind in (WRITE, TRUNCATE, SYNC):
            self._changed(self._open[call.owner], call)
        elif call.kind == MKDIR:
            self._named(call.path, Folder())
        elif call.kind == UNLINK:
            self._named(call.path, None)
        elif call.kind == RENAME:
            old, new = call.path.split("\0")
            self._named(new, self._at(old))
            self._named(old, None)

    def after(self, luck: Luck) -> Image:
        """Give what the disk may hold if the power goes now."""
        files, folders = dict[str, bytes](), list[str]()
        waiting = [("", self._root)]
        while waiting:
            above, folder = waiting.pop()
            for name, node in folder.after(luck).items():
                path = above + name
                if isinstance(node, Folder):
                    folders.append(path)
                    waiting.append((f"{path}/", node))
                else:
                    files[path] = node.after(luck)
        return Image(files, folders, self._said.decode().splitlines(), self._calls)

    def _opened(self, call: Call) -> None:
        node = self._at(call.path)
        if node is None:
            node = File()
            self._named(call.path, node)
        if call.offset and isinstance(node, File):
            node.changes.append(Change(0, None))
        self._open[call.owner] = node

    def _changed(self, node: Node, call: Call) -> None:
        if call.kind == SYNC:
            if isinstance(node, File):
                node.flush(worked=call.ok)
            elif call.ok:
                node.flush()
            return
        assert isinstance(node, File)
        node.changes.append(Change(call.offset, call.data if call.kind == WRITE else None))

    def _named(self, path: str, node: Node | None) -> None:
        above, _, name = path.rpartition("/")
        folder = self._at(above)
        assert isinstance(folder, Folder), path
        folder.name(name, node)

    def _at(self, path: str) -> Node | None:
        node: Node | None = self._root
        for name in filter(None, path.split("/")):
            node = node.now.get(name) if isinstance(node, Folder) else None
        return node


def images(calls: Sequence[Call], rng: random.Random, *, each: int, share: float = 1.0) -> Iterator[Image]:
    """Cut after every call in turn: all that may be lost is, nothing is, and `each` times something in between.

    `share`: how much of all that is given, drawn by `rng`; images that are equal are given once.
    """
    machine, seen = Machine(), set[int]()
    for call in calls:
        machine.take(call)
        lucks: list[Luck] = ["none", "all", *[rng] * each]
        for luck in lucks:
            if rng.random() >= share:
                continue
            image = machine.after(luck)
            digest = hash((tuple(image.files.items()), len(image.promised)))
            if digest not in seen:
                seen.add(digest)
                yield image


def _apply(data: bytearray, change: Change) -> None:
    end = change.offset + len(change.data or b"")
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    if change.data is None:
        del data[end:]
    else:
        data[change.offset : end] = change.data


def _sectors(change: Change) -> Iterator[Change]:
    """Cut a write where sectors of the disk end."""
    if change.data is None:
        yield change
        return
    at, end = change.offset, change.offset + len(change.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        yield Change(at, change.data[at - change.offset : until - change.offset])
        at = until


def _rename(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node
