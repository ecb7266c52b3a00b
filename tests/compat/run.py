"""Runs client libraries, unchanged, against a real `trivet serve` over the scripted model, and prints what held.

    python -m tests.compat.run [CLIENT ...] [--json] [--direct] [--here]

Each client has a suite in `suites/` and an environment of its own, and runs in these passes:

- `off`: a target by its name, so no lever is pulled;
- `miss`: a policy whose exact cache is on, and empty;
- `hit`: the same again, now that the cache has the answers;
- `direct` (with `--direct`): past Trivet, so that a failure can be told from one of the model or the client.

Not here: the model (`model.py`), the environments (`environments.py`), and anything that knows a client's library.
Invariants: every client has a gateway, a ledger and a key of its own; a pass without a cache has no hits, and the
pass `hit` has some, or it has failed.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree as ET

import httpx2

from tests.compat import environments
from tests.compat.model import MODEL
from tests.edge_kit import make_key, serving
from trivet.ledger.keys import FILE

SESSION_LOOP = (
    "asyncio_mode=auto",
    "asyncio_default_test_loop_scope=session",
    "asyncio_default_fixture_loop_scope=session",
)
"""LangChain keeps one HTTP client for all its tests: with a loop for each test it finds its own closed."""
PASSES = {"off": (MODEL, "embedded"), "miss": ("cached", "kept"), "hit": ("cached", "kept")}
"""The passes through Trivet, and what each asks for an answer and for embeddings, which Trivet makes itself."""
TOO_LONG_S = 600
"""A suite takes under a minute; this is for one that hangs."""

CONFIG = """
[targets."{model}"]
provider = "openai"
model    = "{model}"
base_url = "{url}"
price    = {{ input = "$1", output = "$2" }}

[targets.embedded]
provider = "embedder"
model    = "builtin"

[policies.kept]
pool = ["embedded"]
cache.mode = "exact"

[policies.cached]
pool = ["{model}"]

[policies.cached.cache]
mode  = "exact"
tools = true
"""


class Client(NamedTuple):
    """One client library: `suites/test_NAME.py` run with what `locks/NAME.txt` pins."""

    name: str
    packages: tuple[str, ...]
    """Whose versions are shown."""
    options: tuple[str, ...] = ()
    """For pytest's ini."""


CLIENTS = {
    client.name: client
    for client in (
        Client("openai", ("openai",)),
        Client("langchain", ("langchain-openai", "langchain-tests"), SESSION_LOOP),
        Client(
            "llamaindex", ("llama-index-llms-openai-like", "llama-index-embeddings-openai-like", "llama-index-core")
        ),
        Client("pydantic-ai", ("pydantic-ai-slim",)),
        Client("instructor", ("instructor",)),
        Client("llm", ("llm",)),
    )
}


class Gateway(NamedTuple):
    """Where a suite is to send its requests."""

    url: str
    """With `/v1`."""
    key: str
    upstream: str
    """The model itself, with `/v1`."""


class Row(NamedTuple):
    """What came of one pass of one client."""

    client: str
    versions: str
    pass_: str
    passed: int
    skipped: int
    failed: int
    requests: int
    hits: int
    seconds: float
    why: tuple[str, ...]
    """What failed, a line each."""


async def run(client: Client, python: Path, *, passes: Sequence[str]) -> list[Row]:
    """Run the passes of one client in order, over one gateway."""
    versions = environments.versions(python, client.packages)
    async with house() as gateway:
        return [await _run(client, python, gateway, versions=versions, pass_=pass_) for pass_ in passes]


@asynccontextmanager
async def house() -> AsyncGenerator[Gateway, None]:
    """Start the scripted model and `trivet serve` over it, a process each; nothing is left behind."""
    with TemporaryDirectory() as folder:
        async with modelled() as upstream:
            key = make_key(Path(folder) / "home" / FILE, "compat")
            async with serving(Path(folder), CONFIG.format(model=MODEL, url=upstream)) as child:
                yield Gateway(f"{child.url}/v1", key, upstream)
                assert "Traceback" not in child.words(), child.words()


@asynccontextmanager
async def modelled() -> AsyncGenerator[str, None]:
    """Run the scripted model until the block ends; gives its base URL."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.compat.model", stdin=pipe, stdout=pipe, cwd=environments.HERE.parent.parent
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        await process.wait()


async def _run(client: Client, python: Path, gateway: Gateway, *, versions: str, pass_: str) -> Row:
    direct = pass_ == "direct"
    before, started = await counted(gateway), time.monotonic()
    said = {
        "COMPAT_BASE_URL": gateway.upstream if direct else gateway.url,
        "COMPAT_API_KEY": gateway.key,
        "COMPAT_MODEL": MODEL if direct else PASSES[pass_][0],
        "COMPAT_EMBEDDER": "" if direct else PASSES[pass_][1],
        "COMPAT_PASS": pass_,
    }
    passed, skipped, why = await _pytest(client, python, said)
    seconds, after = time.monotonic() - started, await counted(gateway)
    requests, hits = after[0] - before[0], after[1] - before[1]
    if pass_ == "hit" and not hits:
        why.append("no answer came from the cache, though the pass before it asked the same")
    if pass_ in ("off", "direct") and hits:
        why.append(f"{hits} answers came from a cache that is off")
    if not passed:
        why.append("no test passed")
    return Row(
        client.name,
        versions=versions,
        pass_=pass_,
        passed=passed,
        skipped=skipped,
        failed=len(why),
        requests=requests,
        hits=hits,
        seconds=round(seconds, 1),
        why=tuple(why),
    )


async def _pytest(client: Client, python: Path, said: Mapping[str, str]) -> tuple[int, int, list[str]]:
    """Run a suite in its environment: how many tests passed, how many were skipped, and what failed."""
    suite = environments.SUITES / f"test_{client.name.replace('-', '_')}.py"
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = [word for option in client.options for word in ("-o", option)]
        ini = environments.SUITES / "pytest.ini"
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-m", "pytest", "-q", "-c", str(ini), *options, f"--junitxml={report}", str(suite)),
            cwd=folder,
            env={**_environment(Path(folder)), **said},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), TOO_LONG_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            return 0, 0, [f"{client.name} did not end within {TOO_LONG_S} s"]
        passed, skipped, why = read(report.read_text() if report.exists() else "<testsuites/>")
    if process.returncode and not why:
        why = [f"pytest ended with {process.returncode}:\n{output.decode(errors='replace')[-2000:]}"]
    if process.returncode:
        print(output.decode(errors="replace"), file=sys.stderr)
    return passed, skipped, why


def _environment(home: Path) -> dict[str, str]:
    """Give what a suite inherits: nothing of the keys, proxies and configuration of the person who runs it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}


def read(report: str) -> tuple[int, int, list[str]]:
    """Read a report of pytest (JUnit's XML): how many tests passed, how many were skipped, what failed and why."""
    passed, skipped, why = 0, 0, list[str]()
    for case in ET.fromstring(report).iter("testcase"):
        wrong = [*case.iter("failure"), *case.iter("error")]
        if wrong:
            message, _, _ = (wrong[0].get("message") or "no message").partition("\n")
            why.append(f"{case.get('name')}: {message[:200]}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, skipped, why


async def counted(gateway: Gateway) -> tuple[int, int]:
    """Read from the gateway's metrics how many requests it has had, and how many were hits."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {gateway.key}"}) as client:
        text = (await client.get(f"{gateway.url.removesuffix('/v1')}/metrics")).raise_for_status().text
    series = re.findall(r'(?m)^trivet_requests_total\{.*cache="(\w*)".*\} (\d+)$', text)
    return sum(int(n) for _, n in series), sum(int(n) for cache, n in series if cache == "exact")


def table(rows: Sequence[Row]) -> str:
    """Write rows for people."""
    head = ("CLIENT", "VERSION", "PASS", "PASSED", "SKIPPED", "FAILED", "REQUESTS", "HITS", "SECONDS")
    lines = [head, *(tuple(map(str, row[:-1])) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *(f"{row.client} {row.pass_}: {why}" for row in rows for why in row.why)])


def document(rows: Sequence[Row]) -> str:
    """Write rows for programs."""
    told = [{name.rstrip("_"): value for name, value in row._asdict().items()} for row in rows]
    return json.dumps({"rows": told}, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; gives 1 if anything failed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m tests.compat.run", description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)}; all if none is named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--direct", action="store_true", help="a pass more: past Trivet, to the scripted model itself")
    parser.add_argument("--here", action="store_true", help="use this Python, not an environment of the client's own")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.clients) - set(CLIENTS):
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    missing = [p for name in asked.clients or CLIENTS for p in CLIENTS[name].packages if not environments.has(p)]
    if asked.here and missing:
        parser.error(f"not installed in this Python: {', '.join(missing)}; leave --here out")
    rows: list[Row] = []
    for name in asked.clients or CLIENTS:
        python = Path(sys.executable) if asked.here else environments.ready(name)
        passes = [*(["direct"] if asked.direct else []), *PASSES]
        rows += asyncio.run(run(CLIENTS[name], python, passes=passes))
    print(document(rows) if asked.json else table(rows))
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
