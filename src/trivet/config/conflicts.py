"""The sections of the settings against each other.

Not here: each value against its type (`misfits.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from trivet import seams
from trivet.config.cascade import conflicts_of_cascade
from trivet.config.classifier import conflicts_of_classifier
from trivet.config.embedding import conflicts_of_embedder, conflicts_of_embedding, no_target
from trivet.config.misfits import LATER_ROUTES, NOT_YET, Misfit, Place, either, shown
from trivet.config.secret import KEY_WORDS
from trivet.config.settings import (
    JUDGES,
    EngineSettings,
    PolicySettings,
    PriceSettings,
    RuleSection,
    Settings,
    TargetSettings,
    TargetTlsSettings,
)
from trivet.config.triangle import conflicts_of_triangle

_KEY_PLACE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")

_LANGUAGE = re.compile(r"[a-z]{2}|[A-Z]{3,}")

_SPEAK_OPENAI = {
    "ollama": "http://127.0.0.1:11434/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}
"""Providers that are known, and where they speak OpenAI's protocol until they have modules of their own."""

_HEADERS_WITH_KEYS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
)
_HEADERS_OF_HTTP = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"})


_PLAIN = TargetSettings(provider="")


def conflicts(settings: Settings) -> Iterator[Misfit]:
    for name, target in settings.targets.items():
        at: Place = ("targets", name)
        yield from _conflicts_of_provider(target, at)
        if target.provider == "embedder":
            yield from conflicts_of_embedder(target, settings, at)
        yield from _conflicts_of_address(target, at)
        yield from _conflicts_of_way(target, at)
        yield from _conflicts_of_headers(target.headers, (*at, "headers"))
        yield from _conflicts_of_price(target.price, (*at, "price"))
    yield from conflicts_of_embedding(settings)
    for name, policy in settings.policies.items():
        yield from _conflicts_of_policy(policy, settings.targets, ("policies", name))
        if policy.shadow.share:
            yield from _conflicts_of_shadow(policy, settings.targets, ("policies", name, "shadow"))
        if policy.cache.judge not in JUDGES:
            judge, at = policy.cache.judge, ("policies", name, "cache", "judge")
            yield from _conflicts_of_model(judge, policy, settings, at, shows="answers", more=JUDGES)
        yield from conflicts_of_cascade(policy, ("policies", name))
        yield from conflicts_of_classifier(policy, settings.policies, ("policies", name))
        if policy.classifier is not None:
            at = ("policies", name, "classifier", "model")
            yield from _conflicts_of_model(policy.classifier.model, policy, settings, at, shows="questions")
    yield from _conflicts_of_names(settings)
    yield from _conflicts_of_stages(settings)


def _conflicts_of_provider(target: TargetSettings, at: Place) -> Iterator[Misfit]:
    installed = seams.names("trivet.provider")
    if target.provider not in installed:
        url = _SPEAK_OPENAI.get(target.provider)
        more = f' It speaks OpenAI\'s protocol: write provider = "openai" and base_url = "{url}".' if url else ""
        known = either(json.dumps(i) for i in installed)
        yield (*at, "provider"), f"{shown(target.provider)} is not installed. Known: {known}.{more}"
    if target.provider == "llamacpp" and not target.base_url:
        if target.model == "*":
            yield at, 'An embedded engine has one model. Write which, such as model = "qwen2.5-coder-0.5b-instruct".'
        for key in ("api_key", "headers", "http", "proxy", "tls", "warm"):
            if getattr(target, key) != getattr(_PLAIN, key):
                words = "An embedded engine has none; with a `base_url` it is a server that runs already."
                yield (*at, key), words
    if target.provider in ("openai", "embedder") and target.engine != EngineSettings():
        yield (*at, "engine"), 'Only an embedded engine (provider = "llamacpp") has these. Remove the line.'


def _conflicts_of_address(target: TargetSettings, at: Place) -> Iterator[Misfit]:
    if target.api_key and not _KEY_PLACE.fullmatch(target.api_key):
        yield (*at, "api_key"), f"This is not a place where a key is. {KEY_WORDS}"
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
        yield (*at, "base_url"), f"There is a name or password in it. Take it out and use `api_key`. {KEY_WORDS}"
    elif url.fragment:
        yield (*at, "base_url"), "A # part is never sent. Take it out."


def _conflicts_of_way(target: TargetSettings, at: Place) -> Iterator[Misfit]:
    if target.http == "2" and find_spec("h2") is None:
        yield (*at, "http"), "HTTP/2 needs a package that is not installed. Run: pip install 'trivet[http2]'"
    if target.proxy and not (target.proxy == "environment" or _KEY_PLACE.fullmatch(target.proxy)):
        try:
            url = urlsplit(target.proxy)
            named, whole = "@" in url.netloc, url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            named = whole = False
        if named:
            words = 'There is a name or password in it. Put all of it elsewhere and write "env:NAME" or "file:PATH".'
            yield (*at, "proxy"), words
        elif not whole:
            words = 'This is not a proxy. Write one such as "http://proxy.example:3128", "env:NAME" or "environment".'
            yield (*at, "proxy"), words
    if target.tls != TargetTlsSettings() and target.base_url.startswith("http:"):
        yield (*at, "tls"), "The address is http, which has no certificates. Write https, or remove the line."
    if target.tls.key and not target.tls.cert:
        yield (*at, "tls", "key"), "There is no `cert` that it would be the key of. Write that too."


def _conflicts_of_headers(headers: Mapping[str, str], at: Place) -> Iterator[Misfit]:
    for name, value in headers.items():
        if name.lower() in _HEADERS_WITH_KEYS:
            yield (*at, name), f"This header carries a key. Use `api_key`. {KEY_WORDS}"
        elif name.lower() in _HEADERS_OF_HTTP:
            yield (*at, name), "This header belongs to the connection; Trivet writes it itself. Remove it."
        elif not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not (value.isascii() and value.isprintable()):
            yield (*at, name), "A header is one line of ASCII, and its name has only letters, digits and dashes."


def _conflicts_of_price(price: PriceSettings | None, at: Place) -> Iterator[Misfit]:
    if price is None:
        return
    by_token = price.input or price.output or price.cached
    if price.hour and by_token:
        yield at, "Write either `input` and `output`, or `hour`, not both."
    elif price.hour is None and not (price.input and price.output):
        yield at, 'Write { input = "$0.15", output = "$0.60" }, dollars per million tokens, or { hour = "$0.80" }.'
    elif price.hour is None and price.slots != 1:
        yield (*at, "slots"), "Only a price by the hour is divided by slots. Remove it."


def _conflicts_of_policy(policy: PolicySettings, targets: Mapping[str, TargetSettings], at: Place) -> Iterator[Misfit]:
    named = [(*at, "pool", i) for i in range(len(policy.pool))] + [(*at, "baseline")] * bool(policy.baseline)
    for place, name in zip(named, [*policy.pool, policy.baseline], strict=False):
        if name not in targets:
            yield place, no_target(name, targets)
        elif targets[name].model == "*":
            yield place, f'"{name}" takes any model, and a policy needs to know which. Add a target that names one.'
    for number, rule in enumerate(policy.rules):
        yield from _conflicts_of_rule(rule, policy.pool, (*at, "rules", number))
    for name in {n for n in policy.pool if policy.pool.count(n) > 1}:
        yield (*at, "pool"), f'"{name}" is in it more than once.'
    regions = {targets[n].region for n in policy.pool if n in targets}
    if policy.residency and regions and not regions & set(policy.residency):
        have = ", ".join(json.dumps(r) for r in sorted(regions))
        yield (*at, "residency"), f"No target of the pool is in one of these regions, so none can answer. Have: {have}."
    yield from conflicts_of_triangle(policy, targets, at)
    if policy.route not in seams.names("trivet.router"):
        known = either(json.dumps(r) for r in seams.names("trivet.router"))
        why = NOT_YET if policy.route in LATER_ROUTES else "no such router is installed."
        yield (*at, "route"), f"{shown(policy.route)}: {why} Remove the line, or write {known}."


def _conflicts_of_rule(rule: RuleSection, pool: Iterable[str], at: Place) -> Iterator[Misfit]:
    for i, name in enumerate(rule.use):
        if name not in pool:
            yield (*at, "use", i), f"{shown(name)} is not in the pool of this policy. Write one of {either(pool)}."
    if rule.tokens_below and rule.tokens_below <= rule.tokens_from:
        yield (*at, "tokens_below"), "No prompt has fewer tokens than this and at least `tokens_from`."
    for i, language in enumerate(rule.language):
        if not _LANGUAGE.fullmatch(language):
            yield (*at, "language", i), 'Write de, en, es, fr, it, nl or pt, or a script such as "CYRILLIC".'


def _conflicts_of_model(
    name: str, policy: PolicySettings, settings: Settings, at: Place, *, shows: str, more: Iterable[str] = ()
) -> Iterator[Misfit]:
    """Check a model that is asked about a policy's traffic: it sees some of it, so it is bound to the same regions.

    Args:
        shows: what it sees.
        more: words that could be written instead of its name.
    """
    targets = settings.targets
    other = settings.policies.get(name)
    if other is None and name not in targets:
        known = f" Or write {either(json.dumps(word) for word in more)}." if more else ""
        words = no_target(name, [*targets, *settings.policies]).replace("no target", "no target or policy")
        yield at, f"{words}{known}"
        return
    pool = [name] if other is None else [n for n in other.pool if n in targets]
    if other is not None and other.residency:
        pool = [n for n in pool if targets[n].region in other.residency]
    for one in pool:
        if targets[one].provider == "embedder":
            yield at, f'"{one}" makes embeddings and answers nothing. Write a target that does.'
        elif targets[one].model == "*" and other is None:
            yield at, f'"{one}" takes any model, and what is asked is one model. Add a target that names it.'
        elif policy.residency and targets[one].region not in policy.residency:
            have = json.dumps(targets[one].region)
            yield at, f'It would show {shows} to "{one}", which is in {have}, and `residency` leaves that out.'


def _conflicts_of_shadow(policy: PolicySettings, targets: Mapping[str, TargetSettings], at: Place) -> Iterator[Misfit]:
    """Check the target that is asked too: it sees the requests, so it is bound to the same regions."""
    name = policy.shadow.target or policy.baseline or policy.pool[-1]
    place = (*at, "target") if policy.shadow.target else at
    if not policy.labels.keep:
        yield at, "What shadows tell is kept with the labels. Write `labels.keep = true` in this policy, or remove it."
    if name not in targets:
        if policy.shadow.target:  # the others are checked where they are written
            yield place, no_target(name, targets)
    elif targets[name].provider == "embedder":
        yield place, f'"{name}" makes embeddings and answers nothing. Write a target that does.'
    elif targets[name].model == "*":
        yield place, f'"{name}" takes any model, and a shadow is of one. Add a target that names it.'
    elif policy.residency and targets[name].region not in policy.residency:
        have = json.dumps(targets[name].region)
        yield place, f'It would show requests to "{name}", which is in {have}, and `residency` leaves that out.'
    elif policy.pool == (name,):
        yield place, f'"{name}" is the only target of the pool. Write another one, or add one to the pool.'


def _conflicts_of_names(settings: Settings) -> Iterator[Misfit]:
    for name in settings.policies.keys() & settings.targets.keys():
        yield ("policies", name), "A target has this name too. Clients could not tell them apart: rename one."
    names = settings.targets.keys() | settings.policies.keys()
    for alias, meant in settings.aliases.items():
        at: Place = ("aliases", alias)
        wild = settings.targets.get(meant.partition("/")[0])
        if alias in names:
            yield at, "A target or policy has this name already. Rename one, or remove the alias."
        elif wild is not None and wild.model == "*":
            if "/" not in meant:
                yield at, f'"{meant}" takes any model. Write which: "{meant}/MODEL".'
        elif meant in settings.aliases:
            yield at, f"{shown(meant)} is an alias itself. Write the target or policy that it stands for."
        elif meant not in names:
            yield at, no_target(meant, names).replace("no target", "no target or policy")


def _conflicts_of_stages(settings: Settings) -> Iterator[Misfit]:
    stages = ("store", "ledger", "store", settings.ledger.store), ("cache", "cache", "kind", settings.cache.kind)
    for seam, section, key, name in stages:
        installed = seams.names(f"trivet.{seam}")
        if name not in installed:
            known = either(json.dumps(i) for i in installed)
            yield (section, key), f"{shown(name)} is not installed. Write {known}."
