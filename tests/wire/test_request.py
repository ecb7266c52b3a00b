"""Requests of every kind are read once, and rewritten without loss."""

import json
from typing import Any

import pytest

from trivet.errors import BadRequestError
from trivet.types import Kind, Request
from trivet.wire.request import for_target, read_request

MESSAGES = [{"role": "user", "content": "hi"}]


def read(body: Any, headers: list[tuple[bytes, bytes]] | None = None, *, kind: Kind = "chat") -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request(raw, headers or [], id="req_1", tenant="acme", key_id="k", at_ns=7, kind=kind)


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
        body,
        [
            (b"x-trivet-cache", b"refresh"),
            (b"x-trivet-feature", b"search"),
            (b"x-trivet-deadline", b"2s"),
            (b"x-trivet-max-error", b"0.005"),
            (b"x-trivet-quality", b"0.99"),
        ],
    )
    assert request.controls.max_error == 0.005
    assert request.controls.quality == 0.99
    assert request.labels.customer == "c1"
    assert request.labels.feature == "search"
    assert (request.controls.cache, request.controls.report, request.controls.deadline_ms) == ("refresh", True, 2000)
    assert "trivet" not in request.fields


@pytest.mark.parametrize(
    "header",
    [
        (b"x-trivet-cache", b"maybe"),
        (b"x-trivet-cahce", b"off"),
        (b"x-trivet-priority", b"high"),
        (b"x-trivet-deadline", b"soon"),
        (b"x-trivet-deadline", b"0s"),
        (b"x-trivet-customer", b"c" * 300),
        (b"x-trivet-report", b"yes"),
        *((b"x-trivet-max-error", word) for word in (b"", b"1", b"-0.1", b"nan", b"0.01%")),
        *((b"x-trivet-quality", word) for word in (b"", b"0", b"1.01", b"nan", b"98%")),
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


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("completions", {"model": "m", "prompt": "Once"}), ("completions", {"model": "m", "prompt": [1, 2, 3]}),
        ("embeddings", {"model": "m", "input": "x"}), ("embeddings", {"model": "m", "input": [[1, 2], [3]]}),
        ("moderations", {"model": "m", "input": [{"type": "text", "text": "x"}]}),
    ],
)  # fmt: skip
def test_other_kinds_are_read_and_go_on_as_they_came(kind: Kind, body: dict[str, Any]) -> None:
    request = read({**body, "x_new": {"a": 1}}, kind=kind)
    assert (request.kind, request.model, request.stream, request.n) == (kind, "m", False, 1)
    assert json.loads(for_target(request, model="real")) == {**body, "model": "real", "x_new": {"a": 1}}


def test_a_completion_may_be_streamed_and_a_moderation_need_not_name_its_model() -> None:
    request = read({"model": "m", "prompt": "x", "stream": True, "n": 3, "temperature": 0}, kind="completions")
    assert (request.stream, request.n, request.temperature) == (True, 3, 0)
    assert json.loads(for_target(request, model="m"))["stream_options"] == {"include_usage": True}
    assert read({"input": "x"}, kind="moderations").model == "omni-moderation-latest"


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("embeddings", {"model": "m"}, "input"), ("embeddings", {"model": "m", "input": None}, "text or a list"),
        ("embeddings", {"model": "m", "input": 5}, "text or a list"), ("completions", {"model": "m"}, "prompt"),
        ("completions", {"model": "m", "prompt": {}}, "text or a list"), ("moderations", {}, "a moderation request"),
    ],
)  # fmt: skip
def test_what_is_no_request_of_its_kind_is_refused(kind: Kind, body: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        read(body, kind=kind)


@pytest.mark.parametrize("place", [b'"messages":["%b"]', b'"messages":[],"x":"%b"', b'"messages":[],"%b":1'])
@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_what_is_no_utf_8_is_refused_wherever_it_stands(place: bytes, text: bytes) -> None:
    with pytest.raises(BadRequestError, match="not JSON") as caught:
        read(b'{"model":"a",%b}' % place % text)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("name", [b"\xfc", b"\\ud800"])
def test_options_of_a_stream_with_a_name_that_is_no_text_are_refused(name: bytes) -> None:
    with pytest.raises(BadRequestError, match="not JSON"):
        read(b'{"model":"a","messages":[],"stream":true,"stream_options":{"%b":1}}' % name)


@pytest.mark.parametrize(
    ("words", "tags"),
    [("a", ("a",)), (" a , b,a,", ("a", "b")), ("", ()), (",".join("abcdefghijklmnop"), tuple("abcdefghijklmnop"))],
)
def test_tags_have_commas_between_them(words: str, tags: tuple[str, ...]) -> None:
    headers = [(b"x-trivet-cache-tags", words.encode())]
    request = read_request(b'{"model":"m","messages":[]}', headers, id="r", tenant="t", key_id="", at_ns=0)
    assert request.controls.cache_tags == tags


def test_more_tags_than_an_answer_may_have_are_refused() -> None:
    headers = [(b"x-trivet-cache-tags", b",".join(b"%d" % i for i in range(17)))]
    with pytest.raises(BadRequestError, match="has 17 tags; an answer may have 16"):
        read_request(b'{"model":"m","messages":[]}', headers, id="r", tenant="t", key_id="", at_ns=0)
