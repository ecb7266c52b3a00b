"""Who is measured: how each is installed, configured and started, as well tuned as its own documents advise.

To add one: a class with what `Target` asks for, and a place in `TARGETS`. Not here: measuring (`gateway.py`).
Invariant: one that cannot be installed or started says why (`NotMeasuredError`) and is reported so, never left out.
"""

import json
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.machine import BUILD, HERE, compiled, said


class NotMeasuredError(Exception):
    """A target cannot be measured here, and why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the tables: one way of asking one target."""

    name: str
    model: str = "mock"
    same: bool = False
    """Ask the same question again and again, so that a cache can answer."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a target."""

    argv: tuple[str | Path, ...] = ()
    """Empty: nothing is in between, the mock itself is asked."""
    env: Mapping[str, str] = field(default_factory=dict)
    key: str = "sk-bench"
    """What clients send as their key."""


class Target(Protocol):
    """Something to send requests to."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> tuple[Row, ...]: ...
    @property
    def max_open(self) -> int:
        """Of the streams held open at the same time: what it is known to keep up with, where that is few."""
        ...

    @property
    def tuning(self) -> str:
        """What a reader must know about how it was set up."""
        ...

    def prepare(self) -> str:
        """Install it where needed, and give its version. Raises NotMeasuredError."""
        ...

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        """Write its configuration into `folder` and say how it is started. Raises NotMeasuredError."""
        ...


class Direct:
    """No gateway: what all others are compared with."""

    name = "direct"
    rows = (Row(name="direct"),)
    max_open = 1_000_000
    tuning = "the mock itself, nothing in between"

    def prepare(self) -> str:
        return ""

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        return Launch()


class Floor:
    """The least that being in between can cost."""

    name = "floor"
    rows = (Row(name="floor"),)
    max_open = 1_000_000
    tuning = "floor.c: forwards bytes, reads no HTTP"

    def prepare(self) -> str:
        compiled("floor")
        return ""

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        return Launch(argv=(compiled("floor").absolute(), str(mock_port), str(port)))


_TRIVET_TOML = """\
[server]
port = {port}
[targets.mock]
provider = "openai"
base_url = "http://127.0.0.1:{mock_port}/v1"
model = "mock"
price = {{ input = "$1", output = "$2" }}
[policies.bench]
pool = ["mock"]
cache = {{ mode = "exact" }}
"""


class Trivet:
    """The gateway of this repository, everything on: a key checked, a price counted, every request in the ledger."""

    name = "trivet"
    rows = (
        Row(name="trivet, target"),
        Row(name="trivet, policy", model="bench"),
        Row(name="trivet, exact hits", model="bench", same=True),
    )
    max_open = 1_000_000
    tuning = (
        "1 process, default settings, one key. target: a model named directly, no lever. policy: exact cache on, every "
        "question new (looked up, kept, priced, entered). exact hits: one question again and again"
    )

    def __init__(self) -> None:
        beside = Path(sys.executable).parent / "trivet"
        self._program = str(beside) if beside.exists() else shutil.which("trivet") or ""

    def prepare(self) -> str:
        if not self._program:
            raise NotMeasuredError("`trivet` is not installed beside this Python, nor on the PATH")
        return f"{_said(self._program, '--version').removeprefix('trivet ')} ({_revision()})"

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        config, env = folder / "trivet.toml", {"TRIVET_HOME": str(folder / "home")}
        config.write_text(_TRIVET_TOML.format(port=port, mock_port=mock_port))
        shutil.rmtree(folder / "home", ignore_errors=True)
        key = _said(self._program, "keys", "create", "bench", "--tenant", "bench", env=env)
        return Launch(argv=(self._program, "serve", "--config", config), env=env, key=key)


class LiteLLM:
    """LiteLLM's proxy, in a virtual environment of its own.

    1.106.2 is what pip chose when this was written: 1.109.1 wanted a `certifi` that was not yet to be had. httptools
    is added because uvicorn parses HTTP with it where it is there, which was worth a third of the throughput here;
    --run_granian and the `aiohttp_openai/` provider were tried and were slower (and the latter's streams failed).
    """

    name = "litellm"
    rows = (Row(name="litellm"),)
    max_open = 20  # one event costs it about 2 ms of a core: at 20 events/s, 25 streams are all it has time for
    tuning = (
        "1 worker, uvicorn with uvloop and httptools, LITELLM_LOG=ERROR, LITELLM_MODE=PRODUCTION, no database, no "
        "callbacks, no retries, master key only (it does not start without)"
    )
    _wants = ("litellm[proxy]==1.106.2", "httptools==0.9.0")
    _venv = BUILD / "litellm-venv"

    def prepare(self) -> str:
        done, wanted = self._venv / "installed", "\n".join(self._wants)
        if not done.exists() or done.read_text() != wanted:
            _said(sys.executable, "-m", "venv", self._venv)
            _said(self._venv / "bin/python", "-m", "pip", "install", "--quiet", *self._wants)
            done.write_text(wanted)
        asked = "from importlib.metadata import version; print(version('litellm'))"
        return _said(self._venv / "bin/python", "-c", asked)

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        key, config = f"sk-{secrets.token_hex(32)}", folder / "config.yaml"
        base_url = f"http://127.0.0.1:{mock_port}/v1"
        params = {"model": "openai/mock", "api_base": base_url, "api_key": "sk-mock"}
        settings = {
            "model_list": [{"model_name": "mock", "litellm_params": params}],
            "litellm_settings": {"num_retries": 0, "request_timeout": 600, "set_verbose": False},
            "router_settings": {"num_retries": 0},
            "general_settings": {"master_key": key, "disable_spend_logs": True, "disable_error_logs": True},
        }
        config.write_text(json.dumps(settings))  # all JSON is YAML
        program = (self._venv / "bin/litellm").absolute()
        argv = (program, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return Launch(argv=argv, env=env, key=key)


TARGETS: tuple[Target, ...] = (Direct(), Floor(), Trivet(), LiteLLM())


def _said(*argv: str | Path, env: Mapping[str, str] | None = None) -> str:
    try:
        return said(argv, env=env)
    except (OSError, RuntimeError) as error:
        raise NotMeasuredError(str(error)[:300]) from error


def _revision() -> str:
    """Say which commit is measured, and whether the tree differs from it."""
    git = ("git", "--no-optional-locks", "-C", HERE)
    try:
        commit = said((*git, "rev-parse", "--short", "HEAD"))
        changed = said((*git, "status", "--porcelain", "--untracked-files=no", "--", "../src"))
    except (OSError, RuntimeError):
        return "no git"
    return f"{commit}, with changes" if changed else commit
