"""An embedder whose cosines can be worked out by hand: a text is the bag of its words, each word an axis of its own."""

import asyncio
import re
import zlib
from collections.abc import Sequence

import numpy as np

from trivet.errors import EmbedderError
from trivet.seams import Vectors

WIDTH = 4096


class Hashed:
    """The embedder, and ways in which it can fail."""

    name, digest, width, min_width, max_tokens = "hashed", "hashed-1", WIDTH, WIDTH, 64

    def __init__(self) -> None:
        self.fails = self.hangs = self.unready = ""
        self.wide = WIDTH
        self.asked: list[str] = []
        self.closed = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Count the words."""
        if self.fails or self.closed:
            raise EmbedderError(self.fails or "closed")
        if self.hangs:
            await asyncio.sleep(3600)
        self.asked += texts
        rows = np.zeros((len(texts), self.wide), np.float32)
        tokens = [re.findall(r"\w+", text.lower()) for text in texts]
        for row, words in zip(rows, tokens, strict=True):
            for word in words[: self.max_tokens]:
                row[zlib.crc32(word.encode()) % self.wide] += 1
            length = float(np.sqrt(row @ row))
            if length:
                row /= length
        return Vectors(rows, tuple(min(len(t), self.max_tokens) for t in tokens), tuple(len(t) > 64 for t in tokens))

    async def start(self) -> None:
        """It is ready at once."""

    def ready(self) -> str:
        """Say so."""
        return self.unready

    async def aclose(self) -> None:
        """Count how often it was let go of."""
        self.closed += 1
