"""A whole router file, heads and pool and all, trained on texts whose words say what they ask for."""

import functools
import tempfile
from pathlib import Path

from tests.routing.pool.words import outcomes
from trivet.routing.learned import learned
from trivet.routing.learned.data import read_outcomes
from trivet.routing.learned.learned import Learned
from trivet.routing.pool import clusters
from trivet.routing.pool.pool import trained

EASY, HARD = "About cat house river bread garden winter?", "About integral tensor quantum topology entropy?"


@functools.cache
def _file(n: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        read = read_outcomes(outcomes(Path(folder) / "train", n=n, models=("tiny", "small", "large")))
        made = learned.train(read, date="2026-11-23")
        made.others |= trained(read, made.space)
        known, seen = clusters.learn(made.space.dense(read.prompts.texts).astype(float), read.matrix(), read.models)
        made.others[clusters.NAME] = known.section(seen[made.evidence.prompt, made.evidence.model])
        made.save(Path(folder) / "r.trv")
        return (Path(folder) / "r.trv").read_bytes()


def file(folder: Path, *, n: int = 900, name: str = "router.trv") -> Path:
    """Write one that knows tiny, small and large."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(_file(n))
    return folder / name


def router(folder: Path, *, n: int = 900) -> Learned:
    """Load one."""
    return learned.load(file(folder, n=n))
