"""A model over onnxruntime: padding changes nothing, and what is no text embedder is refused."""

import numpy as np
import pytest

from tests.embed.test_minilm import models
from trivet.embed.session import Pooling, Session
from trivet.errors import EmbedderError
from trivet.weights import MINILM, Store


@pytest.mark.slow
def test_padding_changes_no_vector_of_either_pooling() -> None:
    path = str(Store(models()).fetch(MINILM, lambda done_bytes, total_bytes, what: None))
    poolings: tuple[Pooling, ...] = ("mean", "cls")
    for pooling in poolings:
        session = Session(path, threads=1, pooling=pooling)
        tokens, padded = np.array([[101, 7592, 102]]), np.array([[101, 7592, 102, 0, 0, 0]])
        alone = session.run(tokens, np.ones_like(tokens))
        beside = session.run(padded, np.array([[1, 1, 1, 0, 0, 0]]))
        assert np.abs(alone - beside).max() < 1e-3
        assert np.linalg.norm(alone) == pytest.approx(1)
        assert session.width() == 384


def test_a_file_that_is_no_model_is_refused(tmp_path: object) -> None:
    with pytest.raises(EmbedderError, match="cannot load"):
        Session(f"{tmp_path}/none.onnx", threads=1)
