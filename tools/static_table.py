"""Make the table of the builtin embedder from all-MiniLM-L6-v2: `python tools/static_table.py OUT` (about ten minutes).

No text goes into it but the vocabulary. MiniLM embeds bags of tokens that are drawn here, half of them by Zipf's law
over the order of the vocabulary (which is by frequency), and least squares finds the vector of each token whose mean
over a bag is nearest to what MiniLM says. Then each token is weighted by how rare it is (SIF: Arora, Liang & Ma 2017),
the 256 directions that tell most are kept (PCA), and each number becomes four bits.

The same versions of numpy and onnxruntime on the same kind of processor give the same bytes. The constants were chosen
on questions that are not part of it: docs/embeddings.md has the figures.
"""

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trivet.embed.builtin import FIRST, WIDTH
from trivet.embed.minilm import MiniLM
from trivet.embed.wordpiece import CLS, SEP, UNKNOWN, vocabulary
from trivet.weights import MINILM, Store

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BAGS = 90_000
LENGTHS = (2, 3, 4, 5, 6, 7, 8, 10, 12)
"""Tokens in a bag: what questions have. An equal number of bags of each."""
PIECES = 0.15
"""Of the tokens in a bag that continue a word, as in English text."""
RIDGE = 0.6
"""How much a token stays at what MiniLM says of it alone; 0.3 and 2.0 are a little worse."""
RARE = 1e-4
"""SIF's a: tokens more frequent than this count for less."""
STEPS = 20
"""Of conjugate gradients. The residual is a hundredth by then, far below what four bits keep."""
TINY = np.float32(1e-20)
"""Some of MiniLM's 384 numbers are the same for every text, and leave nothing to solve."""
SINGLES = 997
"""Characters that stand before the first word of the vocabulary (`the`), in no order of frequency."""


def bags(tokens: list[str], rng: np.random.Generator) -> list[Ids]:
    """Draw the bags, one array [n, length] for each length."""
    plain = [i for i in range(FIRST, len(tokens)) if tokens[i].isascii()]
    words = np.array([i for i in plain if not tokens[i].startswith("##")])
    pieces = np.array([i for i in plain if tokens[i].startswith("##")])
    by_rank = frequencies(len(tokens))[words]
    by_rank /= by_rank.sum()
    drawn = []
    for length in LENGTHS:
        shape = (BAGS // len(LENGTHS), length)
        common = rng.choice(words, shape, p=by_rank)
        bag = np.where(rng.random(shape) < 0.5, rng.choice(words, shape), common)
        continues = rng.random(shape) < PIECES
        continues[:, 0] = False
        drawn.append(np.where(continues, rng.choice(pieces, shape), bag))
    return drawn


def frequencies(size: int) -> NDArray[np.float64]:
    """Guess how frequent each token is: by Zipf's law over the words, and as rare as a rare word for the rest."""
    rank = np.maximum(np.arange(size) - (FIRST + SINGLES - 1), 1)
    frequency: NDArray[np.float64] = 1.0 / (rank + 2)
    frequency[: FIRST + SINGLES] = frequency[FIRST + SINGLES] / 2
    frequency /= frequency.sum()
    return frequency


def embedded(model: MiniLM, rows: Ids) -> Floats:
    """Ask MiniLM for rows of equally many tokens."""
    ends = np.full((len(rows), 1), CLS), np.full((len(rows), 1), SEP)
    rows = np.concatenate([ends[0], rows, ends[1]], axis=1)
    parts = [rows[at : at + 64] for at in range(0, len(rows), 64)]
    return np.concatenate([model.run(part, np.ones_like(part)) for part in parts])


def means(x: Floats, drawn: list[Ids]) -> Floats:
    """A x: the mean over each bag."""
    return np.concatenate([x[bag].mean(axis=1) for bag in drawn])


def shares(r: Floats, drawn: list[Ids], size: int) -> Floats:
    """A' r: what each token has of the bags that it is in."""
    flat = np.concatenate([bag.ravel() for bag in drawn])
    first, owner, weight = 0, [], []
    for bag in drawn:
        owner.append(np.repeat(np.arange(first, first + len(bag)), bag.shape[1]))
        weight.append(np.full(bag.size, 1 / bag.shape[1], np.float32))
        first += len(bag)
    order = np.argsort(flat, kind="stable")
    found, starts = np.unique(flat[order], return_index=True)
    out = np.zeros((size, r.shape[1]), np.float32)
    parts = r[np.concatenate(owner)[order]] * np.concatenate(weight)[order][:, None]
    out[found] = np.add.reduceat(parts, starts, axis=0)
    return out


def solved(y: Floats, drawn: list[Ids], size: int) -> Floats:
    """Find x with the least |A x - y|^2 + RIDGE |x|^2, by conjugate gradients."""
    x = np.zeros((size, y.shape[1]), np.float32)
    r = shares(y, drawn, size)
    p, rs = r.copy(), (r * r).sum(axis=0)
    for _ in range(STEPS):
        q = shares(means(p, drawn), drawn, size) + np.float32(RIDGE) * p
        step = rs / np.maximum((p * q).sum(axis=0), TINY)
        x, r = x + step * p, r - step * q
        rs, before = (r * r).sum(axis=0), rs
        p = r + (rs / np.maximum(before, TINY)) * p
    return x


def table(model: MiniLM, tokens: list[str]) -> Floats:
    """Make the vector of every token."""
    rng = np.random.default_rng(7)
    drawn = bags(tokens, rng)
    said = np.concatenate([embedded(model, bag) for bag in drawn])
    said -= said.mean(axis=0)
    alone = embedded(model, np.arange(len(tokens))[:, None])
    alone -= alone.mean(axis=0)
    near = means(alone, drawn)
    scale = np.float32((near * said).sum() / (near * near).sum())
    columns = range(0, said.shape[1], 48)  # so that it fits into memory
    rest = [solved((said - scale * near)[:, at : at + 48], drawn, len(tokens)) for at in columns]
    found = scale * alone + np.concatenate(rest, axis=1)
    weights = RARE / (RARE + frequencies(len(tokens)))
    weighted: Floats = found * weights[:, None].astype(np.float32)
    return weighted


def packed(found: Floats) -> bytes:
    """Keep the directions that tell most, and write the file as `builtin.py` describes it."""
    text = found[FIRST:].astype(np.float64)
    _, directions = np.linalg.eigh(text.T @ text)
    best = directions[:, ::-1][:, :WIDTH]
    best *= np.sign(best[np.abs(best).argmax(axis=0), np.arange(WIDTH)])  # a direction has no sign of its own
    rows = np.concatenate([found[[UNKNOWN]], found[FIRST:]]) @ best.astype(np.float32)
    scales = np.abs(rows).max(axis=1) / 7
    four = (np.round(rows / scales[:, None]) + 8).astype(np.uint8)
    halves: NDArray[np.uint8] = four[:, 0::2] | four[:, 1::2] << 4
    data: bytes = scales.astype("<f4").tobytes() + halves.tobytes()
    return data


def main() -> None:
    """Write the file, and tell its digest."""
    began_s = time.monotonic()
    models = Path("~/.cache/trivet/models").expanduser()
    path = Store(models).fetch(MINILM, lambda done_bytes, total_bytes, what: None)
    data = packed(table(MiniLM(str(path), threads=1), vocabulary()))
    Path(sys.argv[1]).write_bytes(data)
    print(f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
