"""Lines of a head, and the answers that are the same everywhere: documents and errors."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.edge_kit import Tape
from trivet.errors import AuthError, BadRequestError, LedgerError, UpstreamError
from trivet.server.exchange import Exchange
from trivet.server.head import PRIVATE, line, lines, send_error, send_json


def sent(sending: Callable[[Exchange], Awaitable[None]]) -> tuple[int, dict[bytes, bytes], bytes]:
    """Give status, headers and body of what was sent; every header once."""
    tape = Tape()

    async def send() -> None:
        await sending(tape.exchange("GET"))

    asyncio.run(send())
    head, _, body = tape.written.partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in rest)
    assert len(headers) == len(rest)
    assert headers[b"content-length"] == b"%d" % len(body)
    return int(first.split(b" ")[1]), headers, body


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"\n"])
def test_a_value_with_a_line_end_is_no_header(value: bytes) -> None:
    with pytest.raises(ValueError, match="line end"):
        line(b"x-a", value)
    with pytest.raises(ValueError, match="line end"):
        lines([(b"x-b", b"1"), (b"x-a", value)])


def test_lines_are_written_as_they_are_read() -> None:
    assert lines([(b"x-a", b"1, \xe9"), (b"x-a", b"")]) == b"x-a: 1, \xe9\r\nx-a: \r\n"
    assert lines([]) == b""


def test_documents_are_private_json_with_their_length() -> None:
    status, headers, body = sent(lambda to: send_json(to, 503, {"a": [1]}))
    assert (status, json.loads(body)) == (503, {"a": [1]})
    assert headers[b"content-type"] == b"application/json"
    assert b"cache-control: %b\r\n" % headers[b"cache-control"] in PRIVATE


def test_an_error_has_openais_shape_and_says_whose_fault_it_is() -> None:
    error = BadRequestError("`n` is odd.", param="n", code="odd")
    status, headers, body = sent(lambda to: send_error(to, error, b"x-trivet-id: req_1\r\n", passed=[]))
    assert (status, headers[b"x-trivet-fault"], headers[b"x-trivet-id"]) == (400, b"client", b"req_1")
    told = {"message": "`n` is odd.", "type": "invalid_request_error", "param": "n", "code": "odd"}
    assert json.loads(body) == {"error": told}


def test_an_error_that_knows_when_to_come_back_says_so_once() -> None:
    assert sent(lambda to: send_error(to, LedgerError("full"), passed=[]))[1][b"retry-after"] == b"1"
    late = UpstreamError("busy", status=429, retry_after_s=29.6)
    assert sent(lambda to: send_error(to, late, passed=[]))[1][b"retry-after"] == b"30"
    theirs = [(b"retry-after", b"7")]
    assert sent(lambda to: send_error(to, late, passed=theirs))[1][b"retry-after"] == b"7"
    soon = UpstreamError("busy", status=503, retry_after_s=0.01)
    assert sent(lambda to: send_error(to, soon, passed=[]))[1][b"retry-after"] == b"1"
    assert b"retry-after" not in sent(lambda to: send_error(to, UpstreamError("broken"), passed=[]))[1]


def test_a_401_says_how_to_ask() -> None:
    assert sent(lambda to: send_error(to, AuthError("no"), passed=[]))[1][b"www-authenticate"] == b"Bearer"
    theirs, refused = [(b"www-authenticate", b"Basic")], UpstreamError("no", status=401)
    assert sent(lambda to: send_error(to, refused, passed=theirs))[1][b"www-authenticate"] == b"Basic"


def test_a_targets_own_error_body_goes_through_as_it_came() -> None:
    body = b'{ "error" : {"message":"theirs","x_vendor":1} }'
    assert sent(lambda to: send_error(to, UpstreamError("theirs", status=418, body=body), passed=[]))[2] == body
