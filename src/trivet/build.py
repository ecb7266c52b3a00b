"""From a file, or what is here, to settings, and from those to stages: everything is built once, and handed on.

Not here: what any stage does. Built-ins come through the same entry points as a plugin's.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from trivet.aside import Aside
from trivet.config import Settings, TargetSettings, TargetTlsSettings, home, models_folder
from trivet.config import load as read_settings
from trivet.embed.lender import Lender
from trivet.errands import embed
from trivet.errors import ConfigError
from trivet.flights import Flights
from trivet.labels.labels import Labels
from trivet.ledger.prices import Prices
from trivet.ledger.profiles import Recorded
from trivet.ledger.sqlite import folder
from trivet.pipeline import answered
from trivet.routing.policies import Policies
from trivet.routing.rules import Able, Ruled
from trivet.seams import (
    Asking,
    Cache,
    Compiling,
    Desk,
    Following,
    Kit,
    Known,
    Profiled,
    Provider,
    Rates,
    Router,
    Startable,
    Started,
    Store,
    Turns,
    Weighing,
    load,
)
from trivet.tally import Stages
from trivet.upstream import discover
from trivet.upstream.http import dial


class SystemRandom:
    """The operating system's randomness, fetched a page at a time: a system call for each request id costs more."""

    def __init__(self) -> None:
        self._page, self._at = b"", 0

    def getrandbits(self, k: int, /) -> int:
        """Give k bits, at most 1024, that nobody can guess."""
        size = (k + 7) // 8
        at = self._at
        if len(self._page) < at + size:
            self._page, at = os.urandom(4096), 0
        self._at = at + size
        return int.from_bytes(self._page[at : at + size]) >> (size * 8 - k)

    def random(self) -> float:
        """Give a float in [0, 1)."""
        return self.getrandbits(53) / (1 << 53)


class SystemClock:
    """The machine's own clocks."""

    now_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)


async def settings_or_found(config: Path | None, env: Mapping[str, str]) -> Settings:
    """Read the file; without one, use the keys and engines that are here, or else the embedded models."""
    settings = read_settings(config, env)
    if settings.targets:
        return settings
    found = discover.keys(env) + await discover.engines()
    pool = discover.settings_from(found)
    return msgspec.structs.replace(settings, targets=pool.targets, policies=pool.policies, aliases=pool.aliases)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Say how to make the loop that serves best here; None: the standard library's."""
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)


def kit(settings: Settings, env: Mapping[str, str], *, tell: Callable[[str], None]) -> Kit:
    """Gather what stages need from outside; makes the home folder, readable by its owner alone."""
    folder = home(env)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Cannot make {folder}: {error.strerror or error}. Set TRIVET_HOME to a folder that you can write to."
        ) from error
    made = Kit(
        clock=SystemClock(),
        random=SystemRandom(),
        dial=dial,
        home=folder,
        models=models_folder(settings, env),
        tell=tell,
        turns=Turns(),
        desk=Desk(),
    )
    return made._replace(embedder=Lender(settings.embedder, made).take)


class Builder:
    """Builds stages for one configuration after another; what did not change goes on from one to the next.

    So a reload keeps the ledger and its journal, the cache with its answers, open connections, and models that have
    loaded. Close it at the end.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._settings: Settings | None = None
        self._store: Store | None = None
        self._cache: Cache | None = None
        self._prices: Prices | None = None
        self._routers: Mapping[str, Router] = {}
        self._providers: dict[str, Provider] = {}
        self._old: list[Cache | Provider | Started] = []
        self._aside = Aside()
        self._labels = Labels(kit)

    async def build(self, settings: Settings) -> Stages:
        """Build every stage, and start what is new.

        Raises:
            ConfigError: a plugin that is named is not there, or cannot be built from its settings; or the ledger is
                another, or the embedder's threads. Then all is as it was.
            LedgerError: the ledger cannot be opened.
        """
        before = self._settings
        if before is not None and before.ledger != settings.ledger:
            raise ConfigError("`[ledger]` is another: that takes a restart.")
        if before is not None and before.embedder.threads != settings.embedder.threads:
            raise ConfigError("`embedder.threads` is another: that takes a restart.")
        kit, same_embedder = self._kit, before is not None and _embedding(before) == _embedding(settings)
        if before is not None and not same_embedder:  # what was borrowed before works until it is given back
            kit = kit._replace(desk=Desk())  # the one before asks as before, for requests that are running
            kit = kit._replace(embedder=Lender(settings.embedder, kit).take)
        routes = {"fixed"} | {policy.route for policy in settings.policies.values()}
        inner: dict[str, Router] = {name: load("trivet.router", name)(settings, kit) for name in sorted(routes)}
        async with AsyncExitStack() as fresh:
            if self._store is None:
                store: Store = load("trivet.store", settings.ledger.store)(settings.ledger, kit)
                fresh.push_async_callback(store.aclose)
            else:
                store = self._store
            if before is None or self._cache is None or before.cache != settings.cache or not same_embedder:
                cache: Cache = load("trivet.cache", settings.cache.kind)(settings.cache, kit)
                fresh.push_async_callback(cache.aclose)
            else:
                cache = self._cache
            providers: dict[str, Provider] = {}
            for name, target in settings.targets.items():
                if before is not None and before.targets.get(name) == target and not _in_file(target):
                    providers[name] = self._providers[name]
                    continue
                providers[name] = provider = load("trivet.provider", target.provider)(target, kit)
                fresh.push_async_callback(provider.aclose)
            policies = Policies(settings)
            if isinstance(cache, Startable):
                await cache.start(policies.compiled())
            prices = Prices(settings.targets)
            prices.warm()
            if self._prices is not None:
                prices.follow(self._prices)
            routed_by = await _compile(
                inner, settings, policies, prices, kit, store if isinstance(store, Profiled) else None
            )
            new = [provider for name, provider in providers.items() if self._providers.get(name) is not provider]
            for provider in new:
                await provider.start()
            for router in inner.values():
                if isinstance(router, Started):
                    await router.start()
                    fresh.push_async_callback(router.aclose)
            await self._labels.start(policies.compiled())
            fresh.pop_all()  # nothing can fail any more: they are ours now
        if self._cache is not None and self._cache is not cache:
            self._old.append(self._cache)  # before those that it may ask
        self._old += [router for router in self._routers.values() if isinstance(router, Started)]
        self._old += [old for name, old in self._providers.items() if providers.get(name) is not old]
        self._settings, self._store, self._cache, self._providers = settings, store, cache, providers
        self._kit, self._prices = kit, prices
        for name, router in inner.items():
            if isinstance(router, Following) and name in self._routers:
                router.follow(self._routers[name])
        self._routers = inner
        able = {name: _able(name, target, providers[name], prices) for name, target in settings.targets.items()}
        ruled = {name: Ruled(router, able) for name, router in inner.items()}
        stages = Stages(
            answered=answered,
            policies=policies,
            cache=cache,
            routers=ruled,
            providers=providers,
            store=store,
            prices=prices,
            clock=kit.clock,
            aside=self._aside,
            flights=Flights(),
            labels=self._labels,
            routed_by=routed_by,
            asking={name: ruled[name] for name, router in inner.items() if isinstance(router, Asking)},
            weighing={name: ruled[name] for name, router in inner.items() if isinstance(router, Weighing)},
        )
        kit.desk.open(partial(embed, stages=stages))
        return stages

    async def let_go(self) -> None:
        """Close what the configurations before this one had: call it when none of their requests is running."""
        await self._aside.idle()
        old, self._old = self._old, []
        for one in old:
            await one.aclose()

    async def aclose(self) -> None:
        """Close everything, the ledger last, and the cache before the targets that it may ask."""
        async with AsyncExitStack() as opened:
            routers = [router for router in self._routers.values() if isinstance(router, Started)]
            for one in (self._store, *self._providers.values(), *reversed(self._old), *routers, self._cache):
                if one is not None:
                    opened.push_async_callback(one.aclose)
            opened.push_async_callback(self._labels.aclose)
            opened.push_async_callback(self._aside.aclose)
        self._store, self._cache, self._providers, self._old, self._routers = None, None, {}, [], {}


class Offline(NamedTuple):
    """What decides where requests go, and nothing that could send them."""

    policies: Policies
    routers: Mapping[str, Ruled]
    inner: Mapping[str, Router]
    """Without what comes before them."""


async def offline(settings: Settings, env: Mapping[str, str], *, tell: Callable[[str], None]) -> Offline:
    """Build that. Raises ConfigError, LedgerError: as for a gateway that starts."""
    made, policies, prices = kit(settings, env, tell=tell), Policies(settings), Prices(settings.targets)
    routes = {"fixed"} | {policy.route for policy in settings.policies.values()}
    inner: dict[str, Router] = {name: load("trivet.router", name)(settings, made) for name in sorted(routes)}
    await _compile(inner, settings, policies, prices, made, Recorded(folder(settings.ledger, made.home)))
    able = {
        name: Able(frozenset(target.lacks), partial(prices.context, name)) for name, target in settings.targets.items()
    }
    return Offline(policies, {name: Ruled(router, able) for name, router in inner.items()}, inner)


async def _compile(
    routers: Mapping[str, Router],
    settings: Settings,
    policies: Policies,
    prices: Prices,
    kit: Kit,
    store: Profiled | None,
) -> dict[str, str]:
    """Have routers get ready for the policies that are theirs; gives digests of what those are routed by.

    Raises ConfigError, LedgerError.
    """
    theirs = {
        name: (router, routed)
        for name, router in routers.items()
        if isinstance(router, Compiling)
        and (routed := [p for p in policies.compiled() if p.route == name and not p.transparent])
    }
    if not theirs:
        return {}
    now_ns = kit.clock.now_ns()
    priced = {name: _rates(prices.told(name, at_ns=now_ns)) for name in settings.targets}
    known = Known(
        models={name: target.model for name, target in settings.targets.items()},
        profiles={} if store is None else await store.profiles(),
        rates={name: rates for name, rates in priced.items() if rates is not None},
    )
    digests: dict[str, str] = {}
    for router, routed in theirs.values():
        await router.compile(routed, known)
        digests |= {policy.name: router.digest(policy.name) for policy in routed}
    return digests


def _rates(told: Mapping[str, str] | None) -> Rates | None:
    if told is None or "input" not in told or "output" not in told:
        return None
    return Rates(*(float(told.get(part, told["input"])) / 1e6 for part in ("input", "output", "cached")))


def _able(name: str, target: TargetSettings, provider: Provider, prices: Prices) -> Able:
    listed = prices.context(name)

    def context() -> int | None:
        return getattr(provider, "context_tokens", None) or listed

    return Able(frozenset(target.lacks), context)


def _embedding(settings: Settings) -> tuple[object, ...]:
    """Give what makes the embedder of `[embedder]` another one."""
    target = settings.targets.get(settings.embedder.target)
    if settings.embedder.kind != "target" or target is None:
        return (settings.embedder,)
    return settings.embedder, target.provider, target.model, target.base_url, target.headers


def _in_file(target: TargetSettings) -> bool:
    """Tell whether a key or certificate is in a file, where another may be by now though the settings are the same."""
    return target.api_key.startswith("file:") or target.proxy.startswith("file:") or target.tls != TargetTlsSettings()


@asynccontextmanager
async def stages(settings: Settings, kit: Kit) -> AsyncGenerator[Stages, None]:
    """Build and start every stage of one configuration, and close them in the end. Raises as `Builder.build` does."""
    builder = Builder(kit)
    try:
        yield await builder.build(settings)
    finally:
        await builder.aclose()
