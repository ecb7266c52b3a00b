"""The router `classifier`: a small model says which requests are simple, and which complex; each goes to its targets.

The word is asked for before the call (by `pipeline.py`, as a request of its own), so the request waits for it, within
bounds: a timeout, a memory of words, and a pause for a model that says nothing. Without a word the policy's fallback
says what a request is taken for.

Not here: who can answer at all (`rules.py`), what is shown and how the word is read (`words.py`).
Invariants: every request is ranked, whatever the model says; words of one tenant are never used for another's; nothing
is asked where both words would send the request to the same target.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal, NamedTuple, get_args

import msgspec

from trivet.config import Settings
from trivet.routing.classifier.memory import AFTER, PAUSE_S, Breaker, Memory
from trivet.routing.classifier.words import Word, asked, read, shown
from trivet.seams import BOUNDS_S, Ask, Kit, Router, Verdicts
from trivet.types import Candidate, ClassifierPolicy, Policy, Request
from trivet.wire.asked import said

Kind = Literal["simple", "complex", "remembered", "timeout", "babble", "failed", "skipped"]
"""What a request was ranked by: a word that was said, or remembered; or the fallback, because the word came too late,
was another, or none; or because nothing was asked."""

_encode = msgspec.json.Encoder().encode
_BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]


class _Ticket(NamedTuple):
    """What an ask is about."""

    policy: Policy
    how: ClassifierPolicy
    key: bytes


class _Room:
    """What is known for one policy."""

    def __init__(self, kit: Kit) -> None:
        self.memory, self.breaker = Memory(kit.clock), Breaker(kit.clock)
        self.counts: Counter[str] = Counter(dict.fromkeys(get_args(Kind), 0))
        self.took_counts = [0] * (len(BOUNDS_S) + 1)
        self.took_ns = 0


class ClassifierRouter:
    """Routes by the words of the models that the policies name."""

    def __init__(self, policies: tuple[str, ...], kit: Kit) -> None:
        self._kit = kit
        self._rooms = {name: _Room(kit) for name in policies}

    def ask(self, request: Request, policy: Policy) -> Ask | None:
        """Give the question for the model, unless its word is known or would change nothing."""
        how, room = policy.classifier, self._rooms.get(policy.name)
        if how is None or room is None or not _matters(how, policy):
            return None
        words = shown(request)
        if not words:
            return None
        key = _key(words, request, policy, how)
        if room.memory.find(key) is not None or not room.breaker.lets():
            return None
        return Ask(key, how.model, asked(words, prompt=how.prompt), how.within_ms, _Ticket(policy, how, key))

    def heard(self, ask: Ask, body: bytes | None, *, took_ns: int, late: bool) -> Kind:
        """Read the model's word, and remember it."""
        ticket = ask.ticket
        assert isinstance(ticket, _Ticket)
        room, how = self._rooms[ticket.policy.name], ticket.how
        room.took_ns += took_ns
        room.took_counts[bisect_left(_BOUNDS_NS, took_ns)] += 1
        word = None if body is None else read(said(body))
        if word is not None:
            room.breaker.spoke()
            room.memory.keep(ticket.key, word, ttl_s=how.ttl_s, most=how.memory)
            return word
        kind: Kind = "babble" if body is not None else "timeout" if late else "failed"
        if room.breaker.failed():
            self._kit.tell(
                f"The classifier of policy {ticket.policy.name!r}, {how.model!r}, gave no verdict {AFTER} times on end "
                f"(the last: {kind}). It is asked once in {PAUSE_S:g} s until it does; all else is taken for "
                f"{how.fallback}. The ledger has its requests (`route_of`) and why they failed."
            )
        return kind

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the pool without asking: by a word that is remembered, or the fallback."""
        how, room = policy.classifier, self._rooms.get(policy.name)
        if how is None or room is None:  # no policy of ours: nothing is known of its targets
            return _ranked(policy.pool, why="")
        if not _matters(how, policy):
            return _ranked(_order(how, policy, how.fallback), why="")
        words = shown(request)
        word = room.memory.find(_key(words, request, policy, how)) if words else None
        if word is not None:
            room.counts["remembered"] += 1
            return _ranked(_order(how, policy, word), why=f"classifier: {word}, remembered")
        return self._by("skipped", policy, how, room)

    async def rank_by(self, heard: object, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the pool by what `heard` gave."""
        how, room = policy.classifier, self._rooms.get(policy.name)
        kind = next((known for known in get_args(Kind) if known == heard), None)
        if how is None or room is None or kind is None:
            return await self.rank(request, policy)
        return self._by(kind, policy, how, room)

    def _by(self, kind: Kind, policy: Policy, how: ClassifierPolicy, room: _Room) -> tuple[Candidate, ...]:
        room.counts[kind] += 1
        if kind == "simple" or kind == "complex":
            return _ranked(_order(how, policy, kind), why=f"classifier: {kind}")
        return _ranked(_order(how, policy, how.fallback), why=f"classifier: {kind}, so {how.fallback}")

    def verdicts(self) -> Mapping[str, Verdicts]:
        """Say what requests were ranked by, and how long asks took."""
        return {
            name: Verdicts(dict(room.counts), tuple(room.took_counts), room.took_ns)
            for name, room in self._rooms.items()
        }

    def follow(self, before: Router) -> None:
        """Take over what was heard for the policies that are still there."""
        if isinstance(before, ClassifierRouter):
            self._rooms |= {name: room for name, room in before._rooms.items() if name in self._rooms}  # noqa: SLF001


def _order(how: ClassifierPolicy, policy: Policy, word: Word) -> tuple[str, ...]:
    """Order a pool, which goes from small to large, for what is simple or complex; the nearest stand by first."""
    pool = policy.pool if word == "simple" else policy.pool[::-1]
    named = how.simple if word == "simple" else how.complex
    first = [name for name in named if name in pool] or pool[:1]
    return (*first, *(name for name in pool if name not in first))


def _matters(how: ClassifierPolicy, policy: Policy) -> bool:
    """Say whether the two words send a request to different targets."""
    return _order(how, policy, "simple")[0] != _order(how, policy, "complex")[0]


def _key(words: str, request: Request, policy: Policy, how: ClassifierPolicy) -> bytes:
    """Digest what the model is shown, but for how it is spaced, for whom, and which model that is."""
    parts = (request.tenant, policy.name, policy.digest, how.digest, " ".join(words.split()))
    return blake2b(_encode(parts), digest_size=16).digest()


def _ranked(order: tuple[str, ...], *, why: str) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(target=name, score=float(len(order) - i), probability=0.0 if i else 1.0, why=why)
        for i, name in enumerate(order)
    )


def build(settings: Settings, kit: Kit) -> ClassifierRouter:  # the seam's shape
    """Build the router for the policies that name it."""
    return ClassifierRouter(tuple(n for n, policy in settings.policies.items() if policy.classifier is not None), kit)
