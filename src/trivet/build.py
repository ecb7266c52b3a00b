"""From a file, or what is here, to settings, and from those to stages: everything is built once, and handed on.

Not here: what any stage does. Built-ins come through the same entry points as a plugin's.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec

from trivet.config import Settings, home, models_folder
from trivet.config import load as read_settings
from trivet.errors import ConfigError
from trivet.ledger.prices import Prices
from trivet.pipeline import Stages
from trivet.routing.policies import Policies
from trivet.seams import Kit, Provider, Turns, load
from trivet.upstream import discover
from trivet.upstream.http import dial


class SystemRandom:
    """The operating system's randomness, fetched a page at a time: a system call for each request id costs more."""

    def __init__(self) -> None:
        self._page, self._at = b"", 0

    def getrandbits(self, k: int, /) -> int:
        """Give k bits, at most 1024, that nobody can guess."""
        size = (k + 7) // 8
        if len(self._page) < self._at + size:
            self._page, self._at = os.urandom(4096), 0
        at, self._at = self._at, self._at + size
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
    return Kit(
        clock=SystemClock(),
        random=SystemRandom(),
        dial=dial,
        home=folder,
        models=models_folder(settings, env),
        tell=tell,
        turns=Turns(),
    )


@asynccontextmanager
async def stages(settings: Settings, kit: Kit) -> AsyncGenerator[Stages, None]:
    """Build every stage, and close them in the reverse order.

    Raises:
        ConfigError: a plugin that is named is not there, or cannot be built from its settings.
    """
    async with AsyncExitStack() as opened:
        store = load("trivet.store", settings.ledger.store)(settings.ledger, kit)
        opened.push_async_callback(store.aclose)
        cache = load("trivet.cache", settings.cache.kind)(settings.cache, kit)
        opened.push_async_callback(cache.aclose)
        routes = {"fixed"} | {policy.route for policy in settings.policies.values()}
        routers = {name: load("trivet.router", name)(settings, kit) for name in sorted(routes)}
        providers: dict[str, Provider] = {}
        for name, target in settings.targets.items():
            providers[name] = provider = load("trivet.provider", target.provider)(target, kit)
            opened.push_async_callback(provider.aclose)
        prices = Prices(settings.targets)
        prices.warm()
        yield Stages(
            policies=Policies(settings),
            cache=cache,
            routers=routers,
            providers=providers,
            store=store,
            prices=prices,
            clock=kit.clock,
        )
