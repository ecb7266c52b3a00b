"""`trivet doctor`: is everything in place? One line for each check, and how to put right what is not.

Each check is a function that gives the lines it found; none raises, none changes anything but making the home folder
and the ledger's tables. Not here: what a check is about (each asks the room that knows).
Invariant: no key is written, only where it was looked for.
"""

import asyncio
import os
import shutil
import socket
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import click
import msgspec

from trivet.cli import build, gateway
from trivet.cli.text import clean
from trivet.config import Secret, Settings, TargetSettings, home, load, models_folder, secret
from trivet.errors import TrivetError
from trivet.ledger import sqlite, tables
from trivet.ledger.prices import Prices
from trivet.types import Usage
from trivet.upstream import discover
from trivet.upstream.connection import HttpError, Origin
from trivet.upstream.http import Pool, dial, tls_context
from trivet.upstream.openai import BASE_URLS
from trivet.weights import Store, find

_ENOUGH_BYTES = 1_000_000_000  # a million entries, about 600 bytes each in journal and tables, and some air
_LEAST_BYTES = 100_000_000  # then the ledger is near the point where it stops taking requests
_RELEASED = datetime(2026, 11, 1, tzinfo=UTC)  # a clock before this version was made is wrong
_REACH_S = 5.0  # TLS to another continent takes under 1 s
_MAX_LIST_BYTES = 8_000_000


class Check(NamedTuple):
    """One line."""

    state: Literal["ok", "warn", "bad"]
    what: str
    words: str
    fix: str = ""


_MARKS = {"ok": ("✔", "ok  ", "green"), "warn": ("!", "warn", "yellow"), "bad": ("✘", "FAIL", "red")}


@click.command("doctor")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The file to check.  [default: ./trivet.toml, if there]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, config: Path | None, *, as_json: bool) -> None:
    """Check that everything is in place, and say how to put it right.

    Looks at Python, trivet.toml, each target (can it be reached, is its key there, is its price known), engines and
    keys that could be used, the port, the ledger, disk, clock and file modes. Asks the targets for their lists of
    models, which costs nothing. Ends with 1 if something is broken.

    \b
    Examples:
      trivet doctor
      trivet doctor --config trivet.toml --json
    """
    checks, settings = settings_checks(config, os.environ)
    checks = [python_check(), *checks, *asyncio.run(found_checks(settings, os.environ))]
    if settings is not None:
        checks += asyncio.run(target_checks(settings, os.environ))
        checks += [*engine_checks(settings, os.environ), port_check(settings), *ledger_checks(settings, os.environ)]
        checks += key_file_checks(settings)
    checks += [*home_checks(home(os.environ)), clock_check(time.time_ns())]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"checks": [c._asdict() for c in checks]})).decode())
    else:
        _print(checks)
    ctx.exit(1 if any(check.state == "bad" for check in checks) else 0)


def _print(checks: Iterable[Check]) -> None:
    encoding = sys.stdout.encoding or "ascii"
    pictures = "✔✘".encode(encoding, "replace") == "✔✘".encode()
    colours = not os.environ.get("NO_COLOR") and sys.stdout.isatty()
    for check in checks:
        picture, word, colour = _MARKS[check.state]
        mark = picture if pictures else word
        click.echo(f"{click.style(mark, fg=colour) if colours else mark} {check.what}: {check.words}")
        for line in check.fix.splitlines():
            click.echo(f"    {line}")


def python_check() -> Check:
    """Look at the Python that runs this."""
    words = ".".join(map(str, sys.version_info[:3]))
    return Check("ok", "python", words) if sys.version_info >= (3, 11) else Check("bad", "python", words, "Use 3.11.")


def settings_checks(config: Path | None, env: Mapping[str, str]) -> tuple[list[Check], Settings | None]:
    """Read the file as `trivet serve` would; with no targets in it, take what serve would take."""
    try:
        settings = load(config, env)
    except TrivetError as error:
        return [Check("bad", "config", "cannot be used", str(error))], None
    if settings.targets:
        words = f"{settings.source}: targets {len(settings.targets)}, policies {len(settings.policies)}"
        return [Check("ok", "config", words)], settings
    found = discover.settings_from(discover.keys(env) + asyncio.run(discover.engines()))
    settings = msgspec.structs.replace(settings, targets=found.targets, policies=found.policies, aliases=found.aliases)
    return [Check("ok", "config", f"no targets in a file; using what is here: {', '.join(found.targets)}")], settings


async def found_checks(settings: Settings | None, env: Mapping[str, str]) -> list[Check]:
    """Offer engines that answer and keys that are set, where no target uses them yet, as TOML to paste."""
    if settings is None:
        return []
    used = {t.base_url.rstrip("/") or BASE_URLS.get(t.provider, "") for t in settings.targets.values()}
    found = discover.keys(env) + await discover.engines()
    checks = []
    for one in found:
        if one.base_url not in used:
            what = f"{one.kind} at {one.base_url}" if one.models else f"{one.key.removeprefix('env:')} is set"
            checks.append(Check("warn", "found", f"{what}, and no target uses it. Add to trivet.toml:", toml(one)))
    return checks


def toml(found: discover.Found) -> str:
    """Write what was found as targets for trivet.toml."""
    return "\n".join(line for name, t in discover.settings_from([found]).targets.items() for line in _section(name, t))


def _section(name: str, target: TargetSettings) -> Iterator[str]:
    def quoted(text: str) -> str:
        return msgspec.json.encode(text).decode()  # a JSON text is a TOML text

    yield f"[targets.{quoted(name)}]"
    for key in ("provider", "model", "base_url", "api_key", "region"):
        value = getattr(target, key)
        if value and value != "*":
            yield f"{key} = {quoted(value)}"


async def target_checks(settings: Settings, env: Mapping[str, str]) -> list[Check]:
    """Ask every target that is somewhere else for its models."""
    remote = [(name, t) for name, t in settings.targets.items() if t.base_url or t.provider in BASE_URLS]
    asked = await asyncio.gather(*(_target_check(name, target, env) for name, target in remote))
    prices = Prices(settings.targets)
    priced = [_price_check(name, prices) for name, t in settings.targets.items() if t.model != "*"]
    return [*asked, *priced]


async def _target_check(name: str, target: TargetSettings, env: Mapping[str, str]) -> Check:
    what, url = f"target {name}", target.base_url or BASE_URLS[target.provider]
    try:
        key = secret(target.api_key, env)
    except TrivetError as error:
        return Check("bad", what, str(error))
    try:
        async with asyncio.timeout(_REACH_S):
            status, models = await _models(url, target, key)
    except (HttpError, TimeoutError) as error:
        words = str(error) or f"no answer within {_REACH_S:.0f} s"
        return Check("bad", what, f"cannot be reached: {words}", f"curl -sS {url}/models")
    if status in (401, 403):
        fix = f"Put a good key where `targets.{name}.api_key` points." if key else f"Set `targets.{name}.api_key`."
        return Check("bad", what, f"{url} answers, and refuses {'the key' if key else 'without a key'}", fix)
    if target.model == "*" or not models:
        return Check("ok", what, f"{url} answers")
    if target.model not in models:
        some = ", ".join(clean(m) for m in sorted(models)[:8])
        return Check("warn", what, f"{url} answers, and does not list {target.model!r}", f"It lists: {some}")
    return Check("ok", what, f"{url} answers and has {target.model}")


async def _models(url: str, target: TargetSettings, key: Secret | None) -> tuple[int, set[str]]:
    place = urlsplit(url)
    secure = place.scheme == "https"
    origin = Origin("https" if secure else "http", place.hostname or "", place.port or (443 if secure else 80))
    lines = [f"GET {place.path.rstrip('/')}/models{'?' if place.query else ''}{place.query} HTTP/1.1"]
    lines += [f"host: {place.netloc}", "accept: application/json", "accept-encoding: identity"]
    if key is not None:
        lines.append(
            f"api-key: {key.reveal()}" if target.provider == "azure" else f"authorization: Bearer {key.reveal()}"
        )
    pool = Pool(
        origin,
        dial=dial,
        clock=build.SystemClock(),
        tls=tls_context() if secure else None,
        connect_s=_REACH_S,
        first_byte_s=_REACH_S,
        idle_s=_REACH_S,
    )
    try:
        reply = await pool.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return reply.status, _ids(await reply.read_all(_MAX_LIST_BYTES))
    finally:
        await pool.aclose()


def _ids(body: bytes) -> set[str]:
    try:
        listed: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return set()
    models = listed.get("data") if isinstance(listed, dict) else None
    return {m["id"] for m in models or () if isinstance(m, dict) and isinstance(m.get("id"), str)}


def _price_check(name: str, prices: Prices) -> Check:
    """Price one answer of one token in and one out."""
    cost = prices.cost(name, model="", usage=Usage(input_tokens=1, output_tokens=1), took_ns=1, at_ns=time.time_ns())
    if cost.why_unknown:
        fix = 'price = { input = "$0.15", output = "$0.60" }  # dollars per million tokens; or { hour = "$0.80" }'
        return Check("warn", f"price of {name}", f"not known: {cost.why_unknown}", f"[targets.{name}]\n{fix}")
    return Check("ok", f"price of {name}", f"by {cost.version}")


def engine_checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Look at the embedded engine and its files, if a target needs them."""
    models = {t.model for t in settings.targets.values() if t.provider == "llamacpp"}
    if not models:
        return
    if find_spec("xllamacpp") is None:
        yield Check("bad", "engine", "xllamacpp is not installed, and targets need it", "pip install 'trivet[local]'")
    else:
        yield Check("ok", "engine", f"xllamacpp {_version('xllamacpp')}")
    store = Store(models_folder(settings, env), env=env)
    for name in sorted(models):
        yield _model_check(name, store)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(of unknown version)"


def _model_check(name: str, store: Store) -> Check:
    model, what = find(name), f"model {name}"
    if name.lower().endswith(".gguf"):
        if Path(name).expanduser().is_file():
            return Check("ok", what, "here; its digest is not known, so it is loaded as it is")
        return Check("bad", what, "is not there", "Correct its path in the file.")
    if model is None:
        return Check("bad", what, "is not one that Trivet knows", "See docs/configuration.md for those it does.")
    try:
        path = store.find(model)
    except TrivetError as error:
        return Check("bad", what, str(error))
    if path is None:
        return Check("ok", what, f"not here yet: {model.size_bytes / 1e6:.0f} MB to fetch at the first start")
    return Check("ok", what, f"here, {model.size_bytes / 1e6:.0f} MB")


def port_check(settings: Settings) -> Check:
    """See whether `trivet serve` could listen."""
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if gateway.ready(f"http://{f'[{host}]' if ':' in host else host}:{port}") is not None:
                return Check("ok", "port", f"Trivet answers on {host}:{port} already")
            return Check("bad", "port", f"{host}:{port}: {error.strerror}", "trivet serve --port 0")
    return Check("ok", "port", f"{host}:{port} is free")


def ledger_checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Open the ledger, and say what is promised of it."""
    words = {
        "process": "what a client saw finished survives kill -9, and not a power cut (`ledger.durability`)",
        "power": "what a client saw finished survives a power cut; each answer waits for the disk",
    }
    yield Check("ok", "durability", f"{settings.ledger.durability}: {words[settings.ledger.durability]}")
    if settings.ledger.store != "sqlite":
        return
    path = sqlite.folder(settings.ledger, home(env)) / tables.FILE
    if not path.exists():
        yield Check("ok", "ledger", f"none yet; it will be {path}")
        return
    try:
        with closing(tables.open_tables(path, tables.connect)) as db:
            entries, newest_ns = db.execute("SELECT count(*), coalesce(max(at_ns), 0) FROM entries").fetchone()
    except (TrivetError, OSError, sqlite3.Error) as error:
        yield Check("bad", "ledger", f"{path} cannot be opened: {error}", f"sqlite3 {path} 'PRAGMA integrity_check'")
        return
    yield Check("ok", "ledger", f"{path}, {entries} entries")
    if newest_ns > time.time_ns() + 60_000_000_000:
        yield Check("warn", "ledger", "its newest entry is in the future: the clock was or is wrong", "timedatectl")


def home_checks(folder: Path) -> Iterator[Check]:
    """See that state can be written, that there is room, and that nobody else can read it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check("bad", "home", f"{folder} cannot be written: {error.strerror}", "export TRIVET_HOME=FOLDER")
        return
    yield Check("ok", "home", f"{folder} can be written")
    free = shutil.disk_usage(folder).free
    state: Literal["ok", "warn", "bad"] = "ok" if free > _ENOUGH_BYTES else "warn" if free > _LEAST_BYTES else "bad"
    yield Check(state, "disk", f"{free / 1e9:.1f} GB free for {folder}", "" if state == "ok" else f"df -h {folder}")
    # Below a folder that only its owner can enter, the modes of the files do not matter.
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield Check("warn", "file modes", f"other users can enter {folder}", f"chmod 700 {folder}")
    else:
        yield Check("ok", "file modes", f"only you can enter {folder}")


def key_file_checks(settings: Settings) -> Iterator[Check]:
    """See that nobody else can read the files that hold keys; those that cannot be read are told of elsewhere."""
    for name, target in settings.targets.items():
        path = Path(target.api_key.removeprefix("file:")).expanduser()
        if target.api_key.startswith("file:") and path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Check("warn", f"key of {name}", f"other users can read {path}", f"chmod 600 {path}")


def clock_check(now_ns: int) -> Check:
    """See that the clock is not before this version of Trivet was made: entries would land in the wrong month."""
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, tz=UTC)
    if now < _RELEASED:
        return Check("bad", "clock", f"says {now:%Y-%m-%d %H:%M} UTC, before this version was made", "timedatectl")
    return Check("ok", "clock", f"{now:%Y-%m-%d %H:%M} UTC")
