"""An exchange over a line that is only memory: bodies read, answers framed, and nothing after the end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.edge_kit import Tape, feed
from trivet.errors import TooLargeError
from trivet.server.exchange import ClientGoneError, HttpExchange


def exchange(method: str = "POST", *, old: bool = False) -> tuple[HttpExchange, Tape]:
    tape = Tape()
    return HttpExchange(tape, method, keep=True, old=old, expects=False), tape


def after(*steps: Callable[[HttpExchange], Awaitable[object]], method: str = "POST", old: bool = False) -> bytes:
    """Give what was written after these steps."""
    made, tape = exchange(method, old=old)

    async def run() -> None:
        for step in steps:
            await step(made)

    asyncio.run(run())
    return tape.written


async def fed(made: HttpExchange, *pieces: bytes, whole: bool = True) -> None:
    """Feed pieces as a connection does, each in a turn of its own."""
    for i, piece in enumerate(pieces, start=1):
        await asyncio.sleep(0)
        feed(made, piece, more=not whole or i < len(pieces))


@pytest.mark.parametrize("pieces", [(b"whole",), (b"",), (b"a", b"", b"b"), (b"a", b""), (b"x" * 100,)])
def test_a_body_comes_in_one_piece_or_in_many(pieces: tuple[bytes, ...]) -> None:
    async def run() -> None:
        made, _ = exchange()
        feeding = asyncio.ensure_future(fed(made, *pieces))
        assert await made.body(100) == b"".join(pieces)
        await feeding
        early, _ = exchange()
        await fed(early, *pieces)
        assert await early.body(100) == b"".join(pieces)
        assert early.size == 0

    asyncio.run(run())


@pytest.mark.parametrize("pieces", [(b"x" * 101,), (b"x" * 60, b"x" * 41), (b"x" * 60, b"x" * 41, b"never read")])
def test_a_body_over_the_limit_is_not_read_to_its_end(pieces: tuple[bytes, ...]) -> None:
    async def run() -> None:
        made, _ = exchange()
        feeding = asyncio.ensure_future(fed(made, *pieces))
        with pytest.raises(TooLargeError, match="100 bytes"):
            await made.body(100)
        await feeding

    asyncio.run(run())


@pytest.mark.parametrize("pieces", [(), (b"a",), (b"a", b"b")])
def test_a_client_that_leaves_before_the_end_of_its_body_is_noticed(pieces: tuple[bytes, ...]) -> None:
    async def run() -> None:
        made, _ = exchange()
        reading = asyncio.ensure_future(made.body(100))
        await fed(made, *pieces, whole=False)
        made.leave()
        with pytest.raises(ClientGoneError):
            await reading

    asyncio.run(run())


def test_an_answer_says_where_it_ends() -> None:
    whole = after(lambda e: e.answer(200, b"x: y\r\n", b"hello"))
    assert whole == b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\nhello"
    pieces = after(lambda e: e.begin(200, b"", b"hel"), lambda e: e.send(b""), lambda e: e.end(b"lo"))
    assert pieces == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    old = after(lambda e: e.begin(200, b"", b"hel"), lambda e: e.end(b"lo"), old=True)
    assert old == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert after(lambda e: e.answer(200, b"", b"hello"), method="HEAD").endswith(b"content-length: 5\r\n\r\n")
    assert after(lambda e: e.answer(204, b"", b"")) == b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(
    "steps",
    [
        (lambda e: e.send(b"x"),),
        (lambda e: e.end(b"x"),),
        (lambda e: e.answer(200, b"", b""), lambda e: e.answer(200, b"", b"")),
        (lambda e: e.begin(200, b"", b""), lambda e: e.begin(200, b"", b"")),
        (lambda e: e.begin(200, b"", b""), lambda e: e.end(), lambda e: e.send(b"x")),
        (lambda e: e.answer(200, b"", b""), lambda e: e.end()),
    ],
)
def test_what_is_sent_out_of_turn_is_a_defect(steps: tuple[Callable[[HttpExchange], Awaitable[object]], ...]) -> None:
    with pytest.raises(RuntimeError):
        after(*steps)


def test_an_answer_to_nobody_is_dropped() -> None:
    async def gone(made: HttpExchange) -> None:
        made.leave()

    assert after(gone, lambda e: e.begin(200, b"", b"x"), lambda e: e.send(b"x"), lambda e: e.end()) == b""
    assert after(gone, lambda e: e.answer(200, b"", b"x")) == b""


@pytest.mark.parametrize("answered", [False, True])
def test_leaving_cancels_whoever_asked_for_it_and_not_after_the_answer(*, answered: bool) -> None:
    async def run() -> None:
        made, _ = exchange()
        made.task = task = asyncio.ensure_future(asyncio.sleep(0.01))
        if answered:
            await made.answer(200, b"", b"")
        made.leave()
        await asyncio.wait([task])
        assert (task.cancelled(), made.cancelled) == (not answered, not answered)

    asyncio.run(run())
