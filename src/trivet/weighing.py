"""Answers that are weighed: some targets are asked, what they say is looked at, and one answer is served.

The router says who is asked, together or in turn, and what is made of the answers (`seams.Weighing`); here they are
asked, gathered, paid for and let go. An answer that is served whatever it says is not gathered: it is relayed as it
comes.

Not here: what an answer is worth (`routing/`), the Entry (`pipeline.py`).
Invariants: nothing goes out before it is clear whose answer is served; every target that was asked is one Attempt, with
what it cost; none is still asked when the request is over; a request is lost only when nobody has an answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from trivet.errors import TrivetError, UpstreamError
from trivet.seams import Heard, Step, Weighing
from trivet.tally import MAX_KEPT_BYTES, Stages, Tally, Try, end_attempt
from trivet.types import Chunk, Policy, Request, Usage
from trivet.wire.answer import join
from trivet.wire.chances import asking, without

MOST_WEIGHED = 16
"""Answers for one request; a router that wants more is held to be wrong."""


@dataclass(slots=True)
class Gathered:
    """What a target has answered so far, and how its being asked is noted."""

    attempt: Try
    chunks: list[Chunk] = field(default_factory=list)
    size: int = 0
    at: int = -1
    """Place of its Attempt in the tally; -1: it is still asked."""
    usage: Usage | None = None
    model: str = ""
    finish: str = ""
    took_ns: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def take(self, chunk: Chunk) -> None:
        """Take a piece. Raises UpstreamError: it is too much."""
        if chunk.opened is not None:
            self.attempt.connect_ns = chunk.opened.connect_ns
            self.headers = chunk.opened.headers
        self.attempt.spoke = self.attempt.spoke or chunk.speaks
        self.chunks.append(chunk)
        self.size += len(chunk.data)
        self.usage, self.model = chunk.usage or self.usage, chunk.model or self.model
        self.finish = chunk.finish or self.finish
        if self.size > MAX_KEPT_BYTES:
            raise UpstreamError(f"Target {self.attempt.target!r} answered more than can be weighed.", again=False)


async def weighed(tally: Tally, stages: Stages, request: Request) -> AsyncGenerator[Chunk, None]:
    """Ask as the router says, and yield the answer that is served.

    Raises:
        UpstreamError: nobody has an answer.
    """
    policy = tally.policy
    assert policy is not None
    assert policy.cascade is not None
    tally.weighed = {}
    weighing = _Weighing(tally, stages, request, policy)
    try:
        async for chunk in weighing.run(stages.weighing[policy.route], within_s=_within_s(policy, request)):
            yield chunk
    finally:
        await weighing.aclose()


def _within_s(policy: Policy, request: Request) -> float:
    """Say how long answers are waited for that may not be served: half of the client's own time is left to the last."""
    assert policy.cascade is not None
    within_ms = policy.cascade.within_ms
    if request.controls.deadline_ms is not None:
        within_ms = min(within_ms, request.controls.deadline_ms // 2)
    return within_ms / 1000


class _Weighing:
    def __init__(self, tally: Tally, stages: Stages, request: Request, policy: Policy) -> None:
        assert policy.cascade is not None
        self._tally, self._stages, self._request, self._policy = tally, stages, request, policy
        self._asked = asking(request) if policy.cascade.sure else request
        """As targets are asked whose answers are weighed."""
        self._tasks: dict[asyncio.Task[Heard], Gathered] = {}
        self._heard: list[Heard] = []
        self._gathered: list[Gathered] = []
        """Of each that was heard."""
        self._error: UpstreamError | None = None

    async def run(self, router: Weighing, *, within_s: float) -> AsyncGenerator[Chunk, None]:
        """Go from step to step."""
        ends_at = asyncio.get_running_loop().time() + within_s
        last = False
        while True:
            waiting = [gathered.attempt.target for gathered in self._tasks.values()]
            step = await router.weigh(self._tally.request, self._policy, self._heard, waiting, last=last)
            self._check(step)
            if step.take is not None:
                for chunk in await self._taken(step):
                    yield chunk
                return
            if step.relay:
                relayed = self._relayed(step)
                try:
                    async for chunk in relayed:
                        yield chunk
                    return
                except UpstreamError as error:
                    if self._tally.chunks:  # a part of it is out
                        raise
                    self._failed(step.relay, error)
                finally:
                    await relayed.aclose()
                continue
            for target in step.ask if not last else ():
                self._begin(target)
            if not self._tasks:
                raise self._error or TrivetError(f"Router {self._policy.route!r} has nobody to ask.")
            last = not await self._wait(ends_at)

    async def aclose(self) -> None:
        """Let go of whoever is still asked."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _check(self, step: Step) -> None:
        """Residency and permissions are walls, also for a router that has a defect."""
        wanted = (*step.ask, *([step.relay] if step.relay else ()))
        for target in wanted:
            if target not in self._policy.pool:
                raise TrivetError(f"Router {self._policy.route!r} chose {target!r}, which is not in the pool.")
        if len(self._heard) + len(self._tasks) + len(wanted) > MOST_WEIGHED:
            raise TrivetError(f"Router {self._policy.route!r} wants more than {MOST_WEIGHED} answers.")
        if step.take is not None and self._heard[step.take].body is None:
            raise TrivetError(f"Router {self._policy.route!r} wants to serve an answer that is none.")

    def _begin(self, target: str) -> None:
        now_ns = self._stages.clock.mono_ns() - self._tally.began_ns
        gathered = Gathered(Try(target, now_ns))
        self._tasks[asyncio.ensure_future(self._gather(gathered))] = gathered

    async def _gather(self, gathered: Gathered) -> Heard:
        """Ask one target, and have its whole answer."""
        target = gathered.attempt.target
        chunks = self._stages.providers[target].stream(self._asked)
        error: BaseException | None = None
        try:
            try:
                async for chunk in chunks:
                    gathered.take(chunk)
            finally:
                await chunks.aclose()
            if not gathered.chunks:
                raise UpstreamError(f"Target {target!r} ended its answer before it began.")
            body = self._body(gathered.chunks)
            return Heard(target, body, gathered.finish, gathered.usage)
        except UpstreamError as failure:
            error, self._error = failure, failure
            return Heard(target, None, why=f"failed: {failure.status or failure.code}")
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._note(gathered, error)

    def _body(self, chunks: Sequence[Chunk]) -> bytes:
        return join([chunk.data for chunk in chunks]) if self._request.stream else chunks[0].data

    def _note(self, gathered: Gathered, error: BaseException | None) -> None:
        """Write down that a target was asked, with what its answer cost: all of it is known now."""
        tally, attempt = self._tally, gathered.attempt
        engine_ns = tally.engine_ns
        assert tally.weighed is not None
        gathered.at = len(tally.attempts)
        end_attempt(tally, attempt, self._stages.clock, error=error, began=bool(gathered.chunks))
        gathered.took_ns, tally.engine_ns = tally.engine_ns, engine_ns
        if not gathered.chunks:
            if not isinstance(error, Exception) and error is not None:
                tally.lost.append(attempt.target)  # let go before its first word: it may charge for what it began
            return
        usage = gathered.usage
        if usage is None:  # it was cut off: as `pipeline` counts what was relayed
            prompt = sum(memoryview(value).nbytes for value in self._request.fields.values())
            output = len(gathered.chunks) if self._request.stream else gathered.size // 4
            usage = gathered.usage = Usage(input_tokens=prompt // 4, output_tokens=output)
        prices = self._stages.prices
        if error is None:
            prices.learn(attempt.target, usage=usage, took_ns=gathered.took_ns)
        cost = prices.cost(
            attempt.target,
            model=gathered.model,
            usage=usage,
            took_ns=gathered.took_ns,
            at_ns=self._request.at_ns,
        )
        tally.weighed[gathered.at] = (usage, cost)

    async def _wait(self, ends_at: float) -> bool:
        """Wait for the next answer; False: time is up, and whoever had not answered is let go."""
        left_s = ends_at - asyncio.get_running_loop().time()
        done, late = await asyncio.wait(self._tasks, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
        if not done:
            gone = [self._tasks[task] for task in late]
            await self.aclose()
            for gathered in gone:
                self._heard.append(Heard(gathered.attempt.target, None, why="too late"))
                self._gathered.append(gathered)
            return False
        for task in done:
            gathered = self._tasks.pop(task)
            self._heard.append(task.result())
            self._gathered.append(gathered)
        return True

    def _failed(self, target: str, error: UpstreamError) -> None:
        self._error = error
        self._heard.append(Heard(target, None, why=f"failed: {error.status or error.code}"))
        self._gathered.append(Gathered(Try(target, 0), at=len(self._tally.attempts) - 1))

    async def _taken(self, step: Step) -> list[Chunk]:
        """Serve what was gathered; the others are let go."""
        assert step.take is not None
        await self.aclose()
        served = self._gathered[step.take]
        self._settle(step, served.attempt.target)
        assert self._tally.weighed is not None
        self._tally.weighed.pop(served.at, None)  # its cost is the answer's own
        self._tally.engine_ns, self._tally.connect_ns = served.took_ns, served.attempt.connect_ns
        self._tally.opened_headers = served.headers
        return served.chunks if self._asked is self._request else [without(chunk) for chunk in served.chunks]

    async def _relayed(self, step: Step) -> AsyncGenerator[Chunk, None]:
        """Serve an answer as it comes."""
        await self.aclose()
        tally, clock = self._tally, self._stages.clock
        self._settle(step, step.relay)
        tally.opened_headers = ()
        attempt = Try(step.relay, clock.mono_ns() - tally.began_ns)
        waiting: list[Chunk] = []
        error: BaseException | None = None
        chunks = self._stages.providers[step.relay].stream(self._request)
        try:
            async for chunk in chunks:
                if chunk.opened is not None:
                    attempt.connect_ns = tally.connect_ns = chunk.opened.connect_ns
                    tally.opened_headers = chunk.opened.headers
                if not chunk.speaks and not attempt.spoke:
                    waiting.append(chunk)  # a role alone binds us to nobody: there may be another answer
                    continue
                attempt.spoke = True
                while waiting:
                    yield waiting.pop(0)
                yield chunk
            if not (waiting or tally.chunks):
                raise UpstreamError(f"Target {step.relay!r} ended its answer before it began.")
            while waiting:
                yield waiting.pop(0)
        except BaseException as failure:
            error = failure
            raise
        finally:
            await chunks.aclose()
            end_attempt(tally, attempt, clock, error=error)

    def _settle(self, step: Step, target: str) -> None:
        """Note whose answer is served, and what was found of the others."""
        tally = self._tally
        tally.target, tally.why = target, step.why
        tally.weighed_ns = self._stages.clock.mono_ns() - tally.began_ns
        said = zip(self._gathered, step.found, strict=False)
        tally.found = {gathered.at: found for gathered, found in said if found and gathered.at >= 0}
