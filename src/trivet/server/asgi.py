"""The few ASGI words that the routes share: reading a body, sending a document.

Not here: any decision. Nothing is decided from `Host` or the URL but the path that the server routed by.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from trivet.errors import TooLargeError, TrivetError
from trivet.wire.chat import error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
PRIVATE: RawHeaders = [(b"cache-control", b"no-store, private"), (b"vary", b"authorization")]
"""On all but health: a shared cache must not hand one user's page to another."""

GONE = "trivet.gone"
"""An extension of the scope, where the server has it: a `Gone`."""


class Gone:
    """Says that the client has left, to one who wants to know: without a task for each request that waits for it."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None

    def tell(self) -> None:
        """Call whoever asked, once."""
        call, self.call = self.call, None
        if call is not None:
            call()


class ClientGoneError(Exception):
    """The client left while its request was still being read."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        TooLargeError: it is larger than `limit` bytes; the rest is not read.
        ClientGoneError: the connection ended first.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):  # nearly always
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise TooLargeError(limit)
        return body
    parts, size = [], 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLargeError(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ClientGoneError


async def send_bytes(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, document: object, headers: RawHeaders = PRIVATE) -> None:
    """Send a document as JSON."""
    await send_bytes(send, status, [JSON, *headers], msgspec.json.encode(document))


async def send_error(send: Send, error: TrivetError, headers: RawHeaders) -> None:
    """Send an error in OpenAI's shape, with whose fault it is and when to come back."""
    told: RawHeaders = [JSON, *PRIVATE, (b"x-trivet-fault", error.whose.encode()), *headers]
    if error.retry_after_s is not None and not any(name == b"retry-after" for name, _ in headers):
        told.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    if error.status == 401:
        told.append((b"www-authenticate", b"Bearer"))
    await send_bytes(send, error.status, told, error_body(error))
