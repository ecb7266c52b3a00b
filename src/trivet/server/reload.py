"""The configuration of a running gateway, read again when its file or that of a router changes, or on SIGHUP.

Not here: what is built and what is kept (`build.py`), the requests that run on by the old one (`server/ask.py`).
Invariants: no request is dropped, and each ends by the rules it began with; a file that cannot be used changes nothing,
and the reason is told; what needs a restart is said to need one.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from trivet import build
from trivet.config import ServerSettings, Settings, load
from trivet.errors import ConfigError, LedgerError
from trivet.server.app import App
from trivet.server.ask import InForce

EVERY_S = 1.0
"""How often the file is looked at: one `stat`."""

Look = tuple[int, int, int]


class Reload:
    """Watches the file that `settings` came from."""

    def __init__(
        self,
        settings: Settings,
        app: App,
        builder: build.Builder,
        *,
        env: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        """Watch it; `settings` are as the file has them, before what the command line says instead."""
        self._began, self._app, self._builder, self._env, self._tell = settings.server, app, builder, env, tell
        self._path = Path(settings.source) if settings.source else None
        self._routers = _routers(settings)
        self._seen: dict[Path, Look] = {}
        self._seen = self._look()
        self._asked = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()
        self._used = 0
        """Configurations that are not in force any more, and that requests are still running by."""
        self.beside: Callable[[], None] | None = None
        """What is read again with it (a certificate). May raise ConfigError, and then nothing is put in force."""

    def ask(self) -> None:
        """Read the file again now, whether it looks changed or not (SIGHUP)."""
        self._asked.set()

    async def watch(self) -> None:
        """Reload whenever the file changes, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            seen = self._look()
            if self._asked.is_set() or seen != self._seen:
                self._asked.clear()
                self._seen = seen
                await self.now()

    def _look(self) -> dict[Path, Look]:
        """See how the files are; one that is gone changes nothing."""
        files = [self._path, *self._routers] if self._path else []
        looks = {file: look for file in files if (look := _look(file)) is not None}
        return self._seen | looks

    async def now(self) -> bool:
        """Read the file and put it in force; say whether that could be done. Whoever runs the gateway is told."""
        if self._path is None:
            self._tell("There is no trivet.toml to read again: this gateway was started without one.")
            return False
        try:
            settings = load(self._path, self._env)
            if not settings.targets:
                raise ConfigError(f"{self._path} has no [targets].")
            self._routers = _routers(settings)
            self._seen = self._look() | self._seen  # before they are read: what changes from now on is seen
            if self.beside is not None:
                self.beside()
            stages = await self._builder.build(settings)
        except (ConfigError, LedgerError) as error:
            return self._refused(str(error))
        except Exception as error:  # noqa: BLE001  # a plugin's, or ours: the gateway goes on, and goes on watching
            return self._refused(f"{self._path} cannot be put in force: {type(error).__name__}: {error}")
        before = self._app.use(stages, max_body_bytes=settings.server.max_body_bytes)
        self._app.metrics.reloads["ok"] += 1
        self._tell(f"{self._path} was read again and is in force.{_needs_restart(self._began, settings.server)}")
        self._used += 1
        ending = asyncio.ensure_future(self._let_go(before))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return True

    def _refused(self, why: str) -> bool:
        self._app.metrics.reloads["refused"] += 1
        self._tell(f"{why}\nThe configuration from before stays in force.")
        return False

    async def _let_go(self, before: InForce) -> None:
        await before.until_idle()
        self._used -= 1
        if not self._used:  # what an older configuration had may still be asked through by one in between
            await self._builder.let_go()


_FIXED = ("host", "port", "workers", "tls", "timeouts")


def _needs_restart(began: ServerSettings, new: ServerSettings) -> str:
    changed = [name for name in _FIXED if getattr(began, name) != getattr(new, name)]
    return f" `server.{'` and `server.'.join(changed)}` take a restart." if changed else ""


def _routers(settings: Settings) -> list[Path]:
    """List the files of trained routers."""
    return sorted({Path(policy.router).expanduser() for policy in settings.policies.values() if policy.router})


def _look(path: Path) -> Look | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
