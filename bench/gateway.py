"""What a gateway costs: *gateway minus direct*, for Trivet and its peers, in one interleaved run on one machine.

    python bench/gateway.py                       Trivet between direct and the floor
    python bench/gateway.py --peers               and beside all peers: 30 minutes on a quiet machine
    python bench/gateway.py --targets trivet,vllm-router --rounds 1 --seconds 2 --concurrency 1,16

A mock provider and a load generator (mock.c, load.c) share one core, the gateway under test has another to itself, and
all gateways but that one are stopped where they stand. Each round visits every target in turn, in another order, so
that what else happens on the machine falls on all of them; a measurement that others disturbed is made again, at most
`--patience` times; figures are medians over rounds. Linux, a C compiler, and the standard library only.

Not here: how targets are started (`peers.py`), what is made of the runs (`figures.py`, `report.py`).
"""

import argparse
import contextlib
import datetime as dt
import http.client
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/gateway.py` looks beside the file only

from bench import machine, report
from bench.figures import BUSY_CORES, MODES, Held, Mode, Result, Run, Stood
from bench.machine import GATEWAY_CORE, HARNESS_CORE, HERE, Process
from bench.peers import OURS, TARGETS, Launch, NotMeasuredError, Row, Target

WARMUP_S = 0.5
RAMP_PER_S = 500  # streams begun in a second, for those that are held open
START_WITHIN_S = 120
LOAD_WITHIN_S = 300
SLOW_START_S = 5  # what takes longer is started once, not once a round
FILL = 20_000  # requests before memory is measured: the bar's own number
FILL_WITHIN_S = 20
FILL_CONCURRENCY = 16
LET_GO_WITHIN_S = 15  # of streams that were left: each ends by itself 5 s after it was measured
IDLE_CORES = 0.05


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    rounds: int
    seconds: float
    concurrency: tuple[int, ...]
    open_streams: tuple[int, ...]
    patience: int
    """How often a measurement that others disturbed is made again; the least disturbed is kept."""
    pieces: int = 8
    interval_ms: int = 20
    """Of a stream: 140 ms in all."""
    pieces_per_s: int = 20
    """Of a stream that is held open: as fast as a large model speaks."""


@dataclass(kw_only=True)
class Gateway:
    """A target that has been started."""

    target: Target
    port: int
    launch: Launch
    process: Process | None
    starts_s: list[float]
    requests: int = 0
    full: Held | None = None


class Bench:
    """One run over all targets."""

    def __init__(self, plan: Plan, mock: Process, mock_port: int, opened: ExitStack) -> None:
        self._plan, self._mock, self._mock_port, self._opened = plan, mock, mock_port, opened
        self._seed = 0
        self.gateways: list[Gateway] = []
        self.versions: dict[str, str] = {}
        self.not_measured: dict[str, str] = {}
        self.runs: list[Run] = []
        self.rounds: list[dict[str, float]] = []

    def start(self, target: Target) -> None:
        """Start a target and keep it, stopped where it stands; or note why it cannot be measured."""
        tell(f"starting {target.name}")
        try:
            self.versions[target.name] = target.prepare()
            gateway = self._started(target)
            gateway.full = self._filled(gateway)
            self.gateways.append(gateway)
        except NotMeasuredError as why:
            tell(f"  not measured: {why}")
            self.not_measured[target.name] = str(why)

    def _started(self, target: Target) -> Gateway:
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory()))
        starts_s: list[float] = []
        while True:
            port = machine.free_port()
            launch = target.launch(folder, port=port, mock_port=self._mock_port)
            if not launch.argv:
                return Gateway(target=target, port=self._mock_port, launch=launch, process=None, starts_s=[])
            began_s = time.monotonic()
            process = Process(launch.argv, core=GATEWAY_CORE, folder=folder, env=launch.env)
            self._opened.callback(process.stop)
            if launch.says_port:
                port = said_port(process)
            first_answer(process, port=port, launch=launch, model=target.rows[0].model)
            starts_s.append(time.monotonic() - began_s)
            if len(starts_s) == self._plan.rounds or starts_s[-1] > SLOW_START_S:
                process.freeze()
                return Gateway(target=target, port=port, launch=launch, process=process, starts_s=starts_s)
            process.stop()

    def round(self, number: int) -> None:
        """Visit every target once for every way of asking."""
        load_average, others = os.getloadavg()[0], machine.others_now()
        self.rounds.append({"load_average": load_average, "others_cores": round(others, 3)})
        tell(f"round {number + 1}: load average {load_average:.2f}; others keep {others:.2f} cores busy")
        turn = number % len(self.gateways)
        visited = self.gateways[turn:] + self.gateways[:turn]
        for mode in MODES:
            for c in self._plan.open_streams if mode == "open" else self._plan.concurrency:
                for gateway in visited:
                    for row in gateway.target.rows:
                        if mode in row.modes:
                            self._note(number, gateway, row, mode=mode, c=c)

    def _note(self, number: int, gateway: Gateway, row: Row, *, mode: Mode, c: int) -> None:
        if mode == "open":
            if row.same:  # a kept answer is not paced
                return
            if c > gateway.target.max_open:
                if c > self._plan.open_streams[0]:  # it has had its turn
                    return
                c = gateway.target.max_open
        tries: list[Run] = []
        while len(tries) <= self._plan.patience and not (tries and tries[-1].others_cores <= BUSY_CORES):
            tries.append(self._run(number, gateway, row, load_options(self._plan, mode=mode, c=c), mode=mode, c=c))
            tell(f"  {tries[-1].told()}")
        self.runs.append(min(tries, key=lambda run: run.others_cores))  # chosen by the machine, not by the figure

    def _run(self, number: int, gateway: Gateway, row: Row, options: list[str], *, mode: Mode, c: int) -> Run:
        self._seed += 10_000_000
        seed = 1 if row.same else self._seed
        asked = [f"port={gateway.port}", f"model={row.model}", f"seed={seed}", f"c={c}", f"same={int(row.same)}"]
        argv = [str(machine.compiled("load")), *asked, *said_to(gateway.launch, row), *options]
        with thawed(gateway):
            before_s, ours_s, mock_s, began_s = machine.busy_s(), cpu_s(gateway), self._mock.cpu_s(), time.monotonic()
            done = subprocess.run(argv, capture_output=True, check=True, timeout=LOAD_WITHIN_S)
            took_s, busy_s = time.monotonic() - began_s, machine.busy_s() - before_s
            ours_s, mock_s = cpu_s(gateway) - ours_s, self._mock.cpu_s() - mock_s
            if mode == "open":
                self._let_go(gateway)
        loaded = json.loads(done.stdout)
        gateway.requests += loaded["requests"]
        others = max(0.0, busy_s - ours_s - mock_s - loaded["load_cpu_s"]) / max(took_s, 1.0)
        return Run(
            round=number,
            target=gateway.target.name,
            row=row.name,
            mode=mode,
            c=c,
            cpu_s=ours_s,
            mock_cpu_s=mock_s,
            others_cores=round(others, 3),
            took_s=round(took_s, 3),
            **loaded,
        )

    def _let_go(self, gateway: Gateway) -> None:
        """Wait until clients that left are forgotten, so that nobody is busy with them while the next is measured."""
        until_s, used_s = time.monotonic() + LET_GO_WITHIN_S, cpu_s(gateway) + self._mock.cpu_s()
        while time.monotonic() < until_s:
            time.sleep(0.5)
            before_s, used_s = used_s, cpu_s(gateway) + self._mock.cpu_s()
            if used_s - before_s < 0.5 * IDLE_CORES:
                return

    def note_ended(self) -> None:
        """Say which gateways ended by themselves, so that their errors are understood."""
        for gateway in self.gateways:
            if gateway.process is not None and gateway.process.ended():
                said = gateway.process.last_words()
                self.not_measured[gateway.target.name] = f"it ended during the run, and said last: {said}"

    def _filled(self, gateway: Gateway) -> Held | None:
        """Ask `FILL` times, as far as time allows (which warms it up, too), and see what it holds."""
        if gateway.process is None:
            return None
        row = next((row for row in gateway.target.rows if row.model != "mock"), gateway.target.rows[0])
        options = [f"limit={FILL}", f"seconds={FILL_WITHIN_S}", "warmup=0"]
        run = self._run(-1, gateway, row, options, mode="chat", c=FILL_CONCURRENCY)
        tell(f"  filled with {run.requests:,} requests, {run.errors} errors")
        return held(gateway)


def held(gateway: Gateway) -> Held | None:
    """See how much memory a gateway holds by now."""
    if gateway.process is None or gateway.process.ended():
        return None
    with thawed(gateway):
        return Held(requests=gateway.requests, pss_mib=round(gateway.process.pss_mib(), 1))


def stood(gateway: Gateway) -> Stood:
    """Say what a gateway is once all rounds are over."""
    start_s = statistics.median(gateway.starts_s) if gateway.starts_s else None
    return Stood(start_s=start_s, full=gateway.full, end=held(gateway))


def load_options(plan: Plan, *, mode: Mode, c: int) -> list[str]:
    """Say to load.c how to ask."""
    seconds = f"seconds={plan.seconds}"
    if mode == "chat":
        return [seconds, f"warmup={WARMUP_S}"]
    if mode == "stream":
        paced = [f"chunks={plan.pieces}", f"interval_ms={plan.interval_ms}"]
        return [seconds, f"warmup={WARMUP_S}", "stream=1", *paced]
    ramp_s = c / RAMP_PER_S
    pieces = int((ramp_s + 1 + plan.seconds + 5) * plan.pieces_per_s)  # more than are read: none is to end by itself
    paced = [f"chunks={pieces}", f"interval_ms={1000 // plan.pieces_per_s}"]
    return [seconds, f"ramp={ramp_s}", "open=1", "stream=1", *paced]


def said_to(launch: Launch, row: Row) -> list[str]:
    """Say to load.c how a target wants to be asked."""
    headers = [f"header={name}: {value}" for name, value in launch.headers.items()]
    return [f"key={launch.key}", f"path={launch.path}", f"quickack={int(row.quick_ack)}", *headers]


@contextlib.contextmanager
def thawed(gateway: Gateway) -> Iterator[None]:
    """Let one gateway run."""
    if gateway.process is None:
        yield
        return
    gateway.process.thaw()
    try:
        yield
    finally:
        gateway.process.freeze()


def cpu_s(gateway: Gateway) -> float:
    """Give the processor time that a gateway has used."""
    return gateway.process.cpu_s() if gateway.process else 0.0


def first_answer(process: Process, *, port: int, launch: Launch, model: str) -> None:
    """Ask until there is an answer. Raises NotMeasuredError when it ends or takes too long."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "[mock 1 0] #1"}]})
    headers = {"content-type": "application/json", "authorization": f"Bearer {launch.key}", **launch.headers}
    until_s, answer = time.monotonic() + START_WITHIN_S, ""
    while time.monotonic() < until_s:
        if process.ended():
            raise NotMeasuredError(f"it ended while starting, and said last: {process.last_words()}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", launch.path, body, headers)
            response = connection.getresponse()
            answer = f"{response.status} {response.read()[:200]!r}"
            if response.status == 200:
                return
        except OSError as error:
            answer = answer or str(error)
        finally:
            connection.close()
        time.sleep(0.01)
    raise NotMeasuredError(f"no answer within {START_WITHIN_S} s; the last was {answer}")


def said_port(process: Process) -> int:
    """Wait for a program to say `port N`. Raises NotMeasuredError when it ends or takes too long."""
    until_s = time.monotonic() + START_WITHIN_S
    while not (found := re.search(r"^port (\d+)\n", process.log(), re.MULTILINE)):
        if process.ended() or time.monotonic() > until_s:
            raise NotMeasuredError(f"it did not say its port, but last: {process.last_words()}")
        time.sleep(0.01)
    return int(found[1])


def tell(line: str) -> None:
    """Show progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def started_mock(opened: ExitStack) -> tuple[Process, int]:
    """Start the mock provider on the harness's core."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    mock = Process([machine.compiled("mock").absolute()], core=HARNESS_CORE, folder=folder, env={})
    opened.callback(mock.stop)
    return mock, said_port(mock)


def decision_path() -> dict[str, float] | None:
    """Time the decision path without sockets (`decision.py`), in microseconds; None if it cannot be run."""
    os.sched_setaffinity(0, {GATEWAY_CORE})
    try:
        told = json.loads(machine.said([sys.executable, HERE / "decision.py", "--json"]))
    except RuntimeError as error:
        tell(f"  decision.py: {error}")
        return None
    finally:
        os.sched_setaffinity(0, {HARNESS_CORE})
    figures: dict[str, float] = told["us"]
    return figures


def measured(plan: Plan, targets: list[Target]) -> Result:
    """Measure all targets, and end all that was started."""
    os.sched_setaffinity(0, {HARNESS_CORE})
    at = dt.datetime.now(dt.UTC)
    with ExitStack() as opened:
        mock, mock_port = started_mock(opened)
        bench = Bench(plan, mock, mock_port, opened)
        for target in targets:
            bench.start(target)
        for number in range(plan.rounds):
            bench.round(number)
        bench.note_ended()
        all_stood = {gateway.target.name: stood(gateway) for gateway in bench.gateways}
    return Result(
        at=at.isoformat(timespec="seconds"),
        command=f"python {shlex.join([f'{HERE.name}/{Path(sys.argv[0]).name}', *sys.argv[1:]])}",
        plan=asdict(plan),
        machine=machine.described(),
        versions=bench.versions,
        tuning={gateway.target.name: gateway.target.tuning for gateway in bench.gateways},
        not_measured=bench.not_measured,
        rounds=bench.rounds,
        stood=all_stood,
        decision_us=decision_path() if "trivet" in all_stood else None,
        runs=bench.runs,
    )


def arguments() -> argparse.Namespace:
    names, ours = ",".join(target.name for target in TARGETS), ",".join(target.name for target in OURS)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument("--targets", default=ours, help=f"of {names}; `direct` is always measured (default: {ours})")
    whom.add_argument("--peers", action="store_const", dest="targets", const=names, help="all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--concurrency", default="1,16,64", help="requests at the same time")
    parser.add_argument("--open-streams", default="1000,2000", help="held open at 20 events/s; 0: none")
    parser.add_argument("--patience", type=int, default=2, help="repeat what others disturbed, at most so often")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{today}-gateway", help=".json and .md")
    parser.add_argument("--json", action="store_true", help="print JSON, not the tables")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    asked = set(given.targets.split(",")) | {"direct"}
    if unknown := asked - {target.name for target in TARGETS}:
        raise SystemExit(f"no target is called {', '.join(sorted(unknown))}; see --help")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    plan = Plan(
        rounds=given.rounds,
        seconds=given.seconds,
        concurrency=tuple(int(c) for c in given.concurrency.split(",")),
        open_streams=tuple(sorted(int(c) for c in given.open_streams.split(",") if int(c))),
        patience=given.patience,
    )
    result = measured(plan, [target for target in TARGETS if target.name in asked])
    as_json, as_markdown = report.as_json(result), report.as_markdown(result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.with_name(given.out.name + ".json").write_text(as_json)
    given.out.with_name(given.out.name + ".md").write_text(as_markdown)
    print(as_json if given.json else as_markdown)


if __name__ == "__main__":
    main()
