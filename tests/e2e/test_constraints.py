"""A target elsewhere, or that lacks what is needed, is never even connected to: `trivet serve`, and real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge_kit import bearer, make_key, post, raw, serving
from trivet.ledger import report
from trivet.testing.upstream import Upstream
from trivet.types import Permit

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


KEYS = """
[targets.small]
provider = "openai"
model = "s"
base_url = "{small}"

[targets.large]
provider = "openai"
model = "l"
base_url = "http://127.0.0.1:{large}/v1"

[targets.any]
provider = "openai"
base_url = "http://127.0.0.1:{large}/v1"

[policies.p]
pool = ["large", "small"]
baseline = "large"

[policies.p.cache]
mode = "exact"

[[policies.p.rules]]
use = ["large"]
feature = ["search"]

[policies.q]
pool = ["large"]

[aliases]
"gpt-4o" = "large"
"""


async def test_a_target_that_a_key_may_not_call_never_sees_a_connection_of_its_requests(tmp_path: Path) -> None:
    reached: list[object] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("peername"))
        writer.close()

    large = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = large.sockets[0].getsockname()[1]
    key = make_key(tmp_path / "home" / "keys.db", "acme", permit=Permit(targets=("small",)))
    free = make_key(tmp_path / "home" / "keys.db", "acme", name="free")
    async with large, Upstream("s") as small:
        async with serving(tmp_path, KEYS.format(small=small.base_url, large=port)) as child:

            async def ask(model: str, *, by: str = key, **headers: str) -> tuple[int, str]:
                body = {"model": model, "messages": [{"role": "user", "content": "2+2?"}]}
                more = [(f"x-trivet-{name}", value.encode()) for name, value in headers.items()]
                reply = await raw(child.url, post(body, bearer(by), *more))
                said = json.loads(reply.body)
                return reply.status, said["error"]["code"] if reply.status != 200 else reply.headers["x-trivet-target"]

            assert await ask("p") == (200, "small")
            assert await ask("p", feature="search", cache="off", baseline="large") == (200, "small")
            refused = [await ask(model) for model in ("q", "large", "gpt-4o", "any/gpt-4o", "gpt-4o-mini")]
            assert refused == [(403, "target_not_allowed")] * 5
            assert reached == []
            assert (await ask("large", by=free))[0] >= 500  # the watch sees what does connect
            assert len(reached) == 1
        async with serving(tmp_path, KEYS.format(small="http://127.0.0.1:9/v1", large=port)) as child:
            assert (await ask("p", cache="off"))[0] >= 500  # the one that it may call is down: nobody stands in
    assert len(reached) == 1
    entries = report.entries(child.home / "ledger", since_ns=0, until_ns=2**62, limit=100, tell=print)
    assert len(entries) == 9
    assert sorted(e.outcome.status for e in entries) == ["failed"] * 2 + ["ok"] * 2 + ["refused"] * 5


SORTED = """
[targets.small]
provider = "openai"
model = "s"
base_url = "{small}"

[targets.large]
provider = "openai"
model = "l"
base_url = "{large}"

[targets.sorter]
provider = "openai"
model = "c"
base_url = "{sorter}"

[policies.p]
pool = ["small", "large"]
route = "classifier"

[policies.p.classifier]
model = "sorter"
timeout = "5s"
"""


async def test_nor_is_a_classifier_asked_that_the_key_may_not_call(tmp_path: Path) -> None:
    key = make_key(tmp_path / "home" / "keys.db", "acme", permit=Permit(targets=("small", "large")))
    free = make_key(tmp_path / "home" / "keys.db", "acme", name="free")
    async with Upstream("s") as small, Upstream("l") as large, Upstream("simple") as sorter:
        text = SORTED.format(small=small.base_url, large=large.base_url, sorter=sorter.base_url)
        async with serving(tmp_path, text) as child:
            body = {"model": "p", "messages": [{"role": "user", "content": "2+2?"}]}
            replies = [await raw(child.url, post(body, bearer(key))) for _ in range(2)]
            assert [reply.headers["x-trivet-target"] for reply in replies] == ["large"] * 2  # as for what is complex
            assert sorter.connections == 0
            assert (await raw(child.url, post(body, bearer(free)))).headers["x-trivet-target"] == "small"
            assert sorter.connections == 1
