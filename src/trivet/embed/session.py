"""One model file over onnxruntime: ids of tokens to unit vectors.

Not here: texts, files (`minilm.py`, `onnx.py`). Invariant: a row of padding changes no other row.
"""

from typing import TYPE_CHECKING, Any, Literal

from trivet.errors import EmbedderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = "The runtime for the embedder {} is not installed. Run: pip install 'trivet[embed]'"

Pooling = Literal["mean", "cls"]
"""The vector of a text: the mean of its tokens', or that of its first."""

_TAKEN = ("input_ids", "attention_mask", "token_type_ids")


class Session:
    """The model, loaded."""

    def __init__(self, path: str, *, threads: int, pooling: Pooling = "mean") -> None:
        """Load it. Raises EmbedderError, ImportError."""
        import onnxruntime  # an extra, and slow to import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors; what it warns of is about the export
        # Threads that wait must not keep a core busy, which the gateway needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no root of their own
            raise EmbedderError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error}") from error
        self._inputs = [one.name for one in self._session.get_inputs()]
        if "input_ids" not in self._inputs or not set(self._inputs) <= set(_TAKEN):
            raise EmbedderError(f"{path} is no text embedder: it takes {', '.join(self._inputs)[:200]}.")
        self._pooling = pooling

    def width(self) -> int:
        """Give the numbers of a vector."""
        import numpy as np

        one = np.ones((1, 1), np.int64)
        return int(self.run(one, one).shape[1])

    def run(self, tokens: "NDArray[np.int64]", mask: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """Give a unit vector for each row of token ids, int64 [n, t]; of its mask, 1 is a token and 0 is padding."""
        import numpy as np

        given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        states: Any = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        made: NDArray[np.float32]
        if states.ndim == 2:  # it has pooled them itself
            made = states.astype(np.float32)
        elif self._pooling == "cls":
            made = states[:, 0].astype(np.float32)
        else:
            made = np.einsum("nth,nt->nh", states, mask.astype(np.float32)).astype(np.float32, copy=False)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made
