"""An embedder of a library that takes texts whole: counted and cut here, embedded there, in the thread of `batches.py`.

Not here: the libraries (`sentences.py`, `fast.py`). Invariants: a library never gets a text that it would cut by
itself; every file of a model is in its digest.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trivet.embed.pieces import Pieces
from trivet.embed.resident import Model, Resident, Tell
from trivet.errors import EmbedderError
from trivet.seams import Kit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Embeds = Callable[[list[str]], "NDArray[np.float32]"]
"""Gives [n, width] of texts none of which is empty."""

MISSING = "The library of the embedder {} is not installed. Run: pip install 'trivet[{}]'"

USUAL_TOKENS, MOST_TOKENS = 512, 8192
"""Where a model does not say how many it reads; and of a text, whatever it says."""

_MODEL_FILES = (".json", ".txt", ".model", ".safetensors", ".bin", ".onnx", ".onnx_data", ".spm")


class _Words(list[int]):
    """Ids of a text, with the text: what a library takes."""

    def __init__(self, ids: Iterable[int], text: str) -> None:
        super().__init__(ids)
        self.text = text


class Library:
    """The model, loaded."""

    def __init__(self, pieces: Pieces, embeds: Embeds, *, width: int, max_tokens: int, digest: str) -> None:
        self._pieces, self._embeds = pieces, embeds
        self.width, self.max_tokens, self.digest = width, max_tokens, digest

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        """Count the tokens of a text, and cut it behind the last that is read."""
        sent, ids, more = self._pieces.read(text, most=self.max_tokens)
        return _Words(ids, sent), more

    def rows(self, ids: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """Have texts embedded."""
        import numpy as np

        made = np.zeros((len(ids), self.width), np.float32)
        there = [(n, one.text) for n, one in enumerate(ids) if isinstance(one, _Words) and one]
        if there:
            rows = self._embeds([text for _, text in there])
            made[[n for n, _ in there]] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return made


def resident(kind: str, model: str, kit: Kit, *, load: Callable[[], Library]) -> Resident:
    """Make the embedder of a library that is there or not; what keeps it from loading becomes an EmbedderError.

    Args:
        kind: as the library, its extra and the embedder are called.
    """

    def loaded(tell: Tell) -> Library:
        if find_spec(kind.replace("-", "_")) is None:
            raise EmbedderError(MISSING.format(kind, kind))
        tell(f"loading {model}")
        try:
            return load()
        except EmbedderError:
            raise
        except Exception as error:  # torch's, onnxruntime's, a hub's, a file's: they have no root
            raise EmbedderError(f"{kind} cannot load {model}: {type(error).__name__}: {str(error)[:300]}") from error

    return Resident(Model(kind=kind, name=f"{kind} {model}", load=loaded), kit)


def reads(said: object, *, wanted: int | None, marks: int) -> int:
    """Say how many tokens of a text are read, from what a model says of its length, marks included."""
    known = said if isinstance(said, int) and 16 <= said < 10**9 else USUAL_TOKENS
    return min(wanted or MOST_TOKENS, known - marks, MOST_TOKENS)


def digest_of(folder: Path, more: str) -> str:
    """Digest the files of a model, by name and content, and what else can change a vector."""
    digest = hashlib.sha256(more.encode())
    for path in sorted(folder.rglob("*")):
        if path.suffix in _MODEL_FILES and path.is_file():
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"\n{path.relative_to(folder)} {whole}".encode())
    return digest.hexdigest()
