"""The routes by which clients and operators correct the cache: `/trivet/v1/feedback`, `/trivet/v1/cache/invalidate`.

Not here: what is taken off and learned (the cache). Invariant: a key reaches the answers of its own tenant alone.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trivet.errors import BadRequestError, TrivetError
from trivet.pipeline import Stages
from trivet.seams import Purgeable
from trivet.server.exchange import Exchange
from trivet.server.head import send_json

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
    wrong_hit: bool


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


_read_feedback = msgspec.json.Decoder(Feedback).decode
_read_invalidation = msgspec.json.Decoder(Invalidation).decode


async def feedback(exchange: Exchange, stages: Stages, tenant: str) -> None:
    """Take in that a hit was wrong: it is taken off, and the cache learns from it."""
    try:
        said = _read_feedback(await exchange.body(MAX_BYTES))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        words = f'The body is not feedback such as {{"id": "req_...", "wrong_hit": true}}: {error}.'
        raise BadRequestError(words) from error
    if not said.wrong_hit:
        raise BadRequestError("`wrong_hit` can only be true: a hit that was right needs no word.", param="wrong_hit")
    cache = _purgeable(stages)
    # This process may have been started since, or another one of the gateway's may have served it: the ledger knows.
    if not cache.wrong(tenant, said.id) and not await _wrong_by_ledger(cache, stages, tenant, said.id):
        raise UnknownHitError(
            f"No hit of {said.id[:80]!r} is known here: it was no hit, was another tenant's, or its answer is not kept "
            "any more."
        )
    await send_json(exchange, 200, {"id": said.id, "object": "trivet.feedback", "purged": True})


async def _wrong_by_ledger(cache: Purgeable, stages: Stages, tenant: str, request_id: str) -> bool:
    entry = await stages.store.find(request_id)
    if entry is None or entry.tenant != tenant or not entry.hit_of:
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
