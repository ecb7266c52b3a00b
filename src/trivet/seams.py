"""The seams: what a plugin can fill, and the one loader.

A plugin is a package with an entry point in the seam's group; built-ins register the same way. Each group holds
builders: plain functions that take settings and a `Kit`, and give back something that fills the protocol.
`trivet.testing` has a conformance suite per seam: `class TestMine(ProviderSuite): ...`.

Invariant: clock, randomness and connections come in through the `Kit`. What reaches for its own cannot be run in
virtual time, so it cannot be simulated (tests/test_simulation.py).
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from msgspec import Raw

from trivet.errors import ConfigError
from trivet.types import Candidate, Chunk, Entry, Hit, Hold, Labels, Nanos, NearMiss, Permit, Policy, Request, Usage

if TYPE_CHECKING:  # numpy takes longer to import than all of this
    import numpy as np
    from numpy.typing import NDArray


class Clock(Protocol):
    """Time, passed in so that it can be virtual."""

    def now_ns(self) -> int:
        """Time of day: nanoseconds since 1970 UTC."""
        ...

    def mono_ns(self) -> int:
        """For durations: nanoseconds that never go back."""
        ...


class Random(Protocol):
    """Randomness, passed in so that a run can be repeated. `random.Random` and `random.SystemRandom` fill it."""

    def random(self) -> float: ...
    def getrandbits(self, k: int, /) -> int: ...


class Dialer(Protocol):
    """Opens connections: the one way out of the process, so that it can be watched, limited and simulated."""

    async def __call__(
        self, make: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect to `host:port` with TCP_NODELAY. Raises OSError (`ssl.SSLError` is one)."""
        ...


class Turns:
    """Who may fetch and who may load, first come first served: heavy starts do not crowd each other out."""

    def __init__(self) -> None:
        self.load, self.fetch = asyncio.Lock(), asyncio.Lock()


class Vectors(NamedTuple):
    """Texts as an embedder sees them, in their order."""

    rows: "NDArray[np.float32]"
    """[n, width]; each row of unit length, or all zeros for a text without any token."""
    tokens: tuple[int, ...]
    """Tokens of each text that were read."""
    cut: tuple[bool, ...]
    """Whether a text has more tokens than that, which were not."""


class Embedder(Protocol):
    """Texts to vectors, in which like texts are near each other.

    A builder is `build(settings: config.EmbedderSettings, kit: Kit) -> Embedder`, registered in `trivet.embedder`; it
    does no I/O.
    """

    @property
    def name(self) -> str:
        """What the vectors are made with, for people: `all-MiniLM-L6-v2-int8`."""
        ...

    @property
    def digest(self) -> str:
        """Of all that can change a vector (weights, tokenizer, pooling, width): those of two digests do not mix.

        Known once it is ready, and where nothing has to be read for it before the start; "": not known yet. Once known
        it stays.
        """
        ...

    @property
    def width(self) -> int:
        """Numbers in a vector; known when `digest` is, and 0 before."""
        ...

    @property
    def min_width(self) -> int:
        """A vector may be cut to its first so many numbers and be made of unit length again; `width`: it may not."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of one text that are read; what comes after them is left out, and `Vectors.cut` says so. Known when
        `digest` is."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Turn texts into vectors, off the event loop where that takes more than a millisecond.

        The same text gives the same vector, to 1e-3 in each number, alone or among others. Cancelling takes the texts
        out of the queue. Raises only `EmbedderError`: not ready, failed, or too much waiting.
        """
        ...

    async def start(self) -> None:
        """Get ready in the background (fetch weights, load them); returns at once. May be called again."""
        ...

    def ready(self) -> str:
        """Say why it cannot answer yet ("loading", "fetching, 40 %", "failed: ..."), or "" if it can."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; what is waiting fails. May be called twice."""
        ...


class Account:
    """On whose account a target is asked for what no client asked for, and what that has cost so far."""

    def __init__(
        self,
        *,
        of: str,
        tenant: str = "",
        key_id: str = "",
        labels: Labels | None = None,
        policy: str = "",
        patient: bool = False,
        permit: Permit | None = None,
    ) -> None:
        """`of`: id of the request that it is for, or a word of ours. `patient`: nobody waits for the answer."""
        self.of, self.tenant, self.key_id, self.labels = of, tenant, key_id, labels or Labels()
        self.policy, self.patient, self.permit = policy, patient, permit or Permit()
        self.cost_nanos = Nanos(0)
        """As far as it is known."""


@runtime_checkable
class Charging(Protocol):
    """What an Embedder may have besides: it asks a target, which may charge for it."""

    target: str
    """Which one: keys that may not call it have their questions compared word by word."""
    patience_s: float
    """How long it waits for a target that does not answer, where somebody waits for it."""

    def on(self, account: Account) -> Embedder:
        """Give the same embedder, for work on this account. It is not to be started or closed."""
        ...


class Wanted(NamedTuple):
    """Vectors that are wanted of a target."""

    target: str
    texts: Sequence[str]
    id: str
    """Of the Entry that the request is to leave."""
    account: Account
    """Its cost is added up there."""


class Given(NamedTuple):
    """What the target gave."""

    body: bytes | None
    """Its answer, as `/v1/embeddings` has it; None: there is none."""
    why: str
    """Why there is none, without words of a text; "": there is one."""
    asked: bool
    """Whether the target was: else it is no fault of its."""
    digest: str
    """Of what can change the vectors of that target: provider, model, address."""


class Desk:
    """Where what is built before the targets are asks one of them for vectors, once they are there."""

    def __init__(self) -> None:
        self._give: Callable[[Wanted], Awaitable[Given]] | None = None
        self._opened = asyncio.Event()

    def open(self, give: Callable[[Wanted], Awaitable[Given]]) -> None:
        """Have wishes answered so from now on; called again for another configuration."""
        self._give = give
        self._opened.set()

    async def ask(self, wanted: Wanted) -> Given:
        """Ask a target, in a request with its own Entry; waits until there are targets."""
        await self._opened.wait()
        assert self._give is not None
        return await self._give(wanted)


def _no_embedder(kind: str) -> Embedder:
    raise ConfigError(f"No embedder can be lent here, so none called {kind!r}: this Kit was made without.")


class Kit(NamedTuple):
    """What a stage may need from outside, handed to every builder."""

    clock: Clock
    random: Random
    dial: Dialer
    home: Path
    """Where state lives (`TRIVET_HOME`): ledger, keys; the directory exists."""
    models: Path
    """Where model files live; may not exist yet."""
    tell: Callable[[str], None]
    """A line for the operator (progress of a download, an engine restarted). Never secrets."""
    turns: Turns
    """Shared by all that is built with this Kit."""
    desk: Desk
    """Asks targets for vectors; shared too."""
    embedder: Callable[[str], Embedder] = _no_embedder
    """Lends the embedder of that kind ("builtin", "minilm", or a plugin's); one is loaded for all who borrow it.

    Who borrows it starts and closes it as if it were its own. Raises ConfigError: there is none of that kind.
    """


class Provider(Protocol):
    """One target: a model at a place that answers requests. One module in `upstream/`, or in your own package.

    A builder is `build(target: config.TargetSettings, kit: Kit) -> Provider`, registered in `trivet.provider`. One that
    can be asked for more than chat completions says so in `kinds`, a frozenset of `types.Kind`; a request of another
    kind than it can answer is an `UpstreamError`. One that bounds the length of a request says so in `context_tokens`.
    """

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Yield the answer as it arrives: many chunks if `request.stream`, else one.

        The end of the generator means that the answer is whole. Usage is always asked for and is on a chunk.
        Closing the generator early must close the connection at once. Raises only `UpstreamError`.
        """
        ...

    async def start(self) -> None:
        """Get ready in the background (fetch weights, start an engine); returns at once. Called once."""
        ...

    def ready(self) -> str:
        """Say why the target cannot answer yet ("loading, 40 %"), or "" if it can."""
        ...

    async def aclose(self) -> None:
        """Let go of everything: connections, child processes. May be called twice."""
        ...


BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Durations in `/metrics` are counted by these upper bounds, and one more for all that is longer."""


class Connections(NamedTuple):
    """The connections of one target: how many there are, and since the start of the process."""

    open: int = 0
    """Connecting, busy or idle."""
    idle: int = 0
    waiting: int = 0
    """Requests that wait for one."""
    opened: int = 0
    reused: int = 0
    """Requests sent on one that was open already."""
    retried: int = 0
    """Requests sent once more because theirs turned out to be closed."""
    connect_counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    """How long opening took, by `BOUNDS_S`: name look-up, proxy, TCP and TLS."""
    connect_ns: int = 0
    """All of it together."""


@runtime_checkable
class Connected(Protocol):
    """What a Provider may have besides: numbers of its connections, for `/metrics`."""

    def connections(self) -> Connections:
        """Say how many there are, and were."""
        ...


class Found(NamedTuple):
    """What a look into a cache gave."""

    hit: Hit | None = None
    near: tuple[NearMiss, ...] = ()
    ticket: object = None
    """Whatever the cache wants back in `keep` (a key, an embedding), so that nothing is worked out twice."""
    embedder_digest: str = ""
    """Of the embedder by which meanings were compared, if they were."""


class Doubt(NamedTuple):
    """Two answers of which a cache wants to hear from a model whether they say the same."""

    model: str
    """The target or policy to ask."""
    asks: tuple[dict[str, Raw], ...]
    """The members of chat requests, but for the model."""
    ticket: object
    """Whatever the cache wants back with the answers."""


class Cache(Protocol):
    """Answers already known. A builder is `build(settings: config.CacheSettings, kit: Kit) -> Cache`."""

    async def find(self, request: Request, policy: Policy) -> Found:
        """Look for a kept answer. Never raises for a fault of its own: a cache that is broken is a miss."""
        ...

    async def keep(
        self, request: Request, policy: Policy, entry: Entry, body: bytes, *, ticket: object
    ) -> Doubt | None:
        """Keep a whole answer (one `chat.completion`). Called only for answers that the policy lets be kept.

        Gives what a model is to say of it, where the policy names one for that; a `Doubting` cache hears the answer.

        Args:
            ticket: what `find` gave for this request; None where it was not looked for (`x-trivet-cache: refresh`).
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Startable(Protocol):
    """What a Cache may have besides: it gets ready before the first request."""

    async def start(self, policies: Iterable[Policy]) -> None:
        """Get ready for these policies in the background (load an embedder, open files); returns at once.

        Called for each configuration. Raises ConfigError: something that they need cannot be had.
        """
        ...


@runtime_checkable
class Doubting(Protocol):
    """What a Cache may have besides: it has answers compared by a model."""

    def heard(self, doubt: Doubt, bodies: Sequence[bytes | None], cost_nanos: Nanos) -> None:
        """Hear what was answered to its requests: one whole `chat.completion` for each; None, or too few: it failed.

        Args:
            cost_nanos: of them all, as far as it is known.

        A doubt that nobody had time for is not heard of again.
        """
        ...


class CacheState(NamedTuple):
    """How a cache stands."""

    answers: int
    bytes: int
    troubles: Mapping[str, int]
    """What went wrong and was a miss, by kind, since the start of the process."""
    deciders: Mapping[str, Mapping[str, float]]
    """What the decider of each policy says of itself: requests, served, audits, audits_wrong, max_error, ..."""
    barred: Mapping[tuple[str, str], int] = MappingProxyType({})
    """Looks in which a near answer was not for whoever asked and nothing else was served, by policy and reason, since
    the start of the process."""
    behind: int = 0
    """Answers that are waiting for a vector of the embedder: until then they are found by exact repeats."""


@runtime_checkable
class Stated(Protocol):
    """What a Cache may have besides: it says how it stands, for `/metrics`."""

    def state(self) -> CacheState:
        """Say it."""
        ...


class Kept(NamedTuple):
    """A kept answer, for whoever wants it taken off."""

    entry_id: str
    """Of the Entry whose answer it is."""
    policy: str
    namespace: str
    tags: tuple[str, ...]
    question: str
    age_ms: int


@runtime_checkable
class Purgeable(Protocol):
    """What a Cache may have besides: its answers can be taken off, each tenant's by that tenant."""

    def wrong(self, tenant: str, request_id: str, *, hit_of: str = "") -> bool:
        """Take off the answer that a request was served, because it was wrong. False: no such hit is known.

        Args:
            hit_of: what the request's Entry says it was served, if that is known.
        """
        ...

    async def invalidate(
        self,
        tenant: str,
        *,
        tags: Sequence[str] = (),
        namespace: str | None = None,
        entry_id: str = "",
        like: str = "",
        cosine: float = 1.0,
        dry_run: bool = False,
    ) -> Sequence[Kept]:
        """Take off what carries one of the tags, is in the namespace, was that Entry's answer, or is like a text.

        Gives what it was. When the call returns, none of it is found any more in this process. Raises TrivetError.
        """
        ...


class Profile(NamedTuple):
    """What was measured of a target lately."""

    ttfts_s: tuple[float, ...] = ()
    """Seconds to the first token of streamed answers, newest first."""
    cost_usd: float = float("nan")
    """Of an answer, on average; NaN: not known."""
    output_tokens: float = float("nan")
    """Of an answer, on average; NaN: none was measured."""


@runtime_checkable
class Profiled(Protocol):
    """What a Store may have besides: it knows how the targets have done."""

    async def profiles(self) -> Mapping[str, Profile]:
        """Say how each target did lately, by name. Raises `LedgerError`."""
        ...


class Rates(NamedTuple):
    """Dollars a token."""

    input: float
    output: float
    cached: float
    """Of input that is read from the target's prompt cache."""


class Known(NamedTuple):
    """What is known of the targets when a configuration is put in force."""

    models: Mapping[str, str]
    """The provider's name for each target's model."""
    profiles: Mapping[str, Profile] = {}
    rates: Mapping[str, Rates] = {}
    """Of those that are priced by the token."""


class Router(Protocol):
    """Which targets, in which order. A builder is `build(settings: config.Settings, kit: Kit) -> Router`."""

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the policy's pool, best first: the first is asked, the others stand by.

        Gives only targets of `policy.pool`; the probabilities are those of being put first and sum to 1.
        """
        ...


@runtime_checkable
class Compiling(Protocol):
    """What a Router may have besides: it gets ready for the policies that route by it, before the first request."""

    async def compile(self, policies: Sequence[Policy], known: Known) -> None:
        """Get ready. Raises ConfigError: what a policy asks for cannot be had; it says what can."""
        ...

    def digest(self, policy: str) -> str:
        """Say what a policy is routed by, for its entries: the digest of a file."""
        ...


class Ask(NamedTuple):
    """What a router wants to hear from a model before it ranks a request."""

    key: bytes
    """Asks of one key are one, while they are under way together; so it tells tenants and policies apart."""
    model: str
    """The target or policy to ask."""
    fields: dict[str, Raw]
    """The members of a chat request, but for the model."""
    within_ms: int
    """How long a request may wait for it."""
    ticket: object = None
    """Whatever the router wants back with the answer."""


class Verdicts(NamedTuple):
    """What came of asking a model about the requests of a policy, since the start of the process."""

    counts: Mapping[str, int]
    """Requests, by what was heard of them, or why nothing was."""
    took_counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    """How long each ask took, by `BOUNDS_S`."""
    took_ns: int = 0
    """All of them together."""


@runtime_checkable
class Asking(Protocol):
    """What a Router may have besides: it hears from a model before it ranks."""

    def ask(self, request: Request, policy: Policy) -> Ask | None:
        """Say what a model is to be asked; None: nothing, the request can be ranked by `rank`.

        No request is lost by it: whatever is heard, or not, `rank_by` ranks.
        """
        ...

    def heard(self, ask: Ask, body: bytes | None, *, took_ns: int, late: bool) -> object:
        """Hear what was answered; once for each ask, however many requests waited for it. Gives what `rank_by` takes.

        Not called for an ask that was given up because everybody who waited for it had left.

        Args:
            body: a whole `chat.completion`; None: there is none, because it came too `late`, or it failed.
        """
        ...

    async def rank_by(self, heard: object, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the policy's pool as `rank` does, by what was heard."""
        ...

    def verdicts(self) -> Mapping[str, Verdicts]:
        """Say what was heard, by policy, for `/metrics`."""
        ...


class Heard(NamedTuple):
    """What a target answered, for whoever weighs answers."""

    target: str
    body: bytes | None
    """A whole `chat.completion`; None: there is none, because it failed, came too late, or cannot be read."""
    finish: str = ""
    usage: Usage | None = None
    why: str = ""
    """Why there is none."""


class Step(NamedTuple):
    """What is to be done next with a request whose answers are weighed: one of these; none of them: wait, or give up
    where nobody is waited for."""

    ask: tuple[str, ...] = ()
    """Ask these side by side, and weigh what they answer."""
    relay: str = ""
    """Ask this one, and serve its answer as it comes."""
    take: int | None = None
    """Serve the answer at this place in `heard`. Whoever is still waited for is let go."""
    why: str = ""
    """In a few words of ours, for the answer's head."""
    found: tuple[str, ...] = ()
    """Of each of `heard`, in a few words; for the Entry."""


@runtime_checkable
class Weighing(Protocol):
    """What a Router may have besides: it looks at answers before one is served. Its `rank` marks the candidates whose
    answers are to be weighed; where the first is not marked, targets are asked in their order as always."""

    async def weigh(
        self, request: Request, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str], *, last: bool
    ) -> Step:
        """Say what is next. Called at first with nothing heard, and again after each answer. Never raises.

        Targets are of the policy's pool. What is taken has a body. After as many answers as `pipeline.MOST_WEIGHED`
        nothing more is asked.

        Args:
            heard: all answers so far, in the order in which they came.
            waiting: targets that were asked and have not answered yet.
            last: time is up for answers that are only weighed: `waiting` is empty, and no more may be asked so.
        """
        ...

    def weighed(self) -> Mapping[str, Mapping[str, int]]:
        """Say how requests ended, by policy and end, since the start of the process; for `/metrics`."""
        ...

    def drifted(self) -> Mapping[str, bool]:
        """Say of each policy whether answers agree otherwise than before; for `/metrics`."""
        ...


@runtime_checkable
class Started(Protocol):
    """What a Router may have besides: it needs something that has to be got ready, and let go of."""

    async def start(self) -> None:
        """Get ready in the background; returns at once."""
        ...

    async def aclose(self) -> None:
        """Let go of it. May be called twice."""
        ...


@runtime_checkable
class Following(Protocol):
    """What a Router may have besides: it has learned something while it ran, which outlives a reload."""

    def follow(self, before: Router) -> None:
        """Go on from the router of that name in the configuration before: with what it has heard and counted."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """What a Router may have besides: it says what it thinks of a request, for `trivet route explain`."""

    def explain(self, request: Request, policy: Policy) -> Mapping[str, Any]:
        """Say it, in what JSON can say: see `trivet route explain --json`. Raises TrivetError."""
        ...


class Store(Protocol):
    """The ledger's store. A builder is `build(settings: config.LedgerSettings, kit: Kit) -> Store`."""

    def reserve(self, request: Request) -> Hold | Awaitable[Hold]:
        """Promise room for the entry of this request. Raises `LedgerError` when that cannot be promised."""
        ...

    def settle(self, hold: Hold | None, entry: Entry) -> Awaitable[None] | None:
        """Accept the entry, exactly once per request, refused and cancelled ones too.

        When the call returns, the entry survives the death of this process. An awaitable is returned where the
        store promises more than that (a power cut) and needs to wait for it; it is awaited before the client
        sees the end of the answer. Settling an id that is already kept changes nothing. Raises `LedgerError`.

        Args:
            hold: what `reserve` gave. None: it refused, was not asked, or the caller was cancelled while it was waited
                for; so a store that keeps holds closes the one of `entry.id`, if there is one.
        """
        ...

    async def find(self, entry_id: str) -> Entry | None:
        """Give a settled entry; None: none of that id is kept. Raises `LedgerError`: it cannot be looked up."""
        ...

    async def aclose(self) -> None:
        """Write out what is waiting."""
        ...


def load(group: str, name: str) -> Callable[..., Any]:
    """Find the builder called `name` in an entry-point group such as `trivet.provider`.

    Raises:
        ConfigError: there is none of that name, two packages claim it, or its package cannot be imported.
    """
    found = entry_points(group=group, name=name)
    if not found:
        raise ConfigError(f"There is no {group} called {name!r}; installed: {', '.join(names(group)) or 'none'}.")
    sources = {e.value for e in found}
    if len(sources) > 1:
        raise ConfigError(f"{group} {name!r} is claimed by {' and '.join(sorted(sources))}; uninstall one of them.")
    entry = next(iter(found))
    try:
        builder: Callable[..., Any] = entry.load()
    except ImportError as error:
        raise ConfigError(f"{group} {name!r} ({entry.value}) cannot be imported: {error}.") from error
    return builder


def names(group: str) -> Sequence[str]:
    """List what is installed for a seam, built-ins included."""
    return sorted({e.name for e in entry_points(group=group)})
