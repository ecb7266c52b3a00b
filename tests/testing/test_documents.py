"""The scripted upstream's other documents, read by the official client's own types."""

import struct
from base64 import b64decode
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse

from trivet.testing.documents import WIDTH, embeddings, moderations, older, vector


@pytest.mark.parametrize(
    ("asked", "rows", "tokens"), [("a b", 1, 2), (["a", "b c"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)]
)
def test_each_text_has_a_vector_of_its_own(asked: Any, rows: int, tokens: int) -> None:
    told = CreateEmbeddingResponse.model_validate(embeddings({"model": "m", "input": asked}))
    assert [row.index for row in told.data] == list(range(rows))
    assert all(len(row.embedding) == WIDTH for row in told.data)
    assert len({tuple(row.embedding) for row in told.data}) == rows
    assert told.usage.prompt_tokens == tokens


def test_base64_says_the_same_as_floats() -> None:
    (row,) = embeddings({"input": "x", "encoding_format": "base64"})["data"]
    assert struct.unpack(f"<{WIDTH}f", b64decode(row["embedding"])) == pytest.approx(vector("x"))
    assert sum(x * x for x in vector("x")) == pytest.approx(1)


def test_moderations_and_older_completions_have_their_shapes() -> None:
    assert len(ModerationCreateResponse.model_validate(moderations({"input": ["a", "b"]})).results) == 2
    chat = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}  # fmt: skip
    told = Completion.model_validate(older(chat))
    assert (told.object, told.choices[0].text, told.choices[0].finish_reason) == ("text_completion", "hi", "stop")
