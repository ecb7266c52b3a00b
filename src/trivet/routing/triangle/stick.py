"""Conversations, and where their prompts are cached: whoever answered the last turn has read all but the newest words.

A provider charges a tenth to a half for input that it has read minutes ago, so a conversation that moves to a cheaper
model may cost more by it. A conversation is known by its beginning: the messages of an earlier request, byte for byte,
and its tools; a client that changes a word of them has lost the provider's cache too.

Not here: whether staying pays (`router.py`).
Invariants: tenants and policies never share a conversation; as many are remembered as there is room for; no text is
kept, only digests.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Raw

from trivet.seams import Clock
from trivet.types import Request

MOST = 20_000
"""Conversations: some 5 MB."""

BACK = 3
"""Earlier requests that are looked for: a turn that failed, or was asked again in other words, is passed over."""

BYTES_A_TOKEN = 4

_messages = msgspec.json.Decoder(list[Raw]).decode
_ANSWERS = (b'"role":"assistant"', b'"role": "assistant"')


class Turn(NamedTuple):
    """The digests of a request's messages."""

    whole: bytes
    """Of them all: what the next turn looks for."""
    earlier: tuple[tuple[bytes, int], ...]
    """Of those before each answer, the last first, and about how many tokens they have."""
    tokens: int
    """Of them all, about."""


class Held(NamedTuple):
    """Where a conversation was answered last."""

    target: str
    tokens: int
    """Of the request's, about, that the target has read already."""


class Conversations:
    """Which target answered each conversation last."""

    def __init__(self, clock: Clock, *, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._kept: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def held(self, turn: Turn, *, within_s: float) -> Held | None:
        """Say where this conversation was answered last; None: nowhere within that time."""
        since_ns = self._clock.mono_ns() - int(within_s * 1e9)
        for digest, tokens in turn.earlier:
            kept = self._kept.get(digest)
            if kept is not None and kept[1] >= since_ns:
                return Held(kept[0], tokens)
        return None

    def keep(self, turn: Turn, target: str) -> None:
        """Note who is asked."""
        self._kept[turn.whole] = (target, self._clock.mono_ns())
        self._kept.move_to_end(turn.whole)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


def turn(request: Request, policy: str) -> Turn | None:
    """Read a request's messages; None: it has none that can be read."""
    raw = request.fields.get("messages")
    if raw is None:
        return None
    try:
        messages = [bytes(message) for message in _messages(raw)]
    except (msgspec.MsgspecError, UnicodeError):
        return None
    digest = blake2b(f"{len(request.tenant)}:{request.tenant}{policy}\0".encode("utf-8", "replace"), digest_size=16)
    tools = bytes(request.fields.get("tools", b""))
    digest.update(tools)
    earlier, size = [], len(tools)
    for message in messages:
        if any(word in message for word in _ANSWERS):
            earlier.append((digest.digest(), size // BYTES_A_TOKEN))
        digest.update(b"%d:" % len(message))
        digest.update(message)
        size += len(message)
    return Turn(digest.digest(), tuple(earlier[: -BACK - 1 : -1]), size // BYTES_A_TOKEN)
