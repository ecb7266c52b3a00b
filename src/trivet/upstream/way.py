"""The way out to one origin: what `remote.py` asks, whichever version of HTTP carries it.

    Way.send(head, body)  ->  Reply.read ... read

`http.Pool` (HTTP/1.1) and `http2.Streams` (HTTP/2) are the two; `out.py` makes one from a target's settings.
Not here: either of them. Invariant: a request has one head, written as HTTP/1.1 has it, so that a target sees the same
names, values and order on either way.
"""

from bisect import bisect_left
from typing import Protocol

from trivet.seams import BOUNDS_S, Connections
from trivet.upstream.reply import Reply

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS_S)


class Way(Protocol):
    """Requests to one origin."""

    async def send(self, head: bytes, body: bytes = b"") -> Reply:
        """Send a request and give its answer when the head is here.

        Args:
            head: request line and headers up to and with the blank line; `content-length` is the caller's to set.
        Raises:
            HttpError: there is no answer; says the phase. Cancelled, it ends the exchange at once.
        """
        ...

    async def warm(self) -> None:
        """Open one more connection and leave it idle; nothing where no more may be. Raises HttpError."""
        ...

    def connections(self) -> Connections:
        """Say how many there are, and were."""
        ...

    async def aclose(self) -> None:
        """Close every connection, those in use too, and wait until they are closed. May be called twice."""
        ...


class Counts:
    """What one way out has done since it was made."""

    __slots__ = ("_connect_counts", "_connect_ns", "opened", "retried", "reused")

    def __init__(self) -> None:
        self.opened = self.reused = self.retried = self._connect_ns = 0
        self._connect_counts = [0] * (len(BOUNDS_S) + 1)

    def connected(self, took_ns: int) -> None:
        """Count a connection."""
        self.opened += 1
        self._connect_ns += took_ns
        self._connect_counts[bisect_left(_BOUNDS_NS, took_ns)] += 1

    def told(self, *, open: int, idle: int, waiting: int) -> Connections:  # noqa: A002  # the name of the number
        """Give all of it, with how many there are now."""
        return Connections(
            open, idle, waiting, self.opened, self.reused, self.retried, tuple(self._connect_counts), self._connect_ns
        )
