"""The cascade of a policy against its pool.

Not here: what is made of answers (`routing/cascade/`).
"""

from collections.abc import Iterator

from trivet.config.misfits import Misfit, Place, either, shown
from trivet.config.settings import CascadeSection, PolicySettings, seconds

ROUTE = "cascade"

MOST_CHEAP = 15
"""Answers of cheap targets for one request."""


def conflicts_of_cascade(policy: PolicySettings, at: Place) -> Iterator[Misfit]:
    """Check who is asked first, and what has to be so for their answers to be served."""
    how, at = policy.cascade, (*at, "cascade")
    if policy.route != ROUTE:
        if how is not None:
            yield at, f'Only route = "{ROUTE}" asks cheap targets first. Write that, or remove the section.'
        return
    how = how or CascadeSection()
    if len(policy.pool) < 2:
        yield at[:-1], "A cascade has a cheap target and a large one. Add another to `pool`, or remove `route`."
    if how.large and how.large not in policy.pool:
        words = f"{shown(how.large)} is not in the pool of this policy. Write one of {either(policy.pool)}."
        yield (*at, "large"), words
    cheap = len(policy.pool) - 1
    asked = cheap * how.samples
    if how.agree > asked >= 1:
        words = f"At most {asked} answer{'s' if asked > 1 else ''} of cheap targets can agree, so never {how.agree}."
        yield (*at, "agree"), f"{words} Write {asked} or less, or add a target or `samples`."
    if asked > MOST_CHEAP:
        yield (*at, "samples"), f"{asked} answers for one request are too many: {MOST_CHEAP} are the most."
    if how.samples > 1 and policy.router:
        yield (*at, "samples"), "A trained router knows one answer of each target. Remove the line, or `router`."
    if seconds(how.within) < 0.001:
        yield (*at, "within"), "In no time nothing is answered. Write at least 1ms."
