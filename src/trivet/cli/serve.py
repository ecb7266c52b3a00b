"""`trivet serve`: the gateway.

Not here: how anything is built (`build.py`) or served (`server/run.py`).
"""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from trivet import build
from trivet.config import Settings
from trivet.ledger.keys import FILE as KEYS_FILE
from trivet.ledger.keys import KeyRing
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.server.reload import Reload
from trivet.server.run import bind, serve, url
from trivet.upstream import discover


@click.command("serve")
@click.option("--config", type=click.Path(path_type=Path), help="The file to read.  [default: ./trivet.toml, if there]")
@click.option("--host", help="Where to listen; other than loopback only once a key exists.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one.  [default: 8088]")
@click.option("--embedded", is_flag=True, help="Use the models in this machine, whatever else is configured or found.")
@click.option("--ready-fd", type=int, help='Write {"url": ...} to this file descriptor when connections are answered.')
def command(config: Path | None, host: str | None, port: int | None, *, embedded: bool, ready_fd: int | None) -> None:
    """Start the gateway.

    It answers OpenAI's chat completions on http://127.0.0.1:8088/v1. The names to ask for as `model` are the targets,
    policies and aliases of trivet.toml; GET /v1/models lists them. Ctrl-C ends it when running answers are done.

    \b
    Examples:
      trivet serve
      trivet serve --config trivet.toml --port 9000
    """
    with asyncio.Runner(loop_factory=build.loop_factory()) as runner:
        settings = discover.settings_from(()) if embedded else runner.run(build.settings_or_found(config, os.environ))
        runner.run(_main(settings, host=host, port=port, ready_fd=ready_fd))


async def _main(settings: Settings, *, host: str | None, port: int | None, ready_fd: int | None) -> None:
    kit = build.kit(settings, os.environ, tell=lambda line: click.echo(line, err=True))
    ring = KeyRing(kit.home / KEYS_FILE)
    try:
        sock = bind(host or settings.server.host, settings.server.port if port is None else port, has_keys=ring.any)
        builder = build.Builder(kit)
        try:
            stages = await builder.build(settings)
            app = App(stages, auth=Auth(ring), random=kit.random, max_body_bytes=settings.server.max_body_bytes)
            reload = Reload(settings, app, builder, env=os.environ, tell=kit.tell)

            def listening() -> None:
                _greet(settings, where=url(sock), has_keys=ring.any)
                if ready_fd is not None:
                    os.write(ready_fd, msgspec.json.encode({"url": url(sock)}) + b"\n")
                    os.close(ready_fd)

            await serve(app, sock, ring=ring, reload=reload, listening=listening, tell=kit.tell)
        finally:
            await builder.aclose()
    finally:
        ring.close()


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
