"""The text of a first trivet.toml: it loads, also with every comment that is a setting taken in."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Struct
from msgspec.structs import fields

from trivet.cli.offers import Offers, Unused, settings
from trivet.cli.starter import text
from trivet.config import Settings, TargetSettings, parse
from trivet.upstream.discover import Found

OLLAMA = Found("ollama", "http://127.0.0.1:11434/v1", ("llama3.2:3b", "qwen2.5:7b"))
VLLM = Found("vllm", "http://127.0.0.1:8000/v1", ("Qwen/Qwen2.5-7B",))
OPENAI = Found("openai", "https://api.openai.com/v1", key="env:OPENAI_API_KEY")
PROXY = Found("openai", "http://10.0.0.5:8000/v1", key="env:OPENAI_API_KEY")
OPENROUTER = Found("openrouter", "https://openrouter.ai/api/v1", key="env:OPENROUTER_API_KEY")
GROQ = Unused(
    "GROQ_API_KEY",
    "untried",
    TargetSettings(
        provider="openai", base_url="https://api.groq.com/openai/v1", api_key="env:GROQ_API_KEY", name="groq"
    ),
)
COHERE = Unused("COHERE_API_KEY", "a protocol of its own")
EVIL = Found("vllm", "http://127.0.0.1:8000/v1", ('x"\n[targets.evil]\nprovider = "openai"\n#',))

CASES = {
    "nothing": Offers([], []),
    "ollama": Offers([OLLAMA], []),
    "engines and keys": Offers([OLLAMA, VLLM, OPENAI, OPENROUTER], [GROQ, COHERE]),
    "a key": Offers([OPENAI], []),
    "an address of one's own": Offers([PROXY], []),
    "unused alone": Offers([], [GROQ, COHERE]),
    "an engine that lies": Offers([EVIL], [Unused("X", "why\n[targets.evil]\n")]),
}


def taken_in(written: str) -> str:
    return re.sub(r'(?m)^#(?=[\w\["])', "", written)


@pytest.mark.parametrize("found", CASES.values(), ids=CASES.keys())
def test_it_is_read_back_as_what_it_was_written_from(found: Offers) -> None:
    made = settings(found)
    read = parse(text(found, made), source="t")
    assert (read.policies, read.aliases) == (made.policies, made.aliases)
    for name, target in made.targets.items():
        assert read.targets[name] == target
    assert read.targets.keys() == made.targets.keys()
    assert read.server == Settings().server


@pytest.mark.parametrize("found", CASES.values(), ids=CASES.keys())
def test_with_the_sign_taken_away_everywhere_it_is_still_read(found: Offers) -> None:
    written = text(found, settings(found))
    raw = tomllib.loads(taken_in(written))
    assert parse(taken_in(written), source="t").targets.keys() >= settings(found).targets.keys()
    assert raw["server"].keys() >= {"host", "port", "max_body_bytes", "workers", "tls"}


@pytest.mark.parametrize("found", [CASES["nothing"], CASES["engines and keys"]], ids=["embedded", "remote"])
def test_every_key_that_can_be_written_today_is_in_it(found: Offers) -> None:
    """A setting that comes later has to come here as well."""
    raw = tomllib.loads(taken_in(text(found, settings(found))))
    written = set(_paths(raw))
    embedded, remote = {"targets.engine"}, {"targets.base_url", "targets.api_key", "targets.headers"}
    remote |= {"targets.http", "targets.proxy", "targets.tls", "targets.warm"}
    here, later = (remote, embedded) if found.used else (embedded, remote)
    # Quality is held there, so it cannot be the leg that is left over, nor cost be held; and there is one route.
    others = {"policies.maximize", "policies.cost", "policies.classifier", "policies.cascade"}  # told in words
    others |= {f"embedder.{key}" for key in ("target", "timeout", "path", "model", "pooling", "max_tokens")}
    assert all(f"{key.partition('.')[2]} =" in text(found, settings(found)) for key in others)
    assert _keys(Settings) - later - others <= written
    assert here <= written


def _paths(raw: dict[str, Any]) -> Iterator[str]:
    for section, keys in raw.items():
        if section == "aliases":
            yield section
        elif section in ("targets", "policies"):
            for own in keys.values():
                yield from (f"{section}.{key}" for key in own)
                yield from (f"{section}.cache.{key}" for key in own.get("cache", {}))
        else:
            yield from (f"{section}.{key}" for key in keys)


def _keys(section: type[Struct], above: str = "") -> set[str]:
    """List the keys of a section as the file has them; tables that are written in one line are one key."""
    found = set[str]()
    hints = get_type_hints(section)
    for field in fields(section):
        if field.name in ("source", "name"):
            continue
        path = f"{above}{field.name}"
        inner = [h for h in (hints[field.name], *get_args(hints[field.name])) if _is_section(h)]
        if inner and field.name not in (
            "price",
            "timeouts",
            "tls",
            "engine",
            "rules",
            "cascade",
            "classifier",
            "labels",
            "shadow",
        ):
            found |= _keys(inner[0], f"{path}.")
            found |= {path} if field.name == "cache" and above else set()
        else:
            found.add(path)
    return found


def _is_section(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def test_what_an_engine_calls_itself_cannot_add_a_target() -> None:
    found = CASES["an engine that lies"]
    written = text(found, settings(found))
    assert list(parse(written, source="t").targets) == list(settings(found).targets)
    assert "evil" not in tomllib.loads(taken_in(written))["targets"]


def test_keys_that_are_not_used_are_told_with_the_reason() -> None:
    found = CASES["engines and keys"]
    written = text(found, settings(found))
    assert "# GROQ_API_KEY: untried\n" in written
    assert "# COHERE_API_KEY: a protocol of its own\n" in written
    assert '#[targets.groq]\n#provider = "openai"\n' in written
    assert "groq" in tomllib.loads(taken_in(written))["targets"]


def test_a_policy_that_needs_a_name_shows_how_it_is_written() -> None:
    found = CASES["an address of one's own"]
    written = text(found, settings(found))
    assert '#model = "MODEL"\n#base_url = "http://10.0.0.5:8000/v1"' in written
    assert parse(taken_in(written), source="t").policies["auto"].pool == ("main",)
