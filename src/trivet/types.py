"""The nouns of Trivet, frozen and without behaviour: start here.

A request is *asked*, a decision is *chosen*, an outcome *happened*, an entry is *kept*:

    Request  ->  Facts  ->  Decision  ->  Outcome  ->  Entry

Not here: how any of them is made (`wire/` makes a Request, `pipeline.py` makes the rest).
Invariants: money is a whole number of nano-dollars (1e-9 $) or `None` where it is not known, never a float and
never a silent zero; times of day are nanoseconds since 1970 UTC; durations are nanoseconds of a monotonic clock.
None of them can hold itself, so the garbage collector need not look at them (`gc=False`).
"""

from typing import TYPE_CHECKING, Literal, NewType

import msgspec
from msgspec import Raw, Struct

if TYPE_CHECKING:
    Nanos = NewType("Nanos", int)
    """Money: nano-dollars, 1e-9 $. One million is a tenth of a cent."""
else:
    Nanos = int  # a NewType is a call of a Python function each time, and a request makes several

CacheWord = Literal["auto", "off", "refresh", "only"]
"""`x-trivet-cache`: obey the policy; do not look and do not keep; do not look but keep; never call upstream."""

Kind = Literal["chat", "completions", "embeddings", "moderations"]
"""What is asked for, named as OpenAI's paths are."""

Status = Literal["ok", "refused", "failed", "cancelled"]
"""How a request ended: answered; refused by us; not answered by any target; the caller left."""


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens of one answer, normalised once at the provider's edge.

    Parts are *subsets*: `cached_tokens` and `cache_write_tokens` of `input_tokens`, `cache_write_1h_tokens` (kept for
    an hour, where five minutes are usual) of `cache_write_tokens`, `reasoning_tokens` of `output_tokens`. Providers
    that report them apart (Anthropic) are added up before they get here.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0


class Labels(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Whom a request is attributed to, as the client says in `x-trivet-feature`, `-agent` and `-customer`."""

    feature: str = ""
    agent: str = ""
    customer: str = ""


class Controls(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a client asks of Trivet itself for one request: the `x-trivet-*` headers, or `trivet` in the body."""

    cache: CacheWord = "auto"
    namespace: str = ""
    cache_tags: tuple[str, ...] = ()
    """Under which the answer can be taken off again."""
    max_error: float | None = None
    """The cache is to promise at least this, where that is less than what the policy promises; in [0, 1)."""
    quality: float | None = None
    """A floor under quality that is at least this, where that is more than the policy holds; in (0, 1]."""
    baseline: str = ""
    report: bool | None = None
    deadline_ms: int | None = None


class Permit(Struct, frozen=True, kw_only=True, gc=False):
    """What a key may ask for, and who may be called for it; nothing named: everything."""

    models: tuple[str, ...] = ()
    """Names of policies, targets and aliases; `WILDCARD/*` is every model of that target."""
    targets: tuple[str, ...] = ()
    """Others are never called, whatever is asked for."""


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """One answer asked for: read once at the edge, never changed.

    `fields` holds the top-level members of the body with their bytes as they came, so that what Trivet does not
    know goes through unchanged; what it decides on stands beside it, decoded from those same members.
    """

    id: str
    kind: Kind = "chat"
    tenant: str
    key_id: str = ""
    permit: Permit = Permit()
    model: str
    fields: dict[str, Raw]
    stream: bool = False
    wants_usage: bool = False
    temperature: float | None = None
    n: int = 1
    labels: Labels = Labels()
    controls: Controls = Controls()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Request headers that are passed on to the target as they came (lower-case names)."""
    at_ns: int = 0
    """Time of day at which the first byte of it was in our hands."""
    audit_of: str = ""
    """Id of the request whose hit this one checks."""
    judge_of: str = ""
    """Id of the request whose answer this one has compared with another."""
    route_of: str = ""
    """Id of the request that this one asks a model about, so that it can be routed."""
    shadow_of: str = ""
    """Id of the request that this one asks another target too."""
    embed_of: str = ""
    """Id of the request whose texts this one has turned into vectors; or `start`, `kept`, `asked`: no request's."""


class CachePolicy(Struct, frozen=True, kw_only=True, gc=False):
    """`[policies.X.cache]`, compiled."""

    mode: str
    ttl_s: float
    max_temperature: float
    tools: bool
    partition: tuple[str, ...]
    threshold: float = 0.93
    """Cosine from which `static` serves."""
    max_error: float = 0.01
    """Share of all answers that may be wrong hits: what `vcache` and `verified` promise."""
    judge: str = "likeness"
    """How answers in prose are compared: `equality`, `likeness`, or by a model, whose target or policy this is."""
    auto_off: bool = True
    """Likeness is left alone where looking for it costs more than its hits save."""


class LabelPolicy(Struct, frozen=True, kw_only=True, gc=False):
    """`[policies.X.labels]`, compiled, where they are kept."""

    max_entries: int
    ttl_s: float


class ShadowPolicy(Struct, frozen=True, kw_only=True, gc=False):
    """`[policies.X.shadow]`, compiled, where there are shadows."""

    share: float
    """Of the requests that a target answers, in (0, 1]."""
    target: str
    """Whose answers the others are held against."""
    budget_nanos: Nanos
    """For a day in UTC."""
    tools: bool
    judge: str
    """How answers in prose are compared, as in a CachePolicy."""


class Rule(Struct, frozen=True, kw_only=True, gc=False):
    """One of `[[policies.X.rules]]`, compiled: what must be so, all of it, and who is asked first then."""

    use: tuple[str, ...]
    needs: frozenset[str] | None = None
    """Abilities that the request must need (`routing/needs.py`); None: that does not matter."""
    lacks: frozenset[str] = frozenset()
    """Abilities that it must not need."""
    tokens_from: int = 0
    tokens_below: int = 0
    """0: no bound."""
    language: frozenset[str] = frozenset()
    header: frozenset[tuple[bytes, bytes]] = frozenset()
    key: frozenset[str] = frozenset()
    feature: frozenset[str] = frozenset()
    agent: frozenset[str] = frozenset()
    customer: frozenset[str] = frozenset()


class Aim(Struct, frozen=True, kw_only=True, gc=False):
    """The triangle of a policy: which leg is made small (or quality: large), and which are held."""

    best: Literal["cost", "latency", "quality"] = "cost"
    quality: float | None = None
    """Floor under the mean quality, as a share of the reference's, in (0, 1]."""
    reference: str = ""
    """The target whose quality that is; empty: the best of the pool."""
    confidence: float = 0.9
    """With which the floor holds on fresh traffic, in [0.5, 1)."""
    cost_nanos: int | None = None
    """Ceiling on what a request costs on average."""
    ttft_s: float | None = None
    """Ceiling on the seconds to the first token..."""
    percentile: float = 0.95
    """... of this share of the requests."""
    router: str = ""
    """The file of the trained router."""
    sticky_s: float = 0.0
    """How long a conversation may stay where its prompt is cached."""


class ClassifierPolicy(Struct, frozen=True, kw_only=True, gc=False):
    """`[policies.X.classifier]`, compiled: who sorts requests into simple and complex, and who is asked then."""

    model: str
    """The target or policy that is asked."""
    digest: str
    """Of what can change its word: its pool and models."""
    within_ms: int
    simple: tuple[str, ...] = ()
    complex: tuple[str, ...] = ()
    """Targets of the pool; none: its first, and its last."""
    fallback: Literal["simple", "complex"] = "complex"
    """What a request is taken for where there is no word."""
    memory: int = 10_000
    """Words that are remembered; 0: none."""
    ttl_s: float = 86_400.0
    prompt: str = ""
    """What the model is told, instead of ours."""


class CascadePolicy(Struct, frozen=True, kw_only=True, gc=False):
    """`[policies.X.cascade]`, compiled: who is asked first, and what has to be so for their answer to be served."""

    cheap: tuple[str, ...]
    """Targets of the pool, the cheapest first."""
    large: str
    """Who is asked where their answers do not settle it."""
    agree: int = 2
    """How many of them have to say the same; 1: an answer that is well-formed is enough."""
    samples: int = 1
    """How often each of them may be asked."""
    together: bool = True
    """They are asked side by side, not in turn."""
    within_ms: int = 30_000
    """How long a request waits for their answers."""
    streams: Literal["wait", "start"] = "wait"
    """Whether streamed answers are weighed too, or come from `large` at once."""
    compare: str = "likeness"
    """How answers in prose are: `likeness`, by meaning; `equality`, word by word."""
    sure: float = 0.0
    """Least chance of an answer's tokens, on average, where the target says it; 0: not looked at."""


class Policy(Struct, frozen=True, kw_only=True, gc=False):
    """A virtual model, compiled: the pool and the levers. A target named directly is a policy without levers."""

    name: str
    digest: str
    pool: tuple[str, ...]
    known_as: str = ""
    """Its own name, where it is asked on another one's account and goes by that one's."""
    route: str = "fixed"
    rules: tuple[Rule, ...] = ()
    aim: Aim | None = None
    classifier: ClassifierPolicy | None = None
    cascade: CascadePolicy | None = None
    cache: CachePolicy | None = None
    labels: LabelPolicy | None = None
    shadow: ShadowPolicy | None = None
    baseline: str | None = None
    transparent: bool = False
    """True for a target named directly: it gets that target, unchanged and uncached, and nothing is added."""
    model: str = ""
    """For a wildcard target: the name that its provider is asked for."""


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A target that may answer, in the router's order, with what replay needs to be honest."""

    target: str
    score: float = 0.0
    probability: float = 1.0
    """With which the router would put this candidate first, given the same request (its propensity)."""
    why: str = ""
    """In a few words of ours, where something other than the order of the pool put it here: "rule 2"."""
    weighed: bool = False
    """Its answer is looked at before it is served: another may be."""


class NearMiss(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A kept answer that was looked at and not served, and why."""

    entry_id: str
    """Of its Entry; "": none was looked at."""
    kind: str
    why: str
    cosine: float | None = None
    p_correct: float | None = None


class Hit(Struct, frozen=True, kw_only=True, gc=False):
    """A kept answer that may be served: one whole `chat.completion` as JSON, as it was first given."""

    kind: Literal["exact", "semantic"]
    body: bytes
    usage: Usage | None
    origin_id: str
    """Id of the Entry whose answer this is."""
    target: str
    """The target that gave the answer first."""
    age_ms: int
    cosine: float | None = None
    p_correct: float | None = None
    audit: bool = False
    """It is also to be asked upstream, in the background, to see whether it was right."""


class Hold(Struct, frozen=True, kw_only=True, gc=False):
    """Room that the store has promised: for one Entry, and (with budgets) for the most the request can cost."""

    request_id: str
    nanos: int = 0


class Fault(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An error as a value: what goes to the client and into the Entry."""

    status: int
    code: str
    message: str
    whose: Literal["client", "operator", "upstream", "trivet"]
    kind: str = "api_error"
    """OpenAI's `type` of error."""
    param: str = ""
    """The field or header at fault."""


class Facts(Struct, frozen=True, kw_only=True, gc=False):
    """All that was looked up before deciding; `decide` sees nothing else."""

    hold: Hold | None = None
    hit: Hit | None = None
    near: tuple[NearMiss, ...] = ()
    ranked: tuple[Candidate, ...] = ()
    fault: Fault | None = None
    """Why the request cannot be admitted (no such model, no room in the ledger, bad input), if it cannot."""


class Serve(Struct, frozen=True, tag="serve", gc=False):
    """Answer from what is already known."""

    hit: Hit


class Call(Struct, frozen=True, tag="call", gc=False):
    """Ask these targets, in this order, until one answers."""

    targets: tuple[Candidate, ...]


class Weigh(Struct, frozen=True, tag="weigh", gc=False):
    """Ask some of these, look at what they answer, and serve one answer; the router says which, and who is next."""

    targets: tuple[Candidate, ...]


class Refuse(Struct, frozen=True, tag="refuse", gc=False):
    """Do not answer, and say why."""

    fault: Fault


Decision = Serve | Call | Weigh | Refuse


class Opened(Struct, frozen=True, gc=False):
    """How the connection to a target came to be."""

    connect_ns: int
    """Name look-up, connect and TLS; 0 where an open connection was used again."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Of the target's answer, those that are passed on to the client (lower-case names)."""


class Chunk(Struct, frozen=True, gc=False):
    """A piece of an answer: one JSON document as the wire has it, and what Trivet read off it.

    A streamed answer is many `chat.completion.chunk`s; an answer that is not streamed is one `chat.completion`.
    """

    data: bytes
    speaks: bool = False
    """It carries content (text, reasoning, refusal, tool call), so it is past the point of failing over."""
    finish: str | None = None
    """A `finish_reason` it carries: stop, length, tool_calls, content_filter, ..."""
    usage: Usage | None = None
    model: str | None = None
    """The model that the target says it answered with."""
    opened: Opened | None = None
    """On the first chunk of an answer: how its connection was made."""


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One target asked, whether it answered or not."""

    target: str
    status: Literal["ok", "failed", "cancelled"]
    started_ns: int
    """After the request arrived."""
    took_ns: int
    connect_ns: int = 0
    error: str = ""
    http_status: int = 0
    why: str = ""
    """What was found of its answer, where answers were weighed: "2 of 2 agree", "no JSON", ..."""
    usage: Usage | None = None
    """Of an answer that was weighed and not served; that of the served one is in the Outcome."""
    cost_nanos: Nanos | None = None
    """What such an answer cost: it is in the Outcome's cost."""
    cost_unknown: str = ""
    """Why that is not known, or not all."""


class Timing(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The anatomy of one latency, in nanoseconds since the request arrived, except `connect_ns`; 0: not reached."""

    auth_ns: int = 0
    look_ns: int = 0
    """Hold, cache look-up and route were done (`cache_ns` of it for the cache)."""
    cache_ns: int = 0
    weighed_ns: int = 0
    """It was clear whose answer is served, where answers were weighed: the wait for those that were not."""
    connect_ns: int = 0
    first_byte_ns: int = 0
    ttft_ns: int = 0
    """The first chunk with content was handed to the edge."""
    total_ns: int = 0


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What happened."""

    status: Status
    http_status: int
    target: str = ""
    model: str = ""
    """The model named in the answer; prices go by it."""
    finish: str = ""
    fault: Fault | None = None
    usage: Usage | None = None
    usage_estimated: bool = False
    """The target did not report usage (an answer cut short): the tokens are counted off what was relayed."""
    cost_nanos: Nanos | None = None
    cost_unknown: str = ""
    """Why `cost_nanos` is None, or is not all: tokens were (or may have been) spent at a cost that is not known."""
    timing: Timing = Timing()
    attempts: tuple[Attempt, ...] = ()
    chunks: int = 0


class Baseline(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The counterfactual: what the declared baseline would have cost."""

    target: str
    cost_nanos: Nanos | None = None
    estimated: bool = False
    why_unknown: str = ""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the ledger keeps of one request: appended once, never changed. No prompt and no answer text is in it."""

    id: str
    at_ns: int
    tenant: str
    key_id: str = ""
    kind: Kind = "chat"
    model: str = ""
    """As asked for."""
    policy: str = ""
    policy_digest: str = ""
    stream: bool = False
    labels: Labels = Labels()
    cache_word: CacheWord = "auto"
    decision: Literal["serve", "call", "weigh", "refuse", "none"] = "none"
    """`none`: it ended before anything was decided (the caller left while we were looking)."""
    candidates: tuple[Candidate, ...] = ()
    """Everything that could have answered, in the router's order; the choice is the first."""
    near: tuple[NearMiss, ...] = ()
    cache: str = ""
    """off, bypass, miss, exact, semantic."""
    hit_of: str = ""
    """Id of the Entry whose answer was served."""
    cosine: float | None = None
    """Of a semantic hit: how near its question was."""
    p_correct: float | None = None
    """Of a semantic hit: how likely its answer was thought to be right."""
    audit_of: str = ""
    """Id of the Entry whose hit this request checked: it was asked by us, in the background."""
    judge_of: str = ""
    """Id of the Entry whose answer this request had compared with a kept one: asked by us too."""
    route_of: str = ""
    """Id of the Entry whose request this one asked a model about, so that it could be routed: asked by us too."""
    shadow_of: str = ""
    """Id of the Entry whose request this one asked another target, to compare: asked by us too."""
    embed_of: str = ""
    """Id of the Entry whose question this request turned into vectors, for the cache: asked by us too. `start`: it
    asked what the embedder's vectors are like; `kept`: it was about questions that are kept; `asked`: another wish."""
    hit_age_ms: int = 0
    price_version: str = ""
    embedder_digest: str = ""
    router_digest: str = ""
    outcome: Outcome
    baseline: Baseline | None = None
    saved: dict[str, Nanos] = msgspec.field(default_factory=dict)
    """By lever; sums to baseline minus cost, exactly. Empty where either is not known."""
    v: int = 1
