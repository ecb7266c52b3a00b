"""A target elsewhere, or that lacks what is needed, is never even connected to: `trivet serve`, and real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge_kit import post, raw, serving
from trivet.testing.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONFIG = """
[targets.small]
provider = "openai"
model = "s"
base_url = "{small}"
region = "us"
lacks = ["images"]

[targets.large]
provider = "openai"
model = "l"
base_url = "{large}"
region = "us"

[targets.elsewhere]
provider = "openai"
model = "e"
base_url = "http://127.0.0.1:{elsewhere}/v1"
region = "eu"

[policies.p]
pool = ["elsewhere", "small", "large"]
residency = ["us"]

[[policies.p.rules]]
use = ["elsewhere"]

[[policies.p.rules]]
use = ["large"]
feature = ["search"]
"""
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


async def test_residency_and_abilities_hold_on_the_wire_also_when_all_others_fail(tmp_path: Path) -> None:
    reached: list[object] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("peername"))
        writer.close()

    elsewhere = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = elsewhere.sockets[0].getsockname()[1]
    async with elsewhere, Upstream("s") as small, Upstream("l") as large:
        text = CONFIG.format(small=small.base_url, large=large.base_url, elsewhere=port)
        async with serving(tmp_path, text) as child:

            async def ask(content: Any, feature: str = "") -> tuple[int, str, str]:
                body = {"model": "p", "messages": [{"role": "user", "content": content}]}
                labels = (("x-trivet-feature", feature.encode()),) if feature else ()
                reply = await raw(child.url, post(body, *labels))
                said = json.loads(reply.body)
                text = said["choices"][0]["message"]["content"] if reply.status == 200 else said["error"]["code"]
                return reply.status, text, reply.headers.get("x-trivet-decision", "")

            assert await ask("2+2?") == (200, "s", "call")
            assert await ask("2+2?", feature="search") == (200, "l", "call; why=rule 2")
            assert await ask(IMAGE) == (200, "l", "call; why=1 of 2 can: images")
        broken = CONFIG.format(small="http://127.0.0.1:9/v1", large="http://127.0.0.1:9/v1", elsewhere=port)
        async with serving(tmp_path, broken) as child:
            body = {"model": "p", "messages": [{"role": "user", "content": "2+2?"}]}
            assert (await raw(child.url, post(body))).status >= 500
    assert reached == []
