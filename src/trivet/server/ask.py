"""The routes by which models are asked: a request in, its answer out, whole or streamed.

One for each kind: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/moderations`.

Not here: what is answered (`pipeline.py`), what is told about it (`server/told.py`). The first chunk is awaited before
any header is sent, so an error that comes early keeps its true status.
Invariants: one call of `answer` for each request, so one Entry; a client that leaves cancels the task, in every phase;
the end of an answer is sent only after its Entry is kept.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from trivet.errors import TrivetError, UpstreamError
from trivet.pipeline import abandon, answer
from trivet.seams import Random
from trivet.server.auth import Checks
from trivet.server.exchange import ClientGoneError, Exchange
from trivet.server.head import JSON, PRIVATE, send_error
from trivet.server.told import head, reported
from trivet.tally import Stages, Tally
from trivet.types import Chunk, Entry, Kind, Request
from trivet.wire.chat import error_body, without_usage
from trivet.wire.request import read_request
from trivet.wire.sse import DONE, event

_JSON = JSON + PRIVATE
# nginx would gather the stream otherwise
_SSE = b"content-type: text/event-stream; charset=utf-8\r\nx-accel-buffering: no\r\n" + PRIVATE


class InForce:
    """One configuration in force, from its first request to its last."""

    def __init__(self, stages: Stages, *, max_body_bytes: int) -> None:
        self.stages, self.max_body_bytes = stages, max_body_bytes
        self.running = 0
        self._idle: asyncio.Future[None] | None = None

    def ended(self) -> None:
        """One of its requests is over."""
        self.running -= 1
        if not self.running and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    async def until_idle(self) -> None:
        """Wait until none of its requests is running."""
        if self.running:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle


class Rules:
    """Holds the configuration that new requests begin with."""

    def __init__(self, now: InForce) -> None:
        self.now = now


class Ask:
    """One of them."""

    def __init__(
        self, kind: Kind, rules: Rules, *, auth: Checks, random: Random, count: Callable[[Entry], None]
    ) -> None:
        self._kind, self._rules = kind, rules
        self._auth, self._random, self._count = auth, random, count

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one request, to its end by the configuration that it began with."""
        rules = self._rules.now
        rules.running += 1
        tally: Tally | None = None
        try:
            tally = await self._read(exchange, rules)
            if tally.error is not None:
                await abandon(tally, rules.stages)
                return
            exchange.task = exchange.runner or asyncio.current_task()
            await self._relay(tally, exchange, rules.stages)
        except asyncio.CancelledError:
            if not exchange.cancelled:
                raise  # not the client: the server is stopping
        finally:
            rules.ended()
            if tally is not None and tally.entry is not None:
                self._count(tally.entry)

    async def _read(self, exchange: Exchange, rules: InForce) -> Tally:
        """Make a tally of whatever came: what cannot be read becomes a refusal with an Entry of its own."""
        clock = rules.stages.clock
        began_ns, at_ns = clock.mono_ns(), clock.now_ns()
        id_ = new_id(at_ns, self._random)
        tenant = key_id = ""
        try:
            tenant, key_id, permit = self._auth.check(exchange.headers)
            auth_ns = clock.mono_ns() - began_ns
            body = await exchange.body(rules.max_body_bytes)
            request = read_request(
                body,
                exchange.headers,
                id=id_,
                tenant=tenant,
                key_id=key_id,
                at_ns=at_ns,
                kind=self._kind,
                permit=permit,
            )
            tally = Tally(request, began_ns)
            tally.auth_ns = auth_ns
            return tally
        except (TrivetError, ClientGoneError, asyncio.CancelledError) as error:  # the last: the server is stopping
            request = Request(id=id_, kind=self._kind, tenant=tenant, key_id=key_id, model="", fields={}, at_ns=at_ns)
            tally = Tally(request, began_ns)
            if isinstance(error, TrivetError):
                tally.fault = error.fault()
            else:
                tally.error = asyncio.CancelledError()
            return tally

    async def _relay(self, tally: Tally, exchange: Exchange, stages: Stages) -> None:
        """Answer; an error before the first chunk has its own status, one after it ends the stream with its words."""
        try:
            chunks = answer(tally, stages)
            try:
                first = await anext(chunks)
                if tally.request.stream:
                    await _stream(tally, first, chunks, exchange)
                else:
                    async for _ in chunks:
                        pass
                    await exchange.answer(200, _JSON + head(tally), reported(tally, first.data))
            finally:
                await chunks.aclose()
        except TrivetError as error:
            await _fail(tally, error, exchange)
        except Exception:
            words = f"A defect in Trivet: what it wrote to its log about {tally.request.id} is worth a report."
            await _fail(tally, TrivetError(words), exchange)
            raise


async def _fail(tally: Tally, error: TrivetError, exchange: Exchange) -> None:
    if exchange.started:  # the true status is gone: OpenAI's clients raise on an error event, and miss the [DONE]
        await exchange.end(event(error_body(error)))
    else:
        passed = list(error.headers) if isinstance(error, UpstreamError) else []
        await send_error(exchange, error, head(tally), passed=passed)


async def _stream(tally: Tally, first: Chunk, chunks: AsyncGenerator[Chunk, None], exchange: Exchange) -> None:
    wants_usage = tally.request.wants_usage
    ending: list[bytes] = []
    chunk: Chunk | None = first
    while chunk is not None:
        data = chunk.data if wants_usage else without_usage(chunk.data)
        if data is not None and tally.entry is None:
            if exchange.started:
                await exchange.send(event(data))
            else:
                await exchange.begin(200, _SSE + head(tally), event(data))
        elif data is not None:
            ending.append(data)
        chunk = await anext(chunks, None)
    if ending:
        ending[-1] = reported(tally, ending[-1])
    last = b"".join([event(data) for data in ending]) + DONE
    if exchange.started or exchange.left:
        await exchange.end(last)
    else:
        await exchange.answer(200, _SSE + head(tally), last)


def new_id(at_ns: int, random: Random) -> str:
    """Make a request id: sorts by time, cannot be guessed (80 random bits)."""
    return f"req_{(at_ns // 1_000_000 << 80) | random.getrandbits(80):032x}"
