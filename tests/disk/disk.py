"""A disk that can be watched and made to fail: for tests, on Linux with a C compiler.

A child process runs under `shim.c`, which notes each call that changes a file below one folder, and fails those that
it is told to, or kills the process there. The tested code is what is installed, and so is SQLite.

Not here: what is left of a disk when the power goes (`cut.py`).
"""

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

OPEN, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, MKDIR = (1 << bit for bit in range(7))
NAMES: Final = {
    OPEN: "open", WRITE: "write", TRUNCATE: "truncate", SYNC: "sync", UNLINK: "unlink", RENAME: "rename", MKDIR: "mkdir"
}  # fmt: skip
JOURNAL, DATABASE = 256, 512
CHANGES: Final = OPEN | WRITE | TRUNCATE | SYNC | UNLINK | RENAME | MKDIR
FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_MID = range(1, 6)
SAID: Final = "said"
"""The file below the root in which a child says, line by line, what has been promised to it."""
FOR_GOOD: Final = 2**31 - 1

ROOT: Final = Path(__file__).parent.parent.parent
_HEAD: Final = struct.Struct("<IIIIiiQ")


class Shared(ctypes.Structure):
    """What the shim looks at before each call; the same in `shim.c`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("count", "first", "last", "action", "error", "mask", "struck")),
        ("no_sync", ctypes.c_int32),
        ("struck_kind", ctypes.c_int32),
        ("struck_path", ctypes.c_char * 128),
    )

    count: int
    first: int
    last: int
    action: int
    error: int
    mask: int
    struck: int
    no_sync: int
    struck_kind: int
    struck_path: bytes


class Faults:
    """The control of a shim: which of the calls that follow are struck, and by what."""

    def __init__(self, path: Path) -> None:
        """Open the shared memory that the file `path` is, made if need be."""
        with path.open("a+b") as file:
            file.truncate(ctypes.sizeof(Shared))
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Shared))
        self.shared = Shared.from_buffer(self._map)

    def strike(
        self,
        action: int,
        *,
        at: int = 1,
        until: int | None = None,
        mask: int = CHANGES | JOURNAL | DATABASE,
        error: int = 0,
    ) -> None:
        """Strike the calls of the kinds in `mask` from the `at`-th to the `until`-th, counted from now."""
        shared = self.shared
        shared.first = 0
        shared.count, shared.struck = 0, 0
        shared.last, shared.action, shared.error, shared.mask = until or at, action, error, mask
        shared.first = at

    def count(self, mask: int = CHANGES | JOURNAL | DATABASE) -> None:
        """Strike nothing, and count from now."""
        self.strike(0, mask=mask)
        self.shared.first = 0

    @property
    def struck(self) -> str:
        """Name the call that was struck last: what it did, and to which kind of file; "" if none was."""
        if not self.shared.struck:
            return ""
        path = self.shared.struck_path.decode(errors="replace")
        file = "journal" if "/journal" in path else "wal" if path.endswith("-wal") else "db"
        return f"{NAMES[self.shared.struck_kind]} {file}"

    def stop(self) -> None:
        """Strike nothing any more."""
        self.shared.first = 0


class Disk:
    """A folder under watch, and how to run a process on it."""

    def __init__(self, folder: Path) -> None:
        """Build the shim into `folder`; the watched folder is `folder/disk`. Skips the test where that cannot be."""
        compiler = shutil.which("cc")
        if sys.platform != "linux" or compiler is None:
            pytest.skip("faults of the disk need Linux and a C compiler (cc)")
        folder.mkdir(exist_ok=True)
        self.root, self._log, self._shim = folder / "disk", folder / "log", folder / "shim.so"
        self.root.mkdir()
        self._control = folder / "control"
        source = Path(__file__).with_name("shim.c")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._shim), str(source), "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True)
        self.faults = Faults(self._control)
        self.faults.shared.no_sync = 1

    def env(self, *, record: bool = False) -> dict[str, str]:
        """Give the environment of a process that shall be under watch."""
        more = {"DISK_LOG": str(self._log)} if record else {}
        return {
            **os.environ,
            "LD_PRELOAD": str(self._shim),
            "DISK_ROOT": str(self.root),
            "DISK_CONTROL": str(self._control),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **more,
        }

    def run(self, module: str, *args: object, record: bool = False, code: int = 0) -> str:
        """Run a module to its end under watch, and give what it printed."""
        argv = [sys.executable, "-m", module, *map(str, args)]
        done = subprocess.run(
            argv, env=self.env(record=record), capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    def recording(self) -> "list[Call]":
        """Read what was noted so far, in the order in which it took effect."""
        return list(_calls(self._log.read_bytes(), str(self.root)))


class Call(NamedTuple):
    """One call that changed something, or tried to flush."""

    kind: int
    ok: bool
    """Of an open: the file was there before."""
    path: str
    """Below the root; of a rename: old and new with a NUL between."""
    data: bytes
    owner: tuple[int, int]
    """Process and descriptor."""
    offset: int
    """Of a write; the size of a truncation; of an open: 1 if it emptied the file."""


def _calls(data: bytes, root: str) -> Iterator[Call]:
    at = 0
    while at < len(data):
        kind, ok, path_len, data_len, pid, fd, offset = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        path = data[at : at + path_len].decode().replace(root, "").replace("\0/", "\0").lstrip("/")
        yield Call(kind, bool(ok), path, data[at + path_len : at + path_len + data_len], (pid, fd), offset)
        at += path_len + data_len
