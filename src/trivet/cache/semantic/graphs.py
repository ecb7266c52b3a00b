"""The graphs of all scopes: read from their files, and made by a child process where a scope has grown too large.

Not here: what a file is (`graph.py`), how it is made (`graph_child.py`), what an index does with it (`index.py`). One
thread does all the work, that of the file of answers (`file.py`), whose content a graph can always be made of again.
Invariants: nothing here delays or fails a request: without a graph all vectors are compared; of the processes that
share the files one makes a graph at a time, and the others read what it made.
"""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trivet.cache.semantic import graph, graph_child
from trivet.cache.semantic.graph import Graph, GraphError, OtherEmbedderError
from trivet.cache.semantic.index import ALONE, Change
from trivet.seams import Clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOOK_EVERY_S = 1.0
"""For what another process makes."""

_REST_S = 60.0
"""After one that could not be made, or that would not have been better."""

_UNUSED_S = 30 * 86_400.0
"""After which the graph of an embedder that has not come back is taken away."""

_STALE = 4 / 3
"""Of its vectors to those that are still kept: a graph with more is made anew."""


_UNUSABLE = (GraphError, OSError, ImportError)
"""The last: usearch is installed, and cannot be loaded."""


class Drawn(NamedTuple):
    """A graph for the index of a scope."""

    scope: bytes
    change: Change


class _Known(NamedTuple):
    """What was read last."""

    graph: Graph | None
    stamp: "_Stamp | None"
    """Of its file. None: there is none."""


_Stamp = tuple[int, int]
"""Which file it is and when it was written: another has another."""


class Graphs:
    """One folder of graphs, beside the file of answers that they are made of."""

    def __init__(self, answers: Path, *, clock: Clock, tell: Callable[[str], None]) -> None:
        self._answers, self._folder = answers, answers.with_suffix(".graphs")
        self._clock, self._tell = clock, tell
        self._embedder = ""
        self._known: dict[bytes, _Known] = {}
        self._wanted: dict[bytes, int] = {}
        """Scopes that have grown too large, and the width of their vectors."""
        self._bad: dict[str, _Stamp | None] = {}
        """Files that cannot be used, as they were when that was found."""
        self._not_before_ns: dict[bytes, int] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._making = b""
        self._missing = self._troubled = False

    def crowd(self, scope: bytes, width: int) -> None:
        """Hear of a scope for which another graph is wanted. From any thread."""
        if not self._missing:
            self._wanted[scope] = width

    def read_all(self, embedder: str) -> Iterator[Drawn]:
        """Read those that are there, and clear away what is of no use to anybody."""
        self._embedder = embedder
        self._known.clear()
        if not graph.here():
            return
        paths = []
        with suppress(OSError):  # there is none yet, or nothing can be had of it
            paths = sorted(self._folder.glob("*.graph"))
        for path in paths:
            drawn = self._read_old(path)
            if drawn is not None:
                yield drawn

    def _read_old(self, path: Path) -> Drawn | None:
        stamp = _stamp(path)
        try:
            found = graph.read(path, embedder=self._embedder)
            scope = found.facts.scope
            if path.name != graph.name_of(self._embedder, scope):
                raise GraphError("it has another's name")
        except OtherEmbedderError:
            if stamp is not None and self._clock.now_ns() - stamp[1] > _UNUSED_S * 1e9:
                path.unlink(missing_ok=True)
            return None
        except _UNUSABLE as error:
            if _stamp(path) == stamp:
                path.unlink(missing_ok=True)
            self._unusable(path, error)
            return None
        self._known[scope] = _Known(found, stamp)
        return Drawn(scope, Change(found, None, set(found.numbers().tolist()), set()))

    def has(self, scope: bytes, numbers: "NDArray[np.uint64]", rows: "NDArray[np.float32]") -> "NDArray[np.bool_]":
        """Tell which of the vectors the graph of the scope has, as they are. Args: rows: float32 [n, width], unit."""
        import numpy as np

        there = np.zeros(len(numbers), bool)
        known = self._known.get(scope)
        if known is not None and known.graph is not None and known.graph.facts.width == rows.shape[1]:
            there = known.graph.among(numbers)
            there[there] = graph.alike(known.graph.rows(numbers[there]), rows[there])
        return there

    def found(self, counts: dict[bytes, int]) -> Iterator[Drawn]:
        """Hear how many vectors of each scope's graph are still kept, and give up those of which none is."""
        for scope, known in list(self._known.items()):
            if known.graph is None:
                continue
            if not counts.get(scope):
                (self._folder / graph.name_of(self._embedder, scope)).unlink(missing_ok=True)
                yield self._drawn(scope, None, None)
            elif len(known.graph) > _STALE * counts[scope]:
                self.crowd(scope, known.graph.facts.width)

    def turn(self) -> Iterator[Drawn]:
        """Do what is to be done by now; called some times in a second."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return
            self._ended(self._child, code)
        if not self._wanted or self._lacking():
            return
        now_ns = self._clock.mono_ns()
        for scope, width in list(self._wanted.items()):
            if now_ns < self._not_before_ns.get(scope, 0):
                continue
            path = self._folder / graph.name_of(self._embedder, scope)
            stamp = _stamp(path)
            known = self._known.get(scope, _Known(None, None))
            if stamp != known.stamp and stamp != self._bad.get(path.name, known.stamp):
                try:
                    found = None if stamp is None else graph.read(path, embedder=self._embedder)
                except _UNUSABLE as error:
                    self._bad[path.name] = stamp
                    self._unusable(path, error)
                else:
                    self._wanted.pop(scope, None)
                    yield self._drawn(scope, found, stamp)
            elif self._busy():
                self._not_before_ns[scope] = now_ns + int(LOOK_EVERY_S * 1e9)
            else:
                self._make(scope, width)
                return

    def _unusable(self, path: Path, error: Exception) -> None:
        self._trouble(f"{path} cannot be used: {error}. It is made again")

    def _drawn(self, scope: bytes, found: Graph | None, stamp: _Stamp | None) -> Drawn:
        import numpy as np

        base = self._known.get(scope, _Known(None, None)).graph
        none = np.empty(0, np.uint64)
        theirs, ours = none if found is None else found.numbers(), none if base is None else base.numbers()
        fresh = set(np.setdiff1d(theirs, ours, assume_unique=True).tolist())
        lost = set(np.setdiff1d(ours, theirs, assume_unique=True).tolist())
        self._known[scope] = _Known(found, stamp)
        return Drawn(scope, Change(found, base, fresh, lost))

    def _lacking(self) -> bool:
        if graph.here():
            return False
        self._missing = True
        self._wanted.clear()
        self._tell(
            f"More than {ALONE:,} questions of one kind are kept, and each look compares with all of them."
            " It would be quicker with usearch: pip install 'trivet[graph]'"
        )
        return True

    def _busy(self) -> bool:
        """Tell whether another process is making one."""
        with suppress(OSError), (self._folder / graph_child.LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _make(self, scope: bytes, width: int) -> None:
        order = graph_child.Order(
            answers=str(self._answers), folder=str(self._folder), embedder=self._embedder, scope=scope, width=width
        )
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "trivet.cache.semantic.graph_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in the terminal is for us: we end it
            )
        except OSError as error:
            self._trouble(f"A graph of questions cannot be made ({error}), and is tried again")
            self._rest(scope)
            return
        self._making = scope
        assert self._child.stdin is not None
        with suppress(OSError):  # it has ended already: its code says how
            self._child.stdin.write(msgspec.json.encode(order) + b"\n")
            self._child.stdin.flush()

    def _ended(self, child: "subprocess.Popen[bytes]", code: int) -> None:
        said = _close(child)
        self._child = None
        if code == graph_child.MADE:
            self._troubled = False
        elif code == graph_child.BUSY:
            self._rest(self._making, LOOK_EVERY_S)
        else:
            if code != graph_child.NOTHING_NEW:
                why = said or f"the process ended with {code}"
                self._trouble(f"A graph of questions cannot be made ({why}), and is tried again")
            self._rest(self._making)

    def _rest(self, scope: bytes, for_s: float = _REST_S) -> None:
        self._not_before_ns[scope] = self._clock.mono_ns() + int(for_s * 1e9)

    def _trouble(self, words: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._tell(f"{words}. Until then all questions of its kind are compared.")

    def close(self) -> None:
        """End a child that is still at work: what it was making is lost."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            _close(child)
        self._known.clear()


def _close(child: "subprocess.Popen[bytes]") -> str:
    """Close the pipes of a child that has ended, and give the last line that it said."""
    assert child.stdin is not None
    assert child.stderr is not None
    with suppress(OSError):
        child.stdin.close()
    with child.stderr:
        said = child.stderr.read().decode(errors="replace").strip().splitlines()
    return said[-1] if said else ""


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
