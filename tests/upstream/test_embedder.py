"""The target that makes embeddings in this process: what it takes, what it refuses, and what it says of itself."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivet.config import TargetSettings
from trivet.errors import NotReadyError, UpstreamError
from trivet.testing.house import kit
from trivet.types import Chunk, Kind, Request
from trivet.upstream.embedder import MAX_CHARACTERS, MAX_TEXTS, Embedding, build
from trivet.wire.request import read_request

pytestmark = pytest.mark.anyio
TARGET = TargetSettings(provider="embedder", model="builtin", name="e")


@asynccontextmanager
async def embedding(folder: Path) -> AsyncGenerator[Embedding, None]:
    provider = build(TARGET, kit(folder))
    await provider.start()
    try:
        yield provider
    finally:
        await provider.aclose()
        await provider.aclose()


def asked(*, kind: Kind = "embeddings", **body: Any) -> Request:
    whole = {"model": "e", "input": "a text", **body}
    return read_request(json.dumps(whole).encode(), (), id="r", tenant="t", key_id="", at_ns=0, kind=kind)


async def answer(provider: Embedding, request: Request) -> tuple[Chunk, Any]:
    async with aclosing(provider.stream(request)) as chunks:
        (chunk,) = [chunk async for chunk in chunks]
    return chunk, json.loads(chunk.data)


async def refusal(provider: Embedding, request: Request) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await answer(provider, request)
    return caught.value


async def test_one_text_and_a_list_of_them_are_rows_in_order_with_their_tokens_counted(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        chunk, one = await answer(provider, asked(input="How do I reset my password?", user="u", x_new=1))
        _, two = await answer(provider, asked(input=["x", "How do I reset my password?"], encoding_format=None))
    assert [row["index"] for row in two["data"]] == [0, 1]
    assert two["data"][1]["embedding"] == one["data"][0]["embedding"]
    assert len(one["data"][0]["embedding"]) == provider.width
    assert one["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert (one["model"], one["object"]) == ("trivet-static-1", "list")
    assert chunk.usage is not None
    assert (chunk.usage.input_tokens, chunk.usage.output_tokens, chunk.speaks) == (7, 0, True)


async def test_base64_holds_the_same_numbers(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        _, floats = await answer(provider, asked())
        _, packed = await answer(provider, asked(encoding_format="base64"))
    numbers = np.frombuffer(b64decode(packed["data"][0]["embedding"]), "<f4")
    assert numbers.tolist() == pytest.approx(floats["data"][0]["embedding"], abs=1e-7)


async def test_fewer_dimensions_are_the_first_ones_at_unit_length(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        _, whole = await answer(provider, asked())
        assert provider.width is not None
        _, short = await answer(provider, asked(dimensions=64))
        _, same = await answer(provider, asked(dimensions=provider.width))
        for dimensions in (63, provider.width + 1):
            error = await refusal(provider, asked(dimensions=dimensions))
            assert (error.status, error.code, error.param) == (400, "unsupported_by_target", "dimensions")
            assert f"64 to {provider.width} dimensions" in str(error)
    cut = np.array(whole["data"][0]["embedding"][:64])
    assert short["data"][0]["embedding"] == pytest.approx((cut / np.linalg.norm(cut)).tolist(), abs=1e-6)
    assert same == whole


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]], [*range(5000)], ["a", [1]]], ids=lambda t: str(t)[:9])
async def test_tokens_of_another_vocabulary_are_refused(tmp_path: Path, tokens: Any) -> None:
    async with embedding(tmp_path) as provider:
        error = await refusal(provider, asked(input=tokens))
    assert (error.status, error.code, error.param, error.again) == (400, "unsupported_by_target", "input", True)
    assert "check_embedding_ctx_length=False" in str(error)


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({"input": []}, "an empty list", "input"),
        ({"input": ""}, "nothing in it", "input"),
        ({"input": ["a", " \n\u200b"]}, "nothing in it", "input"),
        ({"input": ["a"] * (MAX_TEXTS + 1)}, "2049 texts; 2048 are the most", "input"),
        ({"input": "a" * (MAX_CHARACTERS + 1)}, "over 4000000 characters", "input"),
        ({"input": [1.5]}, "Expected", "input"),
        ({"input": ["a", None]}, "Expected", "input"),
        ({"encoding_format": "int8"}, "Invalid enum value", "encoding_format"),
        ({"dimensions": 0}, "Expected `int` >= 1", "dimensions"),
        ({"dimensions": "64"}, "Expected `int", "dimensions"),
    ],
)
async def test_what_is_no_request_is_the_clients_fault(tmp_path: Path, body: Any, words: str, param: str) -> None:
    async with embedding(tmp_path) as provider:
        error = await refusal(provider, asked(**body))
    assert (error.status, error.code, error.whose, error.param) == (400, "invalid_request", "client", param)
    assert words in str(error)
    assert (error.again, error.spent) == (False, False)


async def test_a_text_that_is_too_long_is_refused_and_not_cut(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        assert provider.context_tokens == 8192
        _, most = await answer(provider, asked(input=["word " * 8192]))
        error = await refusal(provider, asked(input=["a", "word " * 8193]))
    assert most["usage"]["prompt_tokens"] == 8192
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "input")
    assert "Text 1 is longer than the 8192 tokens" in str(error)


async def test_it_cannot_chat(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        body = json.dumps({"model": "e", "messages": []}).encode()
        error = await refusal(provider, read_request(body, (), id="r", tenant="t", key_id="", at_ns=0))
    assert (error.status, error.code, error.again) == (400, "unsupported_by_target", True)
    assert provider.kinds == {"embeddings"}


async def test_too_much_at_once_is_refused_with_when_to_try_again(tmp_path: Path) -> None:
    async with embedding(tmp_path) as provider:
        await answer(provider, asked())
        request = asked(input=["word " * 100] * MAX_TEXTS)
        done = await asyncio.gather(*(answer(provider, request) for _ in range(7)), return_exceptions=True)
    errors = [error for error in done if isinstance(error, UpstreamError)]
    assert errors
    assert all(e.status == 503 and e.retry_after_s and "texts are waiting" in str(e) for e in errors)
    assert not [error for error in errors if isinstance(error, NotReadyError)]  # it is ready, only busy
    assert len(done) > len(errors)


async def test_one_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    provider = build(TargetSettings(provider="embedder", model="minilm", name="e"), kit(tmp_path))
    error = await refusal(provider, asked())
    assert (error.status, error.code, error.spent) == (503, "embedder_unavailable", False)
    assert error.retry_after_s
    assert "cannot be used" in str(error)
    await provider.aclose()
