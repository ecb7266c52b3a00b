"""Requests out of bytes, wherever they are cut; sockets, and all that is refused, are in `test_http.py`."""

import pytest

from tests.edge_kit import Tape
from trivet.server.exchange import HttpExchange
from trivet.server.reader import MAX_HEADERS, BadHttpError, Reader

SIZED = b"POST /p?q HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
GET = b"GET /%20 HTTP/1.1\r\nhost: x\r\n\r\n"


def told(exchange: HttpExchange | None) -> tuple[str, str, str, bytes]:
    assert exchange is not None
    assert exchange.whole
    return exchange.method, exchange.path, exchange.query, b"".join(exchange.pieces)


WANTED = {SIZED: ("POST", "/p", "q", b"hello"), CHUNKED: ("PUT", "/c", "", b"hello"), GET: ("GET", "/ ", "", b"")}


@pytest.mark.parametrize("first", WANTED)
@pytest.mark.parametrize("second", WANTED)
def test_nothing_of_the_next_request_is_read_with_this_one(first: bytes, second: bytes) -> None:
    both = first + second
    for at in range(1, len(both)):
        reader, rest = Reader(Tape()), b""
        for piece in (both[:at], both[at:]):
            rest += piece
            rest = rest[reader.feed(rest) :]
        assert told(reader.exchange) == WANTED[first]
        assert rest == second
        reader.next()
        assert reader.exchange is None
        assert reader.feed(rest) == len(second)
        assert told(reader.exchange) == WANTED[second]
        assert reader.wrong is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n", 501), (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000, 431),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_and_ends_the_reading(data: bytes, status: int) -> None:
    reader = Reader(Tape())
    reader.feed(data)
    wrong = reader.wrong
    assert isinstance(wrong, BadHttpError)
    assert wrong.status in (status, 505)
    assert reader.feed(GET) == 0
    assert reader.wrong is wrong
