"""The sections of `trivet.toml` as one frozen tree.

Not here: reading the file (`load.py`), and what a policy means (`routing/policies.py` compiles it).
Invariant: no secret is in this tree, only where to find it (`env:NAME`, `file:PATH`).
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

# Title and description are the words of the error: "<value> is not <title>. <description>"
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z",
        title="a name",
        description="Write at most 128 letters, digits and . _ : @ -, beginning with a letter or digit.",
    ),
]
Dollars = Annotated[
    str,
    Meta(
        pattern=r"^\$[0-9]+(\.[0-9]+)?\Z",
        title="an amount of dollars",
        description='Write it in quotes with the sign, such as "$0.15".',
    ),
]
DollarsADay = Annotated[
    str,
    Meta(
        pattern=r"^\$[0-9]+(\.[0-9]+)?/day\Z",
        title="an amount of dollars a day",
        description='Write it in quotes, such as "$1/day".',
    ),
]
Span = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)\Z",
        title="a length of time",
        description='Write a number with a unit, such as "24h".',
    ),
]
"""A length of time: "250ms", "30s", "5m", "24h", "7d"."""

Floor = Annotated[
    str,
    Meta(
        pattern=r"^(0?\.[0-9]*[1-9][0-9]*|1(\.0*)?)( of [A-Za-z0-9][A-Za-z0-9._:@-]{0,127})?\Z",
        title="a floor under quality",
        description='Write a share of a target\'s, such as "0.98 of large", or of the best one\'s: "0.98".',
    ),
]
Bound = Annotated[
    str,
    Meta(
        pattern=r"^p[1-9][0-9](\.[0-9]+)? <= [0-9]+(\.[0-9]+)?(ms|s)\Z",
        title="a bound on the time to the first token",
        description='Write the share of the requests, from p10 to p99, and the time, such as "p95 <= 800ms".',
    ),
]

_SPAN_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(span: str) -> float:
    """Turn a Span such as "24h" into seconds."""
    number, unit = re.match(r"^([0-9.]+)([a-z]+)$", span).groups()  # type: ignore[union-attr]  # msgspec checked it
    return float(number) * _SPAN_S[unit]


def floor(text: str) -> tuple[float, str]:
    """Turn a Floor such as "0.98 of large" into the share and the target; "": the best one."""
    share, _, target = text.partition(" of ")
    return float(share), target


def bound(text: str) -> tuple[float, float]:
    """Turn a Bound such as "p95 <= 800ms" into the share of requests and seconds."""
    share, _, span = text.partition(" <= ")
    return float(share.removeprefix("p")) / 100, seconds(span)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share."""


class PriceSettings(Section, frozen=True):
    """`price = { input = "$0.15", output = "$0.60" }`: dollars per million tokens; or `{ hour = "$0.80" }`."""

    input: Dollars | None = None
    output: Dollars | None = None
    cached: Dollars | None = None
    """Per million input tokens read from the provider's prompt cache; as `input` where it is not given."""
    hour: Dollars | None = None
    """For a machine that is paid by the hour: each request pays for its seconds, divided by `slots`."""
    slots: Annotated[int, Meta(ge=1)] = 1


class TimeoutSettings(Section, frozen=True):
    """`timeouts = { connect = "5s", first_byte = "2m", idle = "1m" }`."""

    connect: Span = "5s"
    first_byte: Span = "2m"
    """From the request sent to the first byte of the answer."""
    idle: Span = "1m"
    """Between two pieces of the answer."""


class EngineSettings(Section, frozen=True):
    """`engine = { context = 4096, slots = 4 }`: for an embedded model."""

    context: Annotated[int, Meta(ge=256, le=1_048_576)] = 4096
    """Tokens that one request may use, prompt and answer; memory is `slots` times that."""
    slots: Annotated[int, Meta(ge=1, le=64)] = 2
    """Requests answered at the same time."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """0: one for each core."""


class TargetTlsSettings(Section, frozen=True):
    """`tls = { ca = "corp.pem", cert = "us.pem", key = "us.key" }`: files in PEM."""

    ca: str = ""
    """Who is trusted to say who the target is, instead of the system's certificates."""
    cert: str = ""
    """Who we are, for a target that wants to know: the certificate, and those between it and its root."""
    key: str = ""
    """The key of `cert`, without a password; in the file `cert` where it is not given."""


class TargetSettings(Section, frozen=True):
    """`[targets.NAME]`: one model at one provider."""

    provider: str
    model: str = "*"
    """The provider's name for it; `*`: whatever the client names (as `NAME/model`, or bare where it is clear)."""
    base_url: str = ""
    api_key: str = ""
    """Where the key is: `env:OPENAI_API_KEY` or `file:/run/secrets/openai`."""
    region: str = ""
    headers: dict[str, str] = {}
    price: PriceSettings | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    http: Literal["1.1", "2"] = "1.1"
    """`2`: many requests on one connection; needs `trivet[http2]`."""
    proxy: str = ""
    """`http://host:port`; `env:NAME` or `file:PATH` where it has a password; `environment`: as HTTPS_PROXY says."""
    tls: TargetTlsSettings = TargetTlsSettings()
    warm: Annotated[int, Meta(ge=0, le=100)] = 0
    """Connections opened at the start and kept open."""
    lacks: tuple[Literal["tools", "images", "audio", "schema"], ...] = ()
    """What it cannot do: a policy does not send it requests that need it."""
    engine: EngineSettings = EngineSettings()
    name: str = ""
    """Set from the section's title."""


JUDGES = ("equality", "likeness")
"""Words for `judge` that name no target or policy."""


class CacheSection(Section, frozen=True):
    """`[policies.X.cache]`."""

    mode: Literal["off", "exact", "static", "vcache", "verified", "shadow"] = "off"
    """`exact`: the same request; the others also serve questions that are alike: from a cosine of `threshold`, by
    vCache's rule, or by ours. `shadow` serves none of those and says what `verified` would."""
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.93
    max_error: Annotated[float, Meta(gt=0, le=0.5)] = 0.01
    """Share of all answers that may be wrong hits, for `vcache`, `verified` and `shadow`."""
    judge: str = "likeness"
    """Who says whether two answers in prose say the same: `equality`, `likeness`, or a target or policy that is
    asked."""
    auto_off: bool = True
    """Likeness is left alone where looking for it costs more than its hits save."""
    ttl: Span = "24h"
    partition: tuple[Literal["customer", "feature", "agent"], ...] = ()
    max_temperature: Annotated[float, Meta(ge=0, le=2)] = 1.0
    tools: bool = False


class LabelsSection(Section, frozen=True):
    """`[policies.X.labels]`: prompts and how well they were answered, kept for `trivet route`."""

    keep: bool = False
    """Their text is then on the disk, below TRIVET_HOME."""
    max_entries: Annotated[int, Meta(ge=1)] = 100_000
    """Requests; the oldest go first."""
    ttl: Span = "90d"


class ShadowSection(Section, frozen=True):
    """`[policies.X.shadow]`: a share of the requests is answered by another target too, to compare."""

    share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    target: str = ""
    """Whose answers count as good; the baseline where it is not given."""
    budget: DollarsADay = "$1/day"
    """For shadows and what comparing them costs; days are those of UTC."""
    tools: bool = False
    """Also requests that offer tools."""


class RuleSection(Section, frozen=True):
    """`[[policies.X.rules]]`: if all of this is so, these are asked first. The first rule that fits is taken."""

    use: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Targets of the pool; the others stand by."""
    tools: bool | None = None
    images: bool | None = None
    audio: bool | None = None
    schema: bool | None = None
    """Whether the request offers tools, has images or sound, or asks for a JSON schema."""
    tokens_from: Annotated[int, Meta(ge=0)] = 0
    tokens_below: Annotated[int, Meta(ge=0)] = 0
    """Of the prompt, at four bytes a token; 0: no bound."""
    language: tuple[str, ...] = ()
    """Of the last question, guessed: `en`, `de`, `fr`, `es`, `it`, `pt`, `nl`, or a script such as `CYRILLIC`."""
    header: dict[str, str] = {}
    """Headers that are passed on to the target, with their whole values."""
    key: tuple[str, ...] = ()
    """Ids of virtual keys, as `trivet keys list` shows them."""
    feature: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    customer: tuple[str, ...] = ()


class ClassifierSection(Section, frozen=True):
    """`[policies.X.classifier]`: a small model that says of each request whether it is simple, before it is called."""

    model: str
    """The target or policy that is asked."""
    timeout: Span = "500ms"
    """How long a request waits for its word."""
    simple: tuple[str, ...] = ()
    """Targets of the pool for what is simple; its first where none is given."""
    complex: tuple[str, ...] = ()
    """For what is complex; the last of the pool where none is given."""
    fallback: Literal["complex", "simple"] = "complex"
    """What a request is taken for where there is no word."""
    memory: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000
    """Words that are remembered, so that the same question is not asked about again."""
    ttl: Span = "24h"
    """How long they are."""
    prompt: str = ""
    """What the model is told, instead of ours: to reply `simple` or `complex`."""


class CascadeSection(Section, frozen=True):
    """`[policies.X.cascade]`: cheap targets answer first, and the large one where their answers do not settle it."""

    large: str = ""
    """Of the pool; its last where none is given. All others are cheap, and asked in the order of the pool."""
    agree: Annotated[int, Meta(ge=0, le=8)] = 0
    """How many have to say the same; 1: an answer that is well-formed is enough. 0: two, or one if one is asked."""
    samples: Annotated[int, Meta(ge=1, le=15)] = 1
    """How often each cheap target may be asked; more than once only where a request's temperature is not 0."""
    together: bool = True
    """They are asked side by side; false: in turn, the next one only if it can still matter."""
    within: Span = "30s"
    """How long a request waits for them."""
    streams: Literal["wait", "start"] = "wait"
    """Whether streamed answers wait for that, or come from the large target at once."""
    compare: Literal["likeness", "equality"] = "likeness"
    """How answers in prose are compared: by meaning, or word by word."""
    sure: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Least chance of an answer's tokens, as their geometric mean, where a target says it; 0: not asked for."""


class PolicySettings(Section, frozen=True):
    """`[policies.NAME]`: a virtual model."""

    pool: Annotated[tuple[str, ...], Meta(min_length=1)]
    route: str = "fixed"
    baseline: str = ""
    """The target that savings are counted against; the last of the pool where it is not given."""
    residency: tuple[str, ...] = ()
    """Regions; targets elsewhere are never called. Empty: anywhere."""
    rules: tuple[RuleSection, ...] = ()
    minimize: Literal["cost", "latency"] | None = None
    """The leg that is made as small as the held ones let it be; `cost` where nothing is said."""
    maximize: Literal["quality"] | None = None
    """Instead: quality, as far as the held legs let it."""
    quality: Floor | None = None
    """Held: the mean score is at least this share of a target's, with `confidence`."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.9
    """With which the floor holds on fresh traffic like the labels."""
    ttft: Bound | None = None
    """Held: the time to the first token."""
    cost: Dollars | None = None
    """Held: what a request costs on average."""
    router: str = ""
    """The file that `trivet route train` wrote, for `learned` and `clusters`; read again when it changes."""
    sticky: Span = "5m"
    """How long a conversation may stay where its prompt is cached, if going elsewhere costs more; "0s": never."""
    classifier: ClassifierSection | None = None
    cascade: CascadeSection | None = None
    cache: CacheSection = CacheSection()
    labels: LabelsSection = LabelsSection()
    shadow: ShadowSection = ShadowSection()


class TlsSettings(Section, frozen=True):
    """`tls = { cert = "cert.pem", key = "key.pem" }`: files in PEM, read again when the configuration is."""

    cert: str
    """The certificate and those that lead to its issuer."""
    key: str


class ClientTimeouts(Section, frozen=True):
    """`timeouts = { head = "30s", idle = "75s", stall = "60s", grace = "10s" }`: how long a client may take."""

    head: Span = "30s"
    """To the end of a request's head."""
    idle: Span = "75s"
    """Between requests on one connection."""
    stall: Span = "60s"
    """Without a byte of a body that is waited for, or with nothing taken of an answer."""
    grace: Span = "10s"
    """After SIGTERM, for answers that are running."""


class ServerSettings(Section, frozen=True):
    """`[server]`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8088
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that answer on the one port."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 50_000_000
    tls: TlsSettings | None = None
    timeouts: ClientTimeouts = ClientTimeouts()


class LedgerSettings(Section, frozen=True):
    """`[ledger]`."""

    store: str = "sqlite"
    durability: Literal["process", "power"] = "process"
    """What a finished request survives: the death of the process, or a power cut too (waits for the disk)."""
    path: str = ""
    """A folder; `ledger` below TRIVET_HOME where it is not given."""


class CacheSettings(Section, frozen=True):
    """`[cache]`: the bounds of the one cache that all policies share."""

    kind: str = "tiers"
    """`tiers`: all modes; `exact`: that one alone; or a plugin's."""
    max_entries: Annotated[int, Meta(ge=1)] = 100_000
    max_bytes: Annotated[int, Meta(ge=1024)] = 268_435_456


class EmbedderSettings(Section, frozen=True):
    """`[embedder]`: what turns texts into vectors, for all that needs it."""

    kind: str = "auto"
    """`minilm` where its extra is installed, else `builtin`; `target`: another place; or the name of a plugin's."""
    target: str = ""
    """For `target`: which one is asked for embeddings."""
    path: str = ""
    """For `onnx`, and `fastembed` if it is to fetch nothing: the folder of the model and its vocabulary."""
    model: str = ""
    """For `sentence-transformers` and `fastembed`: the model's name at its hub; for the first also a folder."""
    pooling: Literal["auto", "mean", "cls"] = "auto"
    """For `onnx`: what the vector of a text is made of; `auto`: as its files say, else the mean."""
    max_tokens: Annotated[int, Meta(ge=16, le=131_072)] | None = None
    """Of one text that the model reads; longer ones are compared word by word. None: as its files say; of a target
    256."""
    timeout: Span = "2s"
    """For `target`: after which a look is a miss."""
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    """That one batch is spread over."""


class ModelSettings(Section, frozen=True):
    """`[models]`: where the files of embedded models are kept."""

    path: str = ""


class Settings(Section, frozen=True):
    """All of `trivet.toml`."""

    targets: dict[Name, TargetSettings] = {}
    policies: dict[Name, PolicySettings] = {}
    aliases: dict[str, str] = {}
    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    cache: CacheSettings = CacheSettings()
    models: ModelSettings = ModelSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    source: str = ""
    """The file it was read from; empty: found without one."""
