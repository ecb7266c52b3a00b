"""What this machine and its environment offer to a first `trivet.toml`: engines that answer, keys that are set.

Not here: how engines are found (`upstream/discover.py`), and the text of a file (`starter.py`).
Invariants: nothing leaves the machine, only its loopback is asked; no key is in what is returned, only its place.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from trivet import seams
from trivet.cli import gateway
from trivet.config import CacheSection, PolicySettings, Settings, TargetSettings, secret
from trivet.errors import ConfigError
from trivet.ledger.keys import PREFIX as TRIVETS_OWN
from trivet.upstream import discover

CHAT_MODELS: Mapping[str, str] = {
    "https://api.openai.com/v1": "gpt-4.1-mini",
    "https://api.anthropic.com/v1": "claude-haiku-4-5",
    "https://generativelanguage.googleapis.com/v1beta": "gemini-2.5-flash-lite",
    "https://openrouter.ai/api/v1": "openai/gpt-4.1-mini",
}
"""One model for each address, to begin with: small, priced in `genai-prices` 0.2.3 (November 2026), and one that takes
`max_tokens` and any temperature as older clients send them. A policy needs a model that is named."""

_SPEAK_OPENAI: Mapping[str, tuple[str, str]] = {
    "CEREBRAS_API_KEY": ("cerebras", "https://api.cerebras.ai/v1"),
    "DEEPSEEK_API_KEY": ("deepseek", "https://api.deepseek.com/v1"),
    "FIREWORKS_API_KEY": ("fireworks", "https://api.fireworks.ai/inference/v1"),
    "GROQ_API_KEY": ("groq", "https://api.groq.com/openai/v1"),
    "MISTRAL_API_KEY": ("mistral", "https://api.mistral.ai/v1"),
    "TOGETHER_API_KEY": ("together", "https://api.together.xyz/v1"),
    "XAI_API_KEY": ("xai", "https://api.x.ai/v1"),
}
"""Offered, not used: by their documentation they speak OpenAI's protocol; Trivet has not been tried with them."""

_NOT_YET: Mapping[str, str] = {
    "AWS_BEARER_TOKEN_BEDROCK": "Bedrock has a protocol of its own, which this version does not speak.",
    "COHERE_API_KEY": "Cohere has a protocol of its own, which this version does not speak.",
    "GOOGLE_API_KEY": "keys of many kinds have this name. If it is for Gemini: export GEMINI_API_KEY=$GOOGLE_API_KEY",
}


class Unused(NamedTuple):
    """A key that is set, or an engine that answers, and that the file does not use."""

    name: str
    """The environment variable, or which engine where."""
    why: str
    target: TargetSettings | None = None
    """What would use it, if somebody who knows better takes it."""


class Offers(NamedTuple):
    """What can answer, and what cannot yet."""

    used: list[discover.Found]
    unused: list[Unused]

    @property
    def engines(self) -> list[discover.Found]:
        """Those on this machine."""
        return [found for found in self.used if not found.key]

    @property
    def keys(self) -> list[discover.Found]:
        """Those that a key is for."""
        return [found for found in self.used if found.key]


async def look(env: Mapping[str, str], *, ports: Iterable[int]) -> Offers:
    """Ask the loopback ports what listens there, and read which keys are set. Never raises."""
    engines = await discover.engines(ports=ports)
    used = [found for found in engines if found.models]
    unused = [
        Unused(f"{found.kind} at {found.base_url}", "it has no model that can answer yet; give it one, and again.")
        for found in engines
        if not found.models
    ]
    for found in discover.keys(env):
        found = _at_its_own_address(found, env)
        why = _why_not(found, env)
        if why:
            unused.append(Unused(_variable(found), why))
        else:
            used.append(found)
    return Offers(used, [*unused, *_others(env)])


def _at_its_own_address(found: discover.Found, env: Mapping[str, str]) -> discover.Found:
    """Take the address that OpenAI's clients would take: a key must not go elsewhere."""
    url = env.get("OPENAI_BASE_URL", "").strip().rstrip("/")
    return found._replace(base_url=url) if found.kind == "openai" and url else found


def _why_not(found: discover.Found, env: Mapping[str, str]) -> str:
    """Say why a key cannot be used, or ""."""
    name = _variable(found)
    try:
        key = secret(found.key, env)
        url = urlsplit(found.base_url)
        port = url.port
    except ConfigError as error:
        return str(error)
    except ValueError:
        return "OPENAI_BASE_URL is not a web address."
    if key is not None and key.reveal().startswith(TRIVETS_OWN):
        return f"it is a key of a Trivet gateway, not of a provider. Run: unset {name}"
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        return "OPENAI_BASE_URL is not a web address, or has more in it than one."
    own = f"{url.scheme}://{url.hostname}:{port}"
    if url.hostname in ("127.0.0.1", "localhost") and gateway.ready(own) is not None:
        return "OPENAI_BASE_URL is a Trivet gateway, which would ask itself. Run: unset OPENAI_BASE_URL"
    providers = {target.provider for target in discover.settings_from([found]).targets.values()}
    missing = providers - set(seams.names("trivet.provider"))
    return f"this version has no provider {', '.join(sorted(missing))!r}." if missing else ""


def _variable(found: discover.Found) -> str:
    return found.key.removeprefix("env:")


def _others(env: Mapping[str, str]) -> Iterator[Unused]:
    """List keys of providers that Trivet does not start with."""
    installed = seams.names("trivet.provider")
    for name, (kind, url) in _SPEAK_OPENAI.items():
        if env.get(name, "").strip():
            own = kind in installed  # a package has brought it
            target = TargetSettings(
                provider=kind if own else "openai", base_url="" if own else url, api_key=f"env:{name}", name=kind
            )
            why = f"a package has the provider {kind!r}" if own else "it speaks OpenAI's protocol, untried here"
            yield Unused(name, f"{why}; its lines are in the file, commented out.", target)
    if env.get("AZURE_OPENAI_API_KEY", "").strip():
        host = re.match(r"https://[\w.-]+", env.get("AZURE_OPENAI_ENDPOINT", "").strip())
        target = TargetSettings(
            provider="azure",
            model="YOUR-DEPLOYMENT",
            base_url=f"{host[0] if host else 'https://YOUR-RESOURCE.openai.azure.com'}/openai/v1",
            api_key="env:AZURE_OPENAI_API_KEY",
            name="azure",
        )
        why = "your deployments cannot be seen from here; lines to fill in are in the file, commented out."
        yield Unused("AZURE_OPENAI_API_KEY", why, target)
    for name, why in _NOT_YET.items():
        if env.get(name, "").strip() and not (name == "GOOGLE_API_KEY" and env.get("GEMINI_API_KEY", "").strip()):
            yield Unused(name, why)


def settings(offers: Offers) -> Settings:
    """Make targets of everything that can be used, and a policy over one model of each; else the embedded pool."""
    found = discover.settings_from(offers.used)
    if not offers.used:
        return found
    targets, pool = dict(found.targets), []
    for one in offers.used:
        name = _first_of(one, targets) if one.models else _named(one, targets)
        if name:
            pool.append(name)
    # Those on this machine come first: they cost nothing for each token. What would be asked without them is the
    # first that is paid.
    baseline = next((name for name in pool if targets[name].api_key), pool[-1]) if pool else ""
    policy = PolicySettings(pool=tuple(pool), baseline=baseline, cache=CacheSection(mode="exact")) if pool else None
    policies = {_free_name(found, "auto"): policy} if policy else {}
    return msgspec.structs.replace(found, targets=targets, policies=policies)


def _first_of(found: discover.Found, targets: Mapping[str, TargetSettings]) -> str:
    mine = [name for name, t in targets.items() if (t.base_url, t.model) == (found.base_url, found.models[0])]
    return mine[0]


def _named(found: discover.Found, targets: dict[str, TargetSettings]) -> str:
    """Add a target that names one model beside the one that takes any, and give its name; "" if none is known."""
    model = CHAT_MODELS.get(found.base_url, "")
    if model:
        name = model.replace("/", "-")
        name = f"{found.kind}-{name}" if name in targets else name
        any_model = targets[found.kind]
        targets[name] = msgspec.structs.replace(any_model, model=model, name=name)
        return name
    return ""


def _free_name(settings: Settings, name: str) -> str:
    taken = settings.targets.keys() | settings.aliases.keys()
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def quoted(text: str) -> str:
    """Write a text as TOML: a JSON text is one, but for DEL."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def lines(name: str, target: TargetSettings) -> Iterator[str]:
    """Write a target as a section of trivet.toml."""
    yield f"[targets.{name if re.fullmatch(r'[A-Za-z0-9_-]+', name) else quoted(name)}]"
    for key in ("provider", "model", "base_url", "api_key", "region"):
        value = getattr(target, key)
        if value and not (key == "model" and value == "*"):
            yield f"{key} = {quoted(value)}"
    if target.price is not None and target.price.hour is not None:
        yield f"price = {{ hour = {quoted(target.price.hour)}, slots = {target.price.slots} }}"
