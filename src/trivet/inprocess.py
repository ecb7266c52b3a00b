"""The engine inside a program: OpenAI's own client classes over it, with no server and no socket in between.

    client = trivet.openai()                    # an openai.OpenAI
    client.chat.completions.create(model="auto", messages=[...])

Not here: routes and answers (`server/app.py` has both; only the socket is missing), OpenAI's client itself.
Invariants: what is asked takes the path of every other request: policies, cache, ledger, one entry each; a caller that
leaves a stream cancels its request in the engine; the engine has a thread of its own, so any loop and thread may ask.
"""

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trivet import build
from trivet.errors import ConfigError, TooLargeError
from trivet.server.app import App
from trivet.server.auth import Caller
from trivet.server.exchange import ClientGoneError, Headers

if TYPE_CHECKING:
    import httpx2
    import openai as openai_client

TENANT = "local"
"""As for a gateway without keys."""
MAX_WAITING_BYTES = 1_048_576
"""Of an answer that its reader does not take: the engine waits above it."""
CLOSE_S = 15.0
"""For running requests to keep their entries, and the ledger to be written."""
BASE_URL = "http://in-process.trivet/v1"
"""Nothing is connected to: the path is what counts."""

_MISSING = "The in-process client needs OpenAI's. Run: pip install openai"


class ClosedError(Exception):
    """The engine is closed. Clients see it as a connection that failed."""


class _Caller:
    """Who asks: the program itself."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    def check(self, _headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Give the tenant; there is no key, so nothing that it may not do."""
        return Caller(self._tenant)


class Engine:
    """The stages of a gateway, in a thread of their own. Close it, or use it in `with`; at exit it closes itself."""

    def __init__(
        self,
        config: str | Path | None = None,
        *,
        tenant: str = TENANT,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Build everything, as `trivet serve` does, and return when it can be asked.

        Args:
            config: a trivet.toml; None: `./trivet.toml` if there, else the keys and engines that are here.
            tenant: for whom its requests are entered and cached.
            tell: gets a line for the operator now and then (a model being fetched). Default: stderr.
        Raises:
            ConfigError, LedgerError: as `trivet serve` would say.
        """
        opened: Future[App] = Future()
        self._loop, self._stop = _loop(), asyncio.Event()
        told = tell or (lambda line: print(line, file=sys.stderr))  # noqa: T201  # of a program, not of a server
        main = _main(Path(config) if config else None, tenant, told, opened, self._stop)
        self._thread = threading.Thread(target=_run, args=(self._loop, main), name="trivet", daemon=True)
        self._thread.start()
        self._close = weakref.finalize(self, _end, self._loop, self._stop, self._thread)
        try:
            self._app = opened.result()
        except BaseException:
            self._thread.join()
            raise

    def close(self) -> None:
        """End running requests as cancelled, write out the ledger, let go of everything. May be called twice."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def openai(self, **options: Any) -> "openai_client.OpenAI":
        """Make a client. Closing it leaves the engine open.

        Args:
            options: of `openai.OpenAI`: `max_retries`, `timeout`, `default_headers`, ...
        """
        client: openai_client.OpenAI = self._client("OpenAI", "Client", options, owned=False)
        return client

    def async_openai(self, **options: Any) -> "openai_client.AsyncOpenAI":
        """Make a client for `async` programs, of any event loop of asyncio."""
        client: openai_client.AsyncOpenAI = self._client("AsyncOpenAI", "AsyncClient", options, owned=False)
        return client

    def _client(self, of: str, http: str, options: dict[str, Any], *, owned: bool) -> Any:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(_MISSING) from error
        # Of `httpx` (openai 1 and 2) or `httpx2` (3), whichever this client is made with.
        library = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
        transport = _transport(library, self, owned=owned)
        client = getattr(library, http)(transport=transport, base_url=BASE_URL)
        return getattr(openai, of)(**{"base_url": BASE_URL, "api_key": "in-process", **options, "http_client": client})

    # For its transports, from any thread.

    def ask(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> "Answer":
        """Begin a request. Raises ClosedError."""
        if not self._close.alive:
            raise ClosedError("This Trivet engine is closed.")
        answer = Answer(self._loop)
        exchange = Local(answer, method, path, [(name.lower(), value) for name, value in headers], body)
        self._loop.call_soon_threadsafe(_begin, self._app, exchange, answer)
        return answer


def _begin(app: App, exchange: "Local", answer: "Answer") -> None:
    task = asyncio.ensure_future(app(exchange))
    answer.begun(exchange, task)
    task.add_done_callback(answer.ended)


def _loop() -> asyncio.AbstractEventLoop:
    factory = build.loop_factory()
    return factory() if factory else asyncio.new_event_loop()


def _run(loop: asyncio.AbstractEventLoop, main: Any) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main)


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)
    if thread is not threading.current_thread():
        thread.join(CLOSE_S)


async def _main(
    config: Path | None, tenant: str, tell: Callable[[str], None], opened: "Future[App]", stop: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack:
        try:
            settings = await build.settings_or_found(config, os.environ)
            kit = build.kit(settings, os.environ, tell=tell)
            stages = await stack.enter_async_context(build.stages(settings, kit))
            limit = settings.server.max_body_bytes
            app = App(stages, auth=_Caller(tenant), random=kit.random, max_body_bytes=limit)
        except BaseException as error:  # noqa: BLE001  # it is raised where the engine was asked for
            opened.set_exception(error)
            return
        opened.set_result(app)
        await stop.wait()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        requests = [task for task in running if task.get_name().startswith(_NAME)]
        for task in requests:
            task.cancel()
        if requests:
            await asyncio.wait(requests, timeout=CLOSE_S)


_NAME = "request "


class Answer:
    """An answer on its way from the engine's thread to whoever asked, in another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._size = 0
        self._over = False
        self._wake: Callable[[], None] | None = None
        self._exchange: Local | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: BaseException | None = None

    # In the engine.

    def begun(self, exchange: "Local", task: "asyncio.Task[None]") -> None:
        """The request is under way."""
        task.set_name(f"{_NAME}{exchange.path}")
        self._exchange, exchange.runner = exchange, task

    def head(self, status: int, head: bytes) -> None:
        """The head is here."""
        lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[:-1]]
        self.headers, self.status = [(name, value) for name, value in lines], status

    def put(self, piece: bytes, *, last: bool) -> bool:
        """Hand on a piece; say whether more may come at once."""
        with self._lock:
            if piece:
                self._pieces.append(piece)
                self._size += len(piece)
            self._over = self._over or last
            wake, self._wake = self._wake, None
            room = self._size <= MAX_WAITING_BYTES
        if wake is not None:
            wake()
        return room

    def ended(self, task: "asyncio.Task[None]") -> None:
        """The engine has nothing more to say: well, unless it never came to the end."""
        failed = None if task.cancelled() else task.exception()
        if not self._over:
            self.error = failed or ClosedError("The Trivet engine was closed in the middle of this answer.")
        self.put(b"", last=True)

    # Where it is read.

    def take(self, wake: Callable[[], None]) -> tuple[list[bytes], bool] | None:
        """Take what is here, and whether that was all; None: nothing yet, and `wake` is called when there is."""
        with self._lock:
            if not (self._pieces or self._over):
                self._wake = wake
                return None
            pieces, self._pieces, self._size = self._pieces, [], 0
            over = self._over
        if not over:
            self._call(Local.taken)
        return pieces, over

    def leave(self) -> None:
        """Nobody reads on: the request is cancelled if it is not over."""
        if not self._over:
            self._call(Local.leave)

    def _call(self, do: Callable[["Local"], None]) -> None:
        def called() -> None:
            if self._exchange is not None:
                do(self._exchange)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(called)


class Local:
    """An exchange without a connection: what is written goes to an Answer."""

    def __init__(self, answer: Answer, method: str, path: str, headers: Headers, body: bytes) -> None:
        self.method, self.path, self.headers = method, path, headers
        self.started = self.left = self.cancelled = False
        self.runner: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._answer, self._body = answer, body
        self._room = asyncio.Event()
        """The reader has taken what was there."""

    async def body(self, limit: int) -> bytes:
        """Give the body, which is here. Raises TooLargeError, ClientGoneError."""
        if self.left:
            raise ClientGoneError
        if len(self._body) > limit:
            raise TooLargeError(limit)
        return self._body

    async def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Hand on a whole answer."""
        self._answer.head(status, head)
        await self.end(body)

    async def begin(self, status: int, head: bytes, piece: bytes) -> None:
        """Hand on the head and the first piece."""
        self.started = True
        self._answer.head(status, head)
        await self.send(piece)

    async def send(self, piece: bytes) -> None:
        """Hand on a piece; wait while the reader takes nothing."""
        if self.left:
            return
        self._room.clear()
        if not self._answer.put(piece, last=False) and not self.left:
            await self._room.wait()

    async def end(self, piece: bytes = b"") -> None:
        """Hand on the last piece."""
        self.started, self.task = True, None  # leaving is no news any more
        self._answer.put(piece, last=True)

    def taken(self) -> None:
        """The reader has taken what was there."""
        self._room.set()

    def leave(self) -> None:
        """The reader is gone."""
        self.left = True
        self._room.set()
        task, self.task = self.task, None
        if task is not None:
            self.cancelled = True
            task.cancel()


def _transport(library: Any, engine: Engine, *, owned: bool) -> Any:
    """Make the transport of a client, of either library: their transports have the same two methods each."""

    class Body(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]  # its base is known at run time
        """The pieces of one answer."""

        def __init__(self, answer: Answer, first: list[bytes], over: bool, within_s: float | None) -> None:  # noqa: FBT001
            self._answer, self._first, self._over, self._within_s = answer, first, over, within_s

        def __iter__(self) -> Iterator[bytes]:
            pieces, over = self._first, self._over
            while True:
                yield from pieces
                if over:
                    _raise(library, self._answer)
                    return
                pieces, over = _waited(library, self._answer, self._within_s)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            pieces, over = self._first, self._over
            while True:
                for piece in pieces:
                    yield piece
                if over:
                    _raise(library, self._answer)
                    return
                pieces, over = await _awaited(library, self._answer, self._within_s)

        def close(self) -> None:
            self._answer.leave()

        async def aclose(self) -> None:
            self._answer.leave()

    def asked(request: "httpx2.Request", body: bytes) -> tuple[Answer, float | None]:
        try:
            answer = engine.ask(request.method, request.url.path, request.headers.raw, body)
        except ClosedError as error:
            raise library.ConnectError(str(error)) from error
        return answer, request.extensions.get("timeout", {}).get("read")

    def response(answer: Answer, first: list[bytes], over: bool, within_s: float | None) -> Any:  # noqa: FBT001
        if not answer.status:
            _raise(library, answer)
        stream = Body(answer, first, over, within_s)
        return library.Response(answer.status, headers=answer.headers, stream=stream)

    class Transport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        """Asks the engine in place of a server."""

        def handle_request(self, request: "httpx2.Request") -> Any:
            answer, within_s = asked(request, request.read())
            try:
                first, over = _waited(library, answer, within_s)
            except BaseException:
                answer.leave()
                raise
            return response(answer, first, over, within_s)

        async def handle_async_request(self, request: "httpx2.Request") -> Any:
            answer, within_s = asked(request, await request.aread())
            try:
                first, over = await _awaited(library, answer, within_s)
            except BaseException:
                answer.leave()
                raise
            return response(answer, first, over, within_s)

        def close(self) -> None:
            if owned:
                engine.close()

        async def aclose(self) -> None:
            if owned:
                await asyncio.to_thread(engine.close)

    return Transport()


def _raise(library: Any, answer: Answer) -> None:
    if answer.error is not None:
        raise library.ReadError(str(answer.error)) from answer.error


def _waited(library: Any, answer: Answer, within_s: float | None) -> tuple[list[bytes], bool]:
    """Wait in this thread for what comes next."""
    ready = threading.Event()
    while (got := answer.take(ready.set)) is None:
        if not ready.wait(within_s):
            raise library.ReadTimeout(f"Nothing came within {within_s:g} s.")
        ready.clear()
    return got


async def _awaited(library: Any, answer: Answer, within_s: float | None) -> tuple[list[bytes], bool]:
    """Wait in this event loop for what comes next."""
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        got = answer.take(lambda: _tell(loop, ready))  # noqa: B023  # called at most once, before the next is made
        if got is not None:
            return got
        try:
            await asyncio.wait_for(ready, within_s)
        except TimeoutError as error:
            raise library.ReadTimeout(f"Nothing came within {within_s:g} s.") from error


def _tell(loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]") -> None:
    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def openai(config: str | Path | None = None, *, tenant: str = TENANT, **options: Any) -> "openai_client.OpenAI":
    """Make an `openai.OpenAI` over an engine of its own, which closes with it. See `Engine` for what is built.

    Args:
        config: a trivet.toml; None: `./trivet.toml` if there, else the keys and engines that are here.
        tenant: for whom its requests are entered and cached.
        options: of `openai.OpenAI`: `max_retries`, `timeout`, `default_headers`, ...
    Raises:
        ConfigError, LedgerError: as `trivet serve` would say.
    """
    client: openai_client.OpenAI = _owning(config, tenant, "OpenAI", "Client", options)
    return client


def async_openai(
    config: str | Path | None = None, *, tenant: str = TENANT, **options: Any
) -> "openai_client.AsyncOpenAI":
    """Make an `openai.AsyncOpenAI`; see `openai`."""
    client: openai_client.AsyncOpenAI = _owning(config, tenant, "AsyncOpenAI", "AsyncClient", options)
    return client


def _owning(config: str | Path | None, tenant: str, of: str, http: str, options: dict[str, Any]) -> Any:
    engine = Engine(config, tenant=tenant)
    try:
        return engine._client(of, http, options, owned=True)  # noqa: SLF001  # of this module
    except BaseException:
        engine.close()
        raise
