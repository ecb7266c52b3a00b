"""The decision path without sockets: what Trivet itself does to a request of 1 KB, in microseconds.

    python bench/decision.py [--json] [--rounds 7]

From the bytes of a request in hand to the targets chosen (auth, decode, ledger's promise, exact look-up, route,
decide), and from the bytes of its answer to the Entry as it is written (usage, cost, savings, Entry, encoding). The
functions are the ones that serve; what is left out is sockets, the HTTP server and client, and the write itself.
"""

import argparse
import asyncio
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trivet.build import SystemRandom
from trivet.ledger.keys import FILE, KeyRing, create
from trivet.pipeline import Stages, Tally, Try, decide, end_attempt, look, settle
from trivet.server.ask import new_id
from trivet.server.auth import Auth
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.types import Chunk, Entry, Hold
from trivet.wire.chat import read_piece
from trivet.wire.request import read_request

POLICY = """
[policies.p]
pool = ["a", "b"]
baseline = "b"
[policies.p.cache]
mode = "exact"
"""
FILLER = "The committee met on Tuesday to weigh the three proposals, and by noon none of them would do. "
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "a-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": FILLER * 8}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 210, "completion_tokens": 96, "prompt_tokens_details": {"cached_tokens": 0}},
}


class Encoding(Memory):
    """A store that makes the record and writes it nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = msgspec.msgpack.Encoder().encode
        self.bytes = 0

    def settle(self, hold: Hold | None, entry: Entry) -> None:
        self.bytes = len(self._encode(entry))


def body(i: int) -> bytes:
    messages = [{"role": "system", "content": FILLER * 5}, {"role": "user", "content": FILLER * 4 + str(i)}]
    return json.dumps({"model": "p", "messages": messages, "max_tokens": 200, "temperature": 0.5}).encode()


def run_to_end(coroutine: Any) -> Any:
    """Run a coroutine that does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the decision path waited for something")


class Path1K:
    """The steps, over real stages."""

    def __init__(self, made: Stages, auth: Auth, headers: list[tuple[bytes, bytes]]) -> None:
        self._stages, self._auth, self._headers = made, auth, headers
        self._random = SystemRandom()
        self._answer = msgspec.json.encode(ANSWER)

    def before(self, raw: bytes) -> Tally:
        """From bytes to a decision."""
        clock = self._stages.clock
        began_ns, at_ns = clock.mono_ns(), clock.now_ns()
        tenant, key_id = self._auth.check(self._headers)
        id_ = new_id(at_ns, self._random)
        request = read_request(raw, self._headers, id=id_, tenant=tenant, key_id=key_id, at_ns=at_ns)
        tally = Tally(request, began_ns)
        tally.facts = run_to_end(look(tally, self._stages))
        tally.decision = decide(request, tally.facts, tally.policy)
        return tally

    def after(self, tally: Tally) -> None:
        """From the bytes of the answer to the record."""
        clock = self._stages.clock
        chunk: Chunk = read_piece(self._answer, streamed=False)
        attempt = Try("a", clock.mono_ns() - tally.began_ns)
        tally.target = "a"
        tally.count(chunk, clock.mono_ns() - tally.began_ns)
        end_attempt(tally, attempt, clock)
        settle(tally, self._stages)


def measure(step: Callable[[int], None], *, times: int, rounds: int) -> list[float]:
    """Microseconds a call, one figure for each round."""
    took = []
    for _ in range(rounds):
        gc.collect()
        began = time.perf_counter_ns()
        for i in range(times):
            step(i)
        took.append((time.perf_counter_ns() - began) / times / 1000)
    return took


async def main(rounds: int, *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = kit(home)
        key = create(home / FILE, name="bench", tenant="acme", clock=made.clock).secret.reveal()
        ring = KeyRing(home / FILE)
        headers = [
            (b"host", b"127.0.0.1:8088"),
            (b"content-type", b"application/json"),
            (b"accept", b"*/*"),
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-length", b"1024"),
        ]
        settings = config({"a": "http://127.0.0.1:9/v1", "b": "http://127.0.0.1:9/v1"}, POLICY)
        async with stages(settings, made, Encoding()) as built:
            path = Path1K(built, Auth(ring), headers)
            raws = [body(i) for i in range(5000)]
            figures = {
                "before the call": measure(lambda i: void(path.before(raws[i])), times=len(raws), rounds=rounds),
                "together": measure(lambda i: path.after(path.before(raws[i])), times=len(raws), rounds=rounds),
            }
        ring.close()
    medians = {name: statistics.median(took) for name, took in figures.items()}
    medians["after the call"] = medians["together"] - medians["before the call"]
    told = {"body_bytes": len(raws[0]), "us": medians, "rounds": figures, "python": sys.version.split()[0]}
    if as_json:
        print(json.dumps({**told, "machine": platform.platform(), "command": " ".join(sys.argv)}, indent=1))
        return
    print(f"{len(raws[0])} bytes, median of {rounds} rounds of {len(raws)}:")
    for name, us in medians.items():
        print(f"  {name:16s} {us:6.2f} us")


def void(_: object) -> None:
    """Take a value and give none."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.rounds, as_json=given.json))
