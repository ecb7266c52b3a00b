"""The semantic tier with very many questions: a look, a start, and what an entry takes in memory and on the disk.

    python -m bench.index --work FOLDER [--count 100000] [--embedder builtin] [--stream FILE] [--looks 2000]

The bars, at 100,000 entries of one scope: a look with its decision under 1.5 ms of processor time; all of them read in
under 5 s; under 1.5 KB an entry beside its question and answer.

All goes through the real tier (`cache/semantic/tier.py`) in mode `verified`, with its file, its graph and a real
embedder. Questions are made of lists of words, all different, or are the `text` of the lines of FILE (JSON), as far as
those go. Steps, each a process of its own:

    fill    keeps COUNT answers, and waits for the graph of them
    look    reads them, and looks for questions that are not among them
    torn    reads them with half of the graph's file missing, and waits until the graph was made again
    bare    looks without a graph: all are compared

Processor time is of the whole process, all threads; the child's that makes graphs is beside it. Memory is the
proportional share (PSS) after reading less before, divided by the entries, less question and answer; before, an empty
tier has loaded what any needs, libraries and prior.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
from bench.machine import CORES
from msgspec import Raw

from trivet import build
from trivet.cache.key import fingerprint, question
from trivet.cache.semantic import graph
from trivet.cache.semantic.tier import Tiers, place
from trivet.cache.semantic.tier import build as build_tier
from trivet.config import parse
from trivet.errors import EmbedderError
from trivet.types import CachePolicy, Entry, Nanos, Outcome, Policy, Request, Usage

RULES = CachePolicy(mode="verified", ttl_s=864_000.0, max_temperature=1.0, tools=False, partition=(), auto_off=False)
POLICY = Policy(name="p", digest="d", pool=("a",), cache=RULES)
SEED = 11
SAID = "Here is what to do. " * 15
"""300 characters, about what the questions of customers are answered with."""


def _listed(text: str, by: str | None = None) -> list[str]:
    return [" ".join(one.split()) for one in text.split(by)]


ASKS = ("how do i", "where can i", "why can't i", "when may i", "what does it cost to", "who helps me to", "must i")
DOES = _listed(
    """
    cancel change close collect compare confirm copy deliver dispute download exchange extend find forward
    freeze give import insure join keep label lease lend list lock mail measure merge move open order pack paint
    park pay plan print protect read register rent repair replace report reserve return sell send share sign
    sort split start stop store sync test track transfer translate update upload verify wash weigh
    """
)
THINGS = _listed(
    """
    account address album alarm app badge battery bicycle bill boat book booking box camera car card certificate
    chair claim coat code contract cupboard deposit desk device diary document dress engine event farm file flat
    flight folder form garden gift guitar house invoice key lamp laptop letter licence list loan luggage
    magazine map meal medicine meeting message mortgage office parcel passport password permit phone photo piano
    policy printer prize profile radio receipt recipe report room salary seat shelf shop song statement suitcase
    tablet tent ticket trailer tyre van video voucher wallet watch website window
    """
)
WHERE = _listed(
    """
    abroad, at night, at the airport, before christmas, by myself, by post, during the holidays, for a friend,
    for my mother, for the company, from my phone, from the office, in a hurry, in spain, in the rain, in
    winter, next week, on a sunday, on the train, online, together with my brother, twice a year, with a broken
    arm, without a receipt, without an account
    """,
    by=",",
)
RESULTS = Path(__file__).parent / "results"
READY_S = 120.0

Row = dict[str, Any]


def questions(count: int, stream: Path | None) -> list[str]:
    """Give different questions: those of a stream first, then made ones, in an order that is always the same."""
    found: dict[str, None] = {}
    if stream is not None:
        with stream.open() as lines:
            found |= dict.fromkeys(json.loads(line)["text"] for line in lines)
    made = [f"{a} {b} my {c} {d}" for a, b, c, d in product(ASKS, DOES, THINGS, WHERE)]
    random.Random(SEED).shuffle(made)
    for text in made:
        if len(found) >= count:
            break
        found[text] = None
    return list(islice(found, count))


def asked(text: str) -> Request:
    """Make the request of a question."""
    messages = Raw(msgspec.json.encode([{"role": "user", "content": text}]))
    return Request(id=f"req_{os.urandom(16).hex()}", tenant="t", model="p", fields={"messages": messages})


def answered(request: Request, text: str) -> tuple[Entry, bytes]:
    """Make the answer to one."""
    usage = Usage(input_tokens=12, output_tokens=70)
    outcome = Outcome(status="ok", http_status=200, target="a", usage=usage, cost_nanos=Nanos(50_000))
    message = {"role": "assistant", "content": f"{text}? {SAID}"}
    told = {"prompt_tokens": 12, "completion_tokens": 70, "total_tokens": 82}
    body = {
        "id": f"chatcmpl-{request.id}", "object": "chat.completion", "created": 1, "model": "a-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": told,
    }  # fmt: skip
    return Entry(id=request.id, at_ns=0, tenant="t", outcome=outcome), json.dumps(body).encode()


class Cell:
    """A tier over a folder."""

    def __init__(self, home: Path, count: int, embedder: str) -> None:
        settings = parse(
            f'[cache]\nmax_entries = {2 * count}\nmax_bytes = {count * 8192}\n[embedder]\nkind = "{embedder}"',
            source="-",
        )
        self.kit = build.kit(
            settings, {**os.environ, "TRIVET_HOME": str(home)}, tell=lambda line: print(line, file=sys.stderr)
        )
        self.tier: Tiers = build_tier(settings.cache, self.kit)
        self.file = place(home)

    async def start(self) -> None:
        """Have the embedder ready before anything is read from the file."""
        embedder = self.kit.embedder("auto")
        await embedder.start()
        until = time.monotonic() + READY_S
        while state := embedder.ready():
            if state.startswith("failed") or time.monotonic() > until:
                raise EmbedderError(state)
            await asyncio.sleep(0.02)
        await embedder.embed(["warm"])

    def there(self) -> int:
        """Say how many answers are there."""
        return self.tier.state().answers

    def in_graph(self) -> int:
        """Say how many vectors its graph has; 0 without one."""
        indexes = [where.index for where in self.tier._shelf._scopes.values() if where.index is not None]
        return sum(index._in_graph() for index in indexes)

    async def all_there(self, count: int) -> None:
        """Wait until so many answers were read."""
        while self.there() < count:
            await asyncio.sleep(0.005)

    async def drawn(self, count: int) -> None:
        """Wait until most vectors are in a graph, and it is settled."""
        while self.in_graph() < 0.9 * count or any(i._settling for i in self._indexes()):
            # The next question that is kept would have it made; here none comes.
            for scope, where in self.tier._shelf._scopes.items():
                if where.index is not None:
                    self.tier._shelf._tell_if_crowded(scope, where.index)
            await asyncio.sleep(0.1)

    def _indexes(self) -> list[Any]:
        return [where.index for where in self.tier._shelf._scopes.values() if where.index is not None]


async def fill(given: argparse.Namespace) -> Row:
    """Keep the answers."""
    cell = Cell(given.work, given.count, given.embedder)
    await cell.start()
    await cell.tier.start([POLICY])
    began, cpu_s = time.monotonic(), time.process_time()
    size = 0
    for n, text in enumerate(questions(given.count, given.stream)):
        request = asked(text)
        entry, body = answered(request, text)
        size += len(body) + len(text)
        await cell.tier.keep(request, POLICY, entry, body, ticket=None)
        if n % 500 == 0:
            await asyncio.sleep(0.02)  # the thread writes
            while cell.tier._file is not None and cell.tier._file._queue.qsize() > 1000:
                await asyncio.sleep(0.01)
    kept_s, kept_cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    assert cell.there() == given.count, cell.there()
    if given.graph:
        await cell.drawn(given.count)
    counted = cell.tier.state().bytes
    await cell.tier.aclose()
    disk = {path.name: path.stat().st_size for path in _files(cell.file)}
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "keep_cpu_ms": 1e3 * kept_cpu_s / given.count, "keep_s": kept_s, "words_bytes": size / given.count,
        "graphs_cpu_s": child.ru_utime + child.ru_stime, "disk": disk,
        "disk_bytes": sum(disk.values()) / given.count, "counted_bytes": counted / given.count,
    }  # fmt: skip


def _files(answers: Path) -> Iterator[Path]:
    yield from sorted(answers.parent.glob(f"{answers.name}*"))
    yield from sorted(answers.with_suffix(".graphs").glob("*.graph"))


async def look(given: argparse.Namespace, *, torn: bool = False) -> Row:
    """Read the answers, and look for others."""
    cell = Cell(given.work, given.count, given.embedder)
    if torn:
        for path in cell.file.with_suffix(".graphs").glob("*.graph"):
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
    await warm(given)
    await cell.start()
    before = pss_bytes()
    began, cpu_s = time.monotonic(), time.process_time()
    await cell.tier.start([POLICY])
    await cell.all_there(given.count)
    told: Row = {"load_s": time.monotonic() - began, "load_cpu_s": time.process_time() - cpu_s}
    if torn and given.graph:
        await cell.drawn(given.count)
        child = resource.getrusage(resource.RUSAGE_CHILDREN)
        told |= {"graph_s": time.monotonic() - began, "graph_child_cpu_s": child.ru_utime + child.ru_stime}
    elif given.graph:
        await cell.drawn(given.count)
    told["in_graph"] = cell.in_graph()
    told["resident_bytes"] = (pss_bytes() - before) / given.count
    told |= await looks(cell, given)
    # What looks have touched of a graph that is mapped is there from then on.
    told["resident_after_looks_bytes"] = (pss_bytes() - before) / given.count
    await cell.tier.aclose()
    return told


async def warm(given: argparse.Namespace) -> None:
    """Have all that a tier needs loaded, by one that is empty: what is the same for any count is no entry's."""
    if graph.here():
        graph.usearch()
    with TemporaryDirectory() as folder:
        cell = Cell(Path(folder), given.count, given.embedder)
        await cell.start()
        await cell.tier.start([POLICY])
        await cell.tier.find(asked("is anybody there"), POLICY)
        await cell.tier.aclose()


async def looks(cell: Cell, given: argparse.Namespace) -> Row:
    """Look for questions that are not kept, and say what that takes as a whole and in parts."""
    more = questions(given.count + given.looks, given.stream)[given.count :]
    requests = [asked(text) for text in more]
    embedder, decider = await cell.tier._ready(POLICY)
    for request in requests[:50]:
        await cell.tier.find(request, POLICY)
    cpu: dict[str, list[int]] = {"look": [], "embed": [], "near": [], "decide": []}
    wall: list[int] = []
    outcomes = []
    for request in requests:
        began, at = time.perf_counter_ns(), time.process_time_ns()
        found = await cell.tier.find(request, POLICY)
        cpu["look"].append(time.process_time_ns() - at)
        wall.append(time.perf_counter_ns() - began)
        outcomes.append(found.hit is not None)
        await asyncio.sleep(0)
    for request in requests[: len(requests) // 4]:
        made = fingerprint(request, POLICY)
        assert made is not None
        what = question(request, POLICY, made.body, in_context=True)
        assert what is not None
        at = time.process_time_ns()
        rows = (await embedder.embed([what.text])).rows
        cpu["embed"].append(time.process_time_ns() - at)
        at = time.process_time_ns()
        near = cell.tier._shelf.nearest(what.scope, rows[0], 8, now_ns=time.time_ns())
        cpu["near"].append(time.process_time_ns() - at)
        ticket = cast("Any", (await cell.tier.find(request, POLICY)).ticket)
        if ticket is not None and near:
            at = time.process_time_ns()
            decider.decide(ticket.look)
            cpu["decide"].append(time.process_time_ns() - at)
    told: Row = {f"{name}_cpu_ms": spread(ns) for name, ns in cpu.items()} | {"look_wall_ms": spread(wall)}
    return told | {"hits": sum(outcomes) / len(outcomes), "looks": len(requests)}


def spread(ns: Sequence[int]) -> dict[str, float]:
    """Give median, 95th percentile and mean in milliseconds."""
    ordered = sorted(ns)
    at = {"p50": ordered[len(ordered) // 2], "p95": ordered[len(ordered) * 95 // 100]}
    return {name: round(value / 1e6, 4) for name, value in {**at, "mean": sum(ordered) / len(ordered)}.items()}


def pss_bytes() -> int:
    """Give the memory of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def bare(given: argparse.Namespace) -> Row:
    """Look with all vectors compared, as where usearch is not installed."""
    graphs, aside = place(given.work).with_suffix(".graphs"), given.work / "graphs.aside"
    shutil.rmtree(aside, ignore_errors=True)
    if graphs.exists():
        graphs.rename(aside)
    given.graph = False
    # No module of that name can be found from here on, so no graph is read, or made meanwhile.
    sys.modules["usearch"] = cast("Any", None)
    return await look(given)


STEPS = {"fill": fill, "look": look, "torn": lambda given: look(given, torn=True), "bare": bare}


def step(name: str, given: argparse.Namespace) -> Row:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", "bench.index", *sys.argv[1:], "--step", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    told: Row = json.loads(done.stdout.decode().splitlines()[-1])
    print(f"{name}: {json.dumps(told)}", file=sys.stderr, flush=True)
    return told


def written(told: Row) -> str:
    """Write the results for people."""
    filled, looked, torn, alone = (told[name] for name in STEPS)
    words = filled["words_bytes"]

    def row(name: str, ms: dict[str, float]) -> str:
        return f"| {name} | {ms['p50']:.2f} | {ms['p95']:.2f} | {ms['mean']:.2f} |"

    lines = [
        f"# {told['count']:,} questions of one kind, {told['embedder']}",
        "",
        f"`{told['command']}` on {told['machine']}, {told['seconds']} s.",
        "",
        "| ms of processor time | median | 95 % | mean |",
        "|---|---:|---:|---:|",
        row("a look with its decision, through the graph", looked["look_cpu_ms"]),
        row("of it the vector", looked["embed_cpu_ms"]),
        row("of it the nearest", looked["near_cpu_ms"]),
        row("of it the decision", looked["decide_cpu_ms"]),
        row("a look, on the clock", looked["look_wall_ms"]),
        row("a look without a graph, all compared", alone["look_cpu_ms"]),
        "",
        f"Of {looked['looks']:,} looks {looked['hits']:.1%} were hits. To keep one: {filled['keep_cpu_ms']:.2f} ms.",
        "",
        "| start | s on the clock | s of processor time |",
        "|---|---:|---:|",
        f"| all read, with a graph | {looked['load_s']:.1f} | {looked['load_cpu_s']:.1f} |",
        f"| all read, half of the graph missing | {torn['load_s']:.1f} | {torn['load_cpu_s']:.1f} |",
        f"| until there was a graph again | {torn['graph_s']:.0f} | {torn['graph_child_cpu_s']:.0f}, in its process |",
        f"| all read, no graph | {alone['load_s']:.1f} | {alone['load_cpu_s']:.1f} |",
        "",
        f"| bytes an entry, beside {words:.0f} of question and answer | |",
        "|---|---:|",
        f"| resident, with a graph | {looked['resident_bytes'] - words:.0f} |",
        f"| resident, after {looked['looks']:,} looks | {looked['resident_after_looks_bytes'] - words:.0f} |",
        f"| resident, without a graph | {alone['resident_bytes'] - words:.0f} |",
        f"| as it is counted against `max_bytes` | {filled['counted_bytes'] - words:.0f} |",
        f"| on the disk, with the graph | {filled['disk_bytes'] - words:.0f} |",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Run all steps, or one, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--embedder", default="builtin")
    parser.add_argument("--stream", type=Path)
    parser.add_argument("--looks", type=int, default=2000)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--out", default="index")
    given = parser.parse_args()
    given.graph = given.count > 20_000
    if given.step:
        print(json.dumps(asyncio.run(STEPS[given.step](given))))
        return
    shutil.rmtree(given.work / "cache", ignore_errors=True)
    began = time.monotonic()
    hidden = contextlib.suppress(ValueError)
    command = " ".join(sys.argv[1:]).replace(str(given.work), "FOLDER")
    with hidden:
        command = command.replace(str(given.stream), "FILE")
    told: Row = {
        "command": f"python -m bench.index {command}",
        "machine": f"{platform.machine()}, {len(CORES)} cores, Python {platform.python_version()}",
        "embedder": given.embedder,
        "count": given.count,
        **{name: step(name, given) for name in STEPS},
    }
    told["seconds"] = round(time.monotonic() - began)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{given.out}.json").write_text(json.dumps(told, indent=1) + "\n")
    (RESULTS / f"{given.out}.md").write_text(written(told))
    print(written(told))


if __name__ == "__main__":
    main()
