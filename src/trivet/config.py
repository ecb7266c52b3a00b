"""One frozen settings tree, read from `trivet.toml` once.

Top to bottom: the sections, `Secret`, `load`, what is checked (each value against its type, then the sections against
each other), and where in the file a key stands.

Not here: what a policy means (`routing/policies.py` compiles it) and which stages are built from it (`cli/build.py`).
Invariants: unknown keys and bad values are refused with file, line and what to write; nothing that is not built yet
is silently ignored; secrets are never in this tree, only where to find them (`env:NAME`, `file:PATH`), and no error
repeats a value that may be one.
"""

import difflib
import hmac
import json
import re
import tomllib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from trivet import seams
from trivet.errors import ConfigError

# Title and description are the words of the error: "<value> is not <title>. <description>"
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$",
        title="a name",
        description="Write at most 128 letters, digits and . _ : @ -, beginning with a letter or digit.",
    ),
]
Dollars = Annotated[
    str,
    Meta(
        pattern=r"^\$[0-9]+(\.[0-9]+)?$",
        title="an amount of dollars",
        description='Write it in quotes with the sign, such as "$0.15".',
    ),
]
Span = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$",
        title="a length of time",
        description='Write a number with a unit, such as "24h".',
    ),
]
"""A length of time: "250ms", "30s", "5m", "24h", "7d"."""

_SPAN_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(span: str) -> float:
    """Turn a Span such as "24h" into seconds."""
    number, unit = re.match(r"^([0-9.]+)([a-z]+)$", span).groups()  # type: ignore[union-attr]  # msgspec checked it
    return float(number) * _SPAN_S[unit]


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
    engine: EngineSettings = EngineSettings()
    name: str = ""
    """Set from the section's title."""


class CacheSection(Section, frozen=True):
    """`[policies.X.cache]`."""

    mode: Literal["off", "exact"] = "off"
    ttl: Span = "24h"
    partition: tuple[Literal["customer", "feature", "agent"], ...] = ()
    max_temperature: Annotated[float, Meta(ge=0, le=2)] = 1.0
    tools: bool = False


class PolicySettings(Section, frozen=True):
    """`[policies.NAME]`: a virtual model."""

    pool: Annotated[tuple[str, ...], Meta(min_length=1)]
    route: str = "fixed"
    baseline: str = ""
    """The target that savings are counted against; the last of the pool where it is not given."""
    residency: tuple[str, ...] = ()
    """Regions; targets elsewhere are never called. Empty: anywhere."""
    cache: CacheSection = CacheSection()


class ServerSettings(Section, frozen=True):
    """`[server]`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8088
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 50_000_000


class LedgerSettings(Section, frozen=True):
    """`[ledger]`."""

    store: str = "sqlite"
    durability: Literal["process", "power"] = "process"
    """What a finished request survives: the death of the process, or a power cut too (waits for the disk)."""
    path: str = ""
    """A folder; `ledger` below TRIVET_HOME where it is not given."""


class CacheSettings(Section, frozen=True):
    """`[cache]`: the bounds of the one cache that all policies share."""

    kind: str = "exact"
    max_entries: Annotated[int, Meta(ge=1)] = 100_000
    max_bytes: Annotated[int, Meta(ge=1024)] = 268_435_456


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
    source: str = ""
    """The file it was read from; empty: found without one."""


class Secret:
    """A key that may not be seen: masked in every way of writing it, and refused by every way of storing it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the key itself: only for the header that it belongs in."""
        return self._value

    def __str__(self) -> str:
        # A short one would be guessed from its ends.
        return f"{self._value[:3]}...{self._value[-4:]}" if len(self._value) >= 20 else "***"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # nothing may keep it in a set or as a key

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("a Secret is never written anywhere")


def secret(where: str, env: Mapping[str, str]) -> Secret | None:
    """Read the key that `env:NAME` or `file:PATH` points at; None where nothing is asked for.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, or what is there is empty or not one line.
    """
    if not where:
        return None
    kind, _, name = where.partition(":")
    if kind == "env":
        value, place = env.get(name, "").strip(), f"The environment variable {name}"
        if name not in env:
            raise ConfigError(f"{place} is not set, and a key is expected in it. Run: export {name}=...")
    elif kind == "file":
        value, place = _read(Path(name).expanduser(), "a key is expected in it").strip(), f"The file {name}"
    else:
        raise ConfigError(f"A key is given in the open. {_KEY_WORDS}")
    if not value:
        raise ConfigError(f"{place} is empty, and a key is expected in it.")
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"{place} holds more than a key: one line of ASCII is expected.")
    return Secret(value)


def home(env: Mapping[str, str]) -> Path:
    """Say where state lives: TRIVET_HOME, else below XDG_DATA_HOME, else below ~/.local/share."""
    if env.get("TRIVET_HOME"):
        return Path(env["TRIVET_HOME"]).expanduser()
    return Path(env.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "trivet"


def models_folder(settings: Settings, env: Mapping[str, str]) -> Path:
    """Say where model files live: TRIVET_MODELS, else `models.path`, else below XDG_CACHE_HOME or ~/.cache."""
    if env.get("TRIVET_MODELS") or settings.models.path:
        return Path(env.get("TRIVET_MODELS") or settings.models.path).expanduser()
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trivet" / "models"


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Read `path`, else $TRIVET_CONFIG, else ./trivet.toml if it is there; with none of them, empty Settings.

    Raises:
        ConfigError: one line for each thing that is wrong: file, line, key, what it is, what to write.
    """
    if path is None and env.get("TRIVET_CONFIG"):
        path = Path(env["TRIVET_CONFIG"]).expanduser()
    if path is None:
        path = Path("trivet.toml")
        if not path.exists():
            return Settings()
    return parse(_read(path, "the settings are expected in it"), source=str(path))


def parse(text: str, *, source: str) -> Settings:
    """Turn the text of a `trivet.toml` into settings; `source` is the file that errors name."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        line = place[1] if place else len(text.splitlines())
        raise ConfigError(f"{source}:{line}: {str(error).partition(' (at ')[0]}. This is not TOML.") from error
    _refuse(_misfits(raw, Settings, ()), text=text, source=source)
    for name, target in raw.get("targets", {}).items():
        target["name"] = name
    settings = msgspec.convert(raw | {"source": source}, Settings)
    _refuse(_conflicts(settings), text=text, source=source)
    return settings


def _read(path: Path, why: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}, and {why}.") from None
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"The file {path} cannot be read ({words}), and {why}.") from error


Path_ = tuple[str | int, ...]
Misfit = tuple[Path_, str]
"""Where, and in words what is wrong and what to write."""


def _refuse(misfits: Iterable[Misfit], *, text: str, source: str) -> None:
    found = list(misfits)
    if found:
        places = _places(text)
        raise ConfigError("\n".join(f"{source}:{_line(places, at)}: {_dotted(at)}: {words}" for at, words in found))


def _dotted(path: Path_) -> str:
    """Write a path as TOML would: `targets."gpt-4.1".price`."""
    return ".".join(p if re.fullmatch(r"[\w-]+", p) else json.dumps(p) for p in map(str, path))


# Each value against its type.

_INTERNAL = frozenset({"source", "name"})
"""Fields of the tree that are set here, not in the file."""

_LATER = frozenset(
    {"budgets", "keys", "targets.*.limits", "policies.*.cache.max_error"}
    | {f"policies.*.{k}" for k in ("minimize", "maximize", "quality", "confidence", "ttft", "tokens", "stream")}
)
"""Keys that PRODUCT.md names and that this version does not have: ignoring them would be a promise broken."""

_LATER_MODES = frozenset({"static", "verified", "shadow"})
_LATER_ROUTES = frozenset(
    {"rules", "classifier", "cascade", "learned", "clusters", "best_of_n", "orchestrate"}  # PRODUCT.md
)
_NOT_YET = "This version of Trivet does not have it yet."

_PLAIN: Mapping[object, str] = {
    str: 'text. Write it in quotes: "..."',
    int: "a whole number.",
    float: "a number.",
    bool: "true or false.",
}


def _misfits(raw: Any, hint: Any, at: Path_) -> Iterator[Misfit]:
    """Compare what the file says with the type that the tree has there."""
    options = [a for a in get_args(hint) if a is not type(None)] if type(None) in get_args(hint) else [hint]
    hint = options[0]
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield from _misfits_of_section(raw, hint, at)
    elif get_origin(hint) is dict:
        yield from _misfits_of_table(raw, hint, at)
    elif get_origin(_bare(hint)) is tuple:
        yield from _misfits_of_list(raw, hint, at)
    else:
        try:
            msgspec.convert(raw, hint)
        except msgspec.ValidationError:
            yield at, _misfit(raw, hint, at)


def _misfits_of_section(raw: Any, section: type[Struct], at: Path_) -> Iterator[Misfit]:
    if not isinstance(raw, dict):
        yield at, f"{_shown(raw)} is not a section. Write [{_dotted(at)}] and its keys below it."
        return
    hints = {k: h for k, h in get_type_hints(section, include_extras=True).items() if k not in _INTERNAL}
    for key, value in raw.items():
        if key in hints:
            yield from _misfits(value, hints[key], (*at, key))
        else:
            yield (*at, key), _unknown(key, tuple(hints), (*at, key))
    for field in msgspec.structs.fields(section):
        if field.required and field.name not in raw:
            yield at, f"`{field.name}` is missing."


def _misfits_of_table(raw: Any, hint: Any, at: Path_) -> Iterator[Misfit]:
    if not isinstance(raw, dict):
        yield at, f"{_shown(raw)} is not a section. Write [{_dotted(at)}] and its keys below it."
        return
    key_hint, value_hint = get_args(hint)
    for key, value in raw.items():
        yield from _misfits(key, key_hint, (*at, key))
        yield from _misfits(value, value_hint, (*at, key))


def _misfits_of_list(raw: Any, hint: Any, at: Path_) -> Iterator[Misfit]:
    if not isinstance(raw, list):
        yield at, f"{_shown(raw)} is not a list. Write it in brackets: [...]."
    elif not raw and hint is not _bare(hint):  # the one bound on a list is that it has something in it
        yield at, "The list is empty. Write at least one."
    else:
        for i, item in enumerate(raw):
            yield from _misfits(item, get_args(_bare(hint))[0], (*at, i))


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _misfit(raw: Any, hint: Any, at: Path_) -> str:
    if at[-1] in ("api_key", "base_url") or "headers" in at:
        return f"This is not {_wanted(hint)}"
    if at[-1] == "mode" and isinstance(raw, str) and raw in _LATER_MODES:
        return f"{_shown(raw)}: {_NOT_YET} Remove the line, or write {_either(_choices(hint))}."
    return f"{_shown(raw)} is not {_wanted(hint)}"


def _wanted(hint: Any) -> str:
    """Say what a type takes: `a whole number from 0 to 65535.`"""
    if get_origin(hint) is Literal:
        return f"{_either(_choices(hint))}."
    if get_origin(hint) is not Annotated:
        return _PLAIN[hint]
    kind, meta = get_args(hint)[:2]
    if meta.title:
        return f"{meta.title}. {meta.description}"
    words = _wanted(kind).rstrip(".")
    return f"{words} from {meta.ge} to {meta.le}." if meta.le is not None else f"{words} of at least {meta.ge}."


def _choices(hint: Any) -> list[str]:
    return [json.dumps(a) for a in get_args(hint)]


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _unknown(key: str, known: tuple[str, ...], at: Path_) -> str:
    pattern = ".".join("*" if i == 1 else str(part) for i, part in enumerate(at))
    if pattern in _LATER:
        return f"{_NOT_YET} Remove the {'section' if len(at) == 1 else 'line'}."
    near = difflib.get_close_matches(key, known, n=1)
    return f"There is no such key.{f' Did you mean `{near[0]}`?' if near else ''} Known: {', '.join(known)}."


def _shown(value: object) -> str:
    """Repeat a value of the file, unless it is so long and so random that it may be a key put in the wrong place."""
    if isinstance(value, str) and len(value) >= 20 and " " not in value and any(c.isdigit() for c in value):
        return f"The text of {len(value)} characters"
    return msgspec.json.encode(value).decode()[:60]


# The sections against each other.

_KEY_WORDS = (
    "A key is never written in the file: write where it is, such as "
    '"env:OPENAI_API_KEY" or "file:/run/secrets/openai". If it was saved or shared, make a new one.'
)
_KEY_PLACE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")

_SPEAK_OPENAI = {
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "ollama": "http://127.0.0.1:11434/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}
"""Providers that PRODUCT.md names, and where they speak OpenAI's protocol until they have modules of their own."""

_HEADERS_WITH_KEYS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
)
_HEADERS_OF_HTTP = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"})


def _conflicts(settings: Settings) -> Iterator[Misfit]:
    for name, target in settings.targets.items():
        at: Path_ = ("targets", name)
        yield from _conflicts_of_provider(target, at)
        yield from _conflicts_of_address(target, at)
        yield from _conflicts_of_headers(target.headers, (*at, "headers"))
        yield from _conflicts_of_price(target.price, (*at, "price"))
    for name, policy in settings.policies.items():
        yield from _conflicts_of_policy(policy, settings.targets, ("policies", name))
    yield from _conflicts_of_names(settings)
    yield from _conflicts_of_stages(settings)


def _conflicts_of_provider(target: TargetSettings, at: Path_) -> Iterator[Misfit]:
    installed = seams.names("trivet.provider")
    if target.provider not in installed:
        url = _SPEAK_OPENAI.get(target.provider)
        more = f' It speaks OpenAI\'s protocol: write provider = "openai" and base_url = "{url}".' if url else ""
        known = _either(json.dumps(i) for i in installed)
        yield (*at, "provider"), f"{_shown(target.provider)} is not installed. Known: {known}.{more}"
    if target.provider == "llamacpp":
        if target.model == "*":
            yield at, 'An embedded engine has one model. Write which, such as model = "qwen2.5-coder-0.5b-instruct".'
        for key in ("base_url", "api_key", "headers"):
            if getattr(target, key):
                words = 'An embedded engine has none; for a server that runs already write provider = "openai".'
                yield (*at, key), words
    if target.provider == "openai" and target.engine != EngineSettings():
        yield (*at, "engine"), 'Only an embedded engine (provider = "llamacpp") has these. Remove the line.'


def _conflicts_of_address(target: TargetSettings, at: Path_) -> Iterator[Misfit]:
    if target.api_key and not _KEY_PLACE.fullmatch(target.api_key):
        yield (*at, "api_key"), f"This is not a place where a key is. {_KEY_WORDS}"
    if not target.base_url:
        return
    try:
        url = urlsplit(target.base_url)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        whole = False
    if not whole:
        yield (*at, "base_url"), 'This is not a web address. Write one such as "https://api.openai.com/v1".'
    elif url.username is not None or url.password is not None:
        yield (*at, "base_url"), f"There is a name or password in it. Take it out and use `api_key`. {_KEY_WORDS}"
    elif url.fragment:
        yield (*at, "base_url"), "A # part is never sent. Take it out."


def _conflicts_of_headers(headers: Mapping[str, str], at: Path_) -> Iterator[Misfit]:
    for name, value in headers.items():
        if name.lower() in _HEADERS_WITH_KEYS:
            yield (*at, name), f"This header carries a key. Use `api_key`. {_KEY_WORDS}"
        elif name.lower() in _HEADERS_OF_HTTP:
            yield (*at, name), "This header belongs to the connection; Trivet writes it itself. Remove it."
        elif not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not (value.isascii() and value.isprintable()):
            yield (*at, name), "A header is one line of ASCII, and its name has only letters, digits and dashes."


def _conflicts_of_price(price: PriceSettings | None, at: Path_) -> Iterator[Misfit]:
    if price is None:
        return
    by_token = price.input or price.output or price.cached
    if price.hour and by_token:
        yield at, "Write either `input` and `output`, or `hour`, not both."
    elif price.hour is None and not (price.input and price.output):
        yield at, 'Write { input = "$0.15", output = "$0.60" }, dollars per million tokens, or { hour = "$0.80" }.'
    elif price.hour is None and price.slots != 1:
        yield (*at, "slots"), "Only a price by the hour is divided by slots. Remove it."


def _conflicts_of_policy(policy: PolicySettings, targets: Mapping[str, TargetSettings], at: Path_) -> Iterator[Misfit]:
    named = [(*at, "pool", i) for i in range(len(policy.pool))] + [(*at, "baseline")] * bool(policy.baseline)
    for place, name in zip(named, [*policy.pool, policy.baseline], strict=False):
        if name not in targets:
            yield place, _no_target(name, targets)
        elif targets[name].model == "*":
            yield place, f'"{name}" takes any model, and a policy needs to know which. Add a target that names one.'
    for name in {n for n in policy.pool if policy.pool.count(n) > 1}:
        yield (*at, "pool"), f'"{name}" is in it more than once.'
    regions = {targets[n].region for n in policy.pool if n in targets}
    if policy.residency and regions and not regions & set(policy.residency):
        have = ", ".join(json.dumps(r) for r in sorted(regions))
        yield (*at, "residency"), f"No target of the pool is in one of these regions, so none can answer. Have: {have}."
    if policy.route not in seams.names("trivet.router"):
        known = _either(json.dumps(r) for r in seams.names("trivet.router"))
        why = _NOT_YET if policy.route in _LATER_ROUTES else "no such router is installed."
        yield (*at, "route"), f"{_shown(policy.route)}: {why} Remove the line, or write {known}."


def _no_target(name: str, targets: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(targets), n=1)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(targets) or 'none'}."
    return f"There is no target {_shown(name)}. {hint}"


def _conflicts_of_names(settings: Settings) -> Iterator[Misfit]:
    for name in settings.policies.keys() & settings.targets.keys():
        yield ("policies", name), "A target has this name too. Clients could not tell them apart: rename one."
    names = settings.targets.keys() | settings.policies.keys()
    for alias, meant in settings.aliases.items():
        at: Path_ = ("aliases", alias)
        wild = settings.targets.get(meant.partition("/")[0])
        if alias in names:
            yield at, "A target or policy has this name already. Rename one, or remove the alias."
        elif wild is not None and wild.model == "*":
            if "/" not in meant:
                yield at, f'"{meant}" takes any model. Write which: "{meant}/MODEL".'
        elif meant in settings.aliases:
            yield at, f"{_shown(meant)} is an alias itself. Write the target or policy that it stands for."
        elif meant not in names:
            yield at, _no_target(meant, names).replace("no target", "no target or policy")


def _conflicts_of_stages(settings: Settings) -> Iterator[Misfit]:
    stages = ("store", "ledger", "store", settings.ledger.store), ("cache", "cache", "kind", settings.cache.kind)
    for seam, section, key, name in stages:
        installed = seams.names(f"trivet.{seam}")
        if name not in installed:
            known = _either(json.dumps(i) for i in installed)
            yield (section, key), f"{_shown(name)} is not installed. Write {known}."


# Where in the file a key stands: `tomllib` does not say. The text is TOML by now, so this need not refuse anything.

_TOKEN = re.compile(
    r"""[ \t\r]+ | \#[^\n]*  # nothing
    | (?P<token> \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' | [\w-]+ | . )""",
    re.VERBOSE | re.DOTALL,
)
_Tokens = deque[tuple[str, int]]


def _line(places: Mapping[Path_, int], at: Path_) -> int:
    return next((places[at[:n]] for n in range(len(at), 0, -1) if at[:n] in places), 1)


def _places(text: str) -> dict[Path_, int]:
    """Map each key of a TOML text, and each item of its lists, to the line it stands in."""
    tokens: _Tokens = deque()
    line = 1
    for match in _TOKEN.finditer(text):
        if match["token"]:
            tokens.append((match["token"], line))
        line += match[0].count("\n")
    places: dict[Path_, int] = {}
    section: Path_ = ()
    while tokens:
        if tokens[0][0] == "\n":
            tokens.popleft()
        elif tokens[0][0] == "[":
            section = _key(tokens, (), places)
        else:
            _value(tokens, _key(tokens, section, places), places)
    return places


def _key(tokens: _Tokens, above: Path_, places: dict[Path_, int]) -> Path_:
    """Take a key up to its `=`, or a header up to the end of its line."""
    path = above
    while tokens and tokens[0][0] not in ("=", "\n"):
        token, line = tokens.popleft()
        if token not in (".", "[", "]"):
            path = (*path, token.strip("\"'"))
            places.setdefault(path, line)
    if path:
        places[path] = line
    if tokens:
        tokens.popleft()
    return path


def _value(tokens: _Tokens, at: Path_, places: dict[Path_, int]) -> None:
    opening = tokens[0][0]
    if opening not in ("{", "["):
        while tokens and tokens[0][0] not in (",", "\n", "]", "}"):
            tokens.popleft()
        return
    tokens.popleft()
    count = 0
    while tokens[0][0] not in ("]", "}"):
        if tokens[0][0] in (",", "\n"):
            tokens.popleft()
        elif opening == "{":
            _value(tokens, _key(tokens, at, places), places)
        else:
            places[(*at, count)] = tokens[0][1]
            _value(tokens, (*at, count), places)
            count += 1
    tokens.popleft()
