"""A gateway killed between the end of an answer and its last byte: what its client saw, and what is kept."""

import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.disk.disk import DATABASE, JOURNAL, KILL_AFTER, KILL_BEFORE, KILL_MID, SYNC, WRITE, Disk
from tests.edge_kit import serving
from trivet.ledger.report import entries as read_entries
from trivet.testing.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CONFIG = """
[targets.a]
provider = "openai"
model = "m"
base_url = "{base_url}"
[ledger]
durability = "{durability}"
"""


@pytest.mark.parametrize(
    ("durability", "action", "mask", "kept"),
    [
        ("process", KILL_BEFORE, WRITE | JOURNAL, False),
        ("process", KILL_MID, WRITE | JOURNAL, False),
        ("process", KILL_AFTER, WRITE | JOURNAL, True),
        ("power", KILL_BEFORE, SYNC | DATABASE, True),  # in the middle of the commit: the journal has it
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_client_sees_the_end_of_an_answer_that_was_not_kept(
    tmp_path: Path, durability: str, action: int, mask: int, *, stream: bool, kept: bool
) -> None:
    disk = Disk(tmp_path / "d")
    body: dict[str, Any] = {"model": "a", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with Upstream("Hel", "lo", delay_s=0.05) as upstream:
        config = CONFIG.format(base_url=upstream.base_url, durability=durability)
        async with serving(disk.root, config, env=disk.env()) as child:
            async with httpx2.AsyncClient(base_url=child.url) as client:
                whole = (await client.post("/v1/chat/completions", json=body)).content
                disk.faults.strike(action, mask=mask)
                seen, broken = await read(client, body)
            assert await child.process.wait() == -signal.SIGKILL
        assert len(upstream.requests) == 2
    assert broken
    assert b"Hel" in whole
    if stream:
        assert b"Hel" in seen
        assert b"[DONE]" in whole
        assert b"[DONE]" not in seen
        assert b'"finish_reason":"stop"' not in seen.replace(b" ", b"")
    else:
        assert not seen
    found = read_entries(disk.root / "home" / "ledger", since_ns=0, until_ns=2**62, limit=10, tell=print)
    assert [entry.outcome.status for entry in found] == ["ok"] * (2 if kept else 1)
    assert len({entry.id for entry in found}) == len(found)


async def read(client: httpx2.AsyncClient, body: Any) -> tuple[bytes, bool]:
    """Give what came, and whether the connection broke."""
    seen = b""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for piece in reply.aiter_raw():
                seen += piece
    except httpx2.TransportError:
        return seen, True
    return seen, False
