"""`GET /v1/models`: every name that can be asked for, in OpenAI's shape, and what is known of it under `trivet`.

Not here: what a name means (`routing/policies.py`), prices (`ledger/prices.py`). What is not known is left out.
"""

from typing import Any

from trivet.routing import permits
from trivet.tally import Stages
from trivet.types import Permit, Policy

Json = dict[str, Any]

_USUAL = frozenset({"chat"})
"""What a provider can be asked for that does not say (`kinds`)."""


def listed(stages: Stages, permit: Permit) -> list[Json]:
    """Describe all names that a key may ask for, in the order of the file."""
    return [described(name, stages, permit) for name in permits.names(stages.policies, permit)]


def described(name: str, stages: Stages, permit: Permit) -> Json:
    """Describe one name, with those of its targets that a key may call. Raises UnknownModelError, PermitError."""
    told: Json = {}
    policy = permits.narrowed(permits.find(stages.policies, name, permit), permit)
    wildcard = name.removesuffix("/*")
    if wildcard != name and wildcard in stages.providers:
        told = {"kind": "wildcard", **_target(wildcard, stages)}
    else:
        meant = stages.policies.alias(name)
        told = _policy(policy, stages)
        if meant is not None:
            told = {**told, "kind": "alias", "of": meant}
    return {"id": name, "object": "model", "created": 0, "owned_by": told.get("provider", "trivet"), "trivet": told}


def _policy(policy: Policy, stages: Stages) -> Json:
    if policy.transparent:
        return {"kind": "target", **_target(policy.pool[0], stages, model=policy.model)}
    asked = [_kinds(target, stages) for target in policy.pool]
    return {
        "kind": "policy",
        "pool": list(policy.pool),
        "route": policy.route,
        "cache": policy.cache.mode if policy.cache else "off",
        "baseline": policy.baseline,
        "asks": sorted(frozenset[str]().union(*asked)),
    }


def _target(name: str, stages: Stages, *, model: str = "") -> Json:
    target = stages.policies.targets[name]
    known: Json = {
        "provider": target.provider,
        "model": model or target.model,
        "region": target.region or None,
        "asks": sorted(_kinds(name, stages)),
        "context_tokens": _context(name, stages, model=model),
        "dimensions": getattr(stages.providers[name], "width", None),
        "price": stages.prices.told(name, model=model, at_ns=stages.clock.now_ns()),
        "ready": not stages.providers[name].ready(),
    }
    return {key: value for key, value in known.items() if value is not None}


def _context(target: str, stages: Stages, *, model: str) -> int | None:
    """Say how long a request may be: as the provider has set it, else as a list has it."""
    own: int | None = getattr(stages.providers[target], "context_tokens", None)
    return own or stages.prices.context(target, model=model)


def _kinds(target: str, stages: Stages) -> frozenset[str]:
    kinds: frozenset[str] = getattr(stages.providers[target], "kinds", _USUAL)
    return kinds
