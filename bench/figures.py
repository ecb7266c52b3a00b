"""What the runs of `gateway.py` come to: medians over rounds, minus direct, beside the floor, against our own bars.

Not here: measuring, and how it is written (`report.py`). Invariants: a ratio is only made of runs of the same round;
what is missing is None, never a zero.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

Mode = Literal["chat", "stream", "open"]
MODES: tuple[Mode, ...] = ("chat", "stream", "open")
BUSY_CORES = 0.15
"""What others may use of the machine before it is called busy; what accounting alone leaves over is below 0.1."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One target asked in one way for some seconds: what load.c says, and what the machine did meanwhile."""

    round: int
    target: str
    row: str
    mode: Mode
    c: int
    requests: int
    """All, warm-up included: what `cpu_s` was spent on."""
    answered: int
    rps: float
    p50_ms: float | None
    p99_ms: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    errors: int
    first_error: str
    pieces: int
    lags: int
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    cpu_s: float
    """Of the gateway: all its processes."""
    mock_cpu_s: float
    load_cpu_s: float
    others_cores: float
    took_s: float

    def told(self) -> str:
        """Say it in a line."""
        figures = {"rps": self.rps, "p50": self.p50_ms, "ttft": self.ttft_p50_ms, "lag p99": self.lag_p99_ms}
        told = ", ".join(f"{name} {number(value)}" for name, value in figures.items() if value)
        wrong = f"; {self.errors} errors: {self.first_error}" if self.errors else ""
        busy = f"; others {self.others_cores:.2f} cores" if self.others_cores > BUSY_CORES else ""
        return f"{self.mode} c={self.c} {self.row}: {told}{busy}{wrong}"


@dataclass(frozen=True, kw_only=True)
class Held:
    """The memory of a target after so many requests: the proportional share of all its processes."""

    requests: int
    pss_mib: float


@dataclass(frozen=True, kw_only=True)
class Stood:
    """What a target is apart from its runs."""

    start_s: float | None
    """From its start to its first answer."""
    full: Held | None
    """After the 20,000 requests of the bar, or as many as it answers in 20 s."""
    end: Held | None
    """After all rounds."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything of one run of `gateway.py`."""

    at: str
    command: str
    plan: dict[str, object]
    machine: dict[str, str | int]
    versions: dict[str, str]
    tuning: dict[str, str]
    not_measured: dict[str, str]
    rounds: list[dict[str, float]]
    stood: dict[str, Stood]
    decision_us: dict[str, float] | None
    runs: list[Run]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: medians over rounds; `added`: minus direct of the same round."""

    mode: Mode
    c: int
    row: str
    target: str
    rps: float
    rps_spread: float
    """Largest minus smallest over the median."""
    rps_of_direct: float | None
    cpu_us: float | None
    """Of the gateway, for one request; for one piece where streams are held open."""
    cpu_x_floor: float | None
    added_p50_ms: float | None
    added_p99_ms: float | None
    added_p50_x_floor: float | None
    ttft_p50_ms: float | None
    added_ttft_p50_ms: float | None
    added_ttft_p99_ms: float | None
    added_ttft_x_floor: float | None
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    pieces_share: float | None
    """Of the pieces that were due in the measured seconds: those that came."""
    errors: int


Figure = Callable[[Run], float | None]


def lines(result: Result) -> list[Line]:
    """Make the rows of the tables, in the order they were measured in the first round."""
    keys = dict.fromkeys((run.mode, run.c, run.row, run.target) for run in result.runs)
    pieces = float(str(result.plan["seconds"])) * float(str(result.plan["pieces_per_s"]))
    return [_line(result.runs, mode, c, row, target, pieces=pieces) for mode, c, row, target in keys]


def _line(runs: list[Run], mode: Mode, c: int, row: str, target: str, *, pieces: float) -> Line:
    ours = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, row)}
    direct = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, "direct")}
    floor = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, "floor")}

    def added(runs: dict[int, Run], figure: Figure) -> dict[int, float | None]:
        return {n: minus(figure(run), figure(direct[n])) if n in direct else None for n, run in runs.items()}

    def x_floor(figure: Figure) -> float | None:
        if row == "direct":
            return None
        base = added(floor, figure)
        return middle(over(value, base.get(n)) for n, value in added(ours, figure).items())

    def extra(figure: Figure) -> float | None:
        return None if row == "direct" else middle(added(ours, figure).values())

    rps = [run.rps for run in ours.values()]
    return Line(
        mode=mode,
        c=c,
        row=row,
        target=target,
        rps=median(rps),
        rps_spread=(max(rps) - min(rps)) / median(rps) if median(rps) else 0.0,
        rps_of_direct=middle(over(run.rps, direct[n].rps) for n, run in ours.items() if n in direct),
        cpu_us=None if row == "direct" else middle(_cpu_us(run) for run in ours.values()),
        cpu_x_floor=middle(over(_cpu_us(run), _cpu_us(floor[n])) for n, run in ours.items() if n in floor),
        added_p50_ms=extra(lambda run: run.p50_ms),
        added_p99_ms=extra(lambda run: run.p99_ms),
        added_p50_x_floor=x_floor(lambda run: run.p50_ms),
        ttft_p50_ms=middle(run.ttft_p50_ms for run in ours.values()),
        added_ttft_p50_ms=extra(lambda run: run.ttft_p50_ms),
        added_ttft_p99_ms=extra(lambda run: run.ttft_p99_ms),
        added_ttft_x_floor=x_floor(lambda run: run.ttft_p50_ms),
        lag_p50_ms=middle(run.lag_p50_ms for run in ours.values()),
        lag_p99_ms=middle(run.lag_p99_ms for run in ours.values()),
        pieces_share=middle(run.lags / (c * pieces) for run in ours.values()) if mode == "open" else None,
        errors=sum(run.errors for run in ours.values()),
    )


def _cpu_us(run: Run) -> float | None:
    done = run.pieces if run.mode == "open" else run.requests
    return run.cpu_s / done * 1e6 if done and run.cpu_s else None


def minus(a: float | None, b: float | None) -> float | None:
    """Take b from a, where both are known."""
    return None if a is None or b is None else a - b


def over(a: float | None, b: float | None) -> float | None:
    """Divide a by b, where both are known and b is more than nothing."""
    return None if a is None or b is None or b <= 0 else a / b


def middle(values: Iterable[float | None]) -> float | None:
    """Give the median of what is known."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


# ---- the bars ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One promise about speed, and how far off it is."""

    what: str
    wanted: str
    got: float | None
    met: bool | None
    """None: it was not measured."""
    times: float | None
    """What was got, as a multiple of what is wanted."""


def bars(result: Result) -> list[Bar]:
    """Hold Trivet (with a policy: everything on) against its own floor of performance."""
    made = lines(result)
    if not any(line.target == "trivet" for line in made):
        return []
    ours, stood, path = "trivet, policy", result.stood["trivet"], result.decision_us
    told = []
    for peer in dict.fromkeys([*result.stood, *result.not_measured]):
        if peer in ("direct", "floor", "trivet"):
            continue
        # The best of its rows: a client may ask it in the way that suits it.
        ttfts = [alone(made, row, added_ttft) for row in dict.fromkeys(x.row for x in made if x.target == peer)]
        ttft = min((x for x in ttfts if x is not None), default=None)
        times = next((middle(x.rps) for x in beside(result) if (x.ours, x.theirs) == (ours, peer)), None)
        told += [
            at_least(f"requests per second, times {peer}'s", _TIMES.get(peer, 1.0), times),
            at_most(f"added p50 below {peer}'s, ms", alone(made, peer, added_p50), alone(made, ours, added_p50)),
            at_most(f"added TTFT below {peer}'s, ms", ttft, alone(made, ours, added_ttft)),
        ]
    return [
        *told,
        at_most("CPU per request, times the floor's", 5, busiest(made, ours, lambda x: x.cpu_x_floor)),
        at_most("decision path of 1 KB, us", 10, path["together"] if path else None),
        at_least("exact hits per second", 10_000, busiest(made, "trivet, exact hits", lambda x: x.rps)),
        at_most(
            "added p50, times the floor's",
            3.5,
            alone(made, ours, p50_x_floor),
        ),
        at_most("added TTFT p50, times the floor's", 3, alone(made, ours, lambda x: x.added_ttft_x_floor)),
        *_open_bars(made, ours),
        at_most("PSS after 20,000 requests, MiB", 60, stood.full.pss_mib if stood.full else None),
        at_most("start to first answer, s", 1, stood.start_s),
    ]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """How one of our rows compares with another's, at the concurrency at which each answers the most in a round."""

    ours: str
    theirs: str
    rps: list[float]
    """Our requests per second over theirs: one for each round."""
    cpu: list[float]
    """Their CPU per request over ours: less moved by a busy machine, which takes time but adds little work."""


def beside(result: Result) -> list[Beside]:
    """Compare each of our rows with every gateway's that was measured."""
    chat = [run for run in result.runs if run.mode == "chat" and run.rps]
    rows = dict.fromkeys((run.row, run.target) for run in chat if run.target != "direct")
    ours = [row for row, target in rows if target == "trivet"]
    others = [row for row, target in rows if target != "trivet"]
    return [_beside(chat, one, other) for one in ours for other in others]


def _beside(chat: list[Run], ours: str, theirs: str) -> Beside:
    rps, cpu = [], []
    for n in sorted({run.round for run in chat}):
        best = [
            max((x for x in chat if (x.row, x.round) == (row, n)), key=_rps, default=None) for row in (ours, theirs)
        ]
        us, them = best
        if us is None or them is None:
            continue
        rps.append(us.rps / them.rps)
        cpu += [times for times in [over(_cpu_us(them), _cpu_us(us))] if times is not None]
    return Beside(ours=ours, theirs=theirs, rps=rps, cpu=cpu)


def _rps(run: Run) -> float:
    return run.rps


def _open_bars(made: list[Line], ours: str) -> list[Bar]:
    """Few streams (1,000 are wanted): in time. More than that: better than vllm-router.

    A lag is that of pieces which came; a stream that was kept from beginning has none. So the share of the pieces that
    were due is held against a bar, too.
    """
    held = {(x.row, x.c): x for x in made if x.mode == "open"}
    few, *more = sorted(c for row, c in held if row == ours) or [0]
    told = []
    if first := held.get((ours, few)):
        told += [
            at_most(f"p99 lag of {few:,} open streams, ms (at least 1,000 wanted)", 50, first.lag_p99_ms),
            at_least(f"pieces of {few:,} open streams, share that came", 0.99, first.pieces_share),
        ]
    for c in more:
        if theirs := held.get(("vllm-router", c)):
            one, share = held[ours, c], min(1.0, theirs.pieces_share or 0.0)
            told += [
                at_most(f"p99 lag of {c:,} open streams below vllm-router's, ms", theirs.lag_p99_ms, one.lag_p99_ms),
                at_least(
                    f"pieces of {c:,} open streams, share that came, beside vllm-router's", share, one.pieces_share
                ),
            ]
    return told


_TIMES = {"litellm": 100.0, "portkey": 20.0, "tensorzero": 2.0, "vllm-router": 1.0}
"""How many times each peer's requests per second of one core are wanted."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A way of asking in which a target often gave no right answer."""

    row: str
    mode: Mode
    errors: int
    requests: int
    first_error: str


def failures(result: Result) -> list[Failure]:
    """Find them: more than one answer in a hundred was wrong, over all rounds."""
    found = []
    for row, mode in dict.fromkeys((run.row, run.mode) for run in result.runs):
        runs = [run for run in result.runs if (run.row, run.mode) == (row, mode)]
        errors, requests = sum(run.errors for run in runs), sum(run.requests for run in runs)
        if errors > requests / 100:
            why = next(run.first_error for run in runs if run.errors)
            found.append(Failure(row=row, mode=mode, errors=errors, requests=requests, first_error=why))
    return found


def at_least(what: str, wanted: float, got: float | None) -> Bar:
    """Make a bar that a figure is to reach."""
    met = None if got is None else got >= wanted
    return Bar(what=what, wanted=f">= {number(wanted)}", got=got, met=met, times=over(got, wanted))


def at_most(what: str, wanted: float | None, got: float | None) -> Bar:
    """Make a bar that a figure is to stay under."""
    met = None if got is None or wanted is None else got <= wanted
    return Bar(what=what, wanted=f"<= {number(wanted)}", got=got, met=met, times=over(got, wanted))


def busiest(made: list[Line], row: str, figure: Callable[[Line], float | None]) -> float | None:
    """Give a row's figure at the concurrency where it answers the most requests."""
    at = max((x for x in made if x.row == row and x.mode == "chat"), key=lambda x: x.rps, default=None)
    return figure(at) if at else None


def alone(made: list[Line], row: str, figure: Callable[[Line], float | None]) -> float | None:
    """Give a row's figure at the lowest concurrency at which it has one."""
    return next((figure(x) for x in sorted(made, key=lambda x: x.c) if x.row == row and figure(x) is not None), None)


def added_p50(line: Line) -> float | None:
    """Take the latency that a row adds to whole answers."""
    return line.added_p50_ms if line.mode == "chat" else None


def p50_x_floor(line: Line) -> float | None:
    """Take that latency as a multiple of what the floor adds."""
    return line.added_p50_x_floor if line.mode == "chat" else None


def added_ttft(line: Line) -> float | None:
    """Take what a row adds to the time to the first content."""
    return line.added_ttft_p50_ms


def busy_runs(result: Result) -> list[Run]:
    """Find the measurements that others disturbed."""
    return [run for run in result.runs if run.others_cores > BUSY_CORES]


def number(value: float | None) -> str:
    """Write a figure with three digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
