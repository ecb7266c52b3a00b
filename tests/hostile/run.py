"""Sends thousands of hostile requests to a real `trivet serve`, and says what did not hold.

    python -m tests.hostile.run [--count 10000] [--seed 1] [--only NUMBER]

Asserted of each: an answer with the right class of status and an error of OpenAI's shape, or a closed connection where
HTTP itself is broken; never a 500, never a hang; one ledger entry for each request that reached a route that asks.
Of all together: a client that behaves well and asks all the while is unharmed; memory and sockets are back at the end;
nothing was printed that should not be.

Not here: the requests (`attacks.py`), requests made from `/openapi.json` (`contract.py`).
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httptools

from tests.edge_kit import Child, make_key, serving
from tests.hostile.attacks import Attack, attack
from tests.hostile.wires import Told
from tests.hostile.witness import WORDS, Witness, resident_bytes, sockets, witness
from trivet.ledger.keys import FILE
from trivet.ledger.report import entries as read_entries
from trivet.testing.upstream import Upstream
from trivet.types import Entry

AT_ONCE = 16
BATCH = 100
GROWN_BYTES = 64 * 2**20
"""More than this is a leak: after a body of 50 MB the allocator may keep one copy of it."""

CONFIG = """
[targets.a]
provider = "openai"
model = "a-1"
base_url = "{a}"
price = {{ input = "$1", output = "$2" }}

[targets.good]
provider = "openai"
model = "good-1"
base_url = "{good}"
price = {{ input = "$1", output = "$2" }}
"""


class House(NamedTuple):
    """A gateway under attack."""

    child: Child
    key: bytes
    seen: Witness
    targets: tuple[Upstream, ...]
    folder: Path

    def entries(self) -> dict[str, Entry]:
        """Read what the ledger has of all but the witness."""
        ledger = self.child.home / "ledger"
        kept = read_entries(ledger, since_ns=0, until_ns=2**62, limit=10**6, tell=lambda line: None)
        return {entry.id: entry for entry in kept if entry.tenant != "witness"}

    def open_sockets(self) -> int:
        """Count the gateway's sockets, but for those to its targets, which it keeps for the next request."""
        return sockets(self.child.process.pid) - sum(len(target.open) for target in self.targets)


class Summary(NamedTuple):
    """What happened."""

    sent: Counter[str]
    """By kind of attack."""
    answers: Counter[int]
    entries: int
    witnessed: int
    grown_bytes: int
    wrong: list[str]
    seconds: float


@asynccontextmanager
async def house() -> AsyncGenerator[House, None]:
    """Run `trivet serve` with keys, and a witness beside it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        key = make_key(folder / "home" / FILE, "attacker")
        own = make_key(folder / "home" / FILE, "witness")
        async with Upstream("x") as a, Upstream(*WORDS) as good:
            config = CONFIG.format(a=a.base_url, good=good.base_url)
            async with serving(folder, config) as child, witness(child.url, "good", key=own) as seen:
                yield House(child, key.encode(), seen, (a, good), folder)


class _Answers:
    """All answers of one connection."""

    def __init__(self) -> None:
        self.found: list[Told] = []
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers, self._body = [], b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if (status := self._parser.get_status_code()) >= 200:
            self.found.append(Told(status, self._headers, self._body, whole=True))


async def send(url: str, made: Attack) -> list[Told]:
    """Send one attack; give every answer on its connection. Raises TimeoutError where it hangs."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    answers = _Answers()
    head = made.steps[0]
    silent = isinstance(head, bytes) and head.startswith(b"HEAD ")
    try:
        async with asyncio.timeout(made.patience_s):
            with suppress(ConnectionError):
                writing = asyncio.ensure_future(_write(writer, made.steps))
                try:
                    while not made.leaves and (piece := await reader.read(65_536)):
                        answers.feed(piece)
                finally:
                    if made.leaves:
                        await asyncio.wait([writing])
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
    except TimeoutError:
        if made.patience_s > 10:
            raise
    except httptools.HttpParserError:
        if not silent:  # an answer to HEAD says a length and has no body
            raise
    finally:
        writer.transport.abort() if made.leaves else writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return answers.found


async def _write(writer: asyncio.StreamWriter, steps: Sequence[bytes | float]) -> None:
    for step in steps:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        else:
            await asyncio.sleep(step)


def flaws(made: Attack, answers: Sequence[Told]) -> list[str]:
    """Say what is wrong with the answers to an attack."""
    found = []
    if not answers and 0 not in made.statuses and made.patience_s > 10:
        found.append("no answer")
    for told in answers:
        if told.status not in made.statuses:
            found.append(f"status {told.status}: {told.body[:200]!r}")
        if told.status >= 400 and told.body and not _shaped(told):
            found.append(f"{told.status} in another shape: {told.body[:200]!r}")
    if len(answers) > max(1, made.entries[1]):
        found.append(f"{len(answers)} answers")
    return found


def _shaped(told: Told) -> bool:
    try:
        error = json.loads(told.body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    shape = error.keys() == {"message", "type", "param", "code"} and isinstance(error["message"], str)
    return bool(shape and error["message"] and told.header(b"content-type") == b"application/json")


async def assault(
    opened: House, numbers: Sequence[int], *, seed: int = 1, progress: Callable[[str], None] = lambda line: None
) -> Summary:
    """Send the attacks of these numbers, a batch at a time; after each, hold the ledger against the answers."""
    began, total = time.monotonic(), Summary(Counter(), Counter(), 0, 0, 0, [], 0.0)
    wrong = total.wrong
    resting = resident = 0
    for at in range(0, len(numbers), BATCH):
        batch = {number: attack(seed, number, key=opened.key) for number in numbers[at : at + BATCH]}
        before = len(opened.entries())
        ids = await _volley(opened.child.url, batch, total)
        wrong += await _accounts(opened, batch, before=before, ids=ids)
        if at == 0:
            resting, resident = await _settled(opened), resident_bytes(opened.child.process.pid)
        progress(f"{at + len(batch)}/{len(numbers)} sent, {len(wrong)} wrong, {opened.seen.asked} asked by the witness")
    left, grown = await _settled(opened), resident_bytes(opened.child.process.pid) - resident
    if left > resting:
        wrong.append(f"{left - resting} sockets are left open")
    if grown > GROWN_BYTES:
        wrong.append(f"the memory has grown by {grown} bytes")
    if "Traceback" in opened.child.words():
        wrong.append(opened.child.words()[-2000:])
    kept = len(opened.entries())
    wrong += [f"the witness was harmed: {harm}" for harm in opened.seen.harmed]
    return total._replace(
        entries=kept, witnessed=opened.seen.asked, grown_bytes=grown, seconds=time.monotonic() - began
    )


async def _volley(url: str, batch: dict[int, Attack], total: Summary) -> Counter[str]:
    """Send attacks, some at a time, and judge their answers; gives the ids of entries that were told."""
    gate, ids = asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def one(number: int, made: Attack) -> None:
        async with gate:
            try:
                answers = await send(url, made)
            except TimeoutError:
                total.wrong.append(f"number {number} ({made.name}): hangs")
                return
        total.sent[made.name] += 1
        total.answers.update([told.status for told in answers] or [0])
        total.wrong.extend(f"number {number} ({made.name}): {flaw}" for flaw in flaws(made, answers))
        ids.update(i.decode() for told in answers if (i := told.header(b"x-trivet-id")))

    await asyncio.gather(*(one(number, made) for number, made in batch.items()))
    return ids


async def _accounts(opened: House, batch: dict[int, Attack], *, before: int, ids: Counter[str]) -> list[str]:
    """Count the entries of a batch, waiting for those of clients that left."""
    least, most = (sum(made.entries[side] for made in batch.values()) for side in (0, 1))
    kept: dict[str, Entry] = {}
    stable = 0
    for _ in range(100):
        last, kept = len(kept), opened.entries()
        stable = stable + 1 if len(kept) == last else 0
        if stable >= 2 and len(kept) - before >= least and ids.keys() <= kept.keys():
            break
        await asyncio.sleep(0.05)
    numbers = f"numbers {min(batch)} to {max(batch)}"
    found = []
    if not least <= len(kept) - before <= most:
        found.append(f"{numbers}: {len(kept) - before} entries, and {least} to {most} are right")
    found += [f"{numbers}: {id_} was told and is not kept" for id_ in ids.keys() - kept.keys()]
    found += [f"{numbers}: {id_} was told {count} times" for id_, count in ids.items() if count > 1]
    return found


async def _settled(opened: House) -> int:
    """Give the gateway's open sockets when they have become no fewer for a while; the witness has one."""
    least = opened.open_sockets()
    for _ in range(20):
        await asyncio.sleep(0.05)
        least = min(least, opened.open_sockets())
    return least


def table(summary: Summary) -> str:
    """Write a summary for people."""
    lines = [f"{name:16} {count:6}" for name, count in sorted(summary.sent.items())]
    told = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(summary.answers.items()))
    lines += [f"{'sent':16} {summary.sent.total():6}  in {summary.seconds:.0f} s", f"answers by status: {told}"]
    harmed = sum("the witness was harmed" in flaw for flaw in summary.wrong)
    lines.append(
        f"{summary.entries} entries; the witness asked {summary.witnessed} times and was harmed {harmed} times"
    )
    lines.append(f"memory grew by {summary.grown_bytes / 2**20:.1f} MiB")
    return "\n".join([*lines, *(f"WRONG {flaw}" for flaw in summary.wrong), f"{len(summary.wrong)} wrong"])


async def main_async(numbers: Sequence[int], *, seed: int) -> Summary:
    """Open a house and attack it, telling how far it is."""

    def progress(line: str) -> None:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    async with house() as opened:
        summary = await assault(opened, numbers, seed=seed, progress=progress)
    print(file=sys.stderr)
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; gives 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one attack, by its number")
    asked = parser.parse_args(arguments)
    numbers = range(asked.count) if asked.only is None else range(asked.only, asked.only + 1)
    summary = asyncio.run(main_async(numbers, seed=asked.seed))
    print(table(summary))
    return int(bool(summary.wrong))


if __name__ == "__main__":
    sys.exit(main())
