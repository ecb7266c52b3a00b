"""The vectors of one scope as a graph of neighbours, frozen: near the nearest in the time that a few hundred compares
take, whatever their number. HNSW (Malkov & Yashunin 2016), by usearch, an optional dependency.

Not here: making one (`graph_child.py`), who makes and reads them when (`graphs.py`), what came and went since
(`index.py`).
Invariants: a graph is never changed; only bytes whose digest is right are shown to usearch, whose reader trusts them;
cosines are worked out from the vectors that are kept, and are not the graph's.
"""

import hashlib
import os
import platform
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LINKS = 12
"""Of each vector to others (M). 16 and 24 found no more of 96,000 MiniLM questions, and cost 32 and 96 bytes each."""

WIDTH_BUILDING = 128
"""Candidates while a vector is put in (efConstruction): with 64 half as long, and 2 to 3 % of the nearest not found."""

WIDTH_LOOKING = 128
"""Candidates of a look (ef): of 96,000 MiniLM questions it finds 99.5 % of the nearest, all of those whose cosine is
over 0.8, in 0.4 ms; with 64, 98.7 % in 0.25 ms; with 256, 99.8 % in 0.8 ms."""

_MAGIC = b"trivet graph 1\n\0"
_DIGEST_BYTES = 32
_HEADER_BYTES = 4096
"""Magic, digest, and the facts as JSON, filled up with blanks: what follows is usearch's."""


class GraphError(ValueError):
    """A file is not a graph that can be used here; it says why."""


class OtherEmbedderError(GraphError):
    """It is of another embedder, and will be of use when that comes back."""


class Facts(Struct, frozen=True, kw_only=True):
    """What a graph is of."""

    embedder: str
    """Its digest."""
    scope: bytes
    width: int
    count: int
    churned: int = 0
    """Vectors that were taken out of it since it was made from nothing: each leaves it a little worse."""
    made_by: str = ""
    """Library and machine."""


class Graph:
    """A graph that one thread looks into; what is in it may be asked by others meanwhile."""

    def __init__(self, facts: Facts, held: memoryview) -> None:
        """Look into bytes that usearch wrote. Raises GraphError: it did not."""
        self.facts, self._held = facts, held
        self._usearch = usearch().Index(
            ndim=facts.width, metric="ip", dtype="f16", connectivity=LINKS, expansion_search=WIDTH_LOOKING
        )
        try:
            self._usearch.view(held)
        except (RuntimeError, ValueError) as error:
            raise GraphError(f"usearch cannot read it: {error}") from error
        if len(self._usearch) != facts.count or self._usearch.ndim != facts.width:
            raise GraphError(
                f"it has {len(self._usearch)} vectors of {self._usearch.ndim}, and says {facts.count} of {facts.width}"
            )

    def __len__(self) -> int:
        return self.facts.count

    def __contains__(self, number: int) -> bool:
        return bool(self._usearch.contains(number))

    @property
    def bytes(self) -> int:
        """What it takes of the memory."""
        return len(self._held) + _BESIDE_BYTES * len(self)

    def written(self) -> memoryview:
        """Give the bytes that usearch wrote."""
        return self._held

    def numbers(self) -> "NDArray[np.uint64]":
        """Give all numbers."""
        return cast("NDArray[np.uint64]", self._usearch.keys[:])

    def among(self, numbers: "NDArray[np.uint64]") -> "NDArray[np.bool_]":
        """Tell of each number whether it is there."""
        return cast("NDArray[np.bool_]", self._usearch.contains(numbers))

    def near(self, vector: "NDArray[np.float32]", count: int) -> "NDArray[np.uint64]":
        """Give the numbers of about the `count` nearest, nearest first."""
        found: Any = self._usearch.search(vector, min(count, len(self)), threads=1)
        return cast("NDArray[np.uint64]", found.keys)

    def rows(self, numbers: "NDArray[np.uint64]") -> "NDArray[np.float32]":
        """Give the vectors of numbers that are there: float32 [n, width], of unit length."""
        import numpy as np

        if not len(numbers):
            return np.empty((0, self.facts.width), np.float32)
        found: Any = self._usearch.get(numbers)
        return unit(np.concatenate(found).reshape(len(numbers), self.facts.width))


_BESIDE_BYTES = 60
"""Of each vector, beside the bytes that are read: usearch's tables of places and of numbers. Measured by
bench/index.py."""


def unit(halves: "NDArray[np.float16]") -> "NDArray[np.float32]":
    """Give rows of float16 [n, width] in float32, of unit length again: rounding moved them by up to 0.0003."""
    import numpy as np

    rows = halves.astype(np.float32)
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows


def alike(some: "NDArray[np.float32]", others: "NDArray[np.float32]") -> "NDArray[np.bool_]":
    """Tell of rows, pair by pair, whether they are one vector but for rounding."""
    import numpy as np

    near: NDArray[np.bool_] = np.abs(some - others).max(axis=1) < _ROUNDING
    return near


_ROUNDING = 2e-3
"""Float16 has 11 bits: a number below 1 is off by less than 0.0005, and once more after another rounding."""


def here() -> bool:
    """Tell whether usearch is installed, without importing it."""
    return find_spec("usearch") is not None


def usearch() -> Any:
    """Import usearch, which is an extra: its module `index`. Raises ImportError.

    After onnxruntime, where that is installed: it ends the process (SIGSEGV) if it is imported in one that has usearch
    2.26 already, and the other way round all is well. Whoever embeds with MiniLM would import it sooner or later.
    """
    with suppress(ImportError):
        import onnxruntime  # noqa: F401
    import usearch.index

    return usearch.index


def made_by() -> str:
    """Name what writes graphs here: another version or machine may write them otherwise."""
    return f"usearch {version('usearch')} {platform.machine()}"


def name_of(embedder: str, scope: bytes) -> str:
    """Give the name of the file of a scope's graph."""
    return hashlib.sha256(embedder.encode() + b"\0" + scope).hexdigest()[:32] + ".graph"


def write(path: Path, facts: Facts, written: bytes | bytearray) -> None:
    """Put a graph into a file, whole or not at all, for its owner alone: vectors tell of the texts. Raises OSError.

    One at a time: who calls has the lock (`graph_child.py`).
    """
    told = msgspec.json.encode(facts).ljust(_HEADER_BYTES - len(_MAGIC) - _DIGEST_BYTES)
    digest = hashlib.sha256(told)
    digest.update(written)
    beside = path.with_suffix(".tmp")
    try:
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_MAGIC + digest.digest() + told)
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read(path: Path, *, embedder: str) -> Graph:
    """Read a graph. Raises GraphError: it is damaged, or not of this embedder or machine; OSError."""
    import numpy as np

    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or head[: len(_MAGIC)] != _MAGIC:
            raise GraphError("it is not a graph")
        told = head[len(_MAGIC) + _DIGEST_BYTES :]
        try:
            facts = msgspec.json.decode(told, type=Facts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise GraphError(f"what it is of cannot be read: {error}") from error
        if facts.embedder != embedder:
            raise OtherEmbedderError("it is of another embedder")
        if facts.made_by != made_by():
            raise GraphError(f"it was made by {facts.made_by}, and this is {made_by()}")
        size = os.fstat(file.fileno()).st_size - _HEADER_BYTES
        held = np.empty(size, np.uint8).data  # not a bytearray: to fill that with zeros would hold the interpreter
        if file.readinto(held) != size:
            raise GraphError("it ends early")
    digest = hashlib.sha256(told)
    digest.update(held)
    if digest.digest() != head[len(_MAGIC) :][:_DIGEST_BYTES]:
        raise GraphError("its digest is wrong: it was cut short or damaged")
    return Graph(facts, held)
