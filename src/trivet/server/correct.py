"""The routes by which clients and operators say how answers were: `/trivet/v1/feedback`, `/trivet/v1/cache/invalidate`.

Not here: what is taken off and learned (the cache), what labels are kept of (`labels/`).
Invariant: a key reaches the answers of its own tenant alone, and learns of no other's whether they exist.
"""

import asyncio
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trivet.errors import BadRequestError, TrivetError
from trivet.seams import Purgeable
from trivet.server.exchange import Exchange
from trivet.server.head import send_json
from trivet.tally import Stages
from trivet.types import Entry

MAX_BYTES = 65_536
"""Of such a request."""
LISTED = 100
"""Answers that are described; all are counted."""
SHOWN = 200
"""Characters of a question."""

_Id = Annotated[str, Meta(min_length=1, max_length=512)]


class Feedback(Struct, forbid_unknown_fields=True):
    """What a client says of an answer."""

    id: _Id
    """`x-trivet-id` of the answer."""
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    """How good it was, from 0 to 1."""
    label: Literal["good", "bad"] | None = None
    """The same in a word: 1 or 0."""
    wrong: bool | None = None
    """True: it was wrong; 0, and if it came from the cache it is taken off."""
    wrong_hit: bool | None = None
    """True: it came from the cache, and there was wrong."""


class Like(Struct, forbid_unknown_fields=True):
    """Questions that are near a text."""

    text: Annotated[str, Meta(min_length=1, max_length=10_000)]
    cosine: Annotated[float, Meta(gt=0, le=1)] = 0.9


class Invalidation(Struct, forbid_unknown_fields=True):
    """Which answers are not to be served any more: those that any of these names."""

    tags: Annotated[list[_Id], Meta(max_length=100)] = []
    namespace: str | None = None
    id: str = ""
    """`x-trivet-id` of an answer: the one that was kept of it, or that it was served."""
    like: Like | None = None
    dry_run: bool = False


class UnknownHitError(TrivetError):
    """There is no hit of that id."""

    status, code, kind, whose = 404, "unknown_hit", "invalid_request_error", "client"


class UnknownRequestError(TrivetError):
    """There is no request of that id, or it is somebody else's."""

    status, code, kind, whose = 404, "unknown_request", "invalid_request_error", "client"


class NoLabelsError(TrivetError):
    """Nothing is kept of that request that feedback could be for."""

    status, code, kind, whose = 409, "no_labels", "invalid_request_error", "client"


_read_feedback = msgspec.json.Decoder(Feedback).decode
_read_invalidation = msgspec.json.Decoder(Invalidation).decode


async def feedback(exchange: Exchange, stages: Stages, tenant: str) -> None:
    """Take in how an answer was: it becomes a label, and a hit that was wrong is taken off and learned from."""
    try:
        said = _read_feedback(await exchange.body(MAX_BYTES))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        words = f'The body is not feedback such as {{"id": "req_...", "label": "good"}}: {error}.'
        raise BadRequestError(words) from error
    if sum(word is not None for word in (said.score, said.label, said.wrong, said.wrong_hit)) != 1:
        raise BadRequestError("Say how the answer was in one way: `score`, `label`, `wrong` or `wrong_hit`.")
    for name, word in (("wrong_hit", said.wrong_hit), ("wrong", said.wrong)):
        if word is False:
            words = f'`{name}` can only be true. An answer that was right is {{"label": "good"}}.'
            raise BadRequestError(words, param=name)
    if said.wrong_hit:
        await _take_off(stages, tenant, said.id)
        await send_json(exchange, 200, {"id": said.id, "object": "trivet.feedback", "purged": True})
        return
    score = said.score if said.score is not None else float(said.label == "good")
    told: dict[str, object] = {"id": said.id, "object": "trivet.feedback", "score": score}
    if not await stages.labels.feedback(tenant, said.id, score):
        entry = await _unlabelled(stages, tenant, said.id)
        if not entry.hit_of:
            if not (_is_fresh(entry, stages) and await _soon(stages, tenant, said.id, score)):
                raise NoLabelsError(_no_labels(entry))
        elif said.wrong:
            await _take_off(stages, tenant, said.id)
            told["purged"] = True
        else:
            raise NoLabelsError(
                f"The answer of {said.id[:80]!r} came from the cache, so it says nothing of a target. If it was wrong, "
                'say {"wrong_hit": true}.'
            )
    await send_json(exchange, 200, told)


async def _unlabelled(stages: Stages, tenant: str, request_id: str) -> Entry:
    """Find the request that no label can be for. Raises UnknownRequestError."""
    entry = await _entry(stages, tenant, request_id)
    if entry is None:
        raise UnknownRequestError(f"No request {request_id[:80]!r} of yours is known here. `x-trivet-id` says its id.")
    return entry


AGAIN_S, TRIES = 0.1, 10
"""How often it is tried again, where another worker may have answered just now and be about to write it down."""

FRESH_S = 5.0
"""Another worker's file may lag behind its ledger by so much, where the disk is slow."""


def _is_fresh(entry: Entry, stages: Stages) -> bool:
    policy = next((p for p in stages.policies.compiled() if p.name == entry.policy), None)
    kept = policy is not None and policy.labels is not None and entry.decision == "call"
    over_ns = entry.at_ns + entry.outcome.timing.total_ns
    return kept and stages.clock.now_ns() - over_ns < FRESH_S * 1e9


async def _entry(stages: Stages, tenant: str, request_id: str) -> Entry | None:
    """Find a request of this tenant's, also one that another worker has answered just now.

    Another tenant's takes as long as one that does not exist, so that the time says nothing either.
    """
    for _ in range(TRIES):
        entry = await stages.store.find(request_id)
        if entry is not None and entry.tenant == tenant:
            return entry
        await asyncio.sleep(AGAIN_S)
    return None


async def _soon(stages: Stages, tenant: str, request_id: str, score: float) -> bool:
    """Try again for a moment: another worker has answered it just now."""
    for _ in range(TRIES):
        await asyncio.sleep(AGAIN_S)
        if await stages.labels.feedback(tenant, request_id, score):
            return True
    return False


def _no_labels(entry: Entry) -> str:
    if entry.outcome.status != "ok":
        return f"The request {entry.id!r} was not answered ({entry.outcome.status}), so there is nothing to score."
    return (
        f"No labels are kept of {entry.id!r}: the policy {entry.policy!r} has no `labels.keep = true`, or what "
        "was kept is gone (`labels.ttl`, `labels.max_entries`, `trivet route labels purge`)."
    )


async def _take_off(stages: Stages, tenant: str, request_id: str) -> None:
    """Take off the answer of a hit that was wrong. Raises UnknownHitError."""
    cache = _purgeable(stages)
    # This process may have been started since, or another one of the gateway's may have served it: the ledger knows.
    if not cache.wrong(tenant, request_id) and not await _wrong_by_ledger(cache, stages, tenant, request_id):
        raise UnknownHitError(
            f"No hit of {request_id[:80]!r} is known here: it was no hit, was another tenant's, or its answer is not "
            "kept any more."
        )


async def _wrong_by_ledger(cache: Purgeable, stages: Stages, tenant: str, request_id: str) -> bool:
    entry = await _entry(stages, tenant, request_id)
    if entry is None or not entry.hit_of:
        return False
    return cache.wrong(tenant, request_id, hit_of=entry.hit_of)


async def invalidate(exchange: Exchange, stages: Stages, tenant: str) -> None:
    """Take kept answers off by tag, namespace, id or likeness."""
    try:
        asked = _read_invalidation(await exchange.body(MAX_BYTES))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f'The body does not say what to forget, such as {{"tags": ["prices"]}}: {error}.'
        ) from error
    if not (asked.tags or asked.id or asked.like or asked.namespace is not None):
        raise BadRequestError("Say what to forget: `tags`, `namespace`, `id` or `like`.")
    like = asked.like
    gone = await _purgeable(stages).invalidate(
        tenant,
        tags=asked.tags,
        namespace=asked.namespace,
        entry_id=asked.id,
        like=like.text if like else "",
        cosine=like.cosine if like else 1.0,
        dry_run=asked.dry_run,
    )
    answers = [
        {
            "id": one.entry_id,
            "policy": one.policy,
            "namespace": one.namespace,
            "tags": list(one.tags),
            "question": one.question[:SHOWN],
            "age_s": one.age_ms // 1000,
        }
        for one in gone[:LISTED]
    ]
    told = {"object": "trivet.invalidation", "dry_run": asked.dry_run, "count": len(gone), "answers": answers}
    await send_json(exchange, 200, told)


def _purgeable(stages: Stages) -> Purgeable:
    if not isinstance(stages.cache, Purgeable):
        raise BadRequestError("The cache of this gateway takes nothing off: `[cache] kind` is not `tiers`.")
    return stages.cache
