"""The decision path without sockets: what Trivet itself does to a request of 1 KB, in microseconds.

    python bench/decision.py [--json] [--rounds 7] [--count [--against FOLDER]]

From the bytes of a request in hand to the targets chosen (auth, decode, ledger's promise, exact look-up, route,
decide), and from the bytes of its answer to the Entry as it is written (usage, cost, savings, Entry, encoding). The
functions are the ones that serve; what is left out is sockets, the HTTP server and client, and the write itself.
`--count` gives user instructions (callgrind) instead, step by step: they are the same on any machine, however busy.
Valgrind knows no SHA instructions, so SHA-256 is counted as if the processor had none: 33 thousand of 1 KB.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from trivet.build import SystemRandom
from trivet.ledger.keys import FILE, KeyRing, create
from trivet.pipeline import decide, look, settle
from trivet.server.ask import new_id
from trivet.server.auth import Auth
from trivet.tally import Stages, Tally, Try, end_attempt
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
COUNTED = 1000
"""Decisions under callgrind for each step; a hundred more change a figure by less than one in a thousand."""
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

    def admit(self) -> tuple[int, int, str, str, str]:
        """Say who asks, when, and under which id."""
        clock = self._stages.clock
        began_ns, at_ns = clock.mono_ns(), clock.now_ns()
        tenant, key_id, _ = self._auth.check(self._headers)
        return began_ns, at_ns, tenant, key_id, new_id(at_ns, self._random)

    def read(self, raw: bytes) -> Tally:
        """From bytes to a request."""
        began_ns, at_ns, tenant, key_id, id_ = self.admit()
        request = read_request(raw, self._headers, id=id_, tenant=tenant, key_id=key_id, at_ns=at_ns)
        return Tally(request, began_ns)

    def look(self, raw: bytes) -> Tally:
        """From bytes to all that deciding needs."""
        tally = self.read(raw)
        tally.facts = run_to_end(look(tally, self._stages))
        return tally

    def before(self, raw: bytes) -> Tally:
        """From bytes to a decision."""
        tally = self.look(raw)
        tally.decision = decide(tally.request, tally.facts, tally.policy)
        return tally

    def answered(self, raw: bytes) -> Tally:
        """From bytes to the end of an answer that was read."""
        tally = self.before(raw)
        clock = self._stages.clock
        attempt = Try("a", clock.mono_ns() - tally.began_ns)
        chunk: Chunk = read_piece(self._answer, streamed=False)
        tally.target = "a"
        tally.count(chunk, clock.mono_ns() - tally.began_ns)
        end_attempt(tally, attempt, clock)
        return tally

    def together(self, raw: bytes) -> None:
        """From the bytes of the request to the record."""
        settle(self.answered(raw), self._stages)

    def steps(self) -> Mapping[str, Callable[[bytes], object]]:
        """Name them in order; each does all that those above it do."""
        return {
            "the loop that measures": void,
            "auth, id": lambda raw: self.admit(),
            "read the request": self.read,
            "look: ledger, key, cache, route": self.look,
            "decide": self.before,
            "read the answer": self.answered,
            "settle: cost, savings, entry, encoding": self.together,
        }


@asynccontextmanager
async def opened() -> AsyncGenerator[Path1K, None]:
    """Build the stages, with one key."""
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
            yield Path1K(built, Auth(ring), headers)
        ring.close()


def measure(step: Callable[[bytes], object], raws: list[bytes], *, rounds: int) -> list[float]:
    """Microseconds a call, one figure for each round."""
    took = []
    for _ in range(rounds):
        gc.collect()
        began = time.perf_counter_ns()
        for raw in raws:
            step(raw)
        took.append((time.perf_counter_ns() - began) / len(raws) / 1000)
    return took


async def timed(rounds: int) -> dict[str, object]:
    """Measure microseconds."""
    raws = [body(i) for i in range(5000)]
    async with opened() as path:
        figures = {
            "before the call": measure(path.before, raws, rounds=rounds),
            "together": measure(path.together, raws, rounds=rounds),
        }
    medians = {name: statistics.median(took) for name, took in figures.items()}
    medians["after the call"] = medians["together"] - medians["before the call"]
    return {"body_bytes": len(raws[0]), "us": medians, "rounds": figures}


async def be_counted() -> None:
    """Do one step after the other, each when a line comes: whoever sends it counts what that takes."""
    raws = [body(i) for i in range(COUNTED)]
    async with opened() as path:
        for name, step in path.steps().items():
            for raw in raws[:100]:  # the interpreter adapts its code to what it meets
                step(raw)
            gc.collect()
            print(name, flush=True)
            sys.stdin.readline()
            for raw in raws:
                step(raw)
            print("done", flush=True)
            sys.stdin.readline()


def counted(checkout: Path) -> dict[str, float]:
    """Count instructions of each step, in thousands: what it takes more than those above it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", sys.executable]
        env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(checkout / "src")}
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        child = subprocess.Popen(
            [*argv, __file__, "--be-counted"], env=env, stdin=pipe, stdout=pipe, stderr=none, text=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        into, outof = child.stdin, child.stdout

        def control(*asked: str) -> None:
            subprocess.run(["callgrind_control", *asked, str(child.pid)], check=True, capture_output=True)

        def go_on() -> str:
            into.write("\n")
            into.flush()
            return outof.readline()

        totals: dict[str, int] = {}
        name = outof.readline().strip()
        while name:
            control("--instr=on")
            go_on()
            before = set(out.parent.iterdir())
            control("--dump")
            control("--instr=off")
            told = "".join(dump.read_text() for dump in set(out.parent.iterdir()) - before)
            totals[name] = int(re.findall(r"^(?:totals|summary): (\d+)", told, re.M)[-1])
            name = go_on().strip()
    if child.wait():
        raise SystemExit(f"counting {checkout.name} failed: run `python bench/decision.py` over it to see why")
    each = {name: total / COUNTED / 1000 for name, total in totals.items()}
    figures = list(each.values())
    steps = {name: round(k - less, 2) for (name, k), less in zip(each.items(), [0.0, *figures], strict=False)}
    return {**steps, "together, without the loop": round(figures[-1] - figures[0], 2)}


def commit(checkout: Path) -> str:
    """Say which commit a checkout is at."""
    return subprocess.run(
        ["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def void(_: object) -> None:
    """Take a value and give none."""


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", action="store_true", help="instructions in place of microseconds")
    parser.add_argument("--against", type=Path, help="with --count: another checkout, to be counted as well")
    parser.add_argument("--be-counted", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be_counted:
        asyncio.run(be_counted())
        return
    if given.count:
        here = Path(__file__).parents[1]
        told: dict[str, Any] = {"commit": commit(here), "k_instructions": counted(here)}
        if given.against is not None:
            told["against"] = {"commit": commit(given.against), "k_instructions": counted(given.against)}
    else:
        told = asyncio.run(timed(given.rounds))
    if given.json:
        command = " ".join(Path(word).name if word.startswith("/") else word for word in sys.argv)
        made_on = {"python": sys.version.split()[0], "machine": platform.platform(), "command": command}
        print(json.dumps({**told, **made_on}, indent=1))
        return
    if given.count:
        print("Thousand user instructions:")
        for name, k in told["k_instructions"].items():
            print(f"  {name:40s} {k:6.2f}")
        if given.against is not None:
            print("against", told["against"])
        return
    print(f"{told['body_bytes']} bytes, median of {given.rounds} rounds:")
    for name, us in told["us"].items():
        print(f"  {name:16s} {us:6.2f} us")


if __name__ == "__main__":
    main()
