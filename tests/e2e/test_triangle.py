"""A policy that holds quality, through `trivet serve`: prompts part ways, a new router is taken, a bad one is not."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.edge_kit import Child, post, raw, serving, until
from tests.routing.learned.test_versions import another
from tests.routing.triangle.world import EASY, HARD, file
from trivet.ledger import report
from trivet.routing.learned import learned
from trivet.testing.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONFIG = """
[targets.tiny]
provider = "openai"
model = "t"
base_url = "{tiny}"
price = {{ input = "$0.1", output = "$0.4" }}

[targets.large]
provider = "openai"
model = "l"
base_url = "{large}"
price = {{ input = "$3", output = "$15" }}

[policies.p]
pool = ["tiny", "large"]
route = "learned"
router = "{router}"
quality = "{quality}"
"""


async def ask(child: Child, text: str, **more: Any) -> tuple[int, str, str]:
    body = {"model": "p", "messages": [{"role": "user", "content": text}], **more}
    reply = await raw(child.url, post(body))
    told = json.loads(reply.body)
    said = told["choices"][0]["message"]["content"] if reply.status == 200 else told["error"]["message"]
    return reply.status, said, reply.headers.get("x-trivet-decision", "")


async def entries(child: Child, count: int) -> list[dict[str, Any]]:
    """Read what is in the ledger, newest first, once there are so many: what is settled is on its way there."""
    async with asyncio.timeout(10):
        while True:
            found = await asyncio.to_thread(
                report.entries, child.home / "ledger", since_ns=0, until_ns=2**62, limit=100, tell=print
            )
            if len(found) >= count:
                return [msgspec.to_builtins(entry) for entry in found]
            await asyncio.sleep(0.05)


async def test_prompts_part_ways_and_a_new_router_is_taken_while_it_serves(tmp_path: Path) -> None:
    router, new = file(tmp_path), another(tmp_path, 1)
    async with Upstream("s") as tiny, Upstream("l") as large:
        text = CONFIG.format(tiny=tiny.base_url, large=large.base_url, router=router, quality="0.9 of large")
        async with serving(tmp_path, text) as child:
            assert "Policy 'p': tiny" in child.words()
            for said, answer in ((EASY, "s"), (HARD, "l"), (EASY, "s")):
                status, got, decision = await ask(child, said)
                assert (status, got) == (200, answer)
                assert "likely" in decision
            found = await entries(child, 3)
            assert {entry["router_digest"] for entry in found} == {learned.load(router).digest}
            assert [c["target"] for c in found[0]["candidates"]] == ["tiny", "large"]
            whole = router.read_bytes()
            router.write_bytes(whole[:-5])
            await until(lambda: "The configuration from before stays in force." in child.words())
            assert (await ask(child, HARD))[:2] == (200, "l")
            router.write_bytes(new.read_bytes())
            await until(lambda: "is in force." in child.words())
            assert (await ask(child, EASY))[:2] == (200, "s")
            assert (await entries(child, 5))[0]["router_digest"] == learned.load(new).digest


async def test_a_promise_that_cannot_be_kept_is_no_gateway(tmp_path: Path) -> None:
    text = CONFIG.format(tiny="http://127.0.0.1:9", large="http://127.0.0.1:9", router=file(tmp_path), quality="0.9")
    (tmp_path / "trivet.toml").write_text(text + 'ttft = "p95 <= 800ms"\n')
    command = [sys.executable, "-m", "trivet", "serve", "--config", str(tmp_path / "trivet.toml"), "--port", "0"]
    env = {**os.environ, "TRIVET_HOME": str(tmp_path / "home")}
    ended = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "first token of tiny, large was not measured" in ended.stderr
