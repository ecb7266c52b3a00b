"""The floors of a policy that holds a quality: its own, and stricter ones that requests ask for, each with its rule.

Not here: how a rule is found (`live.py`), which loads numpy and all that a router file needs.
Invariants: a laxer floor than the policy's changes nothing; each floor is planned once, off the event loop.
"""

import asyncio
from math import ceil
from typing import TYPE_CHECKING, Any

from trivet.routing.triangle.router import FLOORS
from trivet.seams import Known
from trivet.types import Aim, CascadePolicy, Policy, Request

if TYPE_CHECKING:
    from trivet.routing.cascade.live import Live


class Floors:
    """The rules of one policy that holds a quality: its own floor, and stricter ones that requests ask for."""

    def __init__(self, policy: Policy, aim: Aim, how: CascadePolicy, known: Known) -> None:
        self._policy, self._aim, self._how, self._known = policy, aim, how, known
        self._made: dict[float | None, Live] = {}
        self.digest = ""

    def floor(self, asked: float | None) -> float | None:
        """Give the floor that a request asks for, where it is stricter; rounded up, so that each is planned once."""
        if asked is None or (self._aim.quality is not None and asked <= self._aim.quality):
            return None
        return min(1.0, ceil(asked * FLOORS - 1e-9) / FLOORS)

    async def live(self, floor: float | None) -> "Live":
        """Give the rule for a floor; the first time takes a second. Raises ConfigError."""
        made = self._made.get(floor)
        if made is None:
            made = await asyncio.to_thread(self._compiled, floor)
            made = self._made.setdefault(floor, made)
            self.digest = made.digest
        return made

    def _compiled(self, floor: float | None) -> "Live":
        from trivet.routing.cascade.live import compiled

        return compiled(self._policy, self._aim, self._how, self._known, quality=floor)

    def told(self, text: str) -> dict[str, Any]:
        """Say what is expected of the policy, and of a text."""
        live = self._made[None]
        held = live.rule.held
        return {
            "cheap": list(live.order),
            "at_once": live.at_once(text),
            "threshold": live.rule.threshold if held.step else None,
            "quality": held.quality,
            "at_least": held.at_least,
            "cost_of_large": live.rule.cost,
            "labels": held.labels,
            "labels_of": live.of,
            "plan": live.summary(self._policy.name),
        }

    async def of(self, request: Request) -> "Live":
        """Give the rule that a request is under."""
        return await self.live(self.floor(request.controls.quality))
