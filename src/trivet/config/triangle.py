"""The triangle of a policy against itself and its pool: which legs are held, which one is left.

Not here: whether measured data says that it can be held (`routing/triangle/`, when the policy is compiled).
"""

import json
from collections.abc import Iterator, Mapping

from trivet.config.misfits import Misfit, Place, either, shown
from trivet.config.settings import PolicySettings, TargetSettings, floor

CASCADE = "cascade"

TRAINED = ("learned", "clusters")
"""Routes that weigh the legs, by a trained router."""

_LEGS = ("minimize", "maximize", "quality", "ttft", "cost", "router")


def conflicts_of_triangle(policy: PolicySettings, targets: Mapping[str, TargetSettings], at: Place) -> Iterator[Misfit]:
    """Check what a policy holds and makes small."""
    said = [key for key in _LEGS if getattr(policy, key)]
    if policy.route == CASCADE:
        yield from _of_cascade(policy, said, at)
        return
    if policy.route not in TRAINED:
        for key in said:
            words = f"Only route = {either(map(json.dumps, TRAINED))} weighs that. Write it, or remove the line."
            yield (*at, key), words
        return
    if not policy.router:
        yield at, '`router` is missing: the file that `trivet route train` wrote, such as router = "router.trivet".'
    yield from _legs(policy, at)
    if policy.quality:
        yield from _reference(floor(policy.quality)[1], policy, targets, at)


def _of_cascade(policy: PolicySettings, said: list[str], at: Place) -> Iterator[Misfit]:
    """Check what a cascade holds: a quality, by a trained router, or nothing."""
    for key in said:
        if key not in ("quality", "router") and not (key == "minimize" and policy.minimize == "cost"):
            yield (*at, key), "A cascade holds a quality and makes the cost small, nothing else. Remove the line."
    if policy.quality and not policy.router:
        yield (*at, "quality"), 'Only a trained router can hold it. Write router = "router.trivet", or remove the line.'
    if policy.router and not policy.quality:
        yield (*at, "router"), 'No quality is held. Write quality = "0.98 of large", or remove the line.'
    large = (policy.cascade and policy.cascade.large) or policy.pool[-1]
    if policy.quality and (name := floor(policy.quality)[1]) not in ("", large):
        words = f"In this cascade {shown(large)} is the large one. Write its name, or {_large(name)}."
        yield (*at, "quality"), words


def _large(name: str) -> str:
    return f"cascade = {{ large = {json.dumps(name)} }}"


def _legs(policy: PolicySettings, at: Place) -> Iterator[Misfit]:
    if policy.minimize and policy.maximize:
        yield (*at, "maximize"), "One leg is left over, and `minimize` names it already. Remove one of the two lines."
        return
    left = "quality" if policy.maximize else policy.minimize or "cost"
    held = {"quality": policy.quality, "latency": policy.ttft, "cost": policy.cost}
    key = {"latency": "ttft"}.get(left, left)
    if held[left]:
        yield (*at, key), f"This leg is the one that is made as good as it can be. Remove it, or {_instead(left)}."
    elif not any(held.values()):
        words = 'cost = "$0.002"' if left == "quality" else 'quality = "0.98 of large"'
        yield at, f'No leg is held. Write {words}, or ttft = "p95 <= 800ms".'


def _instead(left: str) -> str:
    return 'write minimize = "latency"' if left == "cost" else 'write minimize = "cost"'


def _reference(name: str, policy: PolicySettings, targets: Mapping[str, TargetSettings], at: Place) -> Iterator[Misfit]:
    if name and name not in policy.pool:
        words = f"{shown(name)} is not in the pool of this policy. Write one of {either(policy.pool)}."
        yield (*at, "quality"), words
    elif name in targets and policy.residency and targets[name].region not in policy.residency:
        yield (*at, "quality"), f"{shown(name)} is never called: `residency` leaves its region out. Name another."
