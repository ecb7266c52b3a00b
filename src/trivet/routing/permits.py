"""What a key may ask for, and who may be called for it: applied before the cache, the rules and any router.

Not here: where permissions are kept (`ledger/keys.py`), who shows which key (`server/auth.py`).
Invariants: a target that a key may not call is in no pool of its requests, so no rule and no router can rank it; what a
key may not ask for does not exist for it; a pool that was made smaller has a digest of its own, so that answers of
other targets, though of the same tenant, are never found for it in a cache.
"""

from hashlib import blake2b

from msgspec.structs import replace

from trivet.errors import PermitError, UnknownModelError
from trivet.routing.policies import Policies
from trivet.types import Permit, Policy


def find(policies: Policies, model: str, permit: Permit) -> Policy:
    """Look up a name for a key, with all targets of its pool.

    Raises:
        UnknownModelError: nothing that the key may ask for is called that. It does not say whether anything is.
    """
    if not permit.models:
        return policies.find(model)
    if _may_ask(policies, model, permit):
        try:
            return policies.find(model)
        except UnknownModelError:  # the key was made for a name that is not there any more
            pass
    raise UnknownModelError(model, known=names(policies, permit))


def narrowed(policy: Policy, permit: Permit) -> Policy:
    """Take the targets out of a policy's pool that a key may not call. Raises PermitError: nobody is left."""
    if not permit.targets:
        return policy
    pool = tuple(name for name in policy.pool if name in permit.targets)
    if len(pool) == len(policy.pool):
        return policy
    if not pool:
        raise PermitError(policy.name, may=permit.targets)
    digest = blake2b("\0".join((policy.digest, *pool)).encode(), digest_size=12).hexdigest()
    return replace(policy, pool=pool, digest=digest)


def may_call(policy: Policy, permit: Permit) -> bool:
    """Say whether a key may call any target of a policy."""
    return not permit.targets or any(name in permit.targets for name in policy.pool)


def names(policies: Policies, permit: Permit) -> tuple[str, ...]:
    """List the names that a key can ask for and be answered, in the order of the file."""
    every = policies.names()
    if permit.models:
        of_wildcards = tuple(name for name in permit.models if name not in every and "/" in name)
        every = tuple(n for n in (*every, *of_wildcards) if _may_ask(policies, n, permit))
    return tuple(name for name in every if _is_answered(policies, name, permit))


def _may_ask(policies: Policies, model: str, permit: Permit) -> bool:
    return any(name in permit.models for name in policies.known_as(model))


def _is_answered(policies: Policies, name: str, permit: Permit) -> bool:
    try:
        narrowed(policies.find(name), permit)
    except (UnknownModelError, PermitError):
        return False
    return True
