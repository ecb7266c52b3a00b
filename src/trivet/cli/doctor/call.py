"""`trivet doctor --call`: one real question to every target, for an answer of one token.

Asked through the providers that the gateway uses, so what works here works there. It costs what that token costs, and
leaves no entry in the ledger: no client asked. Not here: what can be seen without paying (`targets.py`).
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing

import click
import msgspec

from trivet import build
from trivet.cli.doctor.check import Check, Whose, bad, ok, warn
from trivet.cli.doctor.credentials import address
from trivet.cli.doctor.targets import whose_place
from trivet.cli.offers import CHAT_MODELS
from trivet.cli.text import clean, dollars
from trivet.config import Settings, TargetSettings, home
from trivet.errors import ConfigError, TrivetError, UpstreamError
from trivet.ledger.prices import Prices
from trivet.seams import Kit, Provider, load
from trivet.types import Kind, Usage
from trivet.upstream.embedded import MISSING
from trivet.weights import MINILM, File, Store, find
from trivet.wire.request import read_request

_CALL_S = 60.0  # a model that thinks before its first token, on a bad day
_LOAD_S = 180.0  # 1.1 GB from a slow disk, one engine after the other
_POLL_S = 0.05
_DIED = ("failed", "restarting", "stopped")
"""How `upstream/engine.py` begins to say that a model did not load; the gateway tries again, a person should know."""

_ADVICE: Mapping[int, tuple[Whose, str]] = {
    400: ("operator", "The target does not take a plain question: is it a chat model?"),
    401: ("operator", "Put a good key where `api_key` points."),
    402: ("operator", "Add credit to the account at the provider."),
    403: ("operator", "The key may not use this model: allow it at the provider, or name another."),
    404: ("operator", "Name a model that the provider has, and its address up to and with /v1."),
    408: ("upstream", "Try again; raise `timeouts` if it is always slow."),
    429: ("operator", "Too many requests, or no credit left: look at limits and billing at the provider."),
    503: ("upstream", "Wait, and see the provider's status page."),
    504: ("upstream", "Try again; raise `timeouts` if it is always slow."),
}
"""By status: who can put it right, and how."""

_LIMITS = ("max_tokens", "max_completion_tokens")
"""What a limit is called: older servers know only the first, OpenAI's newer models only the second."""


async def call_checks(settings: Settings, env: Mapping[str, str]) -> list[Check]:
    """Ask every target, all at once."""
    try:
        kit = build.kit(settings, env, tell=lambda line: click.echo(line, err=True))
    except ConfigError as error:
        return [bad("call", str(error), "export TRIVET_HOME=FOLDER")]
    prices = Prices(settings.targets)
    prices.warm()
    vectors = settings.embedder.target if settings.embedder.kind == "target" else ""
    kinds: dict[str, Kind] = {vectors: "embeddings"}
    calls = (_call(t, env, kit, prices, kind=kinds.get(t.name, "chat")) for t in settings.targets.values())
    return list(await asyncio.gather(*calls))


async def _call(
    target: TargetSettings, env: Mapping[str, str], kit: Kit, prices: Prices, *, kind: Kind = "chat"
) -> Check:
    what = f"call of {target.name}"
    ours = target.provider == "embedder" or (target.provider == "llamacpp" and not target.base_url)
    if ours and not _is_here(target, kit, env):
        return ok(what, "not asked: its file is not here yet, and `trivet serve` fetches it")
    model = CHAT_MODELS.get(address(target), "") if target.model == "*" else target.model
    if not model:
        fix = "Add a target that names its model, to have it asked."
        return warn(what, "not asked: it takes any model, and none is known at its address", fix)
    try:
        provider: Provider = load("trivet.provider", target.provider)(target, kit)
    except ConfigError as error:
        return bad(what, str(error), "See the line above about its key." if target.api_key else "Correct its section.")
    try:
        return await _asked(what, target, provider, model=model, prices=prices, env=env, kind=kind)
    finally:
        await provider.aclose()


def _is_here(target: TargetSettings, kit: Kit, env: Mapping[str, str]) -> bool:
    model: File | None = find(target.model)
    if target.provider == "embedder":
        model = MINILM if target.model == "minilm" else None
    try:
        return model is None or Store(kit.models, env=env).find(model) is not None
    except TrivetError:
        return False


async def _asked(
    what: str,
    target: TargetSettings,
    provider: Provider,
    *,
    model: str,
    prices: Prices,
    env: Mapping[str, str],
    kind: Kind,
) -> Check:
    try:
        trouble = await _not_loaded(provider)
        if trouble:
            fix = f"Its own words: cat {home(env) / 'engines' / target.name}.log"
            if target.provider == "embedder":
                fix = 'Correct that; or take the one that needs no file: model = "builtin"'
            return bad(what, f"{clean(model)}: {clean(trouble, most=300)}", fix)
        began_ns = time.monotonic_ns()
        async with asyncio.timeout(_CALL_S):
            usage, said = await _one_token(provider, model, kind)
        took_ns = time.monotonic_ns() - began_ns
    except TimeoutError:
        words = f"{clean(model)}: no answer within {_CALL_S:.0f} s (loading: {_LOAD_S:.0f} s)"
        return bad(what, words, "Try again; is the machine busy?", _whose(target, "upstream"))
    except UpstreamError as error:
        return _refused(what, target, model, error)
    cost = prices.cost(target.name, model=said or model, usage=usage, took_ns=took_ns, at_ns=time.time_ns())
    money = "cost not known" if cost.nanos is None else dollars(cost.nanos)
    return ok(what, f"{clean(said or model)} answered 200 in {took_ns / 1e6:.0f} ms, {money}")


async def _not_loaded(provider: Provider) -> str:
    """Wait for an engine of ours to load (others are ready at once), and say why it did not; "" if it did."""
    await provider.start()
    async with asyncio.timeout(_LOAD_S):
        while words := provider.ready():
            if words.startswith((*_DIED, MISSING)):
                return words
            await asyncio.sleep(_POLL_S)
    return ""


async def _one_token(provider: Provider, model: str, kind: Kind) -> tuple[Usage | None, str]:
    """Ask for one token; by the other name of the limit where the first is refused. Or for a vector."""
    kinds = getattr(provider, "kinds", ("chat",))
    if (
        kind == "embeddings" or "chat" not in kinds or ("embeddings" in kinds and "embed" in model.lower())
    ):  # as they are called everywhere
        return await _answer(provider, {"model": model, "input": "Say: yes"}, kind="embeddings")
    first, second = _LIMITS
    question = {"model": model, "messages": [{"role": "user", "content": "Say: yes"}]}
    try:
        return await _answer(provider, {**question, first: 1})
    except UpstreamError as error:
        if error.status != 400 or second not in f"{error}{error.body!r}":
            raise
    return await _answer(provider, {**question, second: 1})


async def _answer(provider: Provider, body: object, *, kind: Kind = "chat") -> tuple[Usage | None, str]:
    request = read_request(
        msgspec.json.encode(body), (), id="doctor", tenant="doctor", key_id="", at_ns=time.time_ns(), kind=kind
    )
    usage, said = None, ""
    async with aclosing(provider.stream(request)) as chunks:
        async for chunk in chunks:
            usage, said = chunk.usage or usage, chunk.model or said
    return usage, said


def _refused(what: str, target: TargetSettings, model: str, error: UpstreamError) -> Check:
    whose, fix = _ADVICE.get(error.status, ("upstream", "Wait, and see the provider's status page."))
    if error.code == "upstream_unreachable":
        whose, fix = _whose(target, "upstream"), f"Start what should answer at {address(target)}, or correct it."
    return bad(what, f"{clean(model)}: {error.status}, {clean(str(error), most=300)}", fix, whose)


def _whose(target: TargetSettings, otherwise: Whose) -> Whose:
    return whose_place(address(target)) if address(target) else otherwise
