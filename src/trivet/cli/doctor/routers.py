"""Policies that hold a leg of the triangle: whether their router is there, and whether they can be held.

Not here: planning (`routing/triangle`), which is done as `trivet serve` does it.
"""

from collections.abc import Mapping

import msgspec

from trivet import build
from trivet.cli.doctor.check import Check, bad, ok
from trivet.config import Settings
from trivet.errors import TrivetError


async def router_checks(settings: Settings, env: Mapping[str, str]) -> list[Check]:
    """Plan each policy that has a router, alone."""
    checks = []
    for name, policy in settings.policies.items():
        if not policy.router:
            continue
        what, told = f"router of {name}", list[str]()
        try:
            await build.offline(msgspec.structs.replace(settings, policies={name: policy}), env, tell=told.append)
        except TrivetError as error:
            fix = f"Hold less, or make a router: trivet route train OUTCOMES --out {policy.router}"
            checks.append(bad(what, str(error), fix))
        else:
            checks.append(ok(what, "; ".join(told) or policy.router))
    return checks
