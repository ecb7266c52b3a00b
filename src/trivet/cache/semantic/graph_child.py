"""The child process that makes the graph of a scope out of the file of kept answers.

    python -P -m trivet.cache.semantic.graph_child

Its parent (`graphs.py`) writes one `Order` as a line of JSON on stdin and leaves stdin open. It ends with one of the
codes below; what it could not do is on stderr. It is a process of its own because it is busy for half a minute at a
hundred thousand questions, and usearch holds the interpreter for 50 to 250 ms at a time while it reads and writes.

Not here: what a file of a graph is (`graph.py`).
Invariants: of all processes that share a file of answers one makes a graph at a time; killed at any moment it leaves
the graph that was there; it ends when its parent does.
"""

import fcntl
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from trivet.cache.semantic import graph
from trivet.cache.semantic.graph import Facts, Graph, GraphError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MADE, FAILED, BUSY, NOTHING_NEW = 0, 1, 75, 76
"""How it can end: the graph is made, or there is none to be any more; it cannot be; another process makes one (as
sysexits' TEMPFAIL); what is there is as good."""

FEWEST = 2_000
"""Vectors that are worth a graph: a tenth of what it takes to have one made, so that a scope does not go to and fro.
To compare with all of them takes 0.1 ms."""

MOST_CHURNED = 1 / 3
"""Of a graph's vectors: after so many were replaced, one that is made from nothing finds half a percent more."""

LOCK = "lock"
_AT_ONCE = 1024
_NICENESS = 10
_encode = msgspec.json.Encoder().encode


class Order(Struct, frozen=True, kw_only=True):
    """What to make."""

    answers: str
    """The file of kept answers."""
    folder: str
    """Of graphs."""
    embedder: str
    scope: bytes
    width: int


class _Scoped(Struct):
    """Of an answer, what tells whose graph it is in."""

    scope: bytes


class _Vectors(NamedTuple):
    numbers: "NDArray[np.uint64]"
    halves: "NDArray[np.float16]"
    """[n, width]"""


def main() -> None:
    """Obey the order on stdin."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_wait_for_the_end_of_stdin, daemon=True).start()
    os.nice(_NICENESS)
    try:
        code = obey(order)
    except (OSError, sqlite3.Error, msgspec.MsgspecError, RuntimeError, ValueError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201  # its parent reads it
        code = FAILED
    sys.stderr.flush()
    os._exit(code)  # the interpreter's own end would wait for the thread that reads stdin


def _wait_for_the_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(FAILED)


def obey(order: Order) -> int:
    """Make the graph, unless another process is making one. Raises whatever goes wrong."""
    folder = Path(order.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600), "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return BUSY
        for left in folder.glob("*.tmp"):
            left.unlink(missing_ok=True)  # of one that was killed: we have the lock
        return _make(order, folder / graph.name_of(order.embedder, order.scope))


def _make(order: Order, path: Path) -> int:
    import numpy as np

    vectors = _vectors(order)
    if len(vectors.numbers) < FEWEST:
        there = path.exists()
        path.unlink(missing_ok=True)
        return MADE if there else NOTHING_NEW
    before = _before(path, order)
    had = np.empty(0, np.uint64) if before is None else before.numbers()
    fresh = np.isin(vectors.numbers, had, assume_unique=True, invert=True)
    gone = np.setdiff1d(had, vectors.numbers, assume_unique=True)
    if before is not None and not fresh.any() and not len(gone):
        return NOTHING_NEW
    churned = len(gone) + (0 if before is None else before.facts.churned)
    if before is None or churned > MOST_CHURNED * len(had) or not _agree(before, vectors, ~fresh):
        made, churned, fresh = _empty(order.width), 0, np.ones(len(vectors.numbers), bool)
    else:
        made = _empty(order.width)
        made.load(before.written())
        made.expansion_add = graph.WIDTH_BUILDING
        made.remove(gone, compact=True, threads=1)
    del before
    put = np.flatnonzero(fresh)
    for start in range(0, len(put), _AT_ONCE):
        some = put[start : start + _AT_ONCE]
        made.add(vectors.numbers[some], vectors.halves[some], threads=1)
    facts = Facts(
        embedder=order.embedder,
        scope=order.scope,
        width=order.width,
        count=len(made),
        churned=churned,
        made_by=graph.made_by(),
    )
    graph.write(path, facts, made.save())
    return MADE


def _empty(width: int) -> Any:
    return graph.usearch().Index(
        ndim=width, metric="ip", dtype="f16", connectivity=graph.LINKS, expansion_add=graph.WIDTH_BUILDING
    )


def _before(path: Path, order: Order) -> Graph | None:
    """Give the graph that is there, if it is any good."""
    try:
        found = graph.read(path, embedder=order.embedder)
    except (OSError, GraphError):
        return None
    return found if (found.facts.scope, found.facts.width) == (order.scope, order.width) else None


def _agree(before: Graph, vectors: _Vectors, shared: "NDArray[np.bool_]") -> bool:
    """Tell whether a graph has the vectors that the file of answers has."""
    import numpy as np

    both = np.flatnonzero(shared)
    for start in range(0, len(both), _AT_ONCE):
        some = both[start : start + _AT_ONCE]
        found = before.rows(vectors.numbers[some])
        if not graph.alike(found, graph.unit(vectors.halves[some])).all():
            return False
    return True


def _vectors(order: Order) -> _Vectors:
    """Read the vectors of the scope from the file of answers."""
    import numpy as np

    numbers, halves = [], []
    for number, half in _rows(order):
        numbers.append(number)
        halves.append(half)
    joined = np.frombuffer(b"".join(halves), np.float16).reshape(len(halves), order.width)
    return _Vectors(np.array(numbers, np.uint64), joined)


def _rows(order: Order) -> Iterator[tuple[int, bytes]]:
    scoped = msgspec.msgpack.Decoder(_Scoped).decode
    address = f"{Path(order.answers).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as db:
        asked = db.execute(
            "SELECT number, vector, answer FROM answers"
            " WHERE embedder = ? AND length(vector) = ? AND number >= 0 ORDER BY seq",
            (order.embedder, 2 * order.width),
        )
        for number, half, answer in asked:
            if scoped(answer).scope == order.scope:
                yield number, half


if __name__ == "__main__":
    main()
