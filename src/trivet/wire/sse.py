"""Server-sent events, both ways: bytes in, the data of whole events out; data in, bytes out. No sockets.

Not here: what the data means (`wire/chat.py`). Source: WHATWG HTML, section 9.2 "Server-sent events".
Invariant: however a stream is cut into pieces, the same events come out (tests/wire/test_sse.py cuts at every byte).
"""

from trivet.errors import UpstreamError

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""One event, at most. An image in base64 is the largest that real providers send: about 4 MB."""

_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"
"""As numbers: bytes in bytes are looked for by way of an exception, which costs eight times as much (CPython 3.11)."""


class Events:
    """Reads events from pieces of a stream: `feed` them, get the data of each event that is whole.

    Comments, event names, ids and retry times are dropped: no chat completion carries meaning there.
    """

    def __init__(self) -> None:
        self._tail = bytearray()  # of an event that is not whole; grown in place, so a long one costs its length once
        self._started = self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece; give the data of every event it completes.

        Raises:
            UpstreamError: an event is larger than `MAX_EVENT_BYTES`.
        """
        if not self._started:
            piece = bytes(self._tail) + piece
            self._tail.clear()
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._tail += piece
                return []
            piece, self._started = piece.removeprefix(_BOM), True
        if self._after_cr or _CR in piece:
            piece = self._plain(piece)
        tail = self._tail
        if tail:
            if piece.find(b"\n\n") < 0 and not (tail.endswith(b"\n") and piece.startswith(b"\n")):
                tail += piece
                if len(tail) > MAX_EVENT_BYTES:
                    raise UpstreamError(f"One event of the stream is larger than {MAX_EVENT_BYTES} bytes.")
                return []
            piece = bytes(tail) + piece
            tail.clear()
        *whole, rest = piece.split(b"\n\n")
        tail += rest
        if len(rest) > MAX_EVENT_BYTES:
            raise UpstreamError(f"One event of the stream is larger than {MAX_EVENT_BYTES} bytes.")
        return [data for block in whole if (data := _data(block)) is not None]

    def _plain(self, piece: bytes) -> bytes:
        """Write line ends as line feeds; one that follows a CR of the piece before belongs to that."""
        if self._after_cr and piece:
            piece, self._after_cr = piece.removeprefix(b"\n"), False
        if piece.endswith(b"\r"):
            self._after_cr = True
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def unfinished(self) -> bytes | None:
        """Give the data of an event that the end of the stream cut off: some servers forget the last blank line."""
        return _data(bytes(self._tail).rstrip(b"\n"))


def _data(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and _LF not in block:  # nearly every event of every provider
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    if not lines and b"data" in block.split(b"\n"):
        return b""
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """Frame one document as an event."""
    if _LF in data or _CR in data:
        # In JSON a line break can only stand between tokens, where a space says the same.
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"data: " + data + b"\n\n"


DONE = b"data: [DONE]\n\n"
