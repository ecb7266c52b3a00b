"""The key of each target: is it there, and does it look like one of where it is sent?

Not here: whether the provider takes it (`targets.py` asks).
Invariant: no key, and no part of one, is in what is returned.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from trivet.cli.doctor.check import Check, bad, ok, warn
from trivet.config import Secret, Settings, TargetSettings, secret
from trivet.errors import ConfigError
from trivet.ledger.keys import PREFIX as TRIVETS_OWN
from trivet.upstream import anthropic, gemini
from trivet.upstream.openai import BASE_URLS, KEYS

_BEGINNINGS: Mapping[str, str] = {
    "api.openai.com": "sk-",
    "api.anthropic.com": "sk-ant-",
    "openrouter.ai": "sk-or-",
}
"""What the keys of a provider begin with (Google's have had several beginnings, so none is told apart by it)."""

_SHORTEST = 20  # the keys of every provider above have 40 characters and more

_PLACEHOLDER = re.compile(r"(?i)your|change.?me|placeholder|example|dummy|xxxx|\.\.\.|<|>|\*\*\*")


def place(target: TargetSettings, env: Mapping[str, str]) -> str:
    """Say where the key of a target is, as `build` of its provider decides it; "" where none is sent."""
    if target.provider == "gemini" and not (target.api_key or target.base_url):
        return gemini.usual_key(env)
    keys = {**KEYS, "anthropic": anthropic.KEY}
    return target.api_key or ("" if target.base_url else keys.get(target.provider, ""))


def address(target: TargetSettings) -> str:
    """Say where a target is; "" for one that Trivet runs itself."""
    if target.provider == "anthropic":
        return anthropic.place(target.base_url)
    return target.base_url or {**BASE_URLS, "gemini": gemini.BASE_URL}.get(target.provider, "")


def credential_checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Look at the key of every target that has one."""
    for name, target in settings.targets.items():
        where = place(target, env)
        if where:
            yield _check(f"key of {name}", where, urlsplit(address(target)).hostname or "", env)


def _check(what: str, where: str, host: str, env: Mapping[str, str]) -> Check:
    try:
        key = secret(where, env)
    except ConfigError as error:
        return bad(what, str(error), _put(where))
    trouble = "" if key is None else _trouble(key, host)
    return warn(what, f"{where}: {trouble}", _put(where)) if trouble else ok(what, f"{where} holds one")


def _put(where: str) -> str:
    kind, _, name = where.partition(":")
    return f"export {name}=..." if kind == "env" else f"Put the key, and nothing else, into {name}"


def _trouble(key: Secret, host: str) -> str:
    """Say what is odd about a key, without the key."""
    value = key.reveal()
    if value[0] in "\"'" or value[-1] in "\"'":
        return "there are quotes around it, which would be sent too"
    if " " in value:
        return 'there is a space in it: only the key belongs there, without "Bearer"'
    if _PLACEHOLDER.search(value):
        return "it is a placeholder, not a key"
    if value.startswith(TRIVETS_OWN):
        return "it is a key of a Trivet gateway; a provider needs one of its own"
    if host not in _BEGINNINGS:
        return ""
    # The longest beginning that fits says whose it is: those of two others begin like OpenAI's.
    owners = [h for h, beginning in _BEGINNINGS.items() if value.startswith(beginning)]
    owner = max(owners, key=lambda h: len(_BEGINNINGS[h]), default="")
    if owner != host:
        whose = f"it looks like one of {owner}" if owner else f"keys of {host} begin with {_BEGINNINGS[host]}"
        return f"it is sent to {host}, and {whose}"
    return f"it has {len(value)} characters, and keys of {host} are longer" if len(value) < _SHORTEST else ""
