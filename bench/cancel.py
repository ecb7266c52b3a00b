"""How soon a target's connection is closed after the client has left, in every phase, streamed or not.

    python bench/cancel.py [--rounds 20] [--json]

A real gateway and a scripted upstream, in one process on loopback. The bar is 100 ms.
"""

import argparse
import asyncio
import json
import statistics
import sys

from trivet.testing.house import house
from trivet.testing.upstream import Answer, Upstream

PHASES = {
    "before the head": Answer(pieces=("a", "b"), first_delay_s=60),
    "before the first token": Answer(pieces=("a", "b"), hang_after=0),
    "in the middle": Answer(pieces=("a", "b"), hang_after=1),
}


async def once(upstream: Upstream, port: int, *, stream: bool) -> float:
    """Ask, leave, and give the milliseconds until the upstream saw its connection closed."""
    upstream.requests.clear()
    upstream.hung_up.clear()
    body = json.dumps({"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    while not upstream.requests:  # noqa: ASYNC110  # the same loop fills it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    left_s = asyncio.get_running_loop().time()
    writer.transport.abort()
    await asyncio.wait_for(upstream.hung_up.wait(), 10)
    assert upstream.closed_at is not None
    return (upstream.closed_at - left_s) * 1000


async def main(rounds: int) -> dict[str, dict[str, float]]:
    """Measure every cell."""
    cells: dict[str, dict[str, float]] = {}
    for phase, answer in PHASES.items():
        for stream in (False, True):
            upstream = Upstream(script=lambda _body, answer=answer: answer)  # type: ignore[misc]
            async with upstream, house({"a": upstream.base_url}) as gateway:
                port = int(gateway.url.rsplit(":", 1)[1])
                took = [await once(upstream, port, stream=stream) for _ in range(rounds)]
            name = f"{phase}, {'streamed' if stream else 'whole'}"
            cells[name] = {"p50_ms": round(statistics.median(took), 3), "max_ms": round(max(took), 3)}
    return cells


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(main(given.rounds))
    if given.json:
        print(json.dumps({"cells": found, "command": " ".join(sys.argv)}, indent=1))
    else:
        for cell, figures in found.items():
            print(f"{cell:36s} p50 {figures['p50_ms']:7.2f} ms   max {figures['max_ms']:7.2f} ms")
