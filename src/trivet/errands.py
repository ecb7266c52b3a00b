"""Requests of Trivet's own, on the side of a client's: audits, comparisons, shadows, a router's question, vectors.

Each is a request like any other, on the account of the one that caused it, with an Entry of its own.

Not here: the way that they all go (`pipeline.py`), how many there may be at once (`aside.py`), what is made of their
answers (the cache, `labels/`, the routers).
Invariant: none of them has a cache, but for audits, so that none is ever kept, likened, audited or judged itself.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from trivet.errors import UpstreamError
from trivet.labels.compare import Asks, Verdict, heard
from trivet.labels.shadow import again, alone, room
from trivet.routing.needs import Needs
from trivet.seams import Ask, Asking, Doubt, Doubting, Given, Wanted
from trivet.tally import Stages, Tally, ours
from trivet.types import Call, Controls, Entry, Nanos, Policy, Request
from trivet.wire.answer import join

JUDGE_WITHIN_MS = 60_000
"""For the first word of a model that compares answers: nobody waits, but a model in this machine may be busy."""


async def audit(served: Tally, stages: Stages) -> Sequence[Entry]:
    """Ask upstream what a hit answered already, so that the cache can compare: a request of its own, with its Entry."""
    asked, clock = served.request, stages.clock
    request = replace(
        asked,
        id=f"{asked.id}-audit",
        controls=replace(asked.controls, cache="refresh", deadline_ms=None),
        at_ns=clock.now_ns(),
        audit_of=asked.id,
    )
    tally = Tally(request, clock.mono_ns())
    tally.ticket = served.ticket
    await stages.answered(tally, stages)
    return [] if tally.entry is None else [tally.entry]


async def judge(kept: Tally, doubt: Doubt, stages: Stages) -> Sequence[Entry]:
    """Have a model compare two answers for the cache: requests of their own on the policy's account, each with its
    Entry. They have no cache, so that none of them is ever kept, likened, audited or judged itself."""
    assert kept.policy is not None
    assert isinstance(stages.cache, Doubting)
    entries: list[Entry] = []
    asked = kept.request
    bodies = await _ask_all(
        doubt.model, doubt.asks, asked=asked, ids=f"{asked.id}-judge", policy=kept.policy, stages=stages, told=entries
    )
    stages.cache.heard(doubt, bodies, Nanos(sum(entry.outcome.cost_nanos or 0 for entry in entries)))
    return entries


def learn(answered: Tally, stages: Stages) -> None:
    """Note what labels may come for, and have another target answer it too where that was drawn."""
    request, policy, entry = answered.request, answered.policy, answered.entry
    assert policy is not None
    assert entry is not None
    if type(answered.decision) is not Call or ours(request):
        return
    if stages.labels.note(request, policy, entry) and answered.shadowed:
        stages.aside.start(shadow(answered, stages), "shadow")


async def shadow(served: Tally, stages: Stages) -> Sequence[Entry]:
    """Ask another target what one has answered, and keep whether they agree: requests of their own on the policy's
    account, each with its Entry, within the day's budget for them."""
    request, policy, entry, labels = served.request, served.policy, served.entry, stages.labels
    assert policy is not None
    assert policy.shadow is not None
    assert entry is not None
    rules = policy.shadow
    other = labels.other(policy, entry.outcome.target, request)
    if other is None:
        return []
    held = await labels.hold(policy, room(request, other.target, rules, stages.policies, stages.prices))
    if held is None:
        return []
    entries: list[Entry] = []
    spent: Sequence[Entry] | None = None
    try:
        tally = Tally(again(request, at_ns=stages.clock.now_ns()), stages.clock.mono_ns())
        tally.policy = alone(policy, other.target)
        body = await stages.answered(tally, stages)
        entries += [] if tally.entry is None else [tally.entry]
        kept = _whole(served, tools=rules.tools)
        if body is None or kept is None or not _is_whole(tally, tools=rules.tools):
            labels.failed("unfinished")
        else:
            verdict = await _verdict(kept, body, tally, policy, stages, entries)
            if verdict is None:
                labels.failed("incomparable")
            else:
                labels.agreed(entry, entries[0], other, large=rules.target, verdict=verdict)
        spent = entries
    finally:
        labels.spend(held, spent)
    return entries


async def _verdict(
    served: bytes, body: bytes, shadow: Tally, policy: Policy, stages: Stages, told: list[Entry]
) -> Verdict | None:
    """Say whether two answers say the same, by the policy's judge."""
    assert policy.shadow is not None
    judge, request = policy.shadow.judge, shadow.request
    found = await stages.labels.compared(served, body, by=judge, question=Needs(request).question)
    if not isinstance(found, Asks):
        return found
    bodies = await _ask_all(judge, found.fields, asked=request, ids=request.id, policy=policy, stages=stages, told=told)
    return heard(bodies, found)


def _is_whole(tally: Tally, *, tools: bool) -> bool:
    return tally.finish == "stop" or (tools and tally.finish == "tool_calls")


def _whole(tally: Tally, *, tools: bool) -> bytes | None:
    """Give an answer that was gathered as one `chat.completion`; None: it is not whole, or was too long."""
    if not tally.gathered or not _is_whole(tally, tools=tools):
        return None
    try:
        return join(tally.gathered) if tally.request.stream else tally.gathered[0]
    except UpstreamError:
        return None


async def consult(asked: Tally, ask: Ask, asking: Asking, stages: Stages) -> object:
    """Have a model say what a router wants to hear of a request: a request of its own, on the policy's account, with
    its Entry. It has no cache, so that nothing but the router remembers it. Gives what the router made of it."""
    request, clock = asked.request, stages.clock
    assert asked.policy is not None
    own = Request(
        id=f"{request.id}-route",
        tenant=request.tenant,
        key_id=request.key_id,
        permit=request.permit,
        model=ask.model,
        fields={"model": Raw(msgspec.json.encode(ask.model)), **ask.fields},
        labels=request.labels,
        controls=Controls(cache="off", deadline_ms=ask.within_ms),
        at_ns=clock.now_ns(),
        route_of=request.id,
    )
    tally = Tally(own, clock.mono_ns())
    tally.policy = _on_account(asked.policy, ask.model, stages)
    try:
        body = await stages.answered(tally, stages)
    finally:
        if tally.entry is not None:
            stages.aside.told(tally.entry)
    return asking.heard(ask, body, took_ns=clock.mono_ns() - tally.began_ns, late=tally.expired)


async def _ask_all(
    model: str,
    asks: Sequence[Mapping[str, Raw]],
    *,
    asked: Request,
    ids: str,
    policy: Policy,
    stages: Stages,
    told: list[Entry],
) -> list[bytes | None]:
    """Put requests of ours to a model on a policy's account; their Entries go to `told`. After one fails, no more."""
    account = _on_account(policy, model, stages)
    bodies: list[bytes | None] = []
    for number, fields in enumerate(asks, 1):
        request = Request(
            id=f"{ids}-{number}",
            tenant=asked.tenant,
            key_id=asked.key_id,
            permit=asked.permit,
            model=model,
            fields={"model": Raw(msgspec.json.encode(model)), **fields},
            labels=asked.labels,
            controls=Controls(cache="off", deadline_ms=JUDGE_WITHIN_MS),
            at_ns=stages.clock.now_ns(),
            judge_of=asked.id,
        )
        tally = Tally(request, stages.clock.mono_ns())
        tally.policy = account
        bodies.append(await stages.answered(tally, stages))
        told += [] if tally.entry is None else [tally.entry]
        if bodies[-1] is None:
            break
    return bodies


def _on_account(payer: Policy, model: str, stages: Stages) -> Policy:
    """Give the policy by which work of ours is done for another one, which it counts against."""
    found = stages.policies.find(model)
    return replace(
        found,
        name=payer.name,
        known_as=found.name,
        baseline=payer.baseline,
        transparent=False,
        cache=None,
        labels=None,
        shadow=None,
    )


async def embed(wanted: Wanted, stages: Stages) -> Given:
    """Ask a target for vectors that a stage of ours wants: a request on somebody's account, with its Entry. Like those
    to a judge it has no cache.

    Raises UnknownModelError: there is no such target any more.
    """
    account, clock = wanted.account, stages.clock
    policy = stages.policies.find(wanted.target)
    made_by = policy.digest
    payer = next((owner for owner in stages.policies.compiled() if owner.name == account.policy), None)
    if payer is not None:
        policy = _on_account(payer, wanted.target, stages)
    encode = msgspec.json.encode
    request = Request(
        id=wanted.id,
        kind="embeddings",
        tenant=account.tenant,
        key_id=account.key_id,
        permit=account.permit,
        model=wanted.target,
        fields={"model": Raw(encode(wanted.target)), "input": Raw(encode(wanted.texts))},
        labels=account.labels,
        controls=Controls(cache="off"),
        at_ns=clock.now_ns(),
        embed_of=account.of,
    )
    tally = Tally(request, clock.mono_ns())
    tally.policy = policy
    try:
        body = await stages.answered(tally, stages)
    finally:
        if (entry := tally.entry) is not None:
            account.cost_nanos = Nanos(account.cost_nanos + (entry.outcome.cost_nanos or 0))
            stages.aside.told(entry)
    fault = None if entry is None else entry.outcome.fault
    asked = entry is not None and bool(entry.outcome.attempts)
    return Given(body, "" if fault is None else fault.message, asked, made_by)
