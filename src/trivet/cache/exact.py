"""The exact tier: the same request again gets the same answer again, within the policy's `ttl`.

Not here: likeness (the semantic tier comes behind the same seam). In memory, least recently used goes first, bounded
in bytes and in entries; a restart starts empty.
Invariant: an entry is found only under the whole key (`cache/key.py`), so only by the tenant it was kept for.
"""

import json
from collections import OrderedDict

import msgspec
from msgspec import Struct

from trivet.cache.key import fingerprint
from trivet.config import CacheSettings
from trivet.errors import UpstreamError
from trivet.seams import Clock, Kit
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


class Exact:
    """An in-process cache by exact key."""

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock) -> None:
        self._max_entries, self._max_bytes, self._clock = max_entries, max_bytes, clock
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, request: Request, policy: Policy) -> tuple[Hit | None, tuple[NearMiss, ...]]:
        """Look the request up by its whole key."""
        assert policy.cache is not None
        key = fingerprint(request, policy)
        kept = None if key is None else self._kept.get(key)
        if kept is None or key is None:
            return None, ()
        age_ns = self._clock.now_ns() - kept.kept_ns
        if not 0 <= age_ns <= policy.cache.ttl_s * 1e9:  # a clock set back makes ages negative: not fresh either
            self._drop(key)
            return None, (NearMiss(entry_id=kept.origin_id, kind="exact", why="expired"),)
        self._kept.move_to_end(key)
        return (
            Hit(
                kind="exact",
                body=kept.body,
                usage=kept.usage or _told(kept.body),
                origin_id=kept.origin_id,
                target=kept.target,
                age_ms=age_ns // 1_000_000,
            ),
            (),
        )

    async def keep(self, request: Request, policy: Policy, entry: Entry, body: bytes) -> None:
        """Keep an answer under its request's key; the oldest unused ones make room."""
        key = fingerprint(request, policy)
        cost = len(body) + _OVERHEAD_BYTES
        if key is None or cost > self._max_bytes or not _says_each_name_once(request):
            return
        if key in self._kept:
            self._drop(key)
        outcome = entry.outcome
        usage = None if _told(body) == outcome.usage else outcome.usage
        self._kept[key] = Kept(body, usage, entry.id, outcome.target, self._clock.now_ns())
        self.bytes += cost
        while len(self._kept) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self.bytes -= len(self._kept.pop(key).body) + _OVERHEAD_BYTES

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


def _says_each_name_once(request: Request) -> bool:
    """Tell whether no object in the body names a member twice.

    Targets differ in which of the two they obey, so such a request must not decide what the plain one is answered.
    Written again as it was read, a body that comes out the same has lost nothing; only others are searched.
    """
    raw = msgspec.json.encode(request.fields)
    return raw == msgspec.json.encode(msgspec.json.decode(raw)) or _searched(raw)


def _searched(raw: bytes) -> bool:
    def once(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError

    try:
        json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return False
    return True


def build(settings: CacheSettings, kit: Kit) -> Exact:
    """Build the cache from `[cache]`."""
    return Exact(max_entries=settings.max_entries, max_bytes=settings.max_bytes, clock=kit.clock)
