"""What a caller holds of an answer, and what the errors say; the exchanges themselves: test_way.py."""

import asyncio

import pytest

from trivet.upstream.reply import Answer, LostError, Origin, ProtocolError, Reply

HERE = Origin("https", "::1", 443)


class Carried:
    """A Carrier that counts."""

    origin = HERE

    def __init__(self) -> None:
        self.unheld = self.left = self.abandoned = 0

    def unhold(self, answer: Answer) -> None:
        self.unheld += 1

    def leave(self, answer: Answer) -> None:
        self.left += 1

    def abandon(self, answer: Answer) -> None:
        self.abandoned += 1


def replying(*pieces: bytes, error: LostError | None = None) -> tuple[Reply, Carried]:
    answer, carrier = Answer(), Carried()
    answer.status = 200
    answer.pieces.extend(pieces)
    answer.error, answer.whole = error, error is None
    return Reply(answer, carrier, connect_ns=3), carrier


@pytest.mark.anyio
async def test_what_came_before_an_error_is_given_before_it() -> None:
    reply, carrier = replying(b"a", b"b", error=LostError(HERE, "idle", "closed.", unanswered=False))
    assert await reply.read() == b"ab"
    assert carrier.unheld == 1
    with pytest.raises(LostError, match=r"https://\[::1\]:443 closed\."):
        await reply.read()


@pytest.mark.anyio
async def test_a_body_over_the_limit_is_abandoned() -> None:
    reply, carrier = replying(b"x" * 11)
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        await reply.read_all(10)
    assert carrier.abandoned == 1


@pytest.mark.anyio
async def test_a_reader_that_is_cancelled_abandons_the_exchange() -> None:
    reply, carrier = replying(error=LostError(HERE, "idle", "x", unanswered=False))
    reply._answer.error = None
    reading = asyncio.create_task(reply.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert carrier.abandoned == 1


def test_finishing_leaves_and_closing_abandons() -> None:
    reply, carrier = replying(b"x")
    reply.finish()
    reply.close()
    assert (carrier.left, carrier.abandoned) == (1, 1)
    assert reply._answer.pieces == []
