"""`POST /v1/chat/completions`: a request in, its answer out, whole or streamed.

Not here: what is answered (`pipeline.py`). The first chunk is awaited before any header is sent, so an error that
comes early keeps its true status. Invariants: one call of `answer` for each request, so one Entry; a client that leaves
cancels the task, in every phase; the end of an answer is sent only after its Entry is kept.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from trivet.errors import TrivetError, UpstreamError
from trivet.ledger.money import usd
from trivet.pipeline import Stages, Tally, abandon, answer
from trivet.seams import Random
from trivet.server.asgi import (
    GONE,
    JSON,
    PRIVATE,
    ClientGoneError,
    RawHeaders,
    Receive,
    Scope,
    Send,
    read_body,
    send_bytes,
    send_error,
)
from trivet.server.auth import Auth
from trivet.types import Call, Chunk, Entry, Nanos, Refuse, Request, Serve
from trivet.wire.chat import error_body, read_chat, with_report, without_usage
from trivet.wire.sse import DONE, event

_SSE: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would gather the stream otherwise
    *PRIVATE,
]


class Chat:
    """The endpoint, over the stages."""

    def __init__(
        self, stages: Stages, *, auth: Auth, random: Random, max_body_bytes: int, count: Callable[[Entry], None]
    ) -> None:
        self._stages, self._auth, self._random = stages, auth, random
        self._max_body_bytes, self._count = max_body_bytes, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        tally = await self._read(scope, receive)
        if tally.error is not None:
            await abandon(tally, self._stages)
            self._note(tally)
            return
        task = asyncio.current_task()
        assert task is not None
        watch = _Watch(task, tally)
        gone = scope.get("extensions", {}).get(GONE)
        if gone is not None:
            gone.call = watch.left
            try:
                await self._relayed(tally, send, watch)
            finally:
                gone.call = None
            return
        waiting = asyncio.ensure_future(watch.until_gone(receive))
        try:
            await self._relayed(tally, send, watch)
        finally:
            waiting.cancel()

    async def _relayed(self, tally: Tally, send: Send, watch: "_Watch") -> None:
        try:
            await self._relay(tally, send)
        except asyncio.CancelledError:
            if not watch.gone:
                raise  # not the client: the server is stopping
        finally:
            self._note(tally)

    def _note(self, tally: Tally) -> None:
        if tally.entry is not None:
            self._count(tally.entry)

    async def _read(self, scope: Scope, receive: Receive) -> Tally:
        """Make a tally of whatever came: what cannot be read becomes a refusal with an Entry of its own."""
        clock = self._stages.clock
        began_ns, at_ns = clock.mono_ns(), clock.now_ns()
        id_ = new_id(at_ns, self._random)
        tenant = key_id = ""
        try:
            tenant, key_id = self._auth.check(scope["headers"])
            auth_ns = clock.mono_ns() - began_ns
            body = await read_body(receive, self._max_body_bytes)
            request = read_chat(body, scope["headers"], id=id_, tenant=tenant, key_id=key_id, at_ns=at_ns)
            return Tally(request, began_ns, auth_ns=auth_ns)
        except (TrivetError, ClientGoneError, asyncio.CancelledError) as error:  # the last: the server is stopping
            request = Request(id=id_, tenant=tenant, key_id=key_id, model="", fields={}, at_ns=at_ns)
            if isinstance(error, TrivetError):
                return Tally(request, began_ns, fault=error.fault())
            return Tally(request, began_ns, error=asyncio.CancelledError())

    async def _relay(self, tally: Tally, send: Send) -> None:
        """Answer; an error before the first chunk has its own status, one after it ends the stream with its words."""
        started = False
        try:
            async with aclosing(answer(tally, self._stages)) as chunks:
                first = await anext(chunks)
                if tally.request.stream:
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": _headers(tally) + _SSE})
                    await _stream(tally, first, chunks, send)
                else:
                    await _drain(chunks)
                    tally.sent = True
                    await send_bytes(send, 200, [JSON, *PRIVATE, *_headers(tally)], _reported(tally, first.data))
        except TrivetError as error:
            await _fail(tally, error, send, started=started)
        except Exception:
            words = f"A defect in Trivet: what it wrote to its log about {tally.request.id} is worth a report."
            await _fail(tally, TrivetError(words), send, started=started)
            raise


class _Watch:
    """Cancels a request's task when its client leaves."""

    def __init__(self, task: "asyncio.Task[None]", tally: Tally) -> None:
        self._task, self._tally = task, tally
        self.gone = False

    def left(self) -> None:
        """The client is gone; after the last byte, that only says that the exchange is over."""
        if not self._tally.sent:
            self.gone = True
            self._task.cancel()

    async def until_gone(self, receive: Receive) -> None:
        """Find out by ASGI's own way."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left()


async def _fail(tally: Tally, error: TrivetError, send: Send, *, started: bool) -> None:
    tally.sent = True
    if started:  # the true status is gone: OpenAI's clients raise on an error event, and miss the [DONE]
        await send({"type": "http.response.body", "body": event(error_body(error))})
    else:
        passed: RawHeaders = list(error.headers) if isinstance(error, UpstreamError) else []
        await send_error(send, error, _headers(tally) + passed)


async def _drain(chunks: AsyncGenerator[Chunk, None]) -> None:
    async for _ in chunks:
        pass


async def _stream(tally: Tally, first: Chunk, chunks: AsyncGenerator[Chunk, None], send: Send) -> None:
    wants_usage = tally.request.wants_usage
    ending: list[bytes] = []
    chunk: Chunk | None = first
    while chunk is not None:
        data = chunk.data if wants_usage else without_usage(chunk.data)
        if data is not None and tally.entry is None:
            await send({"type": "http.response.body", "body": event(data), "more_body": True})
        elif data is not None:
            ending.append(data)
        chunk = await anext(chunks, None)
    if ending:
        ending[-1] = _reported(tally, ending[-1])
    tally.sent = True
    await send({"type": "http.response.body", "body": b"".join([event(data) for data in ending]) + DONE})


def _reported(tally: Tally, data: bytes) -> bytes:
    """Add `trivet` to the last document: for policies, or where the client asks; a target named directly stays pure."""
    asked, entry, policy = tally.request.controls.report, tally.entry, tally.policy
    assert entry is not None
    if asked is False or (asked is None and (policy is None or policy.transparent or not tally.request.stream)):
        return data
    return with_report(data, report(entry))


def report(entry: Entry) -> dict[str, object]:
    """Say what is known of a request once it is over."""
    outcome = entry.outcome
    told: dict[str, object] = {
        "id": entry.id,
        "target": outcome.target,
        "decision": entry.decision,
        "cache": entry.cache,
        "cost_usd": _spent(entry),
        "ttft_ms": round(outcome.timing.ttft_ns / 1e6, 3),
        "total_ms": round(outcome.timing.total_ns / 1e6, 3),
    }
    if entry.saved:
        told["saved_usd"] = usd(_saved(entry))
    return told


def _spent(entry: Entry) -> str:
    """Write the cost; one that is not known in full is not given as if it were."""
    outcome = entry.outcome
    return "unknown" if outcome.cost_nanos is None or outcome.cost_unknown else usd(outcome.cost_nanos)


def _saved(entry: Entry) -> Nanos:
    return Nanos(sum(entry.saved.values()))


def _headers(tally: Tally) -> RawHeaders:
    """Tell what happened, as far as it is known when headers go out."""
    decision = tally.decision
    kind = b"serve" if isinstance(decision, Serve) else b"call" if isinstance(decision, Call) else b"refuse"
    told: RawHeaders = [(b"x-trivet-id", tally.request.id.encode()), (b"x-trivet-decision", kind)]
    if tally.target:
        told.append((b"x-trivet-target", tally.target.encode("latin-1", "replace")))
    if not isinstance(decision, Refuse):
        told.append((b"x-trivet-cache", _cache(decision, tally.cache)))
    entry = tally.entry
    if entry is not None and entry.decision != "refuse":
        told.append((b"x-trivet-cost-usd", _spent(entry).encode()))
        if entry.saved:
            told.append((b"x-trivet-saved-usd", usd(_saved(entry)).encode()))
    told.append((b"server-timing", _timing(tally)))
    told += tally.opened_headers
    return told


def _cache(decision: object, state: str) -> bytes:
    if isinstance(decision, Serve):
        return b"hit; kind=%b; age=%d" % (decision.hit.kind.encode(), decision.hit.age_ms // 1000)
    return state.encode()


def _timing(tally: Tally) -> bytes:
    """Write `Server-Timing` (W3C): milliseconds of each phase that was reached."""
    looked_ns = tally.cache_ns or tally.auth_ns
    cache_ns = tally.cache_ns and tally.cache_ns - tally.auth_ns
    route_ns = tally.look_ns and tally.look_ns - looked_ns
    return b"auth;dur=%.3f, cache;dur=%.3f, route;dur=%.3f, queue;dur=0, connect;dur=%.3f, ttft;dur=%.3f" % (
        tally.auth_ns / 1e6,
        cache_ns / 1e6,
        route_ns / 1e6,
        tally.connect_ns / 1e6,
        tally.ttft_ns / 1e6,
    )


def new_id(at_ns: int, random: Random) -> str:
    """Make a request id: sorts by time, cannot be guessed (80 random bits)."""
    return f"req_{at_ns // 1_000_000:012x}{random.getrandbits(80):020x}"
