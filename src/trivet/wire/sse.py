"""Server-sent events, both ways: bytes in, the data of whole events out; data in, bytes out. No sockets.

Not here: what the data means (`wire/chat.py`). Source: WHATWG HTML, section 9.2 "Server-sent events".
Invariant: however a stream is cut into pieces, the same events come out (tests/wire/test_sse.py cuts at every byte).
"""

from trivet.errors import UpstreamError

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""One event, at most. An image in base64 is the largest that real providers send: about 4 MB."""

_BOM = b"\xef\xbb\xbf"


class Events:
    """Reads events from pieces of a stream: `feed` them, get the data of each event that is whole.

    Comments, event names, ids and retry times are dropped: no chat completion carries meaning there.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._started = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece; give the data of every event it completes.

        Raises:
            UpstreamError: an event is larger than `MAX_EVENT_BYTES`.
        """
        seen = self._tail + piece if self._tail else piece
        if not self._started:
            if len(seen) < len(_BOM) and _BOM.startswith(seen):
                self._tail = seen
                return []
            seen, self._started = seen.removeprefix(_BOM), True
        if b"\r" in seen:
            # A CR at the very end may be half of a CRLF: it waits for the byte after it.
            held = b"\r" if seen.endswith(b"\r") else b""
            seen = seen[: len(seen) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *whole, rest = seen.split(b"\n\n")
        self._tail = rest + held
        if len(self._tail) > MAX_EVENT_BYTES:
            raise UpstreamError(f"One event of the stream is larger than {MAX_EVENT_BYTES} bytes.")
        return [data for block in whole if (data := _data(block)) is not None]

    def unfinished(self) -> bytes | None:
        """Give the data of an event that the end of the stream cut off: some servers forget the last blank line."""
        return _data(self._tail.rstrip(b"\r\n"))


def _data(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and b"\n" not in block:  # nearly every event of every provider
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    if not lines and b"data" in block.split(b"\n"):
        return b""
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """Frame one document as an event."""
    if b"\n" in data or b"\r" in data:
        # In JSON a line break can only stand between tokens, where a space says the same.
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"data: " + data + b"\n\n"


DONE = b"data: [DONE]\n\n"
