"""A text as numbers: its words, as counts and as one mean of word vectors.

Two views of the same words. A sparse row, over a vocabulary, is what a decision costs: microseconds. A dense row is
what weights are fitted on: the mean of the words' vectors (those of the builtin embedder, so that a word that training
never saw still has a weight: that of its neighbours) and the most frequent words one by one. As all of it is linear,
weights of the dense view are weights of the sparse one (`Space.spread`): nothing but a sum is left at run time, no
tokenizer and no embedder. What was tried beside the words and told nothing more is in docs/routing.md.

Not here: what the weights are (`heads.py`), how they are added up in microseconds (`compiled.py`).
Invariants: the same text gives the same numbers on every machine, in every process; no text raises; a space is made of
words and constants alone, so it can be written to a file.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.embed.builtin import WIDTH, Table
from trivet.embed.wordpiece import vocabulary
from trivet.errors import ConfigError

Floats = NDArray[np.float32]

KIND = "words-2"
"""Of which kind the numbers of a text are; other words, folding or reading is another kind, and another router file."""

FIRST, LAST = 384, 64
"""Characters of a text that are read, from its two ends: reading more costs more time and ranks no better, and the end
is where a question is asked, or its choices are (docs/routing.md)."""

FREQUENT = 500
"""Words with a weight of their own beside their vector's: 500 rank as 17,000 do, with 12,000 prompts."""

MOST_WORDS = 60_000
"""Of a vocabulary: the whole words of the embedder's, and the most frequent of the training texts."""

SCALE = 0.42
"""What a word's vector is multiplied by, so that their sum, over the root of their number, is about 1 long."""

ALONE = 0.4
"""How much the words one by one count beside the mean of vectors: more helps on domains that were seen, only there."""

_FOLD = bytes(
    (c + 32 if 65 <= c <= 90 else c) if 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c >= 128 else 32
    for c in range(256)
)
"""ASCII to lower case; what is neither letter nor digit to a space. Other scripts keep their bytes."""


def words(text: str) -> list[bytes]:
    """Split the ends of a text into words, folded: 2 microseconds."""
    if len(text) > FIRST + LAST:
        text = f"{text[:FIRST]} {text[-LAST:]}"
    return text.encode("utf-8", "replace").translate(_FOLD).split()


class Rows(NamedTuple):
    """Sparse rows, one after another."""

    starts: NDArray[np.int64]
    """[n + 1]: where each row begins in the other two."""
    columns: NDArray[np.int64]
    """Places in a space's `words`; none twice in a row."""
    values: Floats

    def dot(self, weights: Floats) -> Floats:
        """Multiply with weights [width, k]; gives [n, k]."""
        made = np.zeros((len(self.starts) - 1, weights.shape[1]), np.float32)
        full = np.flatnonzero(np.diff(self.starts))
        if len(full):
            made[full] = np.add.reduceat(self.values[:, None] * weights[self.columns], self.starts[:-1][full], axis=0)
        return made


class Space:
    """The words that have a place: what turns texts into numbers."""

    def __init__(self, words: Sequence[bytes], *, frequent: int) -> None:
        """Take words, each once; the first `frequent` have weights of their own.

        Raises:
            ConfigError: a word is there twice, or there are fewer than `frequent`.
        """
        self.words, self.frequent = tuple(words), frequent
        self.places = {word: i for i, word in enumerate(self.words)}
        if len(self.places) < len(self.words) or not 0 <= frequent <= len(self.words):
            raise ConfigError("The words of the router are not each there once. Train it again.")
        self._vectors: Floats | None = None

    @property
    def width(self) -> int:
        """Of a sparse row."""
        return len(self.words)

    @property
    def dense_width(self) -> int:
        """Of a dense row: vectors, frequent words."""
        return WIDTH + self.frequent

    def row(self, text: str) -> tuple[list[int], list[float]]:
        """Give the sparse row of a text: columns, each once, and their values."""
        found = words(text)
        each = 1.0 / math.sqrt(len(found)) if found else 0.0
        counts = Counter(place for word in found if (place := self.places.get(word)) is not None)
        return list(counts), [n * each for n in counts.values()]

    def rows(self, texts: Sequence[str]) -> Rows:
        """Give the sparse rows of texts."""
        starts, columns, values = np.zeros(len(texts) + 1, np.int64), list[int](), list[float]()
        for i, text in enumerate(texts):
            places, numbers = self.row(text)
            columns += places
            values += numbers
            starts[i + 1] = len(columns)
        return Rows(starts, np.array(columns, np.int64), np.array(values, np.float32))

    def dense(self, texts: Sequence[str]) -> Floats:
        """Give the dense rows of texts: [n, dense_width], the first `WIDTH` columns of length 1 on average."""
        rows, made = self.rows(texts), np.zeros((len(texts), self.dense_width), np.float32)
        vectors = self.vectors()
        at = np.repeat(np.arange(len(texts)), np.diff(rows.starts))
        alone = rows.columns < self.frequent
        made[at[alone], WIDTH + rows.columns[alone]] = rows.values[alone] * ALONE
        for i in range(len(texts)):
            part = slice(rows.starts[i], rows.starts[i + 1])
            made[i, :WIDTH] = rows.values[part] @ vectors[rows.columns[part]]
        return made

    def spread(self, weights: Floats) -> Floats:
        """Turn weights of dense rows [dense_width, k] into those of sparse rows [width, k]."""
        spread: Floats = self.vectors() @ weights[:WIDTH]
        spread[: self.frequent] += weights[WIDTH:] * ALONE
        return spread

    def vectors(self) -> Floats:
        """Give the vectors of all words, [words, WIDTH]: half a second, the first time."""
        if self._vectors is None:
            table = Table()
            made = np.zeros((len(self.words), WIDTH), np.float32)
            for i, word in enumerate(self.words):
                table.add(table.read(word.decode("utf-8", "replace"))[0], made[i])
            made *= SCALE
            self._vectors = made
        return self._vectors

    def known(self, text: str) -> float:
        """Give the share of a text's words that have a place, in [0, 1]; 0 for a text without words."""
        found = words(text)
        return sum(map(self.places.__contains__, found)) / len(found) if found else 0.0


def learn(texts: Sequence[str], *, frequent: int = FREQUENT) -> Space:
    """Make the space of training texts: their words, most frequent first, and those of the embedder's vocabulary."""
    counts: Counter[bytes] = Counter()
    for text in texts:
        counts.update(set(words(text)))
    # By frequency, then by the word: a set's order differs between processes.
    seen = [word for word, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 1]
    plain = (token.encode() for token in vocabulary() if not token.startswith(("##", "[")))
    rest = dict.fromkeys(token for token in plain if words(token.decode()) == [token])
    kept = list(dict.fromkeys([*seen[: MOST_WORDS // 2], *rest]))[:MOST_WORDS]
    return Space(kept, frequent=min(frequent, len(seen), len(kept)))
