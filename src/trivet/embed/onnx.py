"""An embedder of the operator's own: a folder with a model in ONNX and its vocabulary, as exporters write them.

Not here: running it (`session.py`), fetching one: the folder is there already.
Invariants: nothing of the folder is run but the model; every file that can change a vector is in the digest.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trivet.config import EmbedderSettings
from trivet.embed.pieces import Pieces
from trivet.embed.resident import Model, Resident, Tell
from trivet.embed.session import MISSING, Pooling, Session
from trivet.embed.wordpiece import CLS, SEP, WordPiece, vocabulary
from trivet.errors import EmbedderError
from trivet.seams import Kit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODELS = ("model.onnx", "onnx/model.onnx")
"""Where exporters put the model (`optimum`, and those who share their folders)."""

USUAL_TOKENS = 512
"""Where no file says how many a model reads: BERT's."""

MOST_TOKENS = 8192
"""Of a text, whatever files say: attention takes time and memory with the square of it."""

_READ_AT_ONCE = 1 << 20


class Folder:
    """The model of a folder, loaded."""

    def __init__(self, settings: EmbedderSettings) -> None:
        """Load it. Raises EmbedderError, OSError, ImportError."""
        folder = Path(settings.path).expanduser()
        model = next((folder / name for name in MODELS if (folder / name).is_file()), None)
        if model is None:
            raise EmbedderError(f"There is no {MODELS[0]} in {folder}. Correct `embedder.path`.")
        pooling = _pooling(folder) if settings.pooling == "auto" else settings.pooling
        self._words, self._pieces, read = _vocabulary(folder)
        before, after = ((CLS,), (SEP,)) if self._pieces is None else (self._pieces.before, self._pieces.after)
        self._before, self._after = before, after
        self.max_tokens = settings.max_tokens or _reads(folder) - len(before) - len(after)
        self._session = Session(str(model), threads=settings.threads, pooling=pooling)
        self.width = self._session.width()
        files = [model, *sorted(model.parent.glob(f"{model.name}[._]data*")), read]  # weights may be beside the model
        making = [_sha256(file) for file in files]
        making += [f"{before} {self.max_tokens} {after} {pooling} l2 {self.width}"]
        self.digest = hashlib.sha256(" ".join(making).encode()).hexdigest()

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        """Give the token ids of a text."""
        if self._pieces is None:
            return self._words.ids(text, most=self.max_tokens)
        _, ids, more = self._pieces.read(text, most=self.max_tokens)
        return ids, more

    def rows(self, ids: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """Run the model."""
        import numpy as np

        longest = len(self._before) + len(self._after) + max(map(len, ids), default=0)
        tokens = np.zeros((len(ids), max(1, longest)), np.int64)
        mask = np.zeros_like(tokens)
        for n, one in enumerate(ids):
            whole = (*self._before, *one, *self._after)
            tokens[n, : len(whole)] = whole
            mask[n, : len(whole)] = 1
        mask[[n for n, one in enumerate(ids) if not one], 0] = 1  # of nothing there is no mean
        if not len(tokens):
            return np.zeros((0, self.width), np.float32)
        made = self._session.run(tokens, mask)
        made[[n for n, one in enumerate(ids) if not one]] = 0.0
        return made


def _vocabulary(folder: Path) -> tuple[WordPiece, Pieces | None, Path]:
    """Give what reads texts as the model does: our own where the vocabulary is BERT's; and the file that says so."""
    known, own, other = vocabulary(), folder / "vocab.txt", folder / "tokenizer.json"
    same = own.is_file() and own.read_text(encoding="utf-8").split("\n")[: len(known)] == known
    if same and _members(folder / "tokenizer_config.json").get("do_lower_case", True):
        return WordPiece(known), None, own
    if other.is_file():
        return WordPiece(known), Pieces(other.read_text(encoding="utf-8")), other
    words = "its vocab.txt is not that of bert-base-uncased" if own.is_file() else "there is no vocab.txt"
    raise EmbedderError(f"{folder} does not say how texts are read: {words}, and no tokenizer.json is there.")


def _pooling(folder: Path) -> Pooling:
    told = _members(folder / "1_Pooling" / "config.json")
    first = told.get("pooling_mode_cls_token") or told.get("pooling_mode") == "cls"
    return "cls" if first else "mean"


def _reads(folder: Path) -> int:
    """Say how many tokens the model reads, marks included: the least that a file says."""
    config = _members(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet") and isinstance(positions, int):
        positions -= 2  # theirs begin at 2
    told = (
        _members(folder / "sentence_bert_config.json").get("max_seq_length"),
        _members(folder / "tokenizer_config.json").get("model_max_length"),
        positions,
    )
    known = [n for n in told if isinstance(n, int) and 16 <= n < 10**9]  # some say 10**30 where they do not know
    return min(MOST_TOKENS, *known) if known else USUAL_TOKENS


def _members(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise EmbedderError(f"{path} cannot be read: {error}.") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def build(settings: EmbedderSettings, kit: Kit) -> Resident:
    """Build it; its files are read, and it is loaded, when it is started."""

    def load(tell: Tell) -> Folder:
        if find_spec("onnxruntime") is None:
            raise EmbedderError(MISSING.format("onnx"))
        tell("loading")
        return Folder(settings)

    return Resident(Model(kind="onnx", name=f"onnx {Path(settings.path).name}", load=load), kit)
