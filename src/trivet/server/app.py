"""The routes, and the one ASGI callable over them.

Not here: sockets and signals (`server/run.py`). Invariants: whether a route needs a key is a property of its Route
object, and needs one unless it says otherwise; a path that is no route is refused like one that needs a key; nothing is
decided from the Host header or from a URL other than the path that was routed.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

from trivet.errors import AuthError, BadRequestError, TrivetError
from trivet.pipeline import Stages
from trivet.seams import Random
from trivet.server.asgi import PRIVATE, Receive, Scope, Send, send_bytes, send_error, send_json
from trivet.server.auth import Auth
from trivet.server.chat import Chat
from trivet.server.metrics import Metrics
from trivet.server.openapi import document

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


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


class NotFoundError(TrivetError):
    """There is no such path."""

    status, code, kind, whose = 404, "not_found", "invalid_request_error", "client"


class MethodError(TrivetError):
    """The path is there, the method is not."""

    status, code, kind, whose = 405, "method_not_allowed", "invalid_request_error", "client"


class App:
    """The edge: an ASGI callable over the stages."""

    def __init__(self, stages: Stages, *, auth: Auth, random: Random, max_body_bytes: int) -> None:
        self._stages, self._auth = stages, auth
        self.metrics = Metrics()
        chat = Chat(stages, auth=auth, random=random, max_body_bytes=max_body_bytes, count=self.metrics.count)
        self.routes: Sequence[Route] = (
            Route("POST", "/v1/chat/completions", chat, "Answer a conversation.", auth="own"),
            Route("GET", "/v1/models", self._models, "List the names that can be asked for."),
            Route("GET", "/healthz", self._healthz, "Say that the process is alive.", auth="public"),
            Route("GET", "/readyz", self._readyz, "Say whether any target can answer.", auth="public"),
            Route("GET", "/metrics", self._metrics, "Give counters for Prometheus."),
            Route("GET", "/openapi.json", self._openapi, "Give this description.", auth="public"),
        )
        self._by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            self._by_path.setdefault(route.path, {})[route.method] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP exchange."""
        assert scope["type"] == "http"  # run.py switches web sockets and lifespan off
        methods = self._by_path.get(scope["path"], {})
        method: str = scope["method"]
        route = methods.get("GET" if method == "HEAD" else method)
        if route is not None and route.auth == "own":
            await route.call(scope, receive, send)
            return
        try:
            if route is None or route.auth == "key":
                self._auth.check(scope["headers"])
            if route is None:
                raise _no_route(scope["path"], methods)
            await route.call(scope, receive, send)
        except MethodError as error:
            await send_error(send, error, [(b"allow", ", ".join(sorted(methods)).encode())])
        except (AuthError, NotFoundError, BadRequestError) as error:
            await send_error(send, error, [])

    async def _models(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        known = [
            {"id": name, "object": "model", "created": 0, "owned_by": "trivet"}
            for name in self._stages.policies.names()
        ]
        await send_json(send, 200, {"object": "list", "data": known})

    async def _healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 200, {"status": "ok"})

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        states = self._states()
        ready = any(not why for why in states.values())
        told = {name: why or "ready" for name, why in states.items()}
        await send_json(send, 200 if ready else 503, {"status": "ready" if ready else "not ready", "targets": told})

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        text = self.metrics.text(self._states()).encode()
        await send_bytes(send, 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8"), *PRIVATE], text)

    async def _openapi(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, 200, document([(r.method, r.path, r.words, r.auth != "public") for r in self.routes]))

    def _states(self) -> dict[str, str]:
        return {name: provider.ready() for name, provider in self._stages.providers.items()}


def _no_route(path: str, methods: dict[str, Route]) -> TrivetError:
    if methods:
        return MethodError(f"{path[:200]} takes {' and '.join(sorted(methods))}.")
    return NotFoundError(f"There is no {path[:200]!r} here. /openapi.json lists what there is.")
