"""The exact tier: the same request again gets the same answer again, within the policy's `ttl`.

Not here: likeness (the semantic tier comes behind the same seam). In memory, least recently used goes first, bounded
in bytes and in entries; a restart starts empty.
Invariant: an entry is found only under the whole key (`cache/key.py`), so only by the tenant it was kept for.
"""

from collections import OrderedDict

from msgspec import Struct

from trivet.cache.key import Fingerprint, fingerprint
from trivet.config import CacheSettings
from trivet.errors import UpstreamError
from trivet.seams import Clock, Found, Kit
from trivet.types import Entry, Hit, NearMiss, Policy, Request, Usage
from trivet.wire.chat import read_piece

_OVERHEAD_BYTES = 600
"""Of one entry beside its body: key, ordered-dict node, Kept, Usage; measured with tracemalloc on CPython 3.11."""


class Kept(Struct, frozen=True, gc=False):
    """One answer as it is kept."""

    body: bytes
    usage: Usage | None
    """Only where it is not what the body says: 150 bytes an entry, against a microsecond a hit."""
    origin_id: str
    target: str
    kept_ns: int


class _Ticket(Struct, frozen=True, gc=False):
    """A key that was made, and whether an answer may be kept under it; what it was made of can be large and is not."""

    digest: bytes
    plain: bool


class Exact:
    """An in-process cache by exact key."""

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock) -> None:
        self._max_entries, self._max_bytes, self._clock = max_entries, max_bytes, clock
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, request: Request, policy: Policy) -> Found:
        """Look the request up by its whole key."""
        made = fingerprint(request, policy)
        return Found() if made is None else self.look(made, policy)

    def look(self, made: Fingerprint, policy: Policy) -> Found:
        """Look for a request whose key is made."""
        assert policy.cache is not None
        kept = self._kept.get(made.digest)
        if kept is None:
            return Found(ticket=_Ticket(made.digest, plain=made.plain()))
        age_ns = self._clock.now_ns() - kept.kept_ns
        if not 0 <= age_ns <= policy.cache.ttl_s * 1e9:  # a clock set back makes ages negative: not fresh either
            self._drop(made.digest)
            late = NearMiss(entry_id=kept.origin_id, kind="exact", why="expired")
            return Found(near=(late,), ticket=_Ticket(made.digest, plain=made.plain()))
        self._kept.move_to_end(made.digest)
        return Found(
            Hit(
                kind="exact",
                body=kept.body,
                usage=kept.usage or _told(kept.body),
                origin_id=kept.origin_id,
                target=kept.target,
                age_ms=age_ns // 1_000_000,
            )
        )

    async def keep(self, request: Request, policy: Policy, entry: Entry, body: bytes, *, ticket: object) -> None:
        """Keep an answer under its request's key; the oldest unused ones make room."""
        if not isinstance(ticket, _Ticket):
            made = fingerprint(request, policy)
            ticket = None if made is None else _Ticket(made.digest, plain=made.plain())
        cost = len(body) + _OVERHEAD_BYTES
        if ticket is None or not ticket.plain or cost > self._max_bytes:
            return
        if ticket.digest in self._kept:
            self._drop(ticket.digest)
        outcome = entry.outcome
        usage = None if _told(body) == outcome.usage else outcome.usage
        self._kept[ticket.digest] = Kept(body, usage, entry.id, outcome.target, self._clock.now_ns())
        self.bytes += cost
        while len(self._kept) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, digest: bytes) -> None:
        self.bytes -= len(self._kept.pop(digest).body) + _OVERHEAD_BYTES

    async def aclose(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.bytes = 0


def _told(body: bytes) -> Usage | None:
    """Read the usage that an answer itself reports."""
    try:
        return read_piece(body, streamed=False).usage
    except UpstreamError:
        return None


def build(settings: CacheSettings, kit: Kit) -> Exact:
    """Build the cache from `[cache]`."""
    return Exact(max_entries=settings.max_entries, max_bytes=settings.max_bytes, clock=kit.clock)
