"""`trivet serve`: the gateway.

Not here: how anything is built (`build.py`) or served (`server/run.py`).
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

import click
import msgspec

from trivet import build
from trivet.cli.workers import Crew, Plan
from trivet.config import Settings, seconds
from trivet.errors import ConfigError
from trivet.ledger.keys import FILE as KEYS_FILE
from trivet.ledger.keys import KeyRing
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.server.reload import Reload
from trivet.server.run import allow_files, bind, serve, url
from trivet.server.sharing import Shared
from trivet.upstream import discover


@click.command("serve")
@click.option("--config", type=click.Path(path_type=Path), help="The file to read.  [default: ./trivet.toml, if there]")
@click.option("--host", help="Where to listen; other than loopback only once a key exists.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one.  [default: 8088]")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that answer on the port.  [default: 1]")
@click.option("--embedded", is_flag=True, help="Use the models in this machine, whatever else is configured or found.")
@click.option("--ready-fd", type=int, help='Write {"url": ...} to this file descriptor when connections are answered.')
@click.option("--worker-in", type=click.Path(path_type=Path), hidden=True)
def command(
    config: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    ready_fd: int | None,
    worker_in: Path | None,
    *,
    embedded: bool,
) -> None:
    """Start the gateway.

    It answers OpenAI's API on http://127.0.0.1:8088/v1. The names to ask for as `model` are the targets, policies and
    aliases of trivet.toml; GET /v1/models lists them. A changed trivet.toml is taken while it runs. Ctrl-C ends it when
    running answers are done.

    \b
    Examples:
      trivet serve
      trivet serve --config trivet.toml --port 9000
      trivet serve --workers 4
    """
    with asyncio.Runner(loop_factory=build.loop_factory()) as runner:
        read = discover.settings_from(()) if embedded else runner.run(build.settings_or_found(config, os.environ))
        asked = {"host": host, "port": port, "workers": workers}
        given = {name: value for name, value in asked.items() if value is not None}
        server = msgspec.structs.replace(read.server, **given)
        settings = msgspec.structs.replace(read, server=server)
        if server.workers == 1 or worker_in is not None:
            runner.run(_main(settings, read, ready_fd=ready_fd, worker_in=worker_in))
            return
        code = runner.run(_crew(settings, config, ready_fd=ready_fd))
    sys.exit(code)


async def _main(settings: Settings, read: Settings, *, ready_fd: int | None, worker_in: Path | None) -> None:
    """Serve in this process; `read` is as the file has it, before what the command line says instead."""
    kit, server = build.kit(settings, os.environ, tell=_tell), settings.server
    ring = KeyRing(kit.home / KEYS_FILE)
    allow_files()
    try:
        sock = bind(server.host, server.port, has_keys=ring.any, shared=worker_in is not None)
        builder = build.Builder(kit)
        try:
            stages = await builder.build(settings)
            shared = Shared(worker_in, str(os.getpid())) if worker_in is not None else None
            app = App(stages, auth=Auth(ring), random=kit.random, max_body_bytes=server.max_body_bytes, shared=shared)
            reload = Reload(read, app, builder, env=os.environ, tell=kit.tell)

            def listening() -> None:
                if worker_in is not None:
                    click.echo("ready")  # to the crew
                    return
                _greet(settings, where=url(sock, tls=server.tls is not None), has_keys=ring.any)
                _say_ready(ready_fd, url(sock, tls=server.tls is not None))

            await serve(app, sock, ring=ring, settings=server, reload=reload, listening=listening, tell=kit.tell)
        finally:
            await builder.aclose()
    finally:
        ring.close()


async def _crew(settings: Settings, config: Path | None, *, ready_fd: int | None) -> int:
    """Run workers. What is wrong with the configuration is found here, once."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("This system cannot share a port (SO_REUSEPORT), so there can be one worker.")
    kit, server = build.kit(settings, os.environ, tell=_tell), settings.server
    local = [name for name, t in settings.targets.items() if t.provider == "llamacpp" and not t.base_url]
    if local:
        raise ConfigError(
            f"{' and '.join(local)} would be loaded by each of {server.workers} workers. Serve them by a gateway of "
            "their own (`trivet serve --port 8090`) and write its address as their `base_url`, or use one worker."
        )
    ring = KeyRing(kit.home / KEYS_FILE)
    has_keys = ring.any
    ring.close()
    sock = bind(server.host, server.port, has_keys=has_keys, shared=True, listen=False)  # the port is ours from now on
    where = url(sock, tls=server.tls is not None)

    def ready() -> None:
        _greet(settings, where=where, has_keys=has_keys)
        _say_ready(ready_fd, where)

    argv = ["serve", "--host", server.host, "--port", str(sock.getsockname()[1])]
    argv += ["--config", str(config)] if config else []
    plan = Plan(size=server.workers, command=argv, grace_s=seconds(server.timeouts.grace))
    with sock:
        return await Crew(plan, tell=_tell, ready=ready).run()


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _say_ready(fd: int | None, where: str) -> None:
    if fd is not None:
        os.write(fd, msgspec.json.encode({"url": where}) + b"\n")
        os.close(fd)


def _greet(settings: Settings, *, where: str, has_keys: bool) -> None:
    names = [*settings.policies, *(n + ("/*" if t.model == "*" else "") for n, t in settings.targets.items())]
    click.echo(f"Trivet answers at {where}/v1  models: {', '.join([*names, *settings.aliases])}", err=True)
    click.echo(f"  from {settings.source or 'what is here: no trivet.toml was read'}", err=True)
    if not has_keys:
        click.echo("  no keys: open to every program on this machine, and to nobody else", err=True)
    for name, target in settings.targets.items():
        if target.price is not None and target.price.hour is not None:
            click.echo(
                f"  {name} is counted at {target.price.hour} an hour of machine time; set your own price", err=True
            )
