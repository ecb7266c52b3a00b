"""The fixed router: the pool in the order it is written. The first answers, the others stand by.

Not here: when to go on to the next one (`act` in `pipeline.py`).
"""

from trivet.config import Settings
from trivet.seams import Kit
from trivet.types import Candidate, Policy, Request


class Fixed:
    """Ranks by the order of the pool; with certainty, so the propensity of the first is 1 and of the others 0."""

    def __init__(self) -> None:
        self._ranked: dict[tuple[str, ...], tuple[Candidate, ...]] = {}  # as many as there are pools

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:  # the seam's shape
        """Give the pool as it is written."""
        ranked = self._ranked.get(policy.pool)
        if ranked is None:
            last = len(policy.pool)
            ranked = self._ranked[policy.pool] = tuple(
                Candidate(target=name, score=float(last - i), probability=0.0 if i else 1.0)
                for i, name in enumerate(policy.pool)
            )
        return ranked


def build(settings: Settings, kit: Kit) -> Fixed:  # the seam's shape
    """Build the router; it needs nothing."""
    return Fixed()
