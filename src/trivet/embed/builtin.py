"""The embedder that is in the package: the mean of word vectors, from a table that `tools/static_table.py` made.

Not here: how the table was made, and how good it is (docs/embeddings.md). It knows words, not their order: "dog bites
man" and "man bites dog" are the same to it.
Invariants: a table whose digest is not the pinned one is never used; the same text gives the same bits, alone or among
others; numpy is imported where vectors are made, not before.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from trivet.config import EmbedderSettings
from trivet.embed.resident import Model, Resident
from trivet.embed.wordpiece import WordPiece, vocabulary
from trivet.errors import WeightsError
from trivet.seams import Kit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "trivet-static-1"
WIDTH = 256
MAX_TOKENS = 8192
"""As OpenAI's embedding models have it: so what was cut to fit them fits here."""

TABLE_SHA256 = "abcc7dc6f634f80bbb302377a36aee0db4d0e4911c637f27d590f9e0cc7421de"
"""Of `builtin.bin`: what `tools/static_table.py` wrote from all-MiniLM-L6-v2."""

FIRST = 999
"""The first id of the vocabulary that is text; those before it are marks, and have the first row, that of `[UNK]`.

The file has a float32 for each row, by which it is multiplied, then the rows: two numbers from -7 to 7 in a byte, each
with 8 added to it, the first in the low half.
"""

MIN_WIDTH = 64
"""The columns are in the order of what they tell (PCA), so a vector may be cut short: measured down to this."""

AT_ONCE_CHARACTERS = 2048
"""Texts shorter than this together are worked out where they are asked for: under a millisecond (bench/embed.py), of
which handing one question to a thread and back would take some part."""


class Table:
    """The tokens and their vectors."""

    width = WIDTH

    def __init__(self) -> None:
        import numpy as np  # takes as long as the rest of the start

        data = (files("trivet.embed") / "builtin.bin").read_bytes()
        if hashlib.sha256(data).hexdigest() != TABLE_SHA256:
            raise WeightsError(
                "The table of the builtin embedder is not the one of this version. Install trivet again."
            )
        tokens = vocabulary()
        rows = 1 + len(tokens) - FIRST
        scales, halves = data[: 4 * rows], np.frombuffer(data, np.uint8, offset=4 * rows).reshape(rows, WIDTH // 2)
        self._words = WordPiece(tokens)
        self._scales: NDArray[np.float32] = np.frombuffer(scales, "<f4").astype(np.float32)
        self._rows: NDArray[np.int8] = np.empty((rows, WIDTH), np.int8)
        self._rows[:, 0::2], self._rows[:, 1::2] = (halves & 15).astype(np.int8) - 8, (halves >> 4).astype(np.int8) - 8

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        return self._words.ids(text, most=MAX_TOKENS)

    def add(self, tokens: Sequence[int], out: "NDArray[np.float32]") -> None:
        """Write the sum of the tokens' vectors, each as long as it counts, into `out` [WIDTH]."""
        import numpy as np

        at = np.maximum(np.asarray(tokens, np.int32) - (FIRST - 1), 0)
        np.dot(self._scales[at], self._rows[at].astype(np.float32), out=out)

    def rows(self, ids: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        import numpy as np

        made = np.zeros((len(ids), WIDTH), np.float32)
        for row, tokens in zip(made, ids, strict=True):
            self.add(tokens, row)
            length = float(np.sqrt(np.dot(row, row)))
            if length > 0.0:
                row /= length
        return made


def build(settings: EmbedderSettings, kit: Kit) -> Resident:
    """Build it; it has no settings."""
    model = Model(
        kind="builtin",
        name=NAME,
        digest=hashlib.sha256(f"{NAME} {TABLE_SHA256}".encode()).hexdigest(),
        width=WIDTH,
        min_width=MIN_WIDTH,
        max_tokens=MAX_TOKENS,
        load=lambda tell: Table(),
        at_once_characters=AT_ONCE_CHARACTERS,
    )
    return Resident(model, kit)
