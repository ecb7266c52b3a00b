"""What comes before any router: who can answer at all, and the rules that the policy states.

Of the pool those are left that can do what the request needs, hold its prompt, and may be called by its key; then the
first rule that fits says who is asked first. Where none does, the policy's router decides, among those that are left.

Not here: residency, which takes targets out when a policy is compiled (`policies.py`); needs (`needs.py`).
Invariants: a target that lacks what is needed is never ranked; a target that is named directly is never second-guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from trivet.config import Settings
from trivet.errors import BadRequestError
from trivet.routing.fixed import Fixed
from trivet.routing.needs import Needs
from trivet.seams import Ask, Asking, Heard, Kit, Router, Step, Verdicts, Weighing
from trivet.types import Candidate, Policy, Request, Rule

MAX_POOLS = 1000
"""Pools that were made smaller and are remembered: there are as many as there are kinds of requests."""


class Able(NamedTuple):
    """What is known of a target."""

    lacks: frozenset[str] = frozenset()
    """Of `needs.ABILITIES`."""
    context: Callable[[], int | None] = lambda: None
    """Tokens that it holds; None: unknown. Asked for each time: a model that is still being loaded learns it late."""


class Ruled:
    """A router, with all that comes before it."""

    def __init__(self, inner: Router, able: Mapping[str, Able]) -> None:
        self._inner, self._able = inner, able
        self._asking = inner if isinstance(inner, Asking) else None
        self._smaller: dict[tuple[str, tuple[str, ...]], Policy] = {}

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order those that can answer, best first.

        Raises:
            BadRequestError: nobody in the pool can.
        """
        if policy.transparent:
            return await self._inner.rank(request, policy)
        left = self._left(request, policy)
        if isinstance(left, tuple):
            return left
        return _noted(await self._inner.rank(request, left), request, left, policy)

    def ask(self, request: Request, policy: Policy) -> Ask | None:
        """Ask what the router would, where it is for the router to decide. Raises BadRequestError as `rank` does."""
        if self._asking is None or policy.transparent:
            return None
        left = self._left(request, policy)
        return None if isinstance(left, tuple) else self._asking.ask(request, left)

    def heard(self, ask: Ask, body: bytes | None, *, took_ns: int, late: bool) -> object:
        """Let the router hear it."""
        assert self._asking is not None
        return self._asking.heard(ask, body, took_ns=took_ns, late=late)

    async def rank_by(self, heard: object, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order those that can answer, by what the router heard. Raises BadRequestError as `rank` does."""
        assert self._asking is not None
        left = self._left(request, policy)
        if isinstance(left, tuple):
            return left
        return _noted(await self._asking.rank_by(heard, request, left), request, left, policy)

    async def weigh(
        self, request: Request, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str], *, last: bool
    ) -> Step:
        """Let the router look at answers, with those of the pool that can answer."""
        assert isinstance(self._inner, Weighing)
        left = self._left(request, policy)
        return await self._inner.weigh(request, policy if isinstance(left, tuple) else left, heard, waiting, last=last)

    def weighed(self) -> Mapping[str, Mapping[str, int]]:
        """Say how requests ended whose answers the router looked at."""
        return self._inner.weighed() if isinstance(self._inner, Weighing) else {}

    def drifted(self) -> Mapping[str, bool]:
        """Say where answers agree otherwise than before."""
        return self._inner.drifted() if isinstance(self._inner, Weighing) else {}

    def verdicts(self) -> Mapping[str, Verdicts]:
        """Say what the router heard."""
        return self._asking.verdicts() if self._asking is not None else {}

    def _left(self, request: Request, policy: Policy) -> Policy | tuple[Candidate, ...]:
        """Give the policy with those that can answer, or their order where a rule says it. Raises BadRequestError."""
        if request.controls.quality is not None and policy.aim is None:
            raise BadRequestError(
                f"x-trivet-quality: {policy.name!r} holds no quality, so it cannot hold more of it. Leave it out, "
                "or ask for a policy that is routed by what was learned.",
                param="x-trivet-quality",
            )
        needs = Needs(request)
        pool = self._fit(needs, policy, request)
        for number, rule in enumerate(policy.rules, 1):
            if fits(rule, request, needs):
                first = [name for name in rule.use if name in pool]
                if first:
                    return _ranked(first, pool, why=f"rule {number}")
        return policy if pool == policy.pool else self._of(policy, pool)

    def _fit(self, needs: Needs, policy: Policy, request: Request) -> tuple[str, ...]:
        """Give those of the pool that can answer."""
        pool, able = policy.pool, self._able
        if any(name in able and able[name].lacks for name in pool):
            pool = tuple(n for n in pool if n not in able or not able[n].lacks & needs.abilities)
            if not pool:
                lack = {n: sorted(able[n].lacks & needs.abilities) for n in policy.pool}
                said = "; ".join(f"{name} lacks {' and '.join(what)}" for name, what in lack.items())
                raise BadRequestError(
                    f"No target of {policy.name!r} can answer this request: {said}. Ask for a target that can, or add "
                    "one to its pool.",
                    param="model",
                )
        if len(pool) > 1 and request.kind in ("chat", "completions"):
            # Tokens are only estimated, so where none has the room the largest is asked, and may say so itself.
            known = {name: context for name in pool if name in able and (context := able[name].context())}
            tight = set()
            if known and min(known.values()) < needs.most_room:
                tight = {name for name, context in known.items() if context < needs.room}
            if tight and len(tight) == len(pool):
                tight.discard(max(known, key=lambda name: known[name]))
            pool = tuple(name for name in pool if name not in tight)
        return pool

    def _of(self, policy: Policy, pool: tuple[str, ...]) -> Policy:
        key = (policy.digest, pool)
        made = self._smaller.get(key)
        if made is None:
            if len(self._smaller) >= MAX_POOLS:
                self._smaller.clear()
            made = self._smaller[key] = replace(policy, pool=pool)
        return made


def fits(rule: Rule, request: Request, needs: Needs) -> bool:
    """Say whether all that a rule names is so; the cheapest is asked first."""
    labels = request.labels
    for wanted, has in ((rule.feature, labels.feature), (rule.agent, labels.agent), (rule.customer, labels.customer)):
        if wanted and has not in wanted:
            return False
    if rule.key and request.key_id not in rule.key:
        return False
    if rule.header and not rule.header <= frozenset(request.headers):
        return False
    if rule.needs is not None and not rule.needs <= needs.abilities:
        return False
    if rule.lacks and rule.lacks & needs.abilities:
        return False
    if rule.tokens_from and needs.tokens < rule.tokens_from:
        return False
    if rule.tokens_below and needs.tokens >= rule.tokens_below:
        return False
    return not rule.language or needs.language in rule.language


def _noted(ranked: tuple[Candidate, ...], request: Request, left: Policy, policy: Policy) -> tuple[Candidate, ...]:
    """Add why some of the pool are not there, where they are not and nothing else is said."""
    if len(left.pool) == len(policy.pool):
        return ranked
    out = " ".join(sorted(Needs(request).abilities)) or "context"
    return tuple(replace(c, why=c.why or f"{len(left.pool)} of {len(policy.pool)} can: {out}") for c in ranked)


def _ranked(first: list[str], pool: tuple[str, ...], *, why: str) -> tuple[Candidate, ...]:
    order = [*first, *(name for name in pool if name not in first)]
    last = len(order)
    return tuple(
        Candidate(target=name, score=float(last - i), probability=0.0 if i else 1.0, why=why)
        for i, name in enumerate(order)
    )


def build(settings: Settings, kit: Kit) -> Router:  # the seam's shape
    """Build the router `rules`: where no rule fits, the pool in the order that it is written."""
    return Fixed()
