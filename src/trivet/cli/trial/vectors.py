"""Embeds the questions of a trial, many at once, and measures how long one alone takes.

Not here: the embedders. Invariant: a text is embedded once, however often it is asked.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from click import progressbar

from trivet import build
from trivet.config import Settings, embedder_kind, load
from trivet.errors import ConfigError, EmbedderError
from trivet.seams import Embedder

if TYPE_CHECKING:
    import numpy as np
    from click._termui_impl import ProgressBar
    from numpy.typing import NDArray

_BATCH = 256
"""Texts of a request: an embedder makes batches of its own out of them, and the progress moves."""

_TIMED = 50
"""Texts that are embedded alone, for the time that one takes."""

_READY_S = 600.0
"""For an embedder that fetches its weights first."""

_SHOWN = 500
"""Texts, or requests, from which a bar is worth showing."""


class Embedded(NamedTuple):
    """Texts and their vectors."""

    vectors: "NDArray[np.float32]"
    """[n, width], of unit length, or zeros where a text has no vector: nothing is in it, or it was cut."""
    rows: dict[str, int]
    """Of each text that has a vector."""
    embed_ms_p50: float
    name: str
    """Of the embedder."""


def embed(texts: Sequence[str], kind: str, *, config: Path | None = None) -> Embedded:
    """Embed texts with the embedder of that kind; `auto`: the one that the file means. Raises ConfigError,
    EmbedderError."""
    return asyncio.run(_embed(texts, kind, load(config, os.environ)))


async def _embed(texts: Sequence[str], kind: str, found: Settings) -> Embedded:
    kind = embedder_kind(found.embedder) if kind == "auto" else kind
    settings = _alone(found, kind)
    kit = build.kit(settings, os.environ, tell=lambda line: click.echo(line, err=True))
    async with AsyncExitStack() as opened:
        if kind == "target":  # what it costs is in the ledger
            await opened.enter_async_context(build.stages(settings, kit))
        embedder = kit.embedder(kind)
        opened.push_async_callback(embedder.aclose)
        await _get_ready(embedder, kind)
        return await vectors_of(embedder, texts)


def _alone(found: Settings, kind: str) -> Settings:
    """Give settings with that embedder, and with nothing that it does not need. Raises ConfigError."""
    target = found.targets.get(found.embedder.target)
    if kind == "target" and target is None:
        raise ConfigError('The embedder "target" is one of trivet.toml: write it into its [embedder].')
    targets = {target.name: target} if kind == "target" and target is not None else {}
    return Settings(embedder=found.embedder, models=found.models, ledger=found.ledger, targets=targets)


async def vectors_of(embedder: Embedder, texts: Sequence[str]) -> Embedded:
    """Embed texts with an embedder that is ready."""
    import numpy as np

    once = sorted(dict.fromkeys(texts), key=len)  # alike in length, so that a batch needs little padding
    vectors = np.zeros((len(once), embedder.width), np.float32)
    rows: dict[str, int] = {}
    with bar("embedding", len(once)) as shown:
        for start in range(0, len(once), _BATCH):
            some = once[start : start + _BATCH]
            made = await embedder.embed(some)
            for i, text in enumerate(some):
                row = made.rows[i]
                if not made.cut[i] and 0.98 < float(row @ row) < 1.02:  # as the tier has it
                    vectors[start + i], rows[text] = row, start + i
            shown.update(len(some))
    took = []
    for text in once[:: max(1, len(once) // _TIMED)]:
        began = time.perf_counter_ns()
        await embedder.embed([text])
        took.append(time.perf_counter_ns() - began)
    return Embedded(vectors, rows, sorted(took)[len(took) // 2] / 1e6 if took else 0.0, embedder.name)


def bar(words: str, length: int) -> "ProgressBar[int]":
    """Make a bar on stderr; hidden where nobody looks, or nothing is worth waiting for."""
    hidden = length < _SHOWN or not sys.stderr.isatty()
    return progressbar(length=length, label=words, file=sys.stderr, hidden=hidden)


async def _get_ready(embedder: Embedder, kind: str) -> None:
    await embedder.start()
    until = time.monotonic() + _READY_S
    while (state := embedder.ready()) and time.monotonic() < until:
        if state.startswith("failed"):
            raise EmbedderError(f"The embedder {kind} is not ready: {state}")
        await asyncio.sleep(0.05)
    if state:
        raise ConfigError(f"The embedder {kind} was not ready after {_READY_S:.0f} s: {state}")
