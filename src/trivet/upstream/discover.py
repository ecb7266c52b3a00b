"""What answers already: engines on this machine, keys in the environment; and the settings that follow from them.

For starting with no file at all, and for `trivet doctor`. Not here: whether a key is any good (nothing leaves the
machine: only loopback is asked) and calling what was found (`openai.py`, `anthropic.py`, `embedded.py`).
Invariant: an engine is known by how it answers, never by its port, so that Trivet cannot take itself for one.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec

from trivet.config import (
    CacheSection,
    EmbedderSettings,
    EngineSettings,
    PolicySettings,
    PriceSettings,
    Settings,
    TargetSettings,
    embedder_kind,
)

PORTS = (11434, 8000, 8080)
"""Where Ollama, vLLM and llama.cpp's server listen when they are not told otherwise."""

TIMEOUT_S = 1.0
"""For one engine to tell what it is. A port where nobody listens refuses at once, so this only bounds a busy one."""

_MOST_BYTES = 4_000_000  # a list of a thousand models is under 500 kB


class Found(NamedTuple):
    """Something that can answer."""

    kind: Literal["ollama", "vllm", "llamacpp", "openai", "anthropic", "gemini", "openrouter"]
    base_url: str
    models: tuple[str, ...] = ()
    """As it names them; empty where it takes too many to list."""
    key: str = ""
    """Where its key is, as `env:NAME`."""


_KEYS = (
    Found("openai", "https://api.openai.com/v1", key="env:OPENAI_API_KEY"),
    Found("anthropic", "https://api.anthropic.com/v1", key="env:ANTHROPIC_API_KEY"),
    Found("gemini", "https://generativelanguage.googleapis.com/v1beta", key="env:GEMINI_API_KEY"),
    Found("openrouter", "https://openrouter.ai/api/v1", key="env:OPENROUTER_API_KEY"),
)
"""All speak OpenAI's protocol at these addresses, but for those with modules of their own."""

_NATIVE = frozenset({
    "anthropic",
    "gemini",
})  # fmt: skip
"""Spoken to in their own language."""


def keys(env: Mapping[str, str]) -> list[Found]:
    """List the providers whose keys are in the environment."""
    return [found for found in _KEYS if env.get(found.key.removeprefix("env:"), "").strip()]


async def engines(*, ports: Iterable[int] = PORTS, timeout_s: float = TIMEOUT_S) -> list[Found]:
    """Ask the loopback ports what listens there; all at once. Never raises: what does not answer is not found."""
    asked = await asyncio.gather(*(_engine(port, timeout_s=timeout_s) for port in ports))
    return [found for found in asked if found is not None]


async def _engine(port: int, *, timeout_s: float) -> Found | None:
    """Tell one engine by what only it has: llama.cpp `/props`, vLLM `/version`, Ollama `/api/tags`.

    llama.cpp's server answers `/api/tags` too, so the order matters.
    """
    try:
        async with asyncio.timeout(timeout_s):
            listed = _items(await _get(port, "/v1/models"), "data")
            models = tuple(m["id"] for m in listed if isinstance(m.get("id"), str))
            owners = {m.get("owned_by") for m in listed}
            base_url = f"http://127.0.0.1:{port}/v1"
            if "llamacpp" in owners or "default_generation_settings" in await _get(port, "/props"):
                return Found("llamacpp", base_url, models)
            if "vllm" in owners or (models and "version" in await _get(port, "/version")):
                return Found("vllm", base_url, models)
            tags = await _get(port, "/api/tags")
            return Found("ollama", base_url, _chat_models(tags)) if "models" in tags else None
    except (OSError, TimeoutError, EOFError, ValueError):
        return None


def _chat_models(tags: dict[str, Any]) -> tuple[str, ...]:
    """Leave out Ollama's embedding models: they cannot answer."""
    models = [(m.get("name"), (m.get("details") or {}).get("family")) for m in _items(tags, "models")]
    return tuple(name for name, family in models if isinstance(name, str) and "bert" not in str(family))


def _items(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key)
    return [m for m in found if isinstance(m, dict)] if isinstance(found, list) else []


async def _get(port: int, path: str) -> dict[str, Any]:
    """Ask for a JSON document; {} where there is none. HTTP/1.0, so that the answer ends where the connection does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_MOST_BYTES)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] 200 ", head):
            return {}
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        document = msgspec.json.decode(await _body(reader, int(length[1]) if length else _MOST_BYTES))
        return document if isinstance(document, dict) else {}
    except (msgspec.DecodeError, asyncio.LimitOverrunError):
        return {}
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _body(reader: asyncio.StreamReader, length: int) -> bytes:
    """Read up to `length` bytes, or what there is: some servers keep the connection open after an HTTP/1.0 answer."""
    try:
        return await reader.readexactly(min(length, _MOST_BYTES))
    except asyncio.IncompleteReadError as error:
        return error.partial


def settings_from(found: Iterable[Found]) -> Settings:
    """Make targets of what was found; with nothing found, the embedded pool."""
    targets: dict[str, TargetSettings] = {}
    aliases: dict[str, str] = {}
    for one in found:
        if one.key:
            targets[one.kind] = _provider(one)
        for model in one.models:
            name = _name(model, taken=targets)
            targets[name] = TargetSettings(
                provider="openai", model=model, base_url=one.base_url, region="local", name=name
            )
            if name != model and model not in targets:
                aliases.setdefault(model, name)
    return Settings(targets=targets, aliases=aliases) if targets else _embedded()


def _provider(found: Found) -> TargetSettings:
    provider = found.kind if found.kind in _NATIVE else "openai"
    return TargetSettings(provider=provider, base_url=found.base_url, api_key=found.key, name=found.kind)


def _name(model: str, *, taken: Iterable[str]) -> str:
    """Make a target's name of a model's: `Qwen/Qwen2.5-7B` is `Qwen-Qwen2.5-7B`."""
    name = re.sub(r"[^A-Za-z0-9._:@-]+", "-", model).lstrip("._:@-")[:120] or "model"
    taken = set(taken)
    tries = [name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))]
    return next(t for t in tries if t not in taken)


def _embedded() -> Settings:
    """The pool that needs nothing: two small models and an embedder in this machine, at the price of a rented one."""
    names = {"small": "qwen2.5-coder-0.5b-instruct", "large": "qwen2.5-coder-1.5b-instruct"}
    engine = EngineSettings()
    targets = {
        name: TargetSettings(
            provider="llamacpp",
            model=model,
            region="local",
            # What two cores and 4 GB cost by the hour at the large clouds, in whole cents; shared by the slots.
            price=PriceSettings(hour="$0.08", slots=engine.slots),
            engine=engine,
            name=name,
        )
        for name, model in names.items()
    }
    auto = PolicySettings(pool=tuple(names), baseline="large", cache=CacheSection(mode="exact"))
    # The one that programs ask for where nobody thought about it.
    aliases = {"text-embedding-3-small": "embedded"}
    targets["embedded"] = TargetSettings(
        provider="embedder",
        model=embedder_kind(EmbedderSettings()),
        region="local",
        price=PriceSettings(hour="$0.08", slots=engine.slots),
        name="embedded",
    )
    return Settings(targets=targets, policies={"auto": auto}, aliases=aliases)
