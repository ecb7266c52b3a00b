"""What one call of OpenAI's client takes: to the provider itself, through a gateway, and over the engine in process.

    python bench/inprocess.py [--rounds 9] [--seconds 1] [--out bench/results/YYYY-MM-DD-inprocess]

One program calls as programs do, with `openai.OpenAI`; the provider is mock.c. The program has one core; mock and
gateway share the other, so every way crosses between cores once, and what Trivet does in process is done on the
program's own core. All ways are visited in every round, in another order each time; *added* is a way's median minus
direct's of the same round. An answer must carry its question's number, or the run ends.

Not here: throughput of gateways (`gateway.py`). OpenAI's client takes most of every call: the sums say so.
"""

import argparse
import asyncio
import datetime as dt
import itertools
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openai

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/inprocess.py` looks beside the file only

from bench import machine
from bench.figures import minus, number
from bench.gateway import first_answer, started_mock
from bench.machine import GATEWAY_CORE, HARNESS_CORE, HERE, Process
from bench.peers import Trivet
from bench.report import table

import trivet

PROGRAM_CORE = GATEWAY_CORE
AT_ONCE = 16
PIECES = 8  # of a stream, all at once: what is measured is the way, not the pace
WARMUP_S = 0.2
FILLER = "The committee met on Tuesday to weigh the three proposals, and by noon none of them would do. " * 9
MODES = ("whole answer", "stream", f"{AT_ONCE} at a time")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to the provider."""

    name: str
    model: str
    client: openai.OpenAI
    async_client: openai.AsyncOpenAI
    process: Process | None = None
    """The gateway on the way."""
    same: bool = False
    """Ask one question again and again, so that the cache answers."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A second or so of calls in one way."""

    round: int
    way: str
    mode: str
    calls: int
    call_ms: float
    """The median; for many at a time: the time of all over their number."""
    ttft_ms: float | None
    program_cpu_ms: float
    """For a call, in the program."""
    gateway_cpu_ms: float | None
    others_cores: float


class Bench:
    """All ways, and the numbers that their questions carry."""

    def __init__(self, ways: list[Way], mock: Process, *, seconds: float) -> None:
        self._ways, self._mock, self._seconds = ways, mock, seconds
        self._numbers = itertools.count(1)
        self._loop = asyncio.Runner()
        self.blocks: list[Block] = []

    def close(self) -> None:
        """End the loop of the clients that ask many at a time."""
        for way in self._ways:
            self._loop.run(way.async_client.close())
        self._loop.close()

    def round(self, number: int) -> None:
        """Visit every way in every mode."""
        turn = number % len(self._ways)
        for mode in MODES:
            for way in self._ways[turn:] + self._ways[:turn]:
                if way.process:
                    way.process.thaw()
                self._warm_up(way, mode)
                self.blocks.append(self._block(number, way, mode))
                if way.process:
                    way.process.freeze()

    def _warm_up(self, way: Way, mode: str) -> None:
        self._asked(way, mode, for_s=WARMUP_S)

    def _block(self, number: int, way: Way, mode: str) -> Block:
        gateway = way.process.cpu_s if way.process else float
        before = machine.busy_s(), time.process_time(), gateway(), self._mock.cpu_s(), time.monotonic()
        took_ms, ttft_ms = self._asked(way, mode, for_s=self._seconds)
        after = machine.busy_s(), time.process_time(), gateway(), self._mock.cpu_s(), time.monotonic()
        busy_s, program_s, gateway_s, mock_s, all_s = (b - a for a, b in zip(before, after, strict=True))
        calls, together = len(took_ms), mode == MODES[2]
        return Block(
            round=number,
            way=way.name,
            mode=mode,
            calls=calls,
            call_ms=all_s * 1000 / calls if together else statistics.median(took_ms),
            ttft_ms=statistics.median(ttft_ms) if ttft_ms else None,
            program_cpu_ms=program_s * 1000 / calls,
            gateway_cpu_ms=gateway_s * 1000 / calls if way.process else None,
            others_cores=round(max(0.0, busy_s - program_s - gateway_s - mock_s) / all_s, 3),
        )

    def _asked(self, way: Way, mode: str, *, for_s: float) -> tuple[list[float], list[float]]:
        """Ask for so long; give the milliseconds of each call, and to its first content where streamed."""
        until_s = time.monotonic() + for_s
        if mode == MODES[2]:
            return self._loop.run(self._many(way, until_s)), []
        took_ms, ttft_ms = [], []
        while time.monotonic() < until_s:
            asked, mark = self._question(way, PIECES if mode == "stream" else 1)
            began_s, first_s = time.perf_counter(), None
            if mode == "stream":
                seen = 0
                for chunk in way.client.chat.completions.create(**asked, stream=True):
                    told = chunk.choices[0].delta.content if chunk.choices else None
                    if told:
                        seen += told.count(mark)  # a kept answer comes in one piece
                        first_s = first_s or time.perf_counter()
                assert seen == PIECES, f"{way.name}: {seen} of {PIECES} pieces"
                assert first_s is not None
                ttft_ms.append((first_s - began_s) * 1000)
            else:
                checked(way.client.chat.completions.create(**asked), mark)
            took_ms.append((time.perf_counter() - began_s) * 1000)
        return took_ms, ttft_ms

    async def _many(self, way: Way, until_s: float) -> list[float]:
        took_ms: list[float] = []

        async def one() -> None:
            while time.monotonic() < until_s:
                asked, mark = self._question(way, 1)
                began_s = time.perf_counter()
                checked(await way.async_client.chat.completions.create(**asked), mark)
                took_ms.append((time.perf_counter() - began_s) * 1000)

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        return took_ms

    def _question(self, way: Way, pieces: int) -> tuple[dict[str, Any], str]:
        number = 0 if way.same else next(self._numbers)
        content = f"[mock {pieces} 0] #{number} {FILLER}"
        asked = {"model": way.model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        return {**asked, "max_tokens": 400}, f"#{number} @"


def checked(answer: Any, mark: str) -> None:
    """See that an answer is the answer to its question."""
    assert mark in answer.choices[0].message.content, answer


def clients(base_url: str, key: str) -> dict[str, Any]:
    """Make OpenAI's two clients of a server."""
    options: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0}
    return {"client": openai.OpenAI(**options), "async_client": openai.AsyncOpenAI(**options)}


def opened_ways(opened: ExitStack, mock_port: int) -> list[Way]:
    """Start a gateway and an engine, each with a ledger of its own and the configuration of `gateway.py`."""
    folders = [Path(opened.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
    target, port = Trivet(), machine.free_port()
    target.prepare()
    launch = target.launch(folders[0], port=port, mock_port=mock_port)
    process = Process(launch.argv, core=HARNESS_CORE, folder=folders[0], env=launch.env)
    opened.callback(process.stop)
    first_answer(process, port=port, launch=launch, model="mock")
    process.freeze()
    target.launch(folders[1], port=port, mock_port=mock_port)
    os.environ["TRIVET_HOME"] = str(folders[1] / "home")
    engine = opened.enter_context(trivet.Engine(folders[1] / "trivet.toml"))

    def inside() -> dict[str, Any]:
        return {"client": engine.openai(max_retries=0), "async_client": engine.async_openai(max_retries=0)}

    def through() -> dict[str, Any]:
        return {**clients(f"http://127.0.0.1:{port}/v1", launch.key), "process": process}

    ways = [
        Way(name="direct", model="mock", **clients(f"http://127.0.0.1:{mock_port}/v1", "sk-bench")),
        Way(name="gateway, target", model="mock", **through()),
        Way(name="in process, target", model="mock", **inside()),
        Way(name="gateway, policy", model="bench", **through()),
        Way(name="in process, policy", model="bench", **inside()),
        Way(name="gateway, exact hits", model="bench", same=True, **through()),
        Way(name="in process, exact hits", model="bench", same=True, **inside()),
    ]
    for way in ways:
        opened.callback(way.client.close)
    return ways


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: medians over rounds; `added`: minus direct of the same round."""

    way: str
    mode: str
    call_ms: float
    added_ms: float
    added_ttft_ms: float | None
    program_cpu_ms: float
    gateway_cpu_ms: float | None


def lines(blocks: list[Block]) -> list[Line]:
    """Make the rows, in the order of the ways."""
    direct = {(block.mode, block.round): block for block in blocks if block.way == "direct"}
    told = []
    for mode, way in dict.fromkeys((block.mode, block.way) for block in blocks):
        ours = [block for block in blocks if (block.mode, block.way) == (mode, way)]
        base = [direct[mode, block.round] for block in ours]
        ttft = [minus(block.ttft_ms, other.ttft_ms) for block, other in zip(ours, base, strict=True)]
        told.append(
            Line(
                way=way,
                mode=mode,
                call_ms=median_of(ours, lambda x: x.call_ms) or 0.0,
                added_ms=statistics.median(a.call_ms - b.call_ms for a, b in zip(ours, base, strict=True)),
                added_ttft_ms=statistics.median(known) if (known := [x for x in ttft if x is not None]) else None,
                program_cpu_ms=median_of(ours, lambda x: x.program_cpu_ms) or 0.0,
                gateway_cpu_ms=median_of(ours, lambda x: x.gateway_cpu_ms),
            )
        )
    return told


def median_of(blocks: list[Block], figure: Callable[[Block], float | None]) -> float | None:
    """Give the median of what is known."""
    known = [value for value in map(figure, blocks) if value is not None]
    return statistics.median(known) if known else None


def as_markdown(told: dict[str, Any], made: list[Line]) -> str:
    """Give the tables."""
    about, others = told["machine"], sorted(block["others_cores"] for block in told["blocks"])
    cores = f"{about['cores']} cores (program on {PROGRAM_CORE}; mock and gateway on {HARNESS_CORE})"
    versions = f"openai {told['versions']['openai']}, Trivet {told['versions']['trivet']}"
    busy = f"{others[len(others) // 2]:.2f} cores busy in the median block, {others[-1]:.2f} at most"
    parts = [
        f"# One call of OpenAI's client: direct, through the gateway, in process, {told['at'][:10]}",
        f"    {told['command']}",
        f"{about['cpu']}, {cores}, {about['kernel']}, Python {about['python']}; {versions}.",
        f"Others kept {busy}. Medians of {told['rounds']} rounds; *added* is minus direct of the same round.",
    ]
    heads = ["", "ms a call", "added ms", "added TTFT ms", "CPU ms of the program", "CPU ms of the gateway"]
    for mode in dict.fromkeys(line.mode for line in made):
        rows = [
            [x.way, *map(number, (x.call_ms, x.added_ms, x.added_ttft_ms, x.program_cpu_ms, x.gateway_cpu_ms))]
            for x in made
            if x.mode == mode
        ]
        parts.append(f"## {mode[0].upper()}{mode[1:]}\n\n" + table(heads, rows))
    return "\n\n".join(parts) + "\n"


def measured(rounds: int, seconds: float) -> Iterator[Block]:
    """Measure all ways, and end all that was started."""
    os.sched_setaffinity(0, {PROGRAM_CORE})
    with ExitStack() as opened:
        mock, mock_port = started_mock(opened)
        bench = Bench(opened_ways(opened, mock_port), mock, seconds=seconds)
        opened.callback(bench.close)
        for number in range(rounds):
            print(f"round {number + 1}: load average {os.getloadavg()[0]:.2f}", file=sys.stderr, flush=True)
            bench.round(number)
        yield from bench.blocks


def main() -> None:
    """Measure, and write what was found."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1, help="of each block")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{today}-inprocess", help=".json and .md")
    given = parser.parse_args()
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    blocks = list(measured(given.rounds, given.seconds))
    made = lines(blocks)
    told: dict[str, Any] = {
        "at": at,
        "command": f"python {shlex.join([f'{HERE.name}/{Path(sys.argv[0]).name}', *sys.argv[1:]])}",
        "machine": machine.described(),
        "versions": {"openai": version("openai"), "trivet": Trivet().prepare()},
        "rounds": given.rounds,
        "lines": [asdict(line) for line in made],
        "blocks": [asdict(block) for block in blocks],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.with_name(given.out.name + ".json").write_text(json.dumps(told, indent=1) + "\n")
    given.out.with_name(given.out.name + ".md").write_text(as_markdown(told, made))
    print(as_markdown(told, made))


if __name__ == "__main__":
    main()
