"""Requests are read once, rewritten without loss, and answers are read without being changed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import BadRequestError, RefusedError, UpstreamError
from trivet.types import Request, Usage
from trivet.wire.chat import (
    error_body,
    for_target,
    read_chat,
    read_error,
    read_piece,
    read_usage,
    with_report,
    without_usage,
)

MESSAGES = [{"role": "user", "content": "hi"}]


def read(body: Any, headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_chat(raw, headers or [], id="req_1", tenant="acme", key_id="k", at_ns=7)


def test_what_is_decided_on_is_read() -> None:
    options = {"include_usage": True}
    request = read({"model": "m", "messages": MESSAGES, "stream": True, "stream_options": options, "n": 2})
    assert (request.model, request.stream, request.wants_usage, request.n) == ("m", True, True, 2)
    assert (request.tenant, request.temperature) == ("acme", None)


def test_unknown_members_reach_the_target_byte_for_byte() -> None:
    body = b'{"model":"m", "messages":[ {"role":"user","content":"\\u00e9"} ],"x_new": { "b":1.50,"a":[1e2 ,null]}}'
    sent = for_target(read(body), model="real")
    assert b'"x_new":{ "b":1.50,"a":[1e2 ,null]}' in sent
    assert b'"messages":[ {"role":"user","content":"\\u00e9"} ]' in sent
    assert json.loads(sent)["model"] == "real"


def test_a_member_given_twice_counts_and_goes_on_once() -> None:
    request = read(b'{"model":"a","messages":[],"model":"b","temperature":0,"temperature":1}')
    assert (request.model, request.temperature) == ("b", 1)
    sent = for_target(request, model="b")
    assert sent.count(b'"temperature"') == 1
    assert b'"temperature":1' in sent


def test_usage_is_always_asked_for_in_streams() -> None:
    plain = read({"model": "m", "messages": MESSAGES, "stream": True})
    assert json.loads(for_target(plain, model="m"))["stream_options"] == {"include_usage": True}
    other = read({"model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_obfuscation": False}})
    assert json.loads(for_target(other, model="m"))["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    assert "stream_options" not in json.loads(for_target(read({"model": "m", "messages": MESSAGES}), model="m"))


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        (b"", "not JSON", None),
        (b"{", "not JSON", None),
        (b"[]", "not a chat completion", None),
        (b'\xff\xfe{"model":1}', "not JSON", None),
        (b'{"messages":[]}', "model", None),
        (b'{"model":"","messages":[]}', "length", "model"),
        (b'{"model":"m","messages":"hi"}', "list", "messages"),
        (b'{"model":"m","messages":[],"temperature":"hot"}', "temperature", "temperature"),
        (b'{"model":"m","messages":[],"n":0}', "n", "n"),
        (b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON", None),
    ],
)
def test_what_is_not_a_request_is_refused_with_the_place(body: bytes, words: str, param: str | None) -> None:
    with pytest.raises(BadRequestError, match=words) as caught:
        read(body)
    assert caught.value.param == param


def test_controls_come_from_headers_and_from_the_body() -> None:
    body = {"model": "m", "messages": MESSAGES, "trivet": {"customer": "c1", "cache": "off", "report": True}}
    request = read(
        body, [(b"x-trivet-cache", b"refresh"), (b"x-trivet-feature", b"search"), (b"x-trivet-deadline", b"2s")]
    )
    assert request.labels.customer == "c1"
    assert request.labels.feature == "search"
    assert (request.controls.cache, request.controls.report, request.controls.deadline_ms) == ("refresh", True, 2000)
    assert "trivet" not in request.fields


@pytest.mark.parametrize(
    "header",
    [
        (b"x-trivet-cache", b"maybe"),
        (b"x-trivet-cahce", b"off"),
        (b"x-trivet-quality", b"0.9"),
        (b"x-trivet-deadline", b"soon"),
        (b"x-trivet-deadline", b"0s"),
        (b"x-trivet-customer", b"c" * 300),
        (b"x-trivet-report", b"yes"),
    ],
)
def test_a_control_that_would_be_ignored_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadRequestError, match=header[0].decode()):
        read({"model": "m", "messages": MESSAGES}, [header])


def test_credentials_and_hop_by_hop_headers_are_not_passed_on() -> None:
    headers = [
        (b"host", b"x"),
        (b"authorization", b"Bearer secret"),
        (b"cookie", b"c"),
        (b"connection", b"close, X-Private"),
        (b"x-private", b"p"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-trivet-feature", b"f"),
        (b"openai-beta", b"b1"),
        (b"x-custom", b"\xe9"),
    ]
    request = read({"model": "m", "messages": MESSAGES}, headers)
    assert request.headers == ((b"openai-beta", b"b1"), (b"x-custom", b"\xe9"))


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


def test_an_error_body_in_another_shape_is_not_taken_for_openais() -> None:
    assert read_error(b"<html>502</html>") is None
    assert read_error(b'{"detail":"x"}') is None


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
