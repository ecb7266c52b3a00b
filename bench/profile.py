"""Where a request's processor time goes: by stage (py-spy samples), and in instructions (callgrind counts).

    python bench/profile.py [--seconds 15] [--requests 600] [--against FOLDER] [--json]

A real gateway on one core, mock and load on the other, as in `gateway.py`. Samples give shares by stage and are good to
a percent or two. Counts are of user instructions, the same on any machine and whatever else runs on it: what a change
to the code costs or saves is read off them, and `--against` counts the sources of another checkout too. Needs
`pip install py-spy` and valgrind; what is missing is left out.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/profile.py` looks beside the file only

from bench import gateway, machine
from bench.machine import GATEWAY_CORE, HERE, Process
from bench.peers import Trivet

MODES = {
    "target": ("mock", False, ()),
    "policy": ("bench", False, ()),
    "exact hits": ("bench", True, ()),
    "stream of 8": ("bench", False, ("stream=1", "chunks=8", "interval_ms=0")),
}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LEDGERS_THREAD = "ledger's thread"
STAGES = (
    ("keep: the answer into the cache", ("exact.py:Exact.keep",)),
    ("settle: entry, cost, journal", ("pipeline.py:settle",)),
    ("look: policy, key, cache, route", ("pipeline.py:look",)),
    ("read: auth, body, request", ("ask.py:Ask._read",)),
    ("act: ask the target, read its answer", ("pipeline.py:act", "upstream/")),
    ("metrics", ("server/metrics.py",)),
    ("tell: headers and report", ("server/told.py",)),
    ("serve: HTTP of the client", ("server/",)),
    ("pipeline between the stages", ("pipeline.py",)),
)
"""The first that any frame of a sample belongs to has the sample."""


def stage_of(stack: list[str]) -> str:
    """Say to which stage a sample belongs."""
    for name, marks in STAGES:
        if any(mark in frame for frame in stack for mark in marks):
            return name
    return "the loop, and the kernel below it"


def shares(raw: str, *, ledger: float) -> dict[str, float]:
    """Give each stage's share of the process's time, in percent.

    Args:
        ledger: the share of its second thread, from the kernel's own accounts: a sampler cannot tell whether a thread
            that waits for the interpreter is busy.
    """
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.replace(" (", ":").replace("trivet/", "") for frame in stack.split(";")]
        named = [re.sub(r"^([^:]+):(.*?)(:\d+)?\)$", r"\2:\1", frame) for frame in frames]
        if not any("ledger/writer.py:" in frame for frame in named):
            found[stage_of(named)] += int(count)
    rest = (1 - ledger) / (sum(found.values()) or 1)
    told = {name: round(100 * count * rest, 1) for name, count in found.most_common()}
    return {**told, LEDGERS_THREAD: round(100 * ledger, 1)}


class Bench:
    """A gateway that is asked."""

    def __init__(self, opened: ExitStack, *, before: tuple[str, ...] = (), checkout: Path | None = None) -> None:
        _, mock_port = gateway.started_mock(opened)
        trivet = Trivet()
        trivet.prepare()
        self.folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        self._port = machine.free_port()
        launch = trivet.launch(self.folder, port=self._port, mock_port=mock_port)
        argv = [*before, sys.executable, *map(str, launch.argv)] if before else list(launch.argv)
        env = {**launch.env, **({"PYTHONPATH": str(checkout / "src")} if checkout else {})}
        self.process = Process(argv, core=GATEWAY_CORE, folder=self.folder, env=env)
        opened.callback(self.process.stop)
        gateway.first_answer(self.process, port=self._port, launch=launch, model="mock")
        self._key, self._seed = launch.key, 0

    def argv(self, mode: str, **limits: float) -> list[str]:
        """Say how to ask."""
        model, same, more = MODES[mode]
        self._seed += 10_000_000
        seed = 1 if same else self._seed
        asked = [f"port={self._port}", f"key={self._key}", f"model={model}", f"seed={seed}", "c=16", "warmup=0"]
        asked += [f"same={int(same)}", *more, *(f"{name}={value:g}" for name, value in limits.items())]
        return [str(machine.compiled("load")), *asked]

    def ask(self, mode: str, **limits: float) -> int:
        """Ask, and say how many were answered."""
        done = subprocess.run(self.argv(mode, **limits), capture_output=True, check=True, timeout=900)
        loaded = json.loads(done.stdout)
        if loaded["errors"]:
            raise SystemExit(f"{loaded['errors']} errors; the gateway said: {self.process.last_words()}")
        return int(loaded["requests"])

    def threads_s(self) -> tuple[float, float]:
        """Give the processor time so far of the main thread, and of the others."""
        times = {}
        for task in (Path("/proc") / str(self.pid()) / "task").iterdir():
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            times[task.name] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
        main_s = times.pop(str(self.pid()))
        return main_s, sum(times.values())

    def pid(self) -> int:
        """Give the gateway's process id."""
        return self.process._popen.pid  # noqa: SLF001  # of this folder


def sampled(seconds: float) -> dict[str, dict[str, float]]:
    """Sample each way of asking."""
    with ExitStack() as opened:
        bench, told = Bench(opened), {}
        bench.ask("policy", seconds=2)
        for mode in MODES:
            raw = bench.folder / "raw"
            spy = [shutil.which("py-spy") or "py-spy", "record", "-f", "raw", "-r", "500", "-d", f"{seconds:g}"]
            loading = subprocess.Popen(bench.argv(mode, seconds=seconds + 2), stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            before = bench.threads_s()
            subprocess.run([*spy, "-o", raw, "--pid", str(bench.pid())], check=True, capture_output=True)
            main_s, others_s = (x - y for x, y in zip(bench.threads_s(), before, strict=True))
            loading.wait()
            told[mode] = shares(raw.read_text(), ledger=others_s / (main_s + others_s))
    return told


def counted(requests: int, checkout: Path | None = None) -> dict[str, float]:
    """Count instructions of a request for each way of asking, in thousands; of another checkout, if one is given."""
    with ExitStack() as opened:
        out = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "out"
        tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
        bench, told = Bench(opened, before=tool, checkout=checkout), {}

        def control(*asked: str) -> None:
            subprocess.run(["callgrind_control", *asked, str(bench.pid())], check=True, capture_output=True)

        for mode in MODES:
            bench.ask(mode, seconds=300, limit=100)
            control("-i", "on")
            answered = bench.ask(mode, seconds=300, limit=requests)
            time.sleep(0.3)  # the ledger's thread comes after
            before = set(out.parent.iterdir())
            control("-d")
            control("-i", "off")
            dumps = set(out.parent.iterdir()) - before
            totals = [re.findall(r"^(?:totals|summary): (\d+)", dump.read_text(), re.M) for dump in dumps]
            told[mode] = round(sum(int(found[-1]) for found in totals if found) / answered / 1000, 1)
    return told


def main() -> None:
    """Run both, as far as their tools are here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of sampling, for each way of asking")
    parser.add_argument("--requests", type=int, default=600, help="counted, for each way of asking")
    parser.add_argument("--against", type=Path, help="another checkout, to be counted as well")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told: dict[str, object] = {
        "machine": machine.described(),
        "command": _command(),
        "commit": _commit(HERE.parent),
    }
    told["share_percent"] = sampled(given.seconds) if shutil.which("py-spy") else "py-spy is not installed"
    told["k_instructions"] = counted(given.requests) if shutil.which("valgrind") else "valgrind is not installed"
    if given.against is not None and shutil.which("valgrind"):
        told["against"] = {"commit": _commit(given.against), "k_instructions": counted(given.requests, given.against)}
    if given.json:
        print(json.dumps(told, indent=1))
        return
    for mode, found in told["share_percent"].items() if isinstance(told["share_percent"], dict) else ():
        print(f"\n{mode}: percent of the process's time")
        for name, percent in found.items():
            print(f"  {percent:5.1f}  {name}")
    print("\nthousand user instructions a request:", told["k_instructions"])
    if "against" in told:
        print("against", told["against"])


def _command() -> str:
    """Give the command line, without the folders of this machine."""
    return shlex.join(Path(word).name if word.startswith("/") else word for word in ["python", *sys.argv])


def _commit(checkout: Path) -> str:
    return machine.said(["git", "-C", checkout, "rev-parse", "--short", "HEAD"])


if __name__ == "__main__":
    main()
