"""An engine: one local model in a child process that is started, watched, restarted with backoff, and stopped.

    fetching  ->  loading  ->  ready  ->  restarting in 4 s  ->  loading  ->  ...        or: failed

Engines of one process take turns (`seams.Turns`): they load one after the other in the order they were started, and one
fetches at a time; so the first, if it is the small one, answers while the next is still being fetched and loaded.

Not here: what is asked of it (`embedded.py`), what the child does (`engine_child.py`), how files are had (`weights`).
Invariants: `address` is set from the child's first answer to /health until its end; the child dies with this process,
also by kill -9; its key is made anew for each child, and is on no command line, in no environment and in no log.
"""

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from trivet.config import EngineSettings, Secret
from trivet.errors import TrivetError, WeightsError
from trivet.seams import Kit
from trivet.upstream.engine_child import Order, Report
from trivet.upstream.http import Pool
from trivet.upstream.reply import HttpError, Origin
from trivet.weights import Model, Store

T = TypeVar("T")

MAX_LOG_BYTES = 8 << 20
"""llama.cpp writes about 600 bytes for each request: the last ten thousand or so. No prompt is in it."""
LOAD_S = 900.0
"""From the start of the child to its report: a model of 40 GB from a disk of 50 MB/s takes 800 s."""
STOP_S = 3.0
"""Between asking the child to stop and killing it."""
TELL_PERCENT = 5

_QUIET = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""OpenMP threads that wait sleep instead of spinning: with others on the machine, 4 s for 32 tokens instead of 69 s."""
_SECRETS = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")
"""Names in the environment that are nothing to the child."""


class Pace(NamedTuple):
    """How patient an engine is with its child, in seconds."""

    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    healthy_s: float = 60.0
    """After so long the next fault counts as the first again."""
    probe_every_s: float = 10.0
    probe_timeout_s: float = 20.0
    probes: int = 3
    """So many in a row without an answer, and the child is taken for stuck."""


PACE = Pace()


class State(NamedTuple):
    """How far an engine is."""

    words: str
    """Empty when it answers."""
    retry_after_s: float = 1.0
    """A guess at when to ask again."""
    failed: bool = False
    """It will not come without somebody doing something."""


class Address(NamedTuple):
    """Where the child listens, and the key it wants."""

    url: str
    key: Secret


class _StoppedError(Exception):
    """Nobody waits for the fetch any more."""


class EngineError(TrivetError):
    """The child said that it cannot do what it was told."""

    code, whose = "engine_failed", "operator"


class Engine:
    """One model, kept answering.

    Args:
        name: of the target; its log is `kit.home/engines/{name}.log`.
        weights: a model of the catalog, or a file that is taken as it is.
        served_as: the model's name in answers.
    """

    def __init__(
        self,
        name: str,
        weights: Model | Path,
        settings: EngineSettings,
        *,
        served_as: str,
        kit: Kit,
        pace: Pace = PACE,
    ) -> None:
        self.name, self._weights, self._settings, self._served_as = name, weights, settings, served_as
        self._kit, self._turns, self._pace = kit, kit.turns, pace
        self.log = kit.home / "engines" / f"{name}.log"
        self.state = State("not started")
        self.address: Address | None = None
        self.pid: int | None = None
        self._told_percent = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._set("waiting for its turn")
        self._task = asyncio.create_task(self._run(), name=f"engine {self.name}")

    async def aclose(self) -> None:
        """Stop the child, or the fetch, and wait until it is gone. May be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            self._set("stopped", failed=True)

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(self._turns.load)
                path = await self._find()
                if path is None:
                    await turn.aclose()  # who has its file may load while we fetch
                    path = await self._fetch()
                    await turn.enter_async_context(self._turns.load)
                await self._live(path, turn=turn)
        except (WeightsError, EngineError, OSError) as error:
            self._set(f"failed: {error}", failed=True)
            self._kit.tell(f"{self.name}: failed: {error}")

    # Its file.

    async def _find(self) -> Path | None:
        if isinstance(self._weights, Path):
            return self._weights
        model, store = self._weights, Store(self._kit.models)
        return await _in_thread(lambda: store.find(model), stop=threading.Event())

    async def _fetch(self) -> Path:
        assert isinstance(self._weights, Model)
        model, store, stop, seen = self._weights, Store(self._kit.models), threading.Event(), [-1, ""]
        loop = asyncio.get_running_loop()

        def progress(done_bytes: int, total_bytes: int, what: str) -> None:
            if stop.is_set():
                raise _StoppedError
            percent = 100 * done_bytes // total_bytes
            if seen != [percent, what]:
                seen[:] = [percent, what]
                loop.call_soon_threadsafe(self._fetched, percent, what)

        self._set("waiting for another model to be fetched", retry_after_s=10)
        async with self._turns.fetch:
            return await _in_thread(lambda: store.fetch(model, progress), stop=stop)

    def _fetched(self, percent: int, what: str) -> None:
        self._set(f"fetching {percent} % from {what}", retry_after_s=2 if percent > 90 else 10)
        if percent == 0 or percent >= self._told_percent + TELL_PERCENT:
            self._told_percent = percent
            self._kit.tell(f"{self.name}: fetching {percent} % from {what}")

    # Its child.

    async def _live(self, path: Path, *, turn: AsyncExitStack) -> None:
        """Keep a child alive; gives up its turn when the first has loaded, or has died."""
        faults, clock = 0, self._kit.clock
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        while True:
            started_ns = clock.mono_ns()
            self._set("loading", retry_after_s=2)
            async with self._child(path) as (child, key):
                why = await self._until_it_ends(child, key, turn=turn)
            await turn.aclose()
            if clock.mono_ns() - started_ns > self._pace.healthy_s * 1e9:
                faults = 0
            most_s = min(self._pace.longest_wait_s, self._pace.first_wait_s * 2**faults)
            faults = min(faults + 1, 30)
            wait_s = most_s * (0.5 + self._kit.random.random() / 2)
            self._set(f"restarting in {wait_s:.1f} s: {why}", retry_after_s=wait_s + 2)
            self._kit.tell(f"{self.name}: {self.state.words}")
            await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def _child(self, path: Path) -> AsyncGenerator[tuple[asyncio.subprocess.Process, Secret], None]:
        """Start a child and give it its order; end it on the way out."""
        key = Secret(f"{self._kit.random.getrandbits(256):064x}")
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "trivet.upstream.engine_child"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not _SECRETS.search(name)} | _QUIET,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we still have answers to finish
            )
        finally:
            os.close(log)
        assert child.stdin is not None
        self.pid = child.pid
        try:
            order = Order(
                path=str(path),
                name=self._served_as,
                key=key.reveal(),
                context=self._settings.context,
                slots=self._settings.slots,
                threads=self._settings.threads,
                parent=os.getpid(),
            )
            child.stdin.write(msgspec.json.encode(order) + b"\n")
            yield child, key
        finally:
            self.address = self.pid = None
            await _end(child)

    async def _until_it_ends(self, child: asyncio.subprocess.Process, key: Secret, *, turn: AsyncExitStack) -> str:
        """Wait for the child to load, then watch it; gives why it is at its end.

        Raises:
            EngineError: it says that it cannot load the model, so another try would end the same.
        """
        started_ns = self._kit.clock.mono_ns()
        assert child.stdout is not None
        try:
            line = await asyncio.wait_for(child.stdout.readline(), LOAD_S)
        except TimeoutError:
            return f"it did not load within {LOAD_S:.0f} s"
        if not line.endswith(b"\n"):
            return f"{_ending(await child.wait())} while it was loading; {self._last_words()}"
        report = msgspec.json.decode(line, type=Report)
        if report.error:
            raise EngineError(f"{report.error} {self._last_words()}")
        pool = self._pool(report.url)
        try:
            if not await self._answers(pool):
                return f"it listens and does not answer /health; {self._last_words()}"
            self.address = Address(report.url, key)
            self._set("")
            took_s = (self._kit.clock.mono_ns() - started_ns) / 1e9
            self._kit.tell(f"{self.name}: ready after {took_s:.1f} s of loading")
            await turn.aclose()
            return await self._watch(child, pool)
        finally:
            await pool.aclose()

    async def _watch(self, child: asyncio.subprocess.Process, pool: Pool) -> str:
        """Wait until the child ends or is stuck; gives which."""
        ended, misses = asyncio.ensure_future(child.wait()), 0
        try:
            while misses < self._pace.probes:
                await asyncio.wait({ended}, timeout=self._pace.probe_every_s)
                if ended.done():
                    return f"{_ending(ended.result())}; {self._last_words()}"
                misses = 0 if await self._answers(pool) else misses + 1
                if self.log.stat().st_size > MAX_LOG_BYTES:
                    os.truncate(self.log, 0)  # the child appends, so it goes on at the new end
            return f"it did not answer /health {misses} times in a row"
        finally:
            ended.cancel()

    def _pool(self, url: str) -> Pool:
        place, pace = urlsplit(url), self._pace
        assert place.hostname is not None
        assert place.port is not None
        return Pool(
            Origin("http", place.hostname, place.port),
            dial=self._kit.dial,
            clock=self._kit.clock,
            tls=None,
            connect_s=pace.probe_timeout_s,
            first_byte_s=pace.probe_timeout_s,
            idle_s=pace.probe_timeout_s,
        )

    async def _answers(self, pool: Pool) -> bool:
        try:
            reply = await pool.send(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        except HttpError:
            return False
        reply.close()
        return reply.status == 200

    def _last_words(self) -> str:
        """Give the last errors in the log, else its last lines."""
        with suppress(OSError):
            lines = [line for line in self.log.read_text("utf-8", "replace")[-8000:].splitlines() if line.strip()]
            errors = [line for line in lines if re.match(r"[\d.]+ E ", line)]
            said = " | ".join(re.sub(r"^[\d.]+ [A-Z] ", "", line).strip() for line in (errors[:2] or lines[-3:]))
            return f"its log ({self.log}) says: {said[:500]}" if said else f"its log ({self.log}) is empty"
        return "its log cannot be read"

    def _set(self, words: str, *, retry_after_s: float = 1.0, failed: bool = False) -> None:
        self.state = State(words, retry_after_s, failed)


def _ending(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"it ended with code {code}"
    with suppress(ValueError):
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it was killed by signal {-code}"


async def _end(child: asyncio.subprocess.Process) -> None:
    """Stop a process: politely, then not."""
    assert child.stdin is not None
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    child.stdin.close()


async def _in_thread(work: Callable[[], T], *, stop: threading.Event) -> T:
    """Run what blocks in a thread of its own; if we are cancelled, set `stop` and wait a little for it to obey.

    Not the loop's executor: its threads are waited for when the program ends, and this one may hang in a socket.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is a T where there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001  # handed on to whoever awaits
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody awaits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({future}, timeout=STOP_S)
        if not future.cancel():
            future.exception()  # seen: it only says that it was stopped
        raise
