"""A body read to its end or to its limit, and documents and errors sent whole."""

import asyncio
import json
from typing import Any

import pytest

from trivet.errors import AuthError, BadRequestError, LedgerError, TooLargeError, UpstreamError
from trivet.server.asgi import PRIVATE, ClientGoneError, Message, read_body, send_bytes, send_error, send_json

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def read(*messages: Message, limit: int = 100) -> bytes:
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    return asyncio.run(read_body(receive, limit))


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([part(b"whole")], b"whole"),
        ([part(b"")], b""),
        ([{"type": "http.request"}], b""),
        ([part(b"a", more=True), part(b"", more=True), part(b"b")], b"ab"),
        ([part(b"a", more=True), part(b"")], b"a"),
        ([part(b"x" * 100)], b"x" * 100),
    ],
)
def test_a_body_comes_in_one_piece_or_in_many(messages: list[Message], body: bytes) -> None:
    assert read(*messages) == body


@pytest.mark.parametrize(
    "messages", [[part(b"x" * 101)], [part(b"x" * 60, more=True), part(b"x" * 41, more=True), part(b"never read")]]
)
def test_a_body_over_the_limit_is_not_read_to_its_end(messages: list[Message]) -> None:
    with pytest.raises(TooLargeError, match="100 bytes"):
        read(*messages)


@pytest.mark.parametrize("messages", [[GONE], [part(b"a", more=True), GONE]])
def test_a_client_that_leaves_before_the_end_of_its_body_is_noticed(messages: list[Message]) -> None:
    with pytest.raises(ClientGoneError):
        read(*messages)


def sent(sending: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Give status, headers and body of what was sent; every header once."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(sending(send))
    start, body = messages
    headers = dict(start["headers"])
    assert len(headers) == len(start["headers"])
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    assert not body.get("more_body")
    return start["status"], headers, body["body"]


def test_documents_are_private_json_with_their_length() -> None:
    status, headers, body = sent(lambda send: send_json(send, 503, {"a": [1]}))
    assert (status, json.loads(body)) == (503, {"a": [1]})
    assert headers[b"content-type"] == b"application/json"
    assert PRIVATE[0] in headers.items()
    assert sent(lambda send: send_bytes(send, 200, [], b"x")) == (200, {b"content-length": b"1"}, b"x")


def test_an_error_has_openais_shape_and_says_whose_fault_it_is() -> None:
    error = BadRequestError("`n` is odd.", param="n", code="odd")
    status, headers, body = sent(lambda send: send_error(send, error, [(b"x-trivet-id", b"req_1")]))
    assert (status, headers[b"x-trivet-fault"], headers[b"x-trivet-id"]) == (400, b"client", b"req_1")
    told = {"message": "`n` is odd.", "type": "invalid_request_error", "param": "n", "code": "odd"}
    assert json.loads(body) == {"error": told}


def test_an_error_that_knows_when_to_come_back_says_so_once() -> None:
    assert sent(lambda send: send_error(send, LedgerError("full"), []))[1][b"retry-after"] == b"1"
    late = UpstreamError("busy", status=429, retry_after_s=29.6)
    assert sent(lambda send: send_error(send, late, []))[1][b"retry-after"] == b"30"
    theirs = [(b"retry-after", b"7")]
    assert sent(lambda send: send_error(send, late, theirs))[1][b"retry-after"] == b"7"
    soon = UpstreamError("busy", status=503, retry_after_s=0.01)
    assert sent(lambda send: send_error(send, soon, []))[1][b"retry-after"] == b"1"
    assert b"retry-after" not in sent(lambda send: send_error(send, UpstreamError("broken"), []))[1]


def test_a_401_says_how_to_ask() -> None:
    assert sent(lambda send: send_error(send, AuthError("no"), []))[1][b"www-authenticate"] == b"Bearer"


def test_a_targets_own_error_body_goes_through_as_it_came() -> None:
    body = b'{ "error" : {"message":"theirs","x_vendor":1} }'
    assert sent(lambda send: send_error(send, UpstreamError("theirs", status=418, body=body), []))[2] == body
