"""`trivet init`: write a first trivet.toml from what is here.

Not here: what is found (`offers.py`) and the words of the file (`starter.py`).
Invariants: a file that is there is not touched without --force; the file is there whole or not at all; it is read back
before it is written; no key is written or told.
"""

import asyncio
import os
import secrets
import shlex
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec

from trivet.cli import offers, starter
from trivet.cli.doctor.port import has_keys, is_free
from trivet.cli.offers import Offers
from trivet.cli.text import clean
from trivet.config import Settings, models_folder, parse
from trivet.errors import ConfigError
from trivet.upstream import discover
from trivet.upstream.embedded import MISSING
from trivet.weights import Store, find


@click.command("init")
@click.option(
    "--path",
    "-o",
    type=click.Path(path_type=Path),
    help="The file to write.  [default: $TRIVET_CONFIG or ./trivet.toml]",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--print", "as_text", is_flag=True, help="Print the file, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what was found, what was written, what to do next.")
@click.option(
    "--engine-port",
    "ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Look for engines on this port of this machine instead; may be repeated.  [default: 11434, 8000, 8080]",
)
def command(path: Path | None, ports: tuple[int, ...], *, force: bool, as_text: bool, as_json: bool) -> None:
    """Write a first trivet.toml from what is here.

    Engines that answer on this machine (Ollama, vLLM, llama.cpp) and keys in the environment (OPENAI_API_KEY,
    ANTHROPIC_API_KEY, GEMINI_API_KEY, OPENROUTER_API_KEY) become targets, with a policy over them; with neither,
    two models and an embedder that Trivet runs itself. Keys stay where they are. Nothing leaves this machine.

    \b
    Examples:
      trivet init
      trivet init --print
      trivet init -o gateway.toml --engine-port 11434 --engine-port 8001
    """
    if as_text and as_json:
        raise click.UsageError("--print and --json are two ways to write on stdout: take one.")
    usual = Path(os.environ["TRIVET_CONFIG"]) if os.environ.get("TRIVET_CONFIG") else Path("trivet.toml")
    place = (path or usual).expanduser()
    if not (force or as_text):
        _refuse_to_replace(place)
    found = asyncio.run(offers.look(os.environ, ports=ports or discover.PORTS))
    text = starter.text(found, offers.settings(found))
    settings = parse(text, source=str(place))
    if not as_text:
        write(place, text, replace=force)
    steps = next_steps(settings, config="" if place == usual.expanduser() else str(place))
    if as_json:
        told = told_as_json(found, settings, steps, path=None if as_text else place)
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    if as_text:
        click.echo(text, nl=False)
    _tell(found, settings, steps, place=None if as_text else place)


def _refuse_to_replace(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ConfigError(
            f"{path} is there already, and was not touched. To see what would be written: trivet init --print. "
            "To replace it: trivet init --force."
        )


def write(path: Path, text: str, *, replace: bool) -> None:
    """Write a file whole or not at all; with `replace`, in place of what is there, with its mode.

    There is no key in it, so a new one has the mode that the umask says: whoever runs the gateway may read it.

    Raises:
        ConfigError: it is there and is not to be replaced, or it cannot be written.
    """
    path = path.resolve() if replace else path  # the file that a link leads to, not the link
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                with suppress(FileNotFoundError):
                    part.chmod(path.stat().st_mode & 0o777)
                part.replace(path)
            else:
                _give_name(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}. Name another with --path.") from error


def _give_name(part: Path, path: Path) -> None:
    """Give a file its name, unless somebody else has taken it meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError:
        _refuse_to_replace(path)
        raise
    except OSError:  # a file system without hard links
        _refuse_to_replace(path)
        part.rename(path)


def next_steps(settings: Settings, *, config: str) -> list[str]:
    """List the commands that lead from the file to a gateway, in order; `config` if the file has to be named."""
    steps = []
    embedded = [t.model for t in settings.targets.values() if t.provider == "llamacpp" and not t.base_url]
    if embedded and find_spec("xllamacpp") is None:
        steps.append(MISSING.partition("Run: ")[2])
    words = ["trivet", "serve", *(["--config", config] if config else [])]
    return [*steps, shlex.join(words if is_free(settings) else [*words, "--port", "0"])]


def told_as_json(found: Offers, settings: Settings, steps: list[str], *, path: Path | None) -> dict[str, object]:
    """Give all that is told, for scripts."""
    return {
        "written": None if path is None else str(path),
        "engines": [{"kind": f.kind, "base_url": f.base_url, "models": f.models} for f in found.engines],
        "keys": [{"name": f.key.removeprefix("env:"), "base_url": f.base_url} for f in found.keys],
        "unused": [{"name": key.name, "why": key.why} for key in found.unused],
        "targets": list(settings.targets),
        "policies": list(settings.policies),
        "next": steps,
        "ask_for": _name_to_ask(settings),
    }


def _name_to_ask(settings: Settings) -> str:
    name, *_ = [*settings.policies, *settings.targets]
    return f"{name}/MODEL" if name in settings.targets and settings.targets[name].model == "*" else name


def _tell(found: Offers, settings: Settings, steps: list[str], *, place: Path | None) -> None:
    say = partial(click.echo, err=place is None)  # stdout has the file then
    for engine in found.engines:
        say(f"Found {engine.kind} at {engine.base_url}: {clean(', '.join(engine.models), most=200)}")
    for key in found.keys:
        say(f"Found {key.key.removeprefix('env:')}, for {key.base_url}")
    for unused in found.unused:
        say(f"Not used: {unused.name}: {clean(unused.why, most=200)}")
    if not found.used:
        say(
            f"Found no engine and no key that can be used: Trivet runs two models itself{_to_fetch(settings)}, "
            "and makes embeddings."
        )
    if place is None:
        return
    say(f"Wrote {place}: targets {', '.join(settings.targets)}; policies {', '.join(settings.policies) or 'none'}.")
    for number, step in enumerate(steps):
        say(f"{'Then' if number else 'Next'}: {step}")
    server = settings.server
    where = f"http://{server.host}:{server.port}/v1" if is_free(settings) else "the address that it tells"
    with_key = ", with a key of yours" if has_keys(os.environ) else ""
    say(f"and ask {where} for the model {_name_to_ask(settings)!r}{with_key}. `trivet doctor` checks what is there.")


def _to_fetch(settings: Settings) -> str:
    """Say how much the first start fetches."""
    store = Store(models_folder(settings, os.environ), env=os.environ)
    wanted = [find(t.model) for t in settings.targets.values()]
    missing = sum(m.size_bytes for m in wanted if m is not None and store.find(m) is None)
    return f" (the first start fetches {missing / 1e6:,.0f} MB)" if missing else ""
