"""The real pipeline and edge in virtual time: hours pass in seconds, and the same seed gives the same run.

What stands in for the world: async-solipsism's loop and sockets, a clock that reads the loop, a seeded generator. All
else is the real code, from the ASGI callable to the bytes of the HTTP client. (Uvicorn alone is left out.)
"""

import asyncio
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import async_solipsism
import pytest

from tests.edge_kit import Tape, chat
from trivet.ledger.keys import FILE, KeyRing
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import NEVER, Answer, Upstream
from trivet.types import Entry

REQUESTS = 400
POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"
ttl = "10m"
"""


class LoopClock:
    """The time of the loop: it moves only when everyone waits."""

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.mono_ns()

    def mono_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


async def dial(make: Any, host: str, port: int, *, tls: Any) -> Any:
    assert tls is None
    return await asyncio.get_running_loop().create_connection(make, host, port)


def script(rng: random.Random) -> Any:
    """Mostly well; sometimes slow, refusing, silent, or broken off."""

    def answer(_body: Any) -> Answer:
        pieces = tuple("word " for _ in range(rng.randint(1, 12)))
        odd: dict[str, Any] = rng.choice(
            [
                {}, {}, {}, {"first_delay_s": rng.uniform(0, 100)}, {"delay_s": rng.uniform(0, 20)}, {"status": 500},
                {"status": 429}, {"status": 400}, {"cut_after": 0}, {"cut_after": 1}, {"error_after": 1},
                {"hang_after": 1}, {"first_delay_s": NEVER}, {"garbage": True}, {"finish": "length"},
            ]
        )  # fmt: skip
        return Answer(pieces=pieces, **odd)

    return answer


async def one_client(app: App, rng: random.Random) -> None:
    """Come at some time, ask something, perhaps leave."""
    await asyncio.sleep(rng.uniform(0, 3600))
    body: dict[str, Any] = {
        "model": rng.choice(["a", "b", "p", "p", "nobody"]),
        "messages": [{"role": "user", "content": f"question {rng.randint(1, 20)}"}],
        "stream": rng.random() < 0.5,
    }
    headers = [(b"x-trivet-deadline", b"5s")] if rng.random() < 0.2 else []
    leaves_after_s = rng.uniform(0, 60) if rng.random() < 0.3 else None
    exchange = chat(Tape(), body, headers)
    if leaves_after_s is not None:
        asyncio.get_running_loop().call_later(leaves_after_s, exchange.leave)
    await app(exchange)


async def simulate(seed: int, folder: Path) -> tuple[list[Entry], float]:
    rng = random.Random(seed)
    store = Memory(settle_delay_s=0.001)
    async with (
        Upstream(script=script(rng), host="a.test", port=80) as a,
        Upstream(script=script(rng), host="b.test", port=80) as b,
    ):
        made = kit(folder, clock=LoopClock(), rng=rng, dialer=dial)
        async with stages(config({"a": a.base_url, "b": b.base_url}, POLICY), made, store) as built:
            app = App(built, auth=Auth(KeyRing(folder / FILE)), random=rng, max_body_bytes=10**6)
            await asyncio.gather(*(one_client(app, rng) for _ in range(REQUESTS)))
        took_s = asyncio.get_running_loop().time()
    return store.entries, took_s


def run(seed: int, folder: Path) -> tuple[list[Entry], float]:
    loop = async_solipsism.EventLoop()
    try:
        done: tuple[list[Entry], float] = loop.run_until_complete(simulate(seed, folder))
        return done
    finally:
        loop.close()


def digest(entries: list[Entry]) -> str:
    return sha256(repr(entries).encode()).hexdigest()


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_trouble_leaves_one_entry_for_each_request(seed: int, tmp_path: Path) -> None:
    entries, took_s = run(seed, tmp_path)
    assert took_s > 3000
    assert len(entries) == REQUESTS
    assert len({entry.id for entry in entries}) == REQUESTS
    # A run in which nothing rare happened would prove nothing.
    assert {entry.outcome.status for entry in entries} == {"ok", "refused", "failed", "cancelled"}
    assert {entry.cache for entry in entries} >= {"off", "miss", "exact"}
    assert {504, 404, 400, 499} <= {entry.outcome.http_status for entry in entries}
    assert any(len(entry.outcome.attempts) == 2 and entry.outcome.status == "ok" for entry in entries)
    for entry in entries:
        if entry.saved and entry.baseline and entry.baseline.cost_nanos is not None:
            assert sum(entry.saved.values()) == entry.baseline.cost_nanos - (entry.outcome.cost_nanos or 0)


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path: Path) -> None:
    first, again, other = (digest(run(seed, tmp_path)[0]) for seed in (7, 7, 8))
    assert first == again
    assert first != other
