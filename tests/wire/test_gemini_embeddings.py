"""Embeddings in Gemini's words and back: one vector for each text, Google's numbers, nothing made up."""

import json
import struct
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UnsupportedError, UpstreamError
from trivet.types import Request, Usage
from trivet.wire.gemini_embeddings import Embeddings, for_gemini
from trivet.wire.request import read_request

GOLDEN = Path(__file__).parent / "golden" / "gemini"
TWO = json.loads((GOLDEN / "embeddings.json").read_text())


def ask(**members: Any) -> Request:
    body = json.dumps({"model": "e", "input": ["How many legs?", "Three."], **members}).encode()
    return read_request(body, (), kind="embeddings", id="req_1", tenant="acme", key_id="", at_ns=0)


def written(**members: Any) -> Any:
    return json.loads(for_gemini(ask(**members), resource="models/gemini-embedding-001"))["requests"]


def read(body: bytes, **members: Any) -> Any:
    return Embeddings(ask(**members), model="gemini-embedding-001").answer(body)


def test_each_text_is_a_request_of_the_batch() -> None:
    assert written(user="ann", encoding_format="base64") == [
        {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}}
        for text in ("How many legs?", "Three.")
    ]
    assert len(written(input="one")) == 1


def test_dimensions_and_members_of_googles_go_with_every_text() -> None:
    for one in written(dimensions=768, task_type="RETRIEVAL_DOCUMENT", title="Legs", encoding_format=None):
        assert (one["outputDimensionality"], one["taskType"], one["title"]) == (768, "RETRIEVAL_DOCUMENT", "Legs")


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"input": [1, 2, 3]}, "input", "texts and no tokens"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a", [1]]}, "input", "texts and no tokens"),
        ({"input": []}, "input", "at least one text"),
        ({"input": [{"text": "a"}]}, "input", "`input`"),
        ({"dimensions": 0}, "dimensions", "`dimensions`"),
        ({"encoding_format": "int8"}, "encoding_format", "int8"),
        ({"dimensions": 8, "outputDimensionality": 9}, "outputDimensionality", "says again"),
        ({"content": {"parts": []}}, "content", "says again"),
        ({"requests": []}, "requests", "says again"),
    ],
)
def test_what_gemini_cannot_be_asked_is_refused_with_the_member(members: Any, param: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        written(**members)
    assert caught.value.param == param


def test_vectors_come_as_numbers_in_the_order_of_the_texts() -> None:
    chunk = read((GOLDEN / "embeddings.json").read_bytes())
    told = json.loads(chunk.data)
    assert [row["embedding"] for row in told["data"]] == [one["values"] for one in TWO["embeddings"]]
    assert [row["index"] for row in told["data"]] == [0, 1]
    assert (told["object"], told["model"]) == ("list", "gemini-embedding-001")
    assert told["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    assert chunk.usage == Usage(input_tokens=11, output_tokens=0)


def test_base64_is_that_of_openai() -> None:
    told = json.loads(read((GOLDEN / "embeddings.json").read_bytes(), encoding_format="base64").data)
    packed = b64decode(told["data"][0]["embedding"])
    assert struct.unpack("<4f", packed) == pytest.approx(TWO["embeddings"][0]["values"], rel=1e-7)


def test_tokens_that_google_did_not_count_are_null_and_not_zero() -> None:
    chunk = read((GOLDEN / "embeddings_uncounted.json").read_bytes(), input="one")
    assert chunk.usage is None
    assert json.loads(chunk.data)["usage"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"embeddings": [{"values": [1.0]}]}', "1 vectors for 2 texts"),
        (b'{"embeddings": [{"values": [1.0]}, {"values": []}]}', "1 vectors for 2 texts"),
        (b'{"embeddings": null}', "0 vectors for 2 texts"),
        (b'{"embedding": {"values": [1.0]}}', "0 vectors for 2 texts"),
        (b'{"embeddings": [{"values": ["a"]}]}', "no answer of embeddings"),
        (b'{"embeddings": [{"values": [1e300]}, {"values": [1]}]}', "no answer of embeddings"),
        (b"<html>", "no answer of embeddings"),
        (b'{"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}', "Slow down"),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_the_target(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        read(body, encoding_format="base64")


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=4), min_size=1, max_size=4))
def test_floats_and_base64_say_the_same(vectors: list[list[float]]) -> None:
    body = json.dumps({"embeddings": [{"values": values} for values in vectors]}).encode()
    texts = ["x"] * len(vectors)
    plain = json.loads(read(body, input=texts).data)["data"]
    packed = json.loads(read(body, input=texts, encoding_format="base64").data)["data"]
    for one, other, values in zip(plain, packed, vectors, strict=True):
        assert one["embedding"] == values == list(struct.unpack(f"<{len(values)}f", b64decode(other["embedding"])))
