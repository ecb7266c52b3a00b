"""A whole house: the real gateway on a real loopback port, over targets of your choice.

    async with Upstream("Hel", "lo") as upstream, house({"a": upstream.base_url}) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url) as client: ...

Not here: the upstream (`testing/upstream.py`).
Invariant: everything is closed when the block ends, and what was not asked for is never listened on.
"""

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from trivet.aside import Aside
from trivet.build import SystemClock
from trivet.config import EmbedderSettings, Settings, parse
from trivet.embed.lender import Lender
from trivet.errands import embed
from trivet.flights import Flights
from trivet.labels.labels import Labels
from trivet.ledger.keys import FILE, KeyRing
from trivet.ledger.prices import Prices
from trivet.pipeline import answered
from trivet.routing.policies import Policies
from trivet.seams import (
    Asking,
    Cache,
    Clock,
    Desk,
    Dialer,
    Kit,
    Provider,
    Random,
    Router,
    Started,
    Store,
    Turns,
    Weighing,
    load,
)
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.server.http import Server
from trivet.server.run import bind, url
from trivet.tally import Stages
from trivet.testing.memory import Memory
from trivet.upstream.http import dial


class Gateway(NamedTuple):
    """A gateway that answers."""

    url: str
    """Without `/v1`."""
    app: App
    stages: Stages
    store: Any
    """The store that was given, or a `Memory`."""


def config(targets: Mapping[str, str], more: str = "") -> Settings:
    """Write a trivet.toml: one target for each base URL, at $1 in and $2 out a million tokens; then `more`."""
    price = 'price = { input = "$1", output = "$2" }'
    sections = [
        f'[targets.{name}]\nprovider = "openai"\nmodel = "{name}-1"\nbase_url = "{base}"\n{price}\n'
        for name, base in targets.items()
    ]
    return parse("\n".join(sections) + more, source="trivet.toml")


def kit(
    folder: Path,
    *,
    clock: Clock | None = None,
    rng: Random | None = None,
    dialer: Dialer = dial,
    tell: Any = None,
    embedder: EmbedderSettings | None = None,
) -> Kit:
    """Gather what stages need: real clocks and sockets unless others are given."""
    made = Kit(
        clock=clock or SystemClock(),
        random=rng or random.Random(1),  # noqa: S311  # repeatable on purpose
        dial=dialer,
        home=folder,
        models=folder / "models",
        tell=tell or (lambda line: None),
        turns=Turns(),
        desk=Desk(),
    )
    return made._replace(embedder=Lender(embedder or EmbedderSettings(), made).take)


@asynccontextmanager
async def stages(settings: Settings, kit: Kit, store: Store) -> AsyncGenerator[Stages, None]:
    """Build the stages over a store; closes the providers, not the store."""
    providers: dict[str, Provider] = {}
    for name, target in settings.targets.items():
        providers[name] = load("trivet.provider", target.provider)(target, kit)
    cache: Cache = load("trivet.cache", settings.cache.kind)(settings.cache, kit)
    routes = {"fixed"} | {policy.route for policy in settings.policies.values()}
    routers: dict[str, Router] = {name: load("trivet.router", name)(settings, kit) for name in sorted(routes)}
    aside, labels, policies = Aside(), Labels(kit), Policies(settings)
    await labels.start(policies.compiled())
    started = [router for router in routers.values() if isinstance(router, Started)]
    for router in started:
        await router.start()
    try:
        made = Stages(
            answered=answered,
            policies=policies,
            cache=cache,
            routers=routers,
            providers=providers,
            store=store,
            prices=Prices(settings.targets),
            clock=kit.clock,
            aside=aside,
            flights=Flights(),
            asking={name: router for name, router in routers.items() if isinstance(router, Asking)},
            weighing={name: router for name, router in routers.items() if isinstance(router, Weighing)},
            labels=labels,
        )
        kit.desk.open(partial(embed, stages=made))
        yield made
    finally:
        await aside.aclose()
        for router in started:
            await router.aclose()
        await cache.aclose()  # before those that it may ask
        await labels.aclose()
        for provider in providers.values():
            await provider.aclose()


@asynccontextmanager
async def house(
    targets: Mapping[str, str], more: str = "", *, store: Store | None = None, keys: Path | None = None
) -> AsyncGenerator[Gateway, None]:
    """Open a gateway over `targets` (name to base URL) and policies (`more`, in TOML).

    Args:
        store: where entries go; a `Memory` if it is not given. Closed at the end.
        keys: a key file made with `trivet.ledger.keys.create`; without it the gateway is open.
    """
    store = store or Memory()
    settings = config(targets, more)
    with TemporaryDirectory() as folder:
        made = kit(Path(folder), embedder=settings.embedder)
        ring = KeyRing(keys or Path(folder) / FILE)
        sock = bind("127.0.0.1", 0, has_keys=ring.any)
        async with stages(settings, made, store) as built:
            app = App(built, auth=Auth(ring), random=made.random, max_body_bytes=settings.server.max_body_bytes)
            server = Server(app)
            await server.start(sock)
            try:
                yield Gateway(url(sock), app, built, store)
            finally:
                await server.stop(10)
        ring.close()
        await store.aclose()
