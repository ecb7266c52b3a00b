"""The embedder that reads sentences: all-MiniLM-L6-v2 over onnxruntime, which comes with `trivet[embed]`.

Not here: its file (`weights/catalog.py`), its tokenizer (`wordpiece.py`). Its weights are 8 bits each and are made 32
again when it is loaded: it computes in float32, about 8 ms for a question on one slow core.
Invariants: only the file whose digest is pinned is ever loaded; onnxruntime and numpy are imported in a thread, by the
first who asks.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from trivet.config import EmbedderSettings
from trivet.embed.resident import Model, Resident, Tell
from trivet.embed.session import MISSING, Session
from trivet.embed.wordpiece import CLS, SEP, VOCABULARY_SHA256, WordPiece, vocabulary
from trivet.errors import EmbedderError
from trivet.seams import Kit
from trivet.weights import MINILM, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "all-MiniLM-L6-v2-int8"
WIDTH = 384
MAX_TOKENS = 254
"""The model was trained on 256 (its `sentence_bert_config.json`), of which two are `[CLS]` and `[SEP]`."""

_MAKING = f"{MINILM.sha256} {VOCABULARY_SHA256} [CLS] {MAX_TOKENS} [SEP] mean l2 {WIDTH}"
"""Everything that can change a vector."""


class MiniLM:
    """The model, loaded."""

    width = WIDTH

    def __init__(self, path: str, *, threads: int) -> None:
        self._session = Session(path, threads=threads)
        self._words = WordPiece(vocabulary())

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        """Give the token ids of a text."""
        return self._words.ids(text, most=MAX_TOKENS)

    def rows(self, ids: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """Run the model, and take the mean over the tokens of each text."""
        import numpy as np

        longest = 2 + max(map(len, ids), default=0)
        tokens = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros((len(ids), longest), np.int64)
        for n, one in enumerate(ids):
            tokens[n, : len(one) + 2] = (CLS, *one, SEP)
            mask[n, : len(one) + 2] = 1
        made = self.run(tokens, mask)
        made[[n for n, one in enumerate(ids) if not one]] = 0.0
        return made

    def run(self, tokens: "NDArray[np.int64]", mask: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """Give a unit vector for each row of token ids."""
        import numpy as np

        return self._session.run(tokens, mask) if len(tokens) else np.zeros((0, WIDTH), np.float32)


def build(settings: EmbedderSettings, kit: Kit) -> Resident:
    """Build it; its file is fetched, and it is loaded, when it is started."""

    def load(tell: Tell) -> MiniLM:
        if find_spec("onnxruntime") is None:
            raise EmbedderError(MISSING.format("minilm"))
        store = Store(kit.models)
        path = store.find(MINILM)
        if path is None:
            path = store.fetch(
                MINILM,
                lambda done_bytes, total_bytes, what: tell(f"fetching {100 * done_bytes // total_bytes} % from {what}"),
            )
            tell("loading")
        return MiniLM(str(path), threads=settings.threads)

    model = Model(
        kind="minilm",
        name=NAME,
        digest=hashlib.sha256(_MAKING.encode()).hexdigest(),
        width=WIDTH,
        max_tokens=MAX_TOKENS,
        load=load,
    )
    return Resident(model, kit)
