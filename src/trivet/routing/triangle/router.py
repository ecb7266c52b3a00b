"""The routers `learned` and `clusters`: each request to the target that is worth most, as a trained router estimates.

What a policy holds is compiled to one number, the weight of the price (`pool/plan.py`), when it is put in force; what
cannot be held is refused then, with what can be had. A request's text gives a chance to be right for each target; the
best of chance minus weight times price is asked first, the others stand by in their order.

Text of which training has seen few words goes to the reference: estimates say nothing of it. A conversation stays
with the target that has its beginning in its prompt cache where going elsewhere costs more and is no better.

Not here: who can answer at all (`rules.py`), estimates and labels (`basis.py`).
Invariants: a policy that is compiled holds what it says, or was refused; a router file that cannot be used changes
nothing; asking does no I/O.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trivet.config import Settings
from trivet.errors import BadRequestError, ConfigError
from trivet.routing.needs import told
from trivet.routing.triangle.stick import BYTES_A_TOKEN, Conversations, Held, Turn, turn
from trivet.seams import Kit, Known, Rates
from trivet.types import Aim, Candidate, Policy, Request

if TYPE_CHECKING:  # numpy, and what needs it, is loaded where a policy is routed by it
    from trivet.routing.learned.learned import Learned
    from trivet.routing.pool.plan import Ask, Plan, Point, Refused
    from trivet.routing.triangle.basis import Basis, By

FAMILIAR = 0.7
"""Share of a text's words that training or the embedder's English vocabulary has, below which estimates are not used:
1 in 1,000 of 11,920 exam questions is below 0.74; French has 0.67, German 0.4, Japanese 0."""

SHORT = 80
"""Characters: a shorter last turn ("why?") is read with those before it."""

MOST_READ = 4000
"""Characters of a conversation that are read."""

LEAST_CACHED = 1024
"""Tokens that a prompt needs for providers to cache its beginning (OpenAI, and Anthropic's larger models)."""

OUTPUT_TOKENS = 300.0
"""Of an answer, where none was measured yet."""

FLOORS = 100
"""A stricter floor that a request asks for is rounded up to the next of so many: each is planned once."""


class Compiled:
    """A policy that is routed by what was learned."""

    def __init__(self, policy: Policy, aim: Aim, basis: "Basis", rates: Mapping[str, Rates], output: float) -> None:
        self.policy, self.aim, self.basis = policy, aim, basis
        self.rates, self.output = rates, output
        means = basis.evidence.estimates.mean(axis=0) if len(basis.evidence.estimates) else [0.0] * len(basis.names)
        self.usual = [float(mean) for mean in means]
        """How likely each target is to be right, of a text that says nothing."""
        self._plans: dict[float | None, Plan | str] = {}
        """By floor; text: why there is none."""

    def plan(self, floor: float | None = None) -> "Plan":
        """Give the plan for a floor; None: the policy's own. The first time takes some tens of milliseconds.

        Raises:
            ConfigError: it cannot be held, and what can.
        """
        made = self._plans.get(floor)
        if made is None:
            made = self._plans[floor] = _planned(ask(self.aim, quality=floor), self.basis)
        if isinstance(made, str):
            raise ConfigError(made)
        return made

    def planned(self, floor: float | None) -> bool:
        """Say whether that plan is made already."""
        return floor in self._plans


class LearnedRouter:
    """Routes by trained routers, one for each policy that names one."""

    def __init__(self, kit: Kit, *, by: "By" = "learned") -> None:
        self._tell, self._by = kit.tell, by
        self.compiled: dict[str, Compiled] = {}
        """By policy."""
        self._held = Conversations(kit.clock)

    async def compile(self, policies: Sequence[Policy], known: Known) -> None:
        """Load the routers and plan. Raises ConfigError: there is none, or what a policy holds cannot be held."""
        made = await asyncio.to_thread(compiled, policies, known, by=self._by)
        for one in made.values():
            self._tell(summary(one))
        self.compiled = made

    def digest(self, policy: str) -> str:
        """Give the digest of the router file."""
        made = self.compiled.get(policy)
        return made.basis.digest if made else ""

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the pool, what is worth most first.

        Raises:
            BadRequestError: a floor is asked for that cannot be held.
        """
        made = self.compiled.get(policy.known_as or policy.name)
        if made is None:  # no policy of the configuration: nothing is known of its targets
            return _ranked([(name, 0.0) for name in policy.pool], why="")
        floor = _floor(made, request)
        try:
            plan = made.plan(floor) if made.planned(floor) else await asyncio.to_thread(made.plan, floor)
        except ConfigError as error:
            raise BadRequestError(
                f"x-trivet-quality: {floor:g} cannot be held by {policy.name!r}. {error}", param="x-trivet-quality"
            ) from None
        return self._ordered(request, policy, made, plan)

    def explain(self, request: Request, policy: Policy) -> Mapping[str, Any]:
        """Say what is thought of a request, and what the policy rests on. Raises ConfigError."""
        made = self.compiled[policy.name]
        floor = _floor(made, request)
        plan, text = made.plan(floor), words_of(request)
        estimates, known = made.basis.read(text)
        return {
            "targets": {
                name: {
                    "likely": estimates[i],
                    "price": plan.prices[i] if math.isfinite(plan.prices[i]) else None,
                    "worth": estimates[i] - max(plan.weight, 0.0) * plan.prices[i],
                }
                for i, name in enumerate(plan.names)
            },
            "price_in": "s" if made.aim.best == "latency" else "USD",
            "familiar": known,
            "weight": plan.weight,
            "reference": plan.names[plan.reference],
            "floor": floor or made.aim.quality,
            "confidence": made.aim.confidence,
            "labels": plan.labels,
            "labels_of": made.basis.of,
            "router": made.basis.digest,
            "plan": summary(made, floor),
            "curve": [
                {
                    "quality": point.quality,
                    "cost_usd": point.cost_usd if math.isfinite(point.cost_usd) else None,
                    "ttft_s": point.ttft_s if math.isfinite(point.ttft_s) else None,
                    "shares": dict(zip(plan.names, point.shares, strict=True)),
                    "held": point.weight == plan.weight,
                }
                for point in shown(plan)
            ],
        }

    def _ordered(self, request: Request, policy: Policy, made: Compiled, plan: "Plan") -> tuple[Candidate, ...]:
        names, reference, why = plan.names, plan.reference, ""
        chances, known = made.basis.read(words_of(request))
        if known < FAMILIAR:
            chances, why = made.usual, "unfamiliar text"
            order = sorted(range(len(names)), key=chances.__getitem__, reverse=True)
            order.remove(reference)
            order.insert(0, reference)
        else:
            order = plan.choose(chances)
            if plan.weight < 0.0:
                why = f"all to {names[reference]}: too few labels"
        if policy.pool != names:
            order = [i for i in order if names[i] in policy.pool]
        if len(order) > 1 and _long(request, made.aim) and (seen := turn(request, policy.name)) is not None:
            held = self._held.held(seen, within_s=made.aim.sticky_s)
            likely = dict(zip(names, chances, strict=True))
            others = [names[i] for i in order[1:]]
            if held and held.target in others and stays(held, seen, names[order[0]], likely, made, names[reference]):
                order.insert(0, order.pop(1 + others.index(held.target)))
                why = f"stays: {held.tokens} tokens are cached"
            self._held.keep(seen, names[order[0]])
        if not why:
            why = f"{chances[order[0]]:.2f} of {max([chances[i] for i in order]):.2f} likely"
        return _ranked([(names[i], chances[i]) for i in order], why=why)


def _long(request: Request, aim: Aim) -> bool:
    """Say whether a conversation may be worth staying with: whether enough of it can be in a prompt cache."""
    raw = request.fields.get("messages")
    return aim.sticky_s > 0 and raw is not None and memoryview(raw).nbytes >= LEAST_CACHED * BYTES_A_TOKEN


def stays(held: Held, seen: Turn, first: str, chances: Mapping[str, float], made: Compiled, reference: str) -> bool:
    """Say whether a conversation is better left where it is: no dearer there, with what is cached, and no worse.

    The reference is no worse than what is promised, whatever estimates say of a text.
    """
    here, there = made.rates.get(held.target), made.rates.get(first)
    if here is None or there is None or held.tokens < LEAST_CACHED:
        return False
    if held.target != reference and chances[held.target] < chances[first]:
        return False
    cost = held.tokens * here.cached + (seen.tokens - held.tokens) * here.input + made.output * here.output
    return cost <= seen.tokens * there.input + made.output * there.output


def _floor(made: Compiled, request: Request) -> float | None:
    asked, held = request.controls.quality, made.aim.quality
    if asked is None or (held is not None and asked <= held):
        return None
    return min(1.0, math.ceil(asked * FLOORS - 1e-9) / FLOORS)


def _ranked(order: Sequence[tuple[str, float]], *, why: str) -> tuple[Candidate, ...]:
    (first, score), *others = order
    rest = [Candidate(target=name, score=score, probability=0.0) for name, score in others]
    return (Candidate(target=first, score=score, why=why), *rest)


def words_of(request: Request) -> str:
    """Give the text that is routed: what the user said last; where that is short, with what was said before."""
    if request.kind == "completions":
        return _prompt(request)
    said = told(request)
    if not said or len(said[-1]) >= SHORT:
        return said[-1] if said else ""
    return "\n".join(filter(None, said))[-MOST_READ:]


def _prompt(request: Request) -> str:
    try:
        found = msgspec.json.decode(request.fields.get("prompt", b'""'))
    except (msgspec.MsgspecError, UnicodeError):
        return ""
    return found if isinstance(found, str) else found[0] if found and isinstance(found[0], str) else ""


def compiled(policies: Sequence[Policy], known: Known, *, by: "By") -> dict[str, Compiled]:
    """Load the routers of policies and plan. Raises ConfigError."""
    from trivet.routing.learned import learned

    files: dict[str, Learned] = {}
    made = {}
    for policy in policies:
        assert policy.aim is not None
        file = policy.aim.router
        if file not in files:
            files[file] = learned.load(Path(file).expanduser())
        made[policy.name] = _compiled(policy, policy.aim, files[file], known, by=by)
    return made


def _compiled(policy: Policy, aim: Aim, router: "Learned", known: Known, *, by: "By") -> Compiled:
    from trivet.routing.triangle.basis import basis

    at = f"policies.{policy.name}"
    try:
        found = basis(router, {name: known.models.get(name, name) for name in policy.pool}, known.profiles, by=by)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from error
    lengths = [p.output_tokens for name in policy.pool if (p := known.profiles.get(name)) and p.output_tokens > 0]
    output = sum(lengths) / len(lengths) if lengths else OUTPUT_TOKENS
    made = Compiled(policy, aim, found, known.rates, output)
    try:
        made.plan()
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from None
    return made


def _planned(ask: "Ask", basis: "Basis") -> "Plan | str":
    from trivet.routing.pool.plan import Refused, plan

    try:
        made = plan(ask, basis.evidence)
    except ValueError as error:
        return str(error)
    return f"{made.why}{had(made)}" if isinstance(made, Refused) else made


def ask(aim: Aim, *, quality: float | None = None) -> "Ask":
    """Say what a policy wants in the words of a plan."""
    from trivet.routing.pool.plan import Ask

    return Ask(
        aim=aim.best,
        quality=quality or aim.quality,
        reference=aim.reference,
        cost_usd=None if aim.cost_nanos is None else aim.cost_nanos / 1e9,
        ttft_s=aim.ttft_s,
        percentile=aim.percentile,
        confidence=aim.confidence,
    )


def had(refused: "Refused") -> str:
    """Say what can be had instead."""
    if not refused.curve:
        return ""
    points = [
        f"quality {point.quality:.3f} at ${point.cost_usd:.3g} a request"
        + (f", first token in {point.ttft_s:.2g} s" if math.isfinite(point.ttft_s) else "")
        for point in refused.curve[:: max(1, len(refused.curve) // 5)]
    ]
    return f" What can be had: {'; '.join(points)}."


def shown(plan: "Plan") -> "list[Point]":
    """Give a few points of what can be had, the one in force among them."""
    points = [point for i, point in enumerate(plan.curve) if not i or point.shares != plan.curve[i - 1].shares]
    step = max(1, len(points) // 8)
    return [point for i, point in enumerate(points) if not i % step or point is points[-1] or point == plan.point]


def summary(made: Compiled, floor: float | None = None) -> str:
    """Say in a line what a policy does."""
    plan = made.plan(floor)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(plan.names, plan.point.shares, strict=True))
    reference = plan.names[plan.reference]
    held = ""
    if made.aim.quality is not None:
        held = f" At least {floor or made.aim.quality:g} of {reference}'s quality, {made.aim.confidence:.0%} sure,"
    return f"Policy {made.policy.name!r}: {shares}.{held} by {plan.labels:,} labels of {made.basis.of}."


def build(settings: Settings, kit: Kit) -> LearnedRouter:  # the seam's shape
    """Build the router; it is ready once it is compiled."""
    return LearnedRouter(kit)


def build_clusters(settings: Settings, kit: Kit) -> LearnedRouter:  # the seam's shape
    """Build the router `clusters`: the same, but for where estimates come from."""
    return LearnedRouter(kit, by="clusters")
