"""`trivet run -- python app.py`: an unchanged program, with its calls going through the gateway.

Not here: the gateway (`gateway.py` finds or starts it) and the numbers of the last line (`ledger/report.py`).
Invariants: only the child's environment is changed; its standard streams are the caller's, its exit code is ours, and
signals reach it; what we start, we stop.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click

from trivet.cli import gateway
from trivet.cli.text import cost, dollars
from trivet.cli.usage import summed
from trivet.config import home, load
from trivet.errors import ConfigError, TrivetError
from trivet.ledger.sqlite import folder

PLACEHOLDER = "trivet-local"
"""The clients insist on a key, also where the gateway does not."""

_PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
_LOOK_UP_S = 0.2
_LEDGER_LAG_S = 0.3
"""A gateway that goes on running writes entries in groups: within about 50 ms (`ledger/report.py`)."""

_FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--config", type=click.Path(path_type=Path), help="For a gateway that is started.  [default: trivet.toml]"
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, config: Path | None, program: tuple[str, ...]) -> None:
    """Run a program with its OpenAI calls going through the gateway.

    Uses the gateway that answers at TRIVET_URL or http://127.0.0.1:8088, or starts one for as long as the program
    runs. Sets OPENAI_BASE_URL, OPENAI_API_BASE and, if it is not set, OPENAI_API_KEY, for the
    program only. Ends with the program's exit code; the last line, on stderr, says what it cost.

    \b
    Examples:
      trivet run -- python app.py
      trivet run --config trivet.toml -- pytest -q tests/live
    """
    if not _there(program[0]):  # before a gateway is started for it
        _tell(f"There is no program {program[0]!r}.")
        ctx.exit(127)
    since_ns = time.time_ns()
    ledger = folder(load(config, os.environ).ledger, home(os.environ))
    found = None if config else gateway.find(os.environ)
    arguments = ["--config", str(config)] if config else []
    with nullcontext(found) if found else gateway.started(arguments, tell=_tell) as url:
        gateway.wait(url, tell=_tell)
        env = environment(url, os.environ)
        if not gateway.admits(url, env["OPENAI_API_KEY"]):
            raise ConfigError(
                "This gateway asks for a key, and the one in OPENAI_API_KEY is not one of its own. "
                "Run: export OPENAI_API_KEY=$(trivet keys create NAME --tenant TENANT)"
            )
        code = run(program, env)
    try:
        _closing_line(found, ledger, since_ns=since_ns)
    except TrivetError as error:  # the program's exit code says more than our last line
        _tell(str(error))
    ctx.exit(code)


def _there(program: str) -> bool:
    return Path(program).exists() if os.sep in program else shutil.which(program) is not None


def environment(url: str, env: Mapping[str, str]) -> dict[str, str]:
    """Make the child's environment: the clients' own variables point at the gateway, and no proxy is in between."""
    own = {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",  # the name that older clients and LangChain read
        "OPENAI_API_KEY": env.get("OPENAI_API_KEY") or PLACEHOLDER,
    }
    near = {name: ",".join(filter(None, [env.get(name), "127.0.0.1,localhost"])) for name in ("NO_PROXY", "no_proxy")}
    return {**env, **own, **near}


def run(program: tuple[str, ...], env: Mapping[str, str]) -> int:
    """Run a program to its end and give its exit code, as a shell would: 128 + n if signal n ended it."""
    with _signals_passed_on() as passing:
        try:
            child = subprocess.Popen(program, env=env)
        except FileNotFoundError:
            _tell(f"There is no program {program[0]!r}.")
            return 127
        except OSError as error:
            _tell(f"{program[0]!r} cannot be run: {error.strerror}.")
            return 126
        passing.to(child)
        code = _wait(child)
    return 128 - code if code < 0 else code


def _wait(child: "subprocess.Popen[bytes]") -> int:
    """Wait, looking up now and then: a signal just before a wait without end would be heard only after it."""
    while True:
        try:
            return child.wait(timeout=_LOOK_UP_S)
        except subprocess.TimeoutExpired:
            continue


class _Passing:
    """Signals on their way to the child; those that come before it runs are kept for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def take(self, number: int, _frame: FrameType | None) -> None:
        # What is typed on the terminal reaches the child by itself; twice would be once too often.
        if number in _FROM_KEYBOARD and _has_keyboard():
            return
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def to(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child
        while self._early:
            child.send_signal(self._early.pop(0))


@contextmanager
def _signals_passed_on() -> Generator[_Passing, None, None]:
    passing = _Passing()
    before = {number: signal.signal(number, passing.take) for number in _PASSED_ON}
    try:
        yield passing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_keyboard() -> bool:
    """Say whether what is typed on the terminal goes to our process group, and so to the child too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _closing_line(found: str | None, ledger: Path, *, since_ns: int) -> None:
    """Say what the program asked and what that cost, from the ledger of this machine."""
    if found is not None:
        if not found.startswith(("http://127.0.0.1:", "http://localhost:", "http://[::1]:")):
            _tell(f"done; what it cost is in the ledger of {found}")
            return
        time.sleep(_LEDGER_LAG_S)
    total = summed(ledger, since_ns=since_ns, until_ns=time.time_ns(), by="policy").total
    if total.requests == 0:
        _tell("no request reached the gateway: does the program read OPENAI_BASE_URL?")
        return
    saved = "" if total.saved_nanos is None else f", saved {dollars(total.saved_nanos)}"
    count = "1 request" if total.requests == 1 else f"{total.requests} requests"
    _tell(f"{count}, {cost(total.cost_nanos, unknown=total.unknown_costs)}{saved}")


def _tell(line: str) -> None:
    click.echo(f"trivet: {line}", err=True)
