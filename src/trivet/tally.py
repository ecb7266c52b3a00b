"""What is known of one request while it is on its way, and the stages that it passes through.

Not here: the way itself (`pipeline.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from trivet.aside import Aside
from trivet.errors import UpstreamError
from trivet.flights import Flights
from trivet.labels.labels import Labels
from trivet.ledger.prices import Cost, Prices
from trivet.routing.policies import Policies
from trivet.seams import Asking, Cache, Clock, Provider, Router, Store, Weighing
from trivet.types import Attempt, Chunk, Decision, Entry, Facts, Fault, Policy, Request, Usage

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of one streamed answer that is gathered for the cache; a longer one is relayed and not kept."""


class Stages(NamedTuple):
    """What a request passes through, built once (`build.py`) and handed on."""

    policies: Policies
    cache: Cache
    routers: Mapping[str, Router]
    providers: Mapping[str, Provider]
    store: Store
    prices: Prices
    clock: Clock
    aside: Aside
    flights: Flights
    labels: Labels
    answered: "Callable[[Tally, Stages], Awaitable[bytes | None]]"
    """Gives the whole answer to a request of ours (`pipeline.answered`); None: there is none; its Entry says why."""
    routed_by: Mapping[str, str] = {}
    """Digests of what was learned, by the policies that are routed by it."""
    asking: Mapping[str, Asking] = {}
    """Those of `routers` that hear from a model before they rank."""
    weighing: Mapping[str, Weighing] = {}
    """Those of `routers` that look at answers before one is served."""


@dataclass(slots=True)
class Try:
    """One target being asked."""

    target: str
    started_ns: int
    connect_ns: int = 0
    spoke: bool = False


class Tally:
    """What is known of one request so far; it becomes the Entry. The edge reads it for headers.

    Most of it is never reached by most requests, so the defaults stand on the class, and a request only sets its own.
    """

    fault: Fault | None = None
    """Why the edge cannot take the request at all (no key, bad JSON), if it cannot."""
    policy: Policy | None = None
    """Found by the model that is asked for, unless it is set before: work of ours is on another policy's account."""
    facts: Facts = Facts()
    cache: str = "off"
    ticket: object = None
    """Of the look into the cache, for keeping the answer."""
    embedder_digest: str = ""
    decision: Decision | None = None
    target: str = ""
    opened_headers: tuple[tuple[bytes, bytes], ...] = ()
    auth_ns: int = 0
    cache_ns: int = 0
    look_ns: int = 0
    weighed_ns: int = 0
    connect_ns: int = 0
    first_byte_ns: int = 0
    ttft_ns: int = 0
    engine_ns: int = 0
    chunks: int = 0
    out_bytes: int = 0
    finish: str = ""
    model: str = ""
    usage: Usage | None = None
    why: str = ""
    """Why this answer is served, in a few words of ours, where answers were weighed."""
    weighed: dict[int, tuple[Usage, Cost]] | None = None
    """What answers cost that were weighed and are not served, by the place of their attempt."""
    found: Mapping[int, str] = MappingProxyType({})
    """What was found of each answer that was weighed, by the same."""
    gathered: list[bytes] | None = None
    """The answer's documents, where the cache may keep them, or a shadow is compared with them."""
    shadowed: bool = False
    """It was drawn to be asked of another target too."""
    error: BaseException | None = None
    expired: bool = False
    """The client's deadline passed; the cancellation that follows is ours."""
    entry: Entry | None = None
    """Set once it is kept: all chunks after that are the end of the answer."""

    def __init__(self, request: Request, began_ns: int) -> None:
        self.request = request
        self.began_ns = began_ns
        """Monotonic, when the request arrived; all other times here are after it."""
        self.attempts: list[Attempt] = []
        self.lost: list[str] = []
        """Targets that failed without a word of their answer, after they may have begun (and charged for) it."""

    def count(self, chunk: Chunk, now_ns: int) -> None:
        """Note what a chunk of the answer says."""
        self.chunks += 1
        self.out_bytes += len(chunk.data)
        if not self.first_byte_ns:
            self.first_byte_ns = now_ns
        if chunk.speaks and not self.ttft_ns:
            self.ttft_ns = now_ns
        self.finish = chunk.finish or self.finish
        self.model = chunk.model or self.model
        self.usage = chunk.usage or self.usage
        if self.gathered is not None:
            self.gathered.append(chunk.data)
            if self.out_bytes > MAX_KEPT_BYTES:
                self.gathered = None


def end_attempt(
    tally: Tally, attempt: Try, clock: Clock, *, error: BaseException | None = None, began: bool = False
) -> None:
    """Write down that a target was asked.

    Args:
        error: why there is no answer, or not all of it.
        began: it gave some of its answer, of which nothing went out.
    """
    took_ns = clock.mono_ns() - tally.began_ns - attempt.started_ns
    tally.engine_ns = took_ns
    failed = isinstance(error, Exception)
    if failed and not (tally.chunks or began) and getattr(error, "spent", True):
        tally.lost.append(attempt.target)
    tally.attempts.append(
        Attempt(
            target=attempt.target,
            status="ok" if error is None else "failed" if failed else "cancelled",
            started_ns=attempt.started_ns,
            took_ns=took_ns,
            connect_ns=attempt.connect_ns,
            error=error.kept[:500] if isinstance(error, UpstreamError) else type(error).__name__ if failed else "",
            http_status=error.status if isinstance(error, UpstreamError) else 0,
        )
    )


def ours(request: Request) -> str:
    """Say what a request of Trivet's own is for, as its lever is called; "": it is a client's."""
    if request.audit_of:
        return "audit"
    if request.judge_of:
        return "judge"
    if request.shadow_of:
        return "shadow"
    if request.embed_of:
        return "embed"
    return "classifier" if request.route_of else ""
