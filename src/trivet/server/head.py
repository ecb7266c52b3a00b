"""The head of an answer: its lines, and the answers that are the same everywhere (a document, an error).

Not here: how an answer is framed (`server/exchange.py`). Invariant: a value that came from outside goes through `line`,
which lets no line end through, so nobody can add a header, or an answer, of their own.
"""

from collections.abc import Iterable

import msgspec

from trivet.errors import TrivetError
from trivet.server.exchange import Exchange
from trivet.wire.chat import error_body

JSON = b"content-type: application/json\r\n"
PRIVATE = b"cache-control: no-store, private\r\nvary: authorization\r\n"
"""On all but health: a shared cache must not hand one user's page to another."""

_LF, _CR, _NUL = b"\n\r\0"


def line(name: bytes, value: bytes) -> bytes:
    """Write one header. Raises ValueError for a value that would be more than one line (RFC 9110, section 5.5)."""
    if _LF in value or _CR in value or _NUL in value:
        raise ValueError(f"a header {name!r} with a line end in it")
    return b"%b: %b\r\n" % (name, value)


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write several headers."""
    return b"".join([line(name, value) for name, value in headers]) if headers else b""


async def send_json(exchange: Exchange, status: int, document: object, head: bytes = PRIVATE) -> None:
    """Answer with a document."""
    await exchange.answer(status, JSON + head, msgspec.json.encode(document))


async def send_error(
    exchange: Exchange, error: TrivetError, head: bytes = b"", *, passed: Iterable[tuple[bytes, bytes]]
) -> None:
    """Answer with an error in OpenAI's shape, with whose fault it is and when to come back.

    Args:
        passed: headers of the target's own refusal, which go on as they came.
    """
    passed = list(passed)
    theirs = {name for name, _ in passed}
    told = [JSON, PRIVATE, b"x-trivet-fault: %b\r\n" % error.whose.encode(), head, lines(passed)]
    if error.retry_after_s is not None and b"retry-after" not in theirs:
        told.append(b"retry-after: %d\r\n" % max(1, round(error.retry_after_s)))
    if error.status == 401 and b"www-authenticate" not in theirs:
        told.append(b"www-authenticate: Bearer\r\n")
    await exchange.answer(error.status, b"".join(told), error_body(error))
