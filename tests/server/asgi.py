"""Any ASGI app as an app of our server: so that the same app can be asked here and under another server.

Not part of Trivet: its own routes speak to an Exchange. What ASGI promises and an Exchange does not (an app that reads
on after the end of a body is told when the client has left, or has its answer) is made here.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trivet.server.exchange import ClientGoneError, Exchange, HttpExchange
from trivet.server.head import lines
from trivet.server.http import App

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

EXCHANGE = "exchange"
"""An extension of the scope: the exchange itself."""


def asgi(app: AsgiApp) -> App:
    """Make an app for `Server` of an ASGI app."""

    async def call(exchange: Exchange) -> None:
        assert isinstance(exchange, HttpExchange)
        bridge = _Bridge(exchange)
        await app(_scope(exchange), bridge.receive, bridge.send)

    return call


def _scope(exchange: HttpExchange) -> Scope:
    return {
        "type": "http",
        "method": exchange.method,
        "path": exchange.path,
        "query_string": exchange.query.encode("latin-1"),
        "http_version": "1.0" if exchange.old else "1.1",
        "headers": exchange.headers,
        "client": exchange.client,
        "extensions": {EXCHANGE: exchange},
    }


class _Bridge:
    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange
        self._given = False
        self._start: Message = {}
        self._sized: list[bytes] | None = None

    async def receive(self) -> Message:
        exchange = self._exchange
        if self._given:
            while not (exchange.left or exchange.answered):  # noqa: ASYNC110  # no one tells an app of it but by cancelling
                await asyncio.sleep(0.001)
            return {"type": "http.disconnect"}
        try:
            whole, piece = exchange.whole, await exchange.read()
        except ClientGoneError:
            return {"type": "http.disconnect"}
        self._given = whole or exchange.whole
        return {"type": "http.request", "body": piece, "more_body": not self._given}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            sized = any(name == b"content-length" for name, _ in message["headers"])
            self._sized = [] if sized else None
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        exchange, status = self._exchange, self._start["status"]
        head = lines((n, v) for n, v in self._start["headers"] if n != b"content-length")
        if self._sized is not None:
            self._sized.append(piece)
            if not more:
                await exchange.answer(status, head, b"".join(self._sized))
        elif not exchange.started:
            await exchange.begin(status, head, piece)
            if not more:
                await exchange.end()
        else:
            await (exchange.send(piece) if more else exchange.end(piece))


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a whole body the ASGI way."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", "the client left"
        body, more = body + message["body"], message["more_body"]
        assert len(body) <= limit
    return body


async def send_bytes(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer the ASGI way."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
