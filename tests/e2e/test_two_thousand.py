"""Two thousand mixed requests over real sockets into a real ledger: one entry each, sums exact to the nano-dollar."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Literal

import pytest

from trivet.ledger.report import entries as read_entries
from trivet.ledger.report import usage
from trivet.ledger.sqlite import SqliteStore
from trivet.testing.house import house, kit
from trivet.testing.upstream import Answer, Upstream
from trivet.types import Entry

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

REQUESTS = 2000
AT_ONCE = 40
POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"
"""


def script(rng: random.Random) -> Any:
    odd: list[dict[str, Any]] = [{}] * 8 + [{"status": 500}, {"status": 400}, {"cut_after": 1}, {"delay_s": 0.05}]

    def answer(_body: Any) -> Answer:
        return Answer(pieces=tuple("word " for _ in range(rng.randint(1, 6))), **rng.choice(odd))

    return answer


async def one(port: int, rng: random.Random) -> None:
    """Send one whole request, and wait for the end of its answer, or leave before that."""
    body: dict[str, Any] = {
        "model": rng.choice(["a", "b", "p", "p", "p", "nobody"]),
        "messages": [{"role": "user", "content": f"question {rng.randint(1, 300)}"}],
        "stream": rng.random() < 0.5,
    }
    content = b"{" if rng.random() < 0.03 else json.dumps(body).encode()
    leaves = rng.random() < 0.25
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    try:
        async with asyncio.timeout(rng.uniform(0.0, 0.03) if leaves else 60):
            await reader.read()
    except TimeoutError:
        assert leaves
    finally:
        writer.close()


async def drive(folder: Path, durability: Literal["process", "power"]) -> int:
    """Run all of it; gives what the metrics counted."""
    rng, gate, made = random.Random(11), asyncio.Semaphore(AT_ONCE), kit(folder)
    store = SqliteStore(folder / "ledger", durability=durability, clock=made.clock, random=made.random, tell=made.tell)
    async with (
        Upstream(script=script(rng)) as a,
        Upstream(script=script(rng)) as b,
        house({"a": a.base_url, "b": b.base_url}, POLICY, store=store) as gateway,
    ):
        port = int(gateway.url.rsplit(":", 1)[1])

        async def gated() -> None:
            async with gate:
                await one(port, rng)

        await asyncio.gather(*(gated() for _ in range(REQUESTS)))
        async with asyncio.timeout(20):  # the last of those that were left
            while gateway.app.metrics.requests < REQUESTS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    return gateway.app.metrics.requests


def priced(entry: Entry) -> int:
    """Price an entry by hand: $1 a million in, $2 a million out."""
    used = entry.outcome.usage
    return used.input_tokens * 1000 + used.output_tokens * 2000 if entry.decision == "call" and used else 0


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_every_request_has_one_entry_and_the_sums_are_right(
    durability: Literal["process", "power"], tmp_path: Path
) -> None:
    assert await drive(tmp_path, durability) == REQUESTS
    every = {"since_ns": 0, "until_ns": 2**62, "tell": print}
    kept = read_entries(tmp_path / "ledger", limit=REQUESTS * 2, **every)  # type: ignore[arg-type]
    assert len(kept) == len({entry.id for entry in kept}) == REQUESTS
    assert {entry.outcome.status for entry in kept} == {"ok", "refused", "failed", "cancelled"}
    assert {entry.cache for entry in kept} >= {"miss", "exact"}
    report = usage(tmp_path / "ledger", by="target", **every)  # type: ignore[arg-type]
    assert sum(row.requests for row in report.rows) == REQUESTS
    assert report.total.cost_nanos == sum(row.cost_nanos or 0 for row in report.rows) == sum(map(priced, kept))
    for entry in kept:
        if entry.saved and entry.baseline and entry.outcome.cost_nanos is not None:
            assert sum(entry.saved.values()) == (entry.baseline.cost_nanos or 0) - entry.outcome.cost_nanos
