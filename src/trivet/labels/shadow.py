"""Shadows: which requests are asked once more, of whom, and what that may cost.

Not here: asking (`pipeline.py`), comparing the answers (`compare.py`), the budget (`file.py`).
Invariants: a target that the key of the request may not call is never a shadow of it; what we ask ourselves has none.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from trivet.cache.semantic import jury
from trivet.ledger.prices import Prices
from trivet.routing.needs import Needs
from trivet.routing.policies import Policies
from trivet.seams import Random
from trivet.types import Controls, Nanos, Policy, Request, ShadowPolicy, Usage

OUTPUT_TOKENS = 4096
"""Of an answer whose request sets no bound: what is held for it. Models in use write a tenth of that, mostly."""

HELD_NS = 60_000_000_000
"""Of a machine that is paid by the hour: what is held for one answer."""

WITHIN_MS = 120_000
"""For the first word of a shadow: nobody waits, but it must end."""

_BY_MODEL = 2 * (len(jury.SYSTEM) + 3 * jury.MAX_CHARACTERS * 4)
"""Bytes, so tokens at the most, of the two requests that have a model compare answers."""


class Other(NamedTuple):
    """Who is asked too."""

    target: str
    propensity: float
    """With which this request came to be asked of this target."""


def takes_part(request: Request, rules: ShadowPolicy) -> bool:
    """Say whether a request is one of those that may have a shadow."""
    ours = request.audit_of or request.judge_of or request.shadow_of or request.route_of
    if request.kind != "chat" or request.n != 1 or ours:
        return False
    return rules.tools or "tools" not in Needs(request).abilities


def other(policy: Policy, answered: str, request: Request, random: Random) -> Other | None:
    """Choose who is asked too: the policy's target, or if that one has answered, another of the pool by chance."""
    rules = policy.shadow
    assert rules is not None
    pool = (rules.target,) if answered != rules.target else tuple(name for name in policy.pool if name != answered)
    if request.permit.targets:
        pool = tuple(name for name in pool if name in request.permit.targets)
    if not pool:
        return None
    chosen = pool[min(int(random.random() * len(pool)), len(pool) - 1)]
    return Other(chosen, rules.share / len(pool))


def again(request: Request, *, at_ns: int) -> Request:
    """Make the request that asks the same, not streamed, with no cache."""
    fields = {name: value for name, value in request.fields.items() if name not in ("stream", "stream_options")}
    return replace(
        request,
        id=f"{request.id}-shadow",
        fields=fields,
        stream=False,
        wants_usage=False,
        controls=Controls(cache="off", deadline_ms=WITHIN_MS),
        at_ns=at_ns,
        shadow_of=request.id,
    )


def alone(policy: Policy, target: str) -> Policy:
    """Make the policy by which a shadow is asked: on the same account, one target, no levers."""
    return replace(policy, pool=(target,), route="fixed", rules=(), aim=None, cache=None, labels=None, shadow=None)


def room(request: Request, target: str, rules: ShadowPolicy, policies: Policies, prices: Prices) -> Nanos | None:
    """Say what a shadow, and comparing it, may cost at the most; None: a price is not known.

    A token has at least a byte, so the prompt cannot have more tokens than bytes. An answer without a bound of its own
    may be longer than what is held for it.
    """
    written = sum(memoryview(value).nbytes for value in request.fields.values())
    usage = Usage(input_tokens=written, output_tokens=_bound(request.fields))
    costs = [prices.cost(target, model="", usage=usage, took_ns=HELD_NS, at_ns=request.at_ns).nanos]
    if rules.judge not in ("equality", "likeness"):
        usage = Usage(input_tokens=_BY_MODEL, output_tokens=2 * jury.MAX_TOKENS)
        each = [
            prices.cost(name, model="", usage=usage, took_ns=HELD_NS, at_ns=request.at_ns).nanos
            for name in policies.find(rules.judge).pool
        ]
        costs.append(None if None in each else max(nanos for nanos in each if nanos is not None))
    return None if None in costs else Nanos(sum(nanos for nanos in costs if nanos is not None))


def _bound(fields: Mapping[str, Raw]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        asked = bytes(fields.get(name, b""))
        if asked.isdigit() and len(asked) < 10:
            return int(asked)
    return OUTPUT_TOKENS
