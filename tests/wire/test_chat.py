"""Answers are read without being changed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import BadRequestError, RefusedError, UpstreamError
from trivet.types import Usage
from trivet.wire.chat import (
    error_body,
    read_document,
    read_error,
    read_piece,
    read_usage,
    with_report,
    without_usage,
)


def test_a_whole_answer_is_read_and_left_as_it_is() -> None:
    data = b'{"id":"x","model":"m-1","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],\
"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}'
    chunk = read_piece(data, streamed=False)
    assert chunk.data is data
    assert (chunk.finish, chunk.model, chunk.speaks) == ("stop", "m-1", True)
    assert chunk.usage == Usage(input_tokens=9, output_tokens=2, cached_tokens=4)


@pytest.mark.parametrize(
    ("delta", "speaks"),
    [
        ('{"role":"assistant"}', False),
        ('{"role":"assistant","content":""}', False),
        ('{"role":"assistant","content":null,"tool_calls":[]}', False),
        ("{}", False),
        ('{"content":" "}', True),
        ('{"reasoning_content":"hm"}', True),
        ('{"tool_calls":[{"index":0}]}', True),
        ('{"refusal":"no"}', True),
    ],
)
def test_only_content_counts_as_speaking(delta: str, *, speaks: bool) -> None:
    data = f'{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}'.encode()
    assert read_piece(data, streamed=True).speaks is speaks


@pytest.mark.parametrize("data", [b"", b"oops", b"[]", b'{"choices":5}', b'"x"', b"[" * 10_000])
def test_garbage_from_a_target_is_the_targets_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="not a chat completion"):
        read_piece(data, streamed=True)


def test_an_error_inside_an_answer_keeps_its_words_and_code() -> None:
    data = b'{"error":{"message":"Overloaded, sorry","type":"server_error","code":"overloaded"}}'
    with pytest.raises(UpstreamError, match="Overloaded, sorry") as caught:
        read_piece(data, streamed=True)
    assert caught.value.code == "overloaded"
    assert error_body(caught.value) == data


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b'{"detail":"x"}', b'{"error":{}}', b'{"error":null}', b"[" * 10**5]
)
def test_what_says_no_error_is_not_taken_for_one(body: bytes) -> None:
    assert read_error(body) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (b'"model \\"x\\" not found"', 'model "x" not found'),  # Ollama
        (b"5", "5"),
        (b"true", "true"),
        (b'{"message":5}', '{"message":5}'),
        (b'{"message":"","code":"odd"}', "502 odd"),
        (b'{"message":"\xff"}', "\ufffd"),
        (b'{"message":"no","x":"\xff"}', "no"),
        (b"[" * 10**5 + b"]" * 10**5, "[["),
    ],
)
def test_an_error_in_another_shape_goes_on_in_openais_with_its_words(error: bytes, words: str) -> None:
    read = read_error(b'{"error":%b}' % error)
    if read is None:  # too deep to be read at all
        assert error.startswith(b"[")
        return
    told = json.loads(error_body(read))["error"]
    assert words in told["message"]
    assert told.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "lie",
    [
        '{"prompt_tokens":-1,"completion_tokens":1}',
        '{"prompt_tokens":1e15,"completion_tokens":1}',
        '{"prompt_tokens":1.5,"completion_tokens":1}',
        '{"prompt_tokens":"7","completion_tokens":1}',
        '{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":6}}',
        '{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}',
        "[]",
        "{}",
        "7",
    ],
)
def test_usage_that_cannot_be_is_not_believed(lie: str) -> None:
    assert read_usage(lie.encode()) is None


def test_usage_is_taken_out_and_nothing_else() -> None:
    chunk = b'{"id":"a","choices":[{"index":0,"delta":{"content":"\\"usage\\":null"}}],"usage":null,"x":1.50}'
    assert without_usage(chunk) == b'{"id":"a","choices":[{"index":0,"delta":{"content":"\\"usage\\":null"}}],"x":1.50}'
    last = b'{"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    assert without_usage(last) is None
    spoken = b'{"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'
    assert json.loads(without_usage(spoken) or b"").keys() == {"id", "choices"}
    plain = b'{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}'
    assert without_usage(plain) is plain


@pytest.mark.parametrize("choices", ['"choices": [ ],', '"choices":[\n],', '"choices":null,', ""])
def test_a_chunk_of_nothing_but_usage_is_dropped_however_its_emptiness_is_written(choices: str) -> None:
    """Left in, it breaks every client that did not ask for usage and reads `choices[0]`."""
    assert without_usage(b'{"id":"a", %b "usage": {"prompt_tokens":1}}' % choices.encode()) is None


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4))
def test_a_report_is_added_and_nothing_is_lost(document: dict[str, Any]) -> None:
    document.pop("trivet", None)
    data = msgspec.json.encode(document)
    assert json.loads(with_report(data + b" \n", {"id": "r"})) == {**document, "trivet": {"id": "r"}}


def test_our_own_errors_have_openais_shape() -> None:
    fault = BadRequestError("No.", param="n").fault()
    told = json.loads(error_body(RefusedError(fault)))
    assert told == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "invalid_request"}
    }


@pytest.mark.parametrize(("text", "speaks"), [("", False), ("Once", True)])
def test_a_completion_asked_the_older_way_speaks_in_its_text(text: str, *, speaks: bool) -> None:
    data = json.dumps({"object": "text_completion", "choices": [{"index": 0, "text": text}]}).encode()
    assert read_piece(data, streamed=True).speaks is speaks


def test_lists_of_embeddings_and_moderations_are_read_for_their_usage() -> None:
    embedded = b'{"data":[{"embedding":"AAAA"}],"model":"e-1","usage":{"prompt_tokens":5,"total_tokens":5}}'
    chunk = read_document(embedded, kind="embeddings")
    assert (chunk.data, chunk.model, chunk.usage) == (embedded, "e-1", Usage(input_tokens=5, output_tokens=0))
    assert read_document(b'{"results":[{"flagged":false}]}', kind="moderations").usage is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"data":5}', b'{"results":[]}', b'{"error":{"message":"no"}}'])
def test_what_is_no_list_of_embeddings_is_the_targets_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        read_document(data, kind="embeddings")
