"""The path of one request, top to bottom: look, decide, act, settle.

This file calls the stages; no stage calls another stage, or back into this file.

Invariants:
- every request leaves exactly one Entry, also when it is refused, fails, or the caller hangs up;
- the Entry is kept before the last piece of the answer goes out, so what a client saw finished is in the ledger;
- `decide` is pure: replay asks "what if?" with the very function that served the request.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Literal

from msgspec.structs import replace

from trivet.errands import audit, consult, judge, learn
from trivet.errors import BadRequestError, CacheMissError, DeadlineError, RefusedError, TrivetError, UpstreamError
from trivet.ledger.prices import Cost
from trivet.routing import permits
from trivet.tally import Stages, Tally, Try, end_attempt, ours
from trivet.types import (
    Attempt,
    Baseline,
    Call,
    Candidate,
    Chunk,
    Decision,
    Entry,
    Facts,
    Fault,
    Hit,
    Hold,
    Nanos,
    NearMiss,
    Outcome,
    Policy,
    Refuse,
    Request,
    Serve,
    Status,
    Timing,
    Usage,
    Weigh,
)
from trivet.weighing import weighed
from trivet.wire.answer import join, split

MAX_NAME = 512
"""Characters of a name in an Entry that a client or a target may choose freely."""

MAX_ENDS = 256
"""Chunks that may end an answer, and so are held back: one for each choice (`n` is at most 128), and their usage."""


async def answer(tally: Tally, stages: Stages) -> AsyncGenerator[Chunk, None]:
    """Answer one request: yield the pieces as they come, and leave one Entry.

    Raises:
        TrivetError: there is no answer, or not all of it; `tally.entry` says the same.
    """
    ending: list[Chunk] = []
    timer = _start_deadline(tally)
    try:
        tally.facts = await look(tally, stages)
        tally.decision = decide(tally.request, tally.facts, tally.policy)
        chunks = act(tally, stages)
        try:  # `aclosing` says the same, and costs two coroutines a request
            async for chunk in chunks:
                tally.count(chunk, stages.clock.mono_ns() - tally.began_ns)
                if timer is not None and chunk.speaks:
                    timer.cancel()
                if (chunk.finish or (chunk.usage and not chunk.speaks)) and len(ending) < MAX_ENDS:
                    ending.append(chunk)  # goes out only when the Entry is kept
                    continue
                while ending:  # it was the end of one choice of several
                    yield ending.pop(0)
                yield chunk
        finally:
            await chunks.aclose()
    except asyncio.CancelledError as error:
        if not tally.expired:
            tally.error = error
            raise
        tally.error = DeadlineError(tally.request.controls.deadline_ms or 0)
        if (task := asyncio.current_task()) is not None:
            task.uncancel()  # the deadline's cancellation ends here, as an error with words
        raise tally.error from None
    except BaseException as error:
        tally.error = error
        raise
    finally:
        if timer is not None:
            timer.cancel()
        # No await stands between here and the store's acceptance, and what the store still waits for is shielded:
        # a caller that hangs up cancels us, and that is when the entry matters most.
        if (waiting := settle(tally, stages)) is not None:
            await shielded(waiting)
    if tally.gathered is not None:
        await keep(tally, stages)
    if type(tally.decision) is Serve and tally.decision.hit.audit:
        stages.aside.start(audit(tally, stages), "audit")
    if tally.policy is not None and tally.policy.labels is not None:
        learn(tally, stages)
    for chunk in ending:
        yield chunk


async def answered(tally: Tally, stages: Stages) -> bytes | None:
    """Give the whole answer to a request of ours; None: there is none, and its Entry says why."""
    try:
        async with aclosing(answer(tally, stages)) as chunks:
            return b"".join([chunk.data async for chunk in chunks])
    except TrivetError:
        return None


# ---- look: the only I/O before the answer ----------------------------------------------------------------------------


async def look(tally: Tally, stages: Stages) -> Facts:
    """Gather all that deciding needs: room in the ledger, a kept answer, the targets in order."""
    if tally.fault is not None:
        return Facts(fault=tally.fault)
    request = tally.request
    try:
        tally.policy = tally.policy or permits.find(stages.policies, request.model, request.permit)
        tally.policy = policy = permits.narrowed(tally.policy, request.permit)
        if request.controls.baseline and request.controls.baseline not in stages.providers:
            raise BadRequestError(
                f"x-trivet-baseline names {request.controls.baseline!r}, which is no target here.",
                param="x-trivet-baseline",
            )
        hold = stages.store.reserve(request)
        if not isinstance(hold, Hold):
            hold = await hold
        hit: Hit | None = None
        near: tuple[NearMiss, ...] = ()
        tally.cache = cache_use(request, policy)
        if tally.cache == "miss":  # so far
            hit, near, tally.ticket, tally.embedder_digest = await stages.cache.find(request, policy)
            tally.cache = hit.kind if hit else "miss"
            tally.cache_ns = stages.clock.mono_ns() - tally.began_ns
        if hit:
            ranked: tuple[Candidate, ...] = ()
        elif policy.route in stages.asking:
            ranked = await rank_by_word(tally, policy, stages)
        else:
            ranked = await stages.routers[policy.route].rank(request, policy)
        for candidate in ranked:  # residency and permissions are walls, also for a router that has a defect
            if candidate.target not in policy.pool:
                raise TrivetError(f"Router {policy.route!r} chose {candidate.target!r}, which is not in the pool.")
    except TrivetError as error:
        return Facts(fault=error.fault())
    tally.look_ns = stages.clock.mono_ns() - tally.began_ns
    return Facts(hold=hold, hit=hit, near=near, ranked=ranked)


async def rank_by_word(tally: Tally, policy: Policy, stages: Stages) -> tuple[Candidate, ...]:
    """Order the targets by what a model says of the request, where the router wants to hear it; those who ask the
    same at the same time are told together."""
    request, asking = tally.request, stages.asking[policy.route]
    # What helps to route is not asked about itself, and what is not to be called need not be routed.
    wanted = not request.route_of and request.controls.cache != "only"
    ask = asking.ask(request, policy) if wanted else None
    if ask is None or not permits.may_call(stages.policies.find(ask.model), request.permit):
        return await stages.routers[policy.route].rank(request, policy)
    heard = await stages.flights.join(ask.key, lambda: consult(tally, ask, asking, stages))
    return await asking.rank_by(heard, request, policy)


def cache_use(request: Request, policy: Policy) -> str:
    """Say how the cache takes part: `off`, `bypass` (not this request), `refresh` (keep only), `miss` (look, keep)."""
    if policy.cache is None:
        return "off"
    word = request.controls.cache
    if request.kind != "chat":  # the same text has the same embedding, at any temperature; the others are not kept
        return "bypass" if word == "off" or request.kind != "embeddings" else "refresh" if word == "refresh" else "miss"
    temperature = 1.0 if request.temperature is None else request.temperature  # 1 is the providers' default
    if word == "off" or request.n != 1 or temperature > policy.cache.max_temperature:
        return "bypass"
    return "refresh" if word == "refresh" else "miss"


# ---- decide: no clock, no I/O, no randomness ------------------------------------------------------------------------


def decide(request: Request, facts: Facts, policy: Policy | None) -> Decision:
    """Choose: serve what is known, call a target, or refuse."""
    if facts.fault is not None:
        return Refuse(facts.fault)
    if facts.hit is not None:
        return Serve(facts.hit)
    assert policy is not None
    if request.controls.cache == "only":
        why = {"off": f"the cache of {policy.name!r} is off", "bypass": "this request is not one the cache takes"}
        error = CacheMissError(why.get(cache_use(request, policy), "no answer to this request is kept"))
        return Refuse(error.fault())
    if facts.ranked and facts.ranked[0].weighed:
        return Weigh(facts.ranked)
    return Call(facts.ranked)


# ---- act: the answer ----------------------------------------------------------------------------------------------


async def act(tally: Tally, stages: Stages) -> AsyncGenerator[Chunk, None]:
    """Do what was decided, and yield the answer."""
    decision = tally.decision
    if (
        type(decision) is Refuse
    ):  # `isinstance` of a Struct that it is not goes through ABCMeta: a microsecond a request
        raise RefusedError(decision.fault)
    if type(decision) is Serve:
        hit, request = decision.hit, tally.request
        tally.target = hit.target
        if not request.stream:
            yield Chunk(hit.body, speaks=True, finish="stop", usage=hit.usage)
            return
        for chunk in split(hit.body, usage=request.wants_usage):
            yield chunk
        return
    assert type(decision) is Call or type(decision) is Weigh
    assert tally.policy is not None
    tally.shadowed = tally.policy.shadow is not None and stages.labels.drawn(tally.request, tally.policy)
    if tally.shadowed or tally.cache in ("miss", "refresh"):
        tally.gathered = []
    request = replace(tally.request, model=tally.policy.model) if tally.policy.model else tally.request
    if type(decision) is Weigh:
        async with aclosing(weighed(tally, stages, request)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    for candidate in decision.targets:
        last = candidate is decision.targets[-1]
        attempt = Try(candidate.target, stages.clock.mono_ns() - tally.began_ns)
        tally.target, tally.opened_headers = candidate.target, ()
        waiting: list[Chunk] = []
        try:
            chunks = stages.providers[candidate.target].stream(request)
            try:
                async for chunk in chunks:
                    if chunk.opened is not None:
                        attempt.connect_ns = chunk.opened.connect_ns
                        tally.opened_headers = chunk.opened.headers
                    if not attempt.spoke:
                        if not chunk.speaks and not last:
                            waiting.append(chunk)  # a role alone binds us to nobody: the next target may still answer
                            continue
                        attempt.spoke = chunk.speaks
                        tally.connect_ns = attempt.connect_ns
                        while waiting:
                            yield waiting.pop(0)
                    yield chunk
            finally:
                await chunks.aclose()
            if not (waiting or tally.chunks):
                raise UpstreamError(f"Target {candidate.target!r} ended its answer before it began.")
            while waiting:
                yield waiting.pop(0)
        except UpstreamError as error:
            end_attempt(tally, attempt, stages.clock, error=error)
            if attempt.spoke or last or not error.again:
                raise
        except BaseException as error:  # cancelled, or the caller let go of the generator
            end_attempt(tally, attempt, stages.clock, error=error)
            raise
        else:
            end_attempt(tally, attempt, stages.clock)
            return


# ---- settle: one Entry ----------------------------------------------------------------------------------------------


def settle(tally: Tally, stages: Stages) -> Awaitable[None] | None:
    """Make the Entry of what happened and have it kept; gives what is still to be waited for, if anything."""
    request, policy = tally.request, tally.policy
    usage, estimated = _usage(tally)
    cost = _cost(tally, stages, usage=usage)
    if tally.attempts and tally.error is None and usage is not None:
        stages.prices.learn(tally.target, usage=usage, took_ns=tally.engine_ns)
    baseline, saved = _compare(tally, stages, usage=usage, cost=cost)
    hit = tally.decision.hit if type(tally.decision) is Serve else None
    entry = Entry(
        id=request.id,
        kind=request.kind,
        at_ns=request.at_ns,
        tenant=request.tenant,
        key_id=request.key_id,
        model=request.model[:MAX_NAME],
        policy=policy.name if policy else "",
        policy_digest=policy.digest if policy else "",
        stream=request.stream,
        labels=request.labels,
        cache_word=request.controls.cache,
        decision=_KINDS[type(tally.decision)],
        candidates=tally.facts.ranked,
        near=tally.facts.near,
        cache=tally.cache,
        hit_of=hit.origin_id if hit else "",
        hit_age_ms=hit.age_ms if hit else 0,
        cosine=hit.cosine if hit else None,
        p_correct=hit.p_correct if hit else None,
        price_version=cost.version,
        embedder_digest=tally.embedder_digest,
        router_digest=stages.routed_by.get(policy.name, "") if policy and policy.aim else "",
        outcome=_outcome(tally, stages, usage=usage, estimated=estimated, cost=cost),
        baseline=baseline,
        saved=saved,
    )
    if ours(request):  # few are, and each member of an Entry costs all the others a little
        entry = replace(
            entry,
            audit_of=request.audit_of,
            judge_of=request.judge_of,
            route_of=request.route_of,
            shadow_of=request.shadow_of,
            embed_of=request.embed_of,
        )
    waiting = stages.store.settle(tally.facts.hold, entry)
    tally.entry = entry
    return waiting


_KINDS: dict[type, Literal["serve", "call", "weigh", "refuse", "none"]] = {
    Serve: "serve",
    Call: "call",
    Weigh: "weigh",
    Refuse: "refuse",
    type(None): "none",
}


def _outcome(tally: Tally, stages: Stages, *, usage: Usage | None, estimated: bool, cost: Cost) -> Outcome:
    status, http_status, fault = _ending(tally)
    return Outcome(
        status=status,
        http_status=http_status,
        target=tally.target,
        model=tally.model[:MAX_NAME],
        finish=tally.finish[:MAX_NAME],
        fault=fault,
        usage=usage,
        usage_estimated=estimated,
        cost_nanos=cost.nanos,
        cost_unknown=cost.why_unknown,
        timing=Timing(
            auth_ns=tally.auth_ns,
            look_ns=tally.look_ns,
            cache_ns=tally.cache_ns,
            weighed_ns=tally.weighed_ns,
            connect_ns=tally.connect_ns,
            first_byte_ns=tally.first_byte_ns,
            ttft_ns=tally.ttft_ns,
            total_ns=stages.clock.mono_ns() - tally.began_ns,
        ),
        attempts=tuple(tally.attempts) if tally.weighed is None else _attempts(tally, tally.weighed),
        chunks=tally.chunks,
    )


def _attempts(tally: Tally, weighed: Mapping[int, tuple[Usage, Cost]]) -> tuple[Attempt, ...]:
    """Add what was found of answers that were weighed, and what those cost that are not served."""
    made = list(tally.attempts)
    for at, why in tally.found.items():
        made[at] = replace(made[at], why=why)
    for at, (usage, cost) in weighed.items():
        made[at] = replace(made[at], usage=usage, cost_nanos=cost.nanos, cost_unknown=cost.why_unknown)
    return tuple(made)


def _ending(tally: Tally) -> tuple[Status, int, Fault | None]:
    """Say how it ended: status, the HTTP status that the client saw, and why."""
    error = tally.error
    if error is None:
        return "ok", 200, None
    if isinstance(error, RefusedError):
        return "refused", error.status, error.fault()
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled", 499, None  # nginx's number for "client closed request"
    fault = error.fault() if isinstance(error, TrivetError) else _defect(error)
    sent = tally.request.stream and tally.chunks  # so the head was out, and with it the status
    return "failed", 200 if sent else fault.status, fault


def _defect(error: BaseException) -> Fault:
    return Fault(status=500, code="internal_error", message=f"{type(error).__name__} in Trivet", whose="trivet")


def _usage(tally: Tally) -> tuple[Usage | None, bool]:
    """Give the tokens of the answer, and whether they are estimated because the target never reported them.

    An answer that was cut off is not free: what was relayed is counted, one token a chunk of a stream (what servers
    send) or four bytes, and the prompt at four bytes a token.
    """
    if type(tally.decision) is Serve:
        return tally.decision.hit.usage, False
    if tally.usage is not None or not tally.attempts:
        return tally.usage, False
    if tally.error is not None and not tally.chunks and isinstance(tally.error, Exception):
        return None, False  # the target failed without a word
    if tally.request.kind == "moderations" or (tally.request.kind == "embeddings" and tally.error is None):
        return None, False  # the first have no tokens; of the second, a guess would be taken for a count
    prompt = sum(memoryview(value).nbytes for value in tally.request.fields.values())
    output = 0 if tally.request.kind == "embeddings" else tally.chunks if tally.request.stream else tally.out_bytes // 4
    return Usage(input_tokens=prompt // 4, output_tokens=output), True


def _cost(tally: Tally, stages: Stages, *, usage: Usage | None) -> Cost:
    """Price the answer, and with it those that were weighed and are not served."""
    cost = _cost_of_answer(tally, stages, usage=usage)
    for _, other in tally.weighed.values() if tally.weighed else ():
        known = [nanos for nanos in (cost.nanos, other.nanos) if nanos is not None]
        why = "; ".join(dict.fromkeys(filter(None, (cost.why_unknown, other.why_unknown))))
        cost = Cost(Nanos(sum(known)) if known else None, why, cost.version or other.version)
    return cost


def _cost_of_answer(tally: Tally, stages: Stages, *, usage: Usage | None) -> Cost:
    """Price the answer; attempts that failed on the way to it are free only if their target cannot have begun."""
    uncounted = usage is None and tally.request.kind == "embeddings" and tally.error is None
    if not tally.attempts or (usage is None and not tally.lost and not uncounted):
        return _FREE
    cost = _FREE
    if usage is not None or uncounted:
        cost = stages.prices.cost(
            tally.target, model=tally.model, usage=usage, took_ns=tally.engine_ns, at_ns=tally.request.at_ns
        )
    if not tally.lost:
        return cost
    why = f"{' and '.join(tally.lost)} may have charged for what never arrived"
    return Cost(
        cost.nanos if usage is not None else None, "; ".join(filter(None, (cost.why_unknown, why))), cost.version
    )


def _compare(
    tally: Tally, stages: Stages, *, usage: Usage | None, cost: Cost
) -> tuple[Baseline | None, dict[str, Nanos]]:
    """Hold what was spent against the declared baseline, by lever."""
    policy = tally.policy
    name = tally.request.controls.baseline or (policy.baseline if policy else None)
    if name is None or tally.error is not None:
        return None, {}
    lever = ours(tally.request)
    if lever:  # without Trivet it would not have been asked at all
        nanos = cost.nanos
        return Baseline(target=name, cost_nanos=Nanos(0)), {} if nanos is None else {lever: Nanos(-nanos)}
    hit = tally.decision.hit.kind if type(tally.decision) is Serve else ""
    return stages.prices.compare(
        name,
        target=tally.target,
        hit=hit,
        usage=usage,
        cost=cost,
        at_ns=tally.request.at_ns,
        alone=not tally.weighed,
    )


_FREE = Cost(Nanos(0), "", "")


async def abandon(tally: Tally, stages: Stages) -> None:
    """Leave the Entry of a request whose caller was gone before it could be read (`tally.error` says so)."""
    if (waiting := settle(tally, stages)) is not None:
        await shielded(waiting)


async def shielded(kept: Awaitable[None]) -> None:
    """Wait for the store even when we are cancelled meanwhile; then let the cancellation go on."""
    task = asyncio.ensure_future(kept)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])  # which leaves the task alone when it is cancelled itself, as `shield` does
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and not task.cancelled():
        task.exception()  # whoever cancelled us does not ask for it, and asyncio complains of one that nobody looks at
        raise cancelled
    task.result()


async def keep(tally: Tally, stages: Stages) -> None:
    """Hand a whole answer to the cache, if the policy lets it be kept."""
    policy, gathered, entry = tally.policy, tally.gathered, tally.entry
    if gathered is None or policy is None or policy.cache is None or entry is None:
        return
    if tally.cache not in ("miss", "refresh"):  # it was gathered for a shadow
        return
    whole = tally.finish == "stop" or tally.request.kind == "embeddings"
    if whole or (tally.finish == "tool_calls" and policy.cache.tools):
        try:
            body = join(gathered) if tally.request.stream else gathered[0]
        except UpstreamError:  # relayed as it came; it could not be replayed
            return
        doubt = await stages.cache.keep(tally.request, policy, entry, body, ticket=tally.ticket)
        if doubt is not None:
            stages.aside.start(judge(tally, doubt, stages), "judge")


def _start_deadline(tally: Tally) -> asyncio.TimerHandle | None:
    """Cancel the request's own task when its deadline passes before the first content."""
    deadline_ms = tally.request.controls.deadline_ms
    if deadline_ms is None:
        return None
    task = asyncio.current_task()
    assert task is not None

    def expire() -> None:
        tally.expired = True
        task.cancel()

    return asyncio.get_running_loop().call_later(deadline_ms / 1000, expire)
