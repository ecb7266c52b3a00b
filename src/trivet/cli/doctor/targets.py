"""Every target that is somewhere else, asked for its list of models: does it answer, and take the key?

Costs nothing. Not here: asking a model (`call.py`), and what a key looks like (`credentials.py`).
Invariant: the key goes to the target's own address only, as the gateway sends it, and nowhere into words.
"""

import asyncio
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from trivet import build
from trivet.cli.doctor.check import Check, Whose, bad, ok, warn
from trivet.cli.doctor.credentials import address, place
from trivet.cli.text import clean
from trivet.config import Secret, Settings, TargetSettings, secret
from trivet.errors import ConfigError
from trivet.ledger.prices import Prices
from trivet.types import Usage
from trivet.upstream import anthropic
from trivet.upstream.connection import HttpError, Origin
from trivet.upstream.http import Pool, dial, tls_context

_REACH_S = 5.0  # TLS to another continent takes under 1 s
_MAX_LIST_BYTES = 8_000_000
_KEY_HEADERS = {"azure": "api-key:", "gemini": "x-goog-api-key:"}
_LISTS = {"gemini": "models?pageSize=1000"}  # it gives 50 at a time where it is not asked for more


class Answered(NamedTuple):
    """What one target said."""

    check: Check
    date: tuple[str, int] | None = None
    """Its `Date`, and when that came by our clock."""


class _Reply(NamedTuple):
    status: int
    models: set[str]
    date: str
    came_ns: int


async def reach(settings: Settings, env: Mapping[str, str]) -> dict[str, Answered]:
    """Ask all targets that have an address, at once."""
    remote = {name: target for name, target in settings.targets.items() if address(target)}
    answers = await asyncio.gather(*(_reach(name, target, env) for name, target in remote.items()))
    return dict(zip(remote, answers, strict=True))


async def _reach(name: str, target: TargetSettings, env: Mapping[str, str]) -> Answered:
    what, url = f"target {name}", address(target)
    try:
        key = secret(place(target, env), env)
    except ConfigError as error:
        return Answered(bad(what, f"not asked: {error}", f"Put a key where `targets.{name}.api_key` points."))
    try:
        async with asyncio.timeout(_REACH_S):
            reply = await _models(url, target, key)
    except (HttpError, TimeoutError) as error:
        words = str(error) or f"no answer within {_REACH_S:.0f} s"
        fix = f"Start what should answer there, or correct its address. Try: curl -sS {url}/models"
        return Answered(bad(what, f"cannot be reached: {words}", fix, whose_place(url)))
    return Answered(_judge(what, name, target, reply, has_key=key is not None), (reply.date, reply.came_ns))


def whose_place(url: str) -> Whose:
    """Say whose fault silence is: what runs on this machine or in this network is the operator's to start."""
    host = urlsplit(url).hostname or ""
    try:
        return "operator" if ip_address(host).is_private else "upstream"
    except ValueError:
        return "operator" if host == "localhost" or "." not in host else "upstream"


def _judge(what: str, name: str, target: TargetSettings, reply: _Reply, *, has_key: bool) -> Check:
    url = address(target)
    if reply.status in (401, 403) or (reply.status == 400 and target.provider == "gemini"):  # Google's for a bad key
        fix = f"Put a good key where `targets.{name}.api_key` points." if has_key else f"Set `targets.{name}.api_key`."
        return bad(what, f"{url} answers, and refuses {'the key' if has_key else 'without a key'}", fix)
    if reply.status >= 500:
        return warn(what, f"{url} answers with {reply.status}", "Wait, and see the provider's status page.", "upstream")
    if target.model == "*" or not reply.models:
        return ok(what, f"{url} answers")
    if target.model not in reply.models:
        some = ", ".join(clean(m) for m in sorted(reply.models)[:8])
        return warn(what, f"{url} answers, and does not list {target.model!r}", f"It lists: {some}")
    return ok(what, f"{url} answers and has {target.model}")


async def _models(url: str, target: TargetSettings, key: Secret | None) -> _Reply:
    address = urlsplit(url)
    secure = address.scheme == "https"
    origin = Origin("https" if secure else "http", address.hostname or "", address.port or (443 if secure else 80))
    path = f"{address.path.rstrip('/')}/{_LISTS.get(target.provider, 'models')}"
    query = f"{'&' if '?' in path else '?'}{address.query}" if address.query else ""
    lines = [f"GET {path}{query} HTTP/1.1"]
    lines += [f"host: {address.netloc}", "accept: application/json", "accept-encoding: identity"]
    if target.provider == "anthropic":
        lines += [f"{name}: {value}" for name, value in anthropic.headers(target, key)]
    elif key is not None:
        lines.append(f"{_KEY_HEADERS.get(target.provider, 'authorization: Bearer')} {key.reveal()}")
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    pool = Pool(
        origin,
        dial=dial,
        clock=build.SystemClock(),
        tls=tls_context() if secure else None,
        connect_s=_REACH_S,
        first_byte_s=_REACH_S,
        idle_s=_REACH_S,
    )
    try:
        reply = await pool.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        came_ns = time.time_ns()
        date = next((value.decode("latin-1") for name, value in reply.headers if name == b"date"), "")
        return _Reply(reply.status, _ids(await reply.read_all(_MAX_LIST_BYTES)), date, came_ns)
    finally:
        await pool.aclose()


def _ids(body: bytes) -> set[str]:
    try:
        listed: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return set()
    if not isinstance(listed, dict):
        return set()
    models = [m for m in listed.get("data") or listed.get("models") or () if isinstance(m, dict)]
    names = [m.get("id") or m.get("name") for m in models]
    return {name.removeprefix("models/") for name in names if isinstance(name, str)}  # Gemini's are models/NAME


def price_checks(settings: Settings) -> list[Check]:
    """Price one answer of one token in and one out, of each target that names its model."""
    prices = Prices(settings.targets)
    return [_price(name, prices) for name, target in settings.targets.items() if target.model != "*"]


def _price(name: str, prices: Prices) -> Check:
    cost = prices.cost(name, model="", usage=Usage(input_tokens=1, output_tokens=1), took_ns=1, at_ns=time.time_ns())
    if cost.why_unknown:
        fix = 'price = { input = "$0.15", output = "$0.60" }  # dollars per million tokens; or { hour = "$0.80" }'
        return warn(f"price of {name}", f"not known: {cost.why_unknown}", f"[targets.{name}]\n{fix}")
    return ok(f"price of {name}", f"by {cost.version}")
