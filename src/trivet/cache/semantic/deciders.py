"""Which decider a policy gets, by its `mode`."""

from trivet.cache.semantic.look import Decider
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.static import Static
from trivet.cache.semantic.vcache import VCache
from trivet.cache.semantic.verified import Verified
from trivet.seams import Random
from trivet.types import CachePolicy


def decider(rules: CachePolicy, embedder: str, *, random: Random) -> Decider:
    """Make the decider of a policy over an embedder of that name."""
    if rules.mode == "static":
        return Static(rules.threshold)
    if rules.mode == "vcache":
        return VCache(rules.max_error, random)
    return Verified(prior(embedder), rules.max_error)
