"""Uvicorn's protocol, with what is written to a client in one turn of the loop sent in one system call.

Uvicorn writes head and body of an answer apart, and each chunk of a stream; every write to a socket costs a system
call and wakes the other side. And it says at once that a client has left, where ASGI needs a task that waits for it.
Not here: anything else; parsing and framing are uvicorn's.
Invariants: bytes keep their order; nothing waits longer than the current turn of the loop; closing sends what waits.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trivet.server.asgi import GONE, Gone


class Corked:
    """A transport that gathers writes until the loop comes round."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._call_soon = transport, loop.call_soon
        self._waiting: list[bytes] = []
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)  # whatever else uvicorn asks of it (set_protocol, for upgrades)

    def write(self, data: bytes) -> None:
        """Send this with everything else of this turn."""
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._waiting = []
        self._transport.abort()


class CorkedProtocol(HttpToolsProtocol):
    """One client's connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        """Begin, over a corked transport."""
        self.gone = Gone()
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]  # has all that it uses

    def on_message_begin(self) -> None:
        """Begin a request: whoever serves it can have itself told when the client leaves."""
        super().on_message_begin()
        self.scope["extensions"] = {GONE: self.gone}  # type: ignore[dict-item]  # an extension of ours

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self.gone.tell()
