"""kill -9 under load, twenty times: what a client saw finished is in the ledger, once."""

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from trivet.ledger.report import entries as read_entries
from trivet.testing.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = 20
CONFIG = """
[targets.a]
provider = "openai"
model = "a-1"
base_url = "{base_url}"
price = {{ input = "$1", output = "$2" }}

[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "exact"

[ledger]
durability = "{durability}"
"""


async def start(config: Path, home: Path) -> tuple[asyncio.subprocess.Process, str]:
    ours, its = os.pipe()
    args = ["-m", "trivet", "serve", "--config", str(config), "--port", "0", "--ready-fd", str(its)]
    env = {**os.environ, "TRIVET_HOME": str(home)}
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, *args, pass_fds=[its], env=env, stderr=quiet)
    os.close(its)
    with os.fdopen(ours) as pipe:
        line = await asyncio.to_thread(pipe.readline)
    return process, json.loads(line)["url"]


async def ask_on(client: httpx2.AsyncClient, rng: random.Random, finished: set[str]) -> None:
    """Ask until the gateway dies; note the id of every answer that was seen to its end."""
    while True:
        body: dict[str, Any] = {
            "model": rng.choice(["a", "p"]),
            "messages": [{"role": "user", "content": str(rng.randint(1, 50))}],
            "stream": rng.random() < 0.5,
        }
        try:
            reply = await client.post("/v1/chat/completions", json=body)
        except httpx2.TransportError:
            return
        if reply.status_code == 200 and (not body["stream"] or reply.content.endswith(b"data: [DONE]\n\n")):
            finished.add(reply.headers["x-trivet-id"])


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_what_clients_saw_finished_is_in_the_ledger_once(durability: str, tmp_path: Path) -> None:
    rng, finished, home = random.Random(5), set[str](), tmp_path / "home"
    async with Upstream("Hel", "lo") as upstream:
        config = tmp_path / "trivet.toml"
        config.write_text(CONFIG.format(base_url=upstream.base_url, durability=durability))
        for _ in range(ROUNDS if durability == "process" else ROUNDS // 4):
            process, url = await start(config, home)
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                asking = [asyncio.ensure_future(ask_on(client, rng, finished)) for _ in range(8)]
                await asyncio.sleep(rng.uniform(0.05, 0.5))
                process.send_signal(signal.SIGKILL)
                await asyncio.gather(*asking)
            await process.wait()
    kept = read_entries(home / "ledger", since_ns=0, until_ns=2**62, limit=10**6, tell=print)
    ids = [entry.id for entry in kept]
    assert len(ids) == len(set(ids))
    assert finished <= set(ids)
    assert len(finished) > 200
