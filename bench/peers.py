"""Who is measured: how each is installed, configured and started, as well tuned as its own documents advise.

To add one: a class with what `Target` asks for, and a place in `TARGETS`. Not here: measuring (`gateway.py`).
Invariant: one that cannot be installed or started says why (`NotMeasuredError`) and is reported so, never left out.
"""

import json
import random
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.figures import MODES, Mode
from bench.machine import BUILD, HERE, compiled, free_port, said


class NotMeasuredError(Exception):
    """A target cannot be measured here, and why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the tables: one way of asking one target."""

    name: str
    model: str = "mock"
    same: bool = False
    """Ask the same question again and again, so that a cache can answer."""
    modes: tuple[Mode, ...] = MODES
    quick_ack: bool = False
    """Acknowledge at once what arrives: see load.c."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a target."""

    argv: tuple[str | Path, ...] = ()
    """Empty: nothing is in between, the mock itself is asked."""
    env: Mapping[str, str] = field(default_factory=dict)
    key: str = "sk-bench"
    """What clients send as their key."""
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    """What clients must send besides."""
    says_port: bool = False
    """It takes a port of its own choice and says `port N`."""


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
[targets.dear]
provider = "openai"
base_url = "http://127.0.0.1:{mock_port}/v1"
model = "mock"
price = {{ input = "$10", output = "$20" }}
[policies.bench]
pool = ["mock"]
cache = {{ mode = "exact" }}
[policies.learned]
pool = ["mock", "dear"]
cache = {{ mode = "exact" }}
route = "learned"
router = "{router}"
quality = "0.9 of dear"
"""


class Trivet:
    """The gateway of this repository, everything on: a key checked, a price counted, every request in the ledger."""

    name = "trivet"
    rows = (
        Row(name="trivet, target"),
        Row(name="trivet, policy", model="bench"),
        Row(name="trivet, learned", model="learned"),
        Row(name="trivet, exact hits", model="bench", same=True),
    )
    max_open = 1_000_000
    tuning = (
        "1 process, default settings, one key. target: a model named directly, no lever. policy: exact cache on, every "
        "question new (looked up, kept, priced, entered). learned: as policy, and a router trained on made-up outcomes "
        "chooses between two targets, both the mock. exact hits: one question again and again"
    )

    _router = BUILD / "router.trivet"

    def __init__(self) -> None:
        beside = Path(sys.executable).parent / "trivet"
        self._program = str(beside) if beside.exists() else shutil.which("trivet") or ""

    def prepare(self) -> str:
        if not self._program:
            raise NotMeasuredError("`trivet` is not installed beside this Python, nor on the PATH")
        _outcomes(BUILD / "outcomes")
        _said(self._program, "route", "train", BUILD / "outcomes", "--out", self._router)
        return f"{_said(self._program, '--version').removeprefix('trivet ')} ({_revision()})"

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        config, env = folder / "trivet.toml", {"TRIVET_HOME": str(folder / "home")}
        config.write_text(_TRIVET_TOML.format(port=port, mock_port=mock_port, router=self._router.absolute()))
        shutil.rmtree(folder / "home", ignore_errors=True)
        key = _said(self._program, "keys", "create", "bench", "--tenant", "bench", env=env)
        return Launch(argv=(self._program, "serve", "--config", config), env=env, key=key)


def _outcomes(folder: Path) -> None:
    """Write what a router is trained on: a cheap model that answers every other kind of question."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(1)
    kinds = [[f"{a}{b}{c}" for b in "aeiou" for c in "lmnrst"] for a in "bdfgkp"]
    prompts, outcomes = [], []
    for i in range(2000):
        pid, kind = f"p{i}", i % len(kinds)
        words = [*chosen.choices(kinds[kind], k=chosen.randint(4, 40)), "mock", "1", "0"]
        prompts.append({"pid": pid, "prompt": " ".join(words)})
        good = chosen.random() < (0.95 if kind % 2 else 0.3)
        outcomes.append({"pid": pid, "model": "mock", "score": float(good), "cost_usd": 0.0001})
        outcomes.append({"pid": pid, "model": "dear", "score": float(chosen.random() < 0.95), "cost_usd": 0.001})
    for name, rows in (("prompts", prompts), ("outcomes", outcomes)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


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
    _venv = BUILD / "litellm-venv"

    def prepare(self) -> str:
        return _installed(self._venv, "litellm[proxy]==1.106.2", "httptools==0.9.0")

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


class Portkey:
    """Portkey's gateway (node), as its Dockerfile runs it.

    What npm installs of itself cannot stream: with @hono/node-server after 1.14.1 every stream ends in a 500,
    "TypeError: immutable" (its issue 1389), on node 20 as on node 24. So the newest that works is pinned; whole answers
    are as fast with either. Node is the system's: 20 is what its Dockerfile has.
    """

    name = "portkey"
    rows = (Row(name="portkey"),)
    max_open = 100  # it has time for some more, not for 200: one event costs it about 0.3 ms of a core
    tuning = (
        "1 process, NODE_ENV=production, --headless, provider and host by header as it wants them; it checks no keys "
        "and keeps no records. @hono/node-server held at 1.14.1: with what npm chooses (1.19.19) all its streams fail, "
        "status 500, 'TypeError: immutable'"
    )
    _folder = BUILD / "portkey"
    _wants: Mapping[str, object] = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": "1.15.2"},
        "overrides": {"@hono/node-server": "1.14.1"},
    }

    def prepare(self) -> str:
        done, wanted = self._folder / "installed", json.dumps(self._wants)
        if not done.exists() or done.read_text() != wanted:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            (self._folder / "package.json").write_text(wanted)
            _said("npm", "--prefix", self._folder, "install", "--ignore-scripts", "--no-audit", "--no-fund")
            done.write_text(wanted)
        node, ours, hono = _said("node", "--version"), self._version("@portkey-ai/gateway"), "@hono/node-server"
        return f"{ours} (node {node}, {hono} {self._version(hono)})"

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        program = (self._folder / "node_modules/@portkey-ai/gateway/build/start-server.js").absolute()
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{mock_port}/v1"}
        argv = (shutil.which("node") or "node", program, f"--port={port}", "--headless")
        return Launch(argv=argv, env={"NODE_ENV": "production"}, headers=headers)

    def _version(self, package: str) -> str:
        told = json.loads((self._folder / "node_modules" / package / "package.json").read_text())
        return str(told["version"])


_TENSORZERO_TOML = """\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
[models.mock]
routing = ["mock"]
[models.mock.providers.mock]
type = "openai"
model_name = "mock"
api_base = "http://127.0.0.1:{mock_port}/v1/"
api_key_location = "none"
"""

_TENSORZERO_PY = """\
import signal, sys, types, urllib.parse
import tensorzero
client = types.SimpleNamespace()
tensorzero.patch_openai_client(client, config_file=sys.argv[1], async_setup=False)
print("port", urllib.parse.urlsplit(client.base_url).port, flush=True)
signal.pause()
"""


class TensorZero:
    """TensorZero's gateway (Rust), which its Python package carries: it starts one over HTTP for OpenAI's client.

    The gateway as a program comes as a container image or as source; this is the same code, in one process with an idle
    Python, on a port of its own choice. Its server leaves Nagle's algorithm on, so the first content of a stream waits
    until the client has acknowledged the role chunk: 40 ms with an ordinary client, nothing with one that acknowledges
    at once. Both are measured.
    """

    name = "tensorzero"
    _model = "tensorzero::model_name::mock"
    rows = (
        Row(name="tensorzero", model=_model),
        Row(name="tensorzero, quick ACKs", model=_model, modes=("stream",), quick_ack=True),
    )
    max_open = 1_000_000
    tuning = (
        "1 process, the gateway that its Python package carries, observability and analytics off (no database), no "
        "auth, log level as it comes (it logs no requests). quick ACKs: the client acknowledges at once; with others "
        "the first content waits 40 ms until the role chunk is acknowledged: its server leaves Nagle's algorithm on"
    )
    _venv = BUILD / "tensorzero-venv"

    def prepare(self) -> str:
        return _installed(self._venv, "tensorzero==2026.6.0")

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        config, program = folder / "tensorzero.toml", folder / "serve.py"
        config.write_text(_TENSORZERO_TOML.format(mock_port=mock_port))
        program.write_text(_TENSORZERO_PY)
        argv = ((self._venv / "bin/python").absolute(), "-W", "ignore", program, config)
        return Launch(argv=argv, path="/openai/v1/chat/completions", says_port=True)


class VllmRouter:
    """vLLM's router (Rust): a load balancer over engines, with one of them."""

    name = "vllm-router"
    rows = (Row(name="vllm-router"),)
    max_open = 1_000_000
    tuning = (
        "1 process, one worker, round robin (its default looks at prompts), --log-level error, metrics on as they "
        "come; it checks no keys, counts no tokens and keeps no records"
    )
    _venv = BUILD / "vllm-router-venv"

    def prepare(self) -> str:
        return _installed(self._venv, "vllm-router==0.1.17")

    def launch(self, folder: Path, *, port: int, mock_port: int) -> Launch:
        program = (self._venv / "bin/vllm-router").absolute()
        there = ("--worker-urls", f"http://127.0.0.1:{mock_port}", "--policy", "round_robin")
        here = ("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()))
        return Launch(argv=(program, *here, *there, "--log-level", "error"))


OURS: tuple[Target, ...] = (Direct(), Floor(), Trivet())
PEERS: tuple[Target, ...] = (LiteLLM(), Portkey(), TensorZero(), VllmRouter())
TARGETS = (*OURS, *PEERS)


def _installed(venv: Path, *wants: str) -> str:
    """Install the first of `wants`, and what goes with it, into an environment of its own; give its version."""
    done, wanted = venv / "installed", "\n".join(wants)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        _said(sys.executable, "-m", "venv", venv)
        _said(venv / "bin/python", "-m", "pip", "install", "--quiet", *wants)
        done.write_text(wanted)
    name = wants[0].partition("==")[0].partition("[")[0]
    return _said(venv / "bin/python", "-c", f"from importlib.metadata import version; print(version('{name}'))")


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
