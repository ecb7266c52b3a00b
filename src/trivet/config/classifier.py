"""The classifier of a policy against its pool and the other policies.

Not here: whether the model that it names is there, and may see the questions (`conflicts.py`).
"""

from collections.abc import Iterator, Mapping

from trivet.config.misfits import Misfit, Place, either, shown
from trivet.config.settings import PolicySettings, seconds

ROUTE = "classifier"


def conflicts_of_classifier(
    policy: PolicySettings, policies: Mapping[str, PolicySettings], at: Place
) -> Iterator[Misfit]:
    """Check who is asked, and what is done with its word."""
    how, at = policy.classifier, (*at, "classifier")
    if policy.route != ROUTE:
        if how is not None:
            yield at, f'Only route = "{ROUTE}" asks it. Write that, or remove the section.'
        return
    if how is None:
        yield at, 'The section is missing: who is asked, such as classifier = { model = "small" }.'
        return
    if how.model in policies and policies[how.model].route == ROUTE:
        words = "is routed by a classifier itself, which would have to be asked first. Write a target."
        yield (*at, "model"), f"{shown(how.model)} {words}"
    if seconds(how.timeout) < 0.001:
        yield (*at, "timeout"), "In no time nothing is said. Write at least 1ms."
    if how.prompt and not all(word in how.prompt.lower() for word in ("simple", "complex")):
        yield (*at, "prompt"), "The reply has to be `simple` or `complex`, so the prompt has to name both."
    for key in ("simple", "complex"):
        for i, name in enumerate(getattr(how, key)):
            if name not in policy.pool:
                words = f"{shown(name)} is not in the pool of this policy. Write one of {either(policy.pool)}."
                yield (*at, key, i), words
    simple, complex_ = how.simple or policy.pool[:1], how.complex or policy.pool[-1:]
    if len(policy.pool) > 1 and set(simple) & set(complex_):
        both = either(sorted(set(simple) & set(complex_)))
        yield at, f"{both} would get what is simple and what is complex. Name targets for one of them."
