"""The routes, and the one callable over them.

Not here: sockets and signals (`server/run.py`). Invariants: whether a route needs a key is a property of its Route
object, and needs one unless it says otherwise; a path that is no route is refused like one that needs a key; nothing is
decided from the Host header or from a URL other than the path that was routed.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from trivet.errors import TrivetError
from trivet.seams import Connected, Random, Stated
from trivet.server import correct, models
from trivet.server.ask import Ask, InForce, Rules
from trivet.server.auth import Checks
from trivet.server.exchange import Exchange
from trivet.server.head import PRIVATE, send_error, send_json
from trivet.server.metrics import Metrics
from trivet.server.openapi import Described, document
from trivet.server.sharing import Shared
from trivet.tally import Stages
from trivet.types import Kind

_MODELS = "/v1/models/"
_ONE_MODEL = f"{_MODELS}{{model}}"
"""A name may have slashes in it."""

Endpoint = Callable[[Exchange], Awaitable[None]]


class Route(NamedTuple):
    """One method on one path."""

    method: str
    path: str
    call: Endpoint
    words: str
    """What it does, in a sentence: for `/openapi.json`."""
    auth: Literal["key", "public", "own"] = "key"
    """`key`: checked before the endpoint is called; `public`: open to all; `own`: the endpoint checks it itself,
    because a refusal must leave an Entry too."""
    kind: Kind | None = None
    """What a model is asked for there, if it is."""
    body: type[Struct] | None = None
    """What is sent there, where that is our own."""


class NotFoundError(TrivetError):
    """There is no such path."""

    status, code, kind, whose = 404, "not_found", "invalid_request_error", "client"


class MethodError(TrivetError):
    """The path is there, the method is not."""

    status, code, kind, whose = 405, "method_not_allowed", "invalid_request_error", "client"


class App:
    """The edge: what the server calls for each request, over the stages."""

    def __init__(
        self, stages: Stages, *, auth: Checks, random: Random, max_body_bytes: int, shared: Shared | None = None
    ) -> None:
        self._auth = auth
        self._rules = Rules(InForce(stages, max_body_bytes=max_body_bytes))
        self.metrics, self.shared = Metrics(), shared
        stages.aside.told = self.metrics.count

        def asking(kind: Kind, path: str, words: str) -> Route:
            count = self.metrics.count
            ask = Ask(kind, self._rules, auth=auth, random=random, count=count)
            return Route("POST", path, ask, words, "own", kind)

        def own(path: str, call: Endpoint, words: str, body: type[Struct]) -> Route:
            return Route("POST", path, call, words, body=body)

        self.routes: Sequence[Route] = (
            asking("chat", "/v1/chat/completions", "Answer a conversation."),
            asking("completions", "/v1/completions", "Go on with a text, the older way."),
            asking("embeddings", "/v1/embeddings", "Make vectors of texts."),
            asking("moderations", "/v1/moderations", "Judge texts by a provider's rules."),
            Route("GET", "/v1/models", self._models, "List the names that can be asked for, and what each is."),
            Route("GET", _ONE_MODEL, self._model, "Say what is known of one of them."),
            own(
                "/trivet/v1/feedback",
                self._feedback,
                "Say how good an answer was, or that a cached one was wrong.",
                correct.Feedback,
            ),
            own("/trivet/v1/cache/invalidate", self._invalidate, "Take cached answers off.", correct.Invalidation),
            Route("GET", "/healthz", self._healthz, "Say that the process is alive.", auth="public"),
            Route("GET", "/readyz", self._readyz, "Say whether any target can answer.", auth="public"),
            Route("GET", "/metrics", self._metrics, "Give counters for Prometheus."),
            Route("GET", "/openapi.json", self._openapi, "Give this description.", auth="public"),
        )
        self._by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            self._by_path.setdefault(route.path, {})[route.method] = route

    def use(self, stages: Stages, *, max_body_bytes: int) -> InForce:
        """Put another configuration in force for the requests that come from now on; give the one before."""
        before, self._rules.now = self._rules.now, InForce(stages, max_body_bytes=max_body_bytes)
        return before

    def __call__(self, exchange: Exchange) -> Awaitable[None]:
        """Serve one HTTP exchange."""
        path = exchange.path
        methods = self._by_path.get(path) or self._by_path.get(_ONE_MODEL if path.startswith(_MODELS) else "", {})
        method = exchange.method
        route = methods.get("GET" if method == "HEAD" else method)
        if route is not None and route.auth == "own":
            return route.call(exchange)
        return self._serve(exchange, route, methods)

    async def _serve(self, exchange: Exchange, route: Route | None, methods: dict[str, Route]) -> None:
        try:
            if route is None or route.auth == "key":
                self._auth.check(exchange.headers)
            if route is None:
                raise _no_route(exchange.path, methods)
            await route.call(exchange)
        except MethodError as error:
            await send_error(exchange, error, b"allow: %b\r\n" % ", ".join(sorted(methods)).encode(), passed=[])
        except TrivetError as error:
            await send_error(exchange, error, passed=[])

    async def _models(self, exchange: Exchange) -> None:
        permit = self._auth.check(exchange.headers).permit
        told = models.listed(self._rules.now.stages, permit)
        await send_json(exchange, 200, {"object": "list", "data": told})

    async def _model(self, exchange: Exchange) -> None:
        permit = self._auth.check(exchange.headers).permit
        name = exchange.path.removeprefix(_MODELS)
        await send_json(exchange, 200, models.described(name, self._rules.now.stages, permit))

    async def _feedback(self, exchange: Exchange) -> None:
        tenant = self._auth.check(exchange.headers).tenant
        await correct.feedback(exchange, self._rules.now.stages, tenant)

    async def _invalidate(self, exchange: Exchange) -> None:
        tenant = self._auth.check(exchange.headers).tenant
        await correct.invalidate(exchange, self._rules.now.stages, tenant)

    async def _healthz(self, exchange: Exchange) -> None:
        await send_json(exchange, 200, {"status": "ok"})

    async def _readyz(self, exchange: Exchange) -> None:
        states = self._states()
        # An embedder is ready before any model is; those who wait here want answers, unless there is nothing else.
        providers = self._rules.now.stages.providers.items()
        answering = [name for name, p in providers if "chat" in getattr(p, "kinds", ("chat",))] or list(states)
        ready = any(not states[name] for name in answering)
        told = {name: why or "ready" for name, why in states.items()}
        await send_json(exchange, 200 if ready else 503, {"status": "ready" if ready else "not ready", "targets": told})

    async def _metrics(self, exchange: Exchange) -> None:
        metrics = self.metrics if self.shared is None else self.shared.together(self.metrics)
        stages = self._rules.now.stages
        providers = stages.providers.items()
        connections = {name: p.connections() for name, p in providers if isinstance(p, Connected)}
        answers = stages.cache.state() if isinstance(stages.cache, Stated) else None
        verdicts = {name: told for asking in stages.asking.values() for name, told in asking.verdicts().items()}
        weighed = {name: told for router in stages.weighing.values() for name, told in router.weighed().items()}
        told = metrics.text(
            self._states(),
            connections,
            answers=answers,
            skipped=stages.aside.skipped,
            verdicts=verdicts,
            weighed=weighed,
            drifted={name: off for router in stages.weighing.values() for name, off in router.drifted().items()},
            labels=stages.labels.state(),
        )
        text = told.encode()
        await exchange.answer(200, b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n" + PRIVATE, text)

    async def _openapi(self, exchange: Exchange) -> None:
        known = [Described(r.method, r.path, r.words, r.auth != "public", r.kind, r.body) for r in self.routes]
        await send_json(exchange, 200, document(known))

    def _states(self) -> dict[str, str]:
        return {name: provider.ready() for name, provider in self._rules.now.stages.providers.items()}


def _no_route(path: str, methods: dict[str, Route]) -> TrivetError:
    if methods:
        return MethodError(f"{path[:200]} takes {' and '.join(sorted(methods))}.")
    return NotFoundError(f"There is no {path[:200]!r} here. /openapi.json lists what there is.")
