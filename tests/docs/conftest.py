"""A gateway as the documents assume it: `trivet serve` over a scripted upstream, with their names for targets."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trivet.testing.upstream import Answer, Upstream

CONFIG = """
[targets.small]
provider = "openai"
model    = "small-1"
region   = "local"
base_url = "{url}"
price    = {{ input = "$0.10", output = "$0.20" }}

[targets.large]
provider = "openai"
model    = "large-1"
base_url = "{url}"
price    = {{ input = "$1", output = "$2" }}

[policies.support]
pool     = ["small", "large"]
[policies.support.cache]
mode     = "verified"

[policies.auto]
pool     = ["small", "large"]
[policies.auto.cache]
mode     = "exact"

[policies.sorted]
pool     = ["small", "large"]
route    = "classifier"
classifier = {{ model = "small" }}

[policies.weighed]
pool     = ["small", "large"]
route    = "cascade"

[targets.embedded]
provider = "embedder"
model    = "builtin"

[embedder]
kind = "builtin"

[aliases]
"text-embedding-3-small" = "embedded"
"gpt-4o-mini" = "support"
"""


FAIL = "Fail, please."
"""Asked this, the upstream does."""


def _script(body: Any) -> Answer:
    if FAIL in json.dumps(body):
        return Answer(cut_after=0)
    return Answer(pieces=("One", " two", " three."))


class Gateway(NamedTuple):
    """A gateway that runs."""

    url: str
    env: dict[str, str]
    """For a program that is to use it, or for `trivet` to read its ledger."""
    config: str
    """Its trivet.toml."""


@pytest.fixture(scope="session")
def upstream_url() -> Iterator[str]:
    started, told = threading.Event(), list[str]()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        async with Upstream(script=_script) as upstream:
            told.append(upstream.base_url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert started.wait(10)
    yield told[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def clean_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a home of its own, and nobody's keys."""
    kept = {
        n: v for n, v in os.environ.items() if not n.startswith(("TRIVET_", "OPENAI_")) and not n.endswith("_API_KEY")
    }
    home = tmp_path_factory.mktemp("home")
    return kept | {
        "TRIVET_HOME": str(home),
        "TRIVET_MODELS": str(home / "models"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def gateway(
    upstream_url: str, clean_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "trivet.toml").write_text(CONFIG.format(url=upstream_url))
    ours, its = os.pipe()
    args = [sys.executable, "-m", "trivet", "serve", "--port", "0", "--ready-fd", str(its)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(args, cwd=folder, env=clean_env, pass_fds=[its], stderr=log)
    os.close(its)
    try:
        with os.fdopen(ours) as pipe:
            line = pipe.readline()
        assert line, (folder / "log").read_text()
        url = json.loads(line)["url"]
        body = json.dumps({"model": "embedded", "input": "It is loaded by the first who asks."}).encode()
        asked = urllib.request.Request(f"{url}/v1/embeddings", body, {"content-type": "application/json"})
        urllib.request.urlopen(asked, timeout=30).close()
        yield Gateway(
            url, clean_env | {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "any"}, CONFIG.format(url=upstream_url)
        )
    finally:
        child.terminate()
        child.wait(20)
