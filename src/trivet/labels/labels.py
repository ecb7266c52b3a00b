"""What is known of how well targets answer: noted beside the requests, never in their way.

Not here: the disk (`file.py`), which requests have a shadow (`shadow.py`), reading for people (`report.py`).
Invariants: nothing is kept of a policy that does not say so; no fault of labels is one of a request; a tenant's
feedback reaches that tenant's requests alone.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from trivet.errors import LabelsError
from trivet.labels.compare import Asks, Verdict, compared
from trivet.labels.file import FILE, SOURCES, Asked, File, Hold, Label, Said, Spend, day
from trivet.labels.shadow import Other, other, takes_part
from trivet.routing.triangle.router import MOST_READ, words_of
from trivet.seams import Embedder, Kit
from trivet.types import Entry, Nanos, Policy, Request

MAX_TEXT = MOST_READ
"""Characters of a prompt that are kept: what routers are given of it (`routing/triangle/router.py`)."""

MAX_BYTES = 1_000_000
"""Of a conversation that is looked at: reading one takes a millisecond or two of everybody's time."""

_MOST_NANOS = 2**62
"""What SQLite can hold, and then some less."""

TROUBLES = ("budget", "price", "unfinished", "incomparable")
"""Why there is no label of a shadow: the day's budget is spent; a price is not known; one of the answers failed, is not
whole or is too long; or nobody could say whether they say the same."""


class Held(NamedTuple):
    """Money that was set aside for a shadow."""

    policy: str
    day: int
    nanos: Nanos


class LabelsState(NamedTuple):
    """How labels stand in this process, for `/metrics`."""

    asked: int
    """Requests that were noted."""
    labels: Mapping[str, int]
    """By source."""
    troubles: Mapping[str, int]


class Labels:
    """The labels of one engine, over all its configurations."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self._clock = kit, kit.clock
        self._file = File(kit.home / FILE, clock=kit.clock, tell=kit.tell)
        self._embedder: Embedder | None = None
        self._asked = 0
        self._labels: Counter[str] = Counter(dict.fromkeys(SOURCES, 0))
        self._troubles: Counter[str] = Counter(dict.fromkeys(TROUBLES, 0))
        self._unpriced: set[str] = set()

    async def start(self, policies: Iterable[Policy]) -> None:
        """Get ready for these policies: open the file, load an embedder, if one of them needs that.

        Raises:
            ConfigError: there is no such embedder.
        """
        every = list(policies)
        if self._embedder is None and any(p.shadow is not None and p.shadow.judge == "likeness" for p in every):
            self._embedder = self._kit.embedder("auto")
            await self._embedder.start()
        keeping = {policy.name: policy.labels.max_entries for policy in every if policy.labels is not None}
        self._file.bound(keeping)
        if keeping and not self._file.is_open:
            self._file.open()

    def note(self, request: Request, policy: Policy, entry: Entry) -> bool:
        """Keep an answered request, so that labels may come for it. False: it is none that they come for."""
        assert policy.labels is not None
        if request.kind != "chat" or memoryview(request.fields["messages"]).nbytes > MAX_BYTES:
            return False
        text = words_of(request)[:MAX_TEXT]
        if not text.strip():
            return False
        outcome = entry.outcome
        chance = next((c.probability for c in entry.candidates if c.target == outcome.target), 1.0)
        asked = Asked(
            id=entry.id,
            tenant=entry.tenant,
            policy=policy.name,
            prompt=_clean(text),
            domain=_clean(entry.labels.feature),
            target=outcome.target,
            probability=chance,
            router=entry.router_digest,
            cost_nanos=_cost(entry),
            at_ns=entry.at_ns,
            expires_ns=entry.at_ns + int(policy.labels.ttl_s * 1e9),
        )
        kept = self._file.put(asked)
        self._asked += kept
        return kept

    async def feedback(self, tenant: str, request_id: str, score: float) -> bool:
        """Take what a client says of an answer. False: nothing is kept of such a request of theirs.

        Raises:
            LabelsError: it cannot be written down now.
        """
        known = await self._file.ask(Said(request_id, tenant, score, self._clock.now_ns()))
        self._labels["feedback"] += known
        return known

    # Shadows.

    def drawn(self, request: Request, policy: Policy) -> bool:
        """Draw whether a request that is about to be answered is asked once more."""
        rules = policy.shadow
        return rules is not None and self._kit.random.random() < rules.share and takes_part(request, rules)

    def other(self, policy: Policy, answered: str, request: Request) -> Other | None:
        """Choose who is asked too; None: the key may call nobody else."""
        return other(policy, answered, request, self._kit.random)

    async def hold(self, policy: Policy, nanos: Nanos | None) -> Held | None:
        """Take what a shadow may cost off the day's budget. None: it must not be asked.

        Args:
            nanos: None: its price is not known, and a budget of unknown sums is none.
        """
        assert policy.shadow is not None
        if nanos is None:
            self._troubles["price"] += 1
            if policy.name not in self._unpriced:
                self._unpriced.add(policy.name)
                self._kit.tell(
                    f"Policy {policy.name!r} has no shadows: the price of {policy.shadow.target!r}, or of whom else it "
                    "would ask, is not known, so its budget could not hold. Set `price` there."
                )
            return None
        held = Held(policy.name, day(self._clock), nanos)
        try:
            granted = await self._file.ask(Hold(*held, limit=policy.shadow.budget_nanos))
        except LabelsError:
            return None  # the file has told, and counted
        self._troubles["budget"] += not granted
        return held if granted else None

    def spend(self, held: Held, entries: Sequence[Entry] | None) -> None:
        """Count what the requests of a shadow cost in place of what was held; all of that where it is not known."""
        costs = [None] if entries is None else [_cost(entry) for entry in entries]
        nanos = held.nanos if None in costs else sum(cost for cost in costs if cost is not None)
        self._file.put(Spend(held.policy, held.day, held.nanos, nanos))

    async def compared(self, served: bytes, shadow: bytes, *, by: str, question: str) -> Verdict | Asks | None:
        """Compare two answers; see `compare.py`."""
        return await compared(served, shadow, by=by, question=question, embedder=self._embedder)

    def agreed(self, served: Entry, shadow: Entry, asked: Other, *, large: str, verdict: Verdict) -> None:
        """Keep what a shadow told of both its targets: the large one is the reference, and counts as good."""
        for entry in (served, shadow):
            reference = entry.outcome.target == large
            label = Label(
                id=served.id,
                target=entry.outcome.target,
                source=verdict.source,
                score=1.0 if reference or verdict.same else 0.0,
                propensity=asked.propensity,
                likeness=verdict.likeness,
                reference=reference,
                cost_nanos=_cost(entry),
                at_ns=shadow.at_ns,
            )
            self._file.put(label)
        self._labels[verdict.source] += 1

    def failed(self, why: str) -> None:
        """Count a shadow of which there is no label: one of `TROUBLES`."""
        self._troubles[why] += 1

    # Beside all that.

    def state(self) -> LabelsState:
        """Say how they stand."""
        return LabelsState(self._asked, dict(self._labels), {**self._troubles, **self._file.troubles})

    async def aclose(self) -> None:
        """Write what waits, and let go of everything. May be called twice."""
        if self._embedder is not None:
            await self._embedder.aclose()
            self._embedder = None
        try:
            await asyncio.to_thread(self._file.close)
        except RuntimeError:  # the interpreter is ending and starts no threads any more (`trivet.openai()` at exit)
            self._file.close()


def _cost(entry: Entry) -> int | None:
    """Give what a request cost; None where that is not known in full."""
    outcome = entry.outcome
    return None if outcome.cost_nanos is None or outcome.cost_unknown else min(int(outcome.cost_nanos), _MOST_NANOS)


def _clean(text: str) -> str:
    """Write a text so that it can be in a file: half a character, which JSON can hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
