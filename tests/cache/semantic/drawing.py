"""Graphs for tests, made in the process: by usearch, as the child process does, but of a few vectors too."""

from pathlib import Path
from typing import Any

import numpy as np

from trivet.cache.semantic import graph
from trivet.cache.semantic.graph import Facts, Graph


def written(vectors: dict[int, np.ndarray], width: int) -> bytes:
    made: Any = graph.usearch().Index(ndim=width, metric="ip", dtype="f16", connectivity=graph.LINKS)
    numbers = np.array(list(vectors), np.uint64)
    made.add(numbers, np.array(list(vectors.values()), np.float16).reshape(-1, width), threads=1)
    return bytes(made.save())


def facts(count: int, width: int, **more: Any) -> Facts:
    given: dict[str, Any] = {"embedder": "e1", "scope": b"s", "made_by": graph.made_by()} | more
    return Facts(count=count, width=width, **given)


def draw(path: Path, vectors: dict[int, np.ndarray], width: int, **more: Any) -> Path:
    graph.write(path, facts(len(vectors), width, **more), written(vectors, width))
    return path


def drawn(vectors: dict[int, np.ndarray], width: int) -> Graph:
    return Graph(facts(len(vectors), width), memoryview(bytearray(written(vectors, width))))
