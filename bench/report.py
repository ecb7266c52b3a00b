"""What the figures of `gateway.py` say: medians over rounds, minus direct, beside the floor, against perf.md's bars.

Not here: measuring. Invariants: a ratio is only made of runs of the same round; what is missing is a dash, never a
zero; a busy machine is said first.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

Mode = Literal["chat", "stream", "open"]
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
class Stood:
    """What a target is after all rounds."""

    requests: int
    pss_mib: float | None
    start_s: float | None
    """From its start to its first answer."""


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
    seconds = float(str(result.plan["seconds"]))
    return [_line(result.runs, mode, c, row, target, seconds=seconds) for mode, c, row, target in keys]


def _line(runs: list[Run], mode: Mode, c: int, row: str, target: str, *, seconds: float) -> Line:
    ours = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, row)}
    direct = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, "direct")}
    floor = {run.round: run for run in runs if (run.mode, run.c, run.row) == (mode, c, "floor")}

    def added(runs: dict[int, Run], figure: Figure) -> dict[int, float | None]:
        return {n: minus(figure(run), figure(direct[n])) if n in direct else None for n, run in runs.items()}

    def x_floor(figure: Figure) -> float | None:
        base = added(floor, figure)
        return middle(over(value, base.get(n)) for n, value in added(ours, figure).items())

    def extra(figure: Figure) -> float | None:
        return None if row == "direct" else middle(added(ours, figure).values())

    rps = [run.rps for run in ours.values()]
    due = c * seconds * 20
    return Line(
        mode=mode,
        c=c,
        row=row,
        target=target,
        rps=median(rps),
        rps_spread=(max(rps) - min(rps)) / median(rps) if median(rps) else 0.0,
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
        pieces_share=middle(run.lags / due for run in ours.values()) if mode == "open" else None,
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


# ---- the bars of perf.md ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One promise about speed, and how far off it is."""

    what: str
    wanted: str
    got: float | None
    met: bool | None
    """None: it was not measured."""


def bars(result: Result) -> list[Bar]:
    """Hold Trivet (with a policy: everything on) against its own floor of performance."""
    made = lines(result)
    if not any(line.target == "trivet" for line in made):
        return []
    peers = [name for name in result.stood if name not in ("direct", "floor", "trivet")]
    ours, hits = _best(made, "trivet, policy"), _best(made, "trivet, exact hits")
    alone, stream = _first(made, "trivet, policy", "chat"), _first(made, "trivet, policy", "stream")
    held, stood, path = _first(made, "trivet, policy", "open"), result.stood["trivet"], result.decision_us
    told = [
        at_least(f"requests per second, times {peer}'s", _wanted_x(peer), over(_rps(ours), _rps(_best(made, peer))))
        for peer in peers
    ]
    told += [
        at_most("CPU per request, times the floor's", 5, ours.cpu_x_floor if ours else None),
        at_most("decision path of 1 KB, us", 10, path["together"] if path else None),
        at_least("exact hits per second", 10_000, _rps(hits)),
        at_most(
            "added p50 at the lowest concurrency, times the floor's", 3.5, alone.added_p50_x_floor if alone else None
        ),
        at_most(
            "added TTFT p50 at the lowest concurrency, times the floor's",
            3,
            stream.added_ttft_x_floor if stream else None,
        ),
        at_most(f"p99 lag of {held.c if held else 0} open streams, ms", 50, held.lag_p99_ms if held else None),
        at_most(f"PSS after {stood.requests:,} requests, MiB", 60, stood.pss_mib),
        at_most("start to first answer, s", 1, stood.start_s),
    ]
    return told


_TIMES = {"litellm": 100.0, "portkey": 20.0, "tensorzero": 2.0, "vllm-router": 1.0}
"""Requests per second of one core beside each peer: perf.md."""


def _wanted_x(peer: str) -> float:
    return _TIMES.get(peer, 1.0)


def at_least(what: str, wanted: float, got: float | None) -> Bar:
    """Make a bar that a figure is to reach."""
    return Bar(what=what, wanted=f">= {number(wanted)}", got=got, met=None if got is None else got >= wanted)


def at_most(what: str, wanted: float, got: float | None) -> Bar:
    """Make a bar that a figure is to stay under."""
    return Bar(what=what, wanted=f"<= {number(wanted)}", got=got, met=None if got is None else got <= wanted)


def _rps(line: Line | None) -> float | None:
    return line.rps if line else None


def _best(made: list[Line], row: str) -> Line | None:
    """Find a row's line at the concurrency where it answers the most requests."""
    return max((x for x in made if x.row == row and x.mode == "chat"), key=lambda x: x.rps, default=None)


def _first(made: list[Line], row: str, mode: Mode) -> Line | None:
    """Find a row's line at the lowest concurrency."""
    return min((x for x in made if x.row == row and x.mode == mode), key=lambda x: x.c, default=None)


# ---- as text ---------------------------------------------------------------------------------------------------------


def as_json(result: Result) -> str:
    """Give everything, raw runs included."""
    told = asdict(result) | {"lines": [asdict(x) for x in lines(result)], "bars": [asdict(x) for x in bars(result)]}
    return json.dumps(told, indent=1) + "\n"


def as_markdown(result: Result) -> str:
    """Give the tables."""
    made = lines(result)
    parts = [
        _heading(result),
        _summary(result, made),
        *_tables(made),
        _bars(bars(result)),
        _set_up(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(result: Result) -> str:
    about, busy = result.machine, busy_runs(result)
    load = ", ".join(f"{r['load_average']:.2f} ({r['others_cores']:.2f})" for r in result.rounds)
    cores = f"{about['cores']} cores (gateway on {about['gateway_core']}; mock and load on {about['harness_core']})"
    told = [
        f"# Gateway minus direct, {result.at[:10]}",
        f"    {result.command}",
        f"{about['cpu']}, {cores}, {about['memory_gib']} GiB, {about['kernel']}, Python {about['python']}.",
        f"Load average at the start of each round (and cores that others kept busy before it): {load}.",
    ]
    if len({about["gateway_core"], about["harness_core"]}) == 1:
        told.append("**One core for all: gateway, mock and load took turns. These figures are not comparable.**")
    if busy:
        told.append(
            f"**The machine was busy**: in {len(busy)} of {len(result.runs)} measurements others used more than "
            f"{BUSY_CORES} cores (up to {max(run.others_cores for run in busy):.2f}). Trust ratios above 1.5, no less."
        )
    told += [f"**Not measured: {name}**: {why}." for name, why in result.not_measured.items()]
    return "\n\n".join(told)


def busy_runs(result: Result) -> list[Run]:
    """Find the measurements that others disturbed."""
    return [run for run in result.runs if run.others_cores > BUSY_CORES]


def _summary(result: Result, made: list[Line]) -> str:
    rows = []
    for row, target in dict.fromkeys((x.row, x.target) for x in made):
        best, alone, stream = _best(made, row), _first(made, row, "chat"), _first(made, row, "stream")
        stood = result.stood.get(target)
        rows.append([
            row,
            number(best.rps if best else None),
            number(best.cpu_us if best else None),
            number(best.cpu_x_floor if best else None),
            number(alone.added_p50_ms if alone else None),
            number(stream.added_ttft_p50_ms if stream else None),
            number(stood.pss_mib if stood else None),
            f"{stood.requests:,}" if stood and stood.pss_mib else "-",
            number(stood.start_s if stood else None),
        ])  # fmt: skip
    heads = ["", "rps, 1 core", "CPU us/request", "x floor", "added p50 ms", "added TTFT p50 ms", "PSS MiB",
             "after requests", "start to first answer s"]  # fmt: skip
    return "Requests per second and CPU where each answers most; added latency at the lowest concurrency.\n\n" + table(
        heads, rows
    )


def _tables(made: list[Line]) -> Iterable[str]:
    chat = ["", "c", "rps", "spread", "CPU us/request", "x floor", "added p50 ms", "x floor", "added p99 ms", "errors"]
    yield "## Whole answers\n\n" + table(chat, [
        [x.row, str(x.c), number(x.rps), f"{x.rps_spread:.0%}", number(x.cpu_us), number(x.cpu_x_floor),
         number(x.added_p50_ms), number(x.added_p50_x_floor), number(x.added_p99_ms), str(x.errors)]
        for x in made if x.mode == "chat"
    ])  # fmt: skip
    stream = ["", "c", "streams/s", "CPU us/stream", "x floor", "TTFT p50 ms", "added p50 ms", "x floor",
              "added p99 ms", "errors"]  # fmt: skip
    yield "## Streamed answers: 8 pieces, 20 ms apart\n\n" + table(stream, [
        [x.row, str(x.c), number(x.rps), number(x.cpu_us), number(x.cpu_x_floor), number(x.ttft_p50_ms),
         number(x.added_ttft_p50_ms), number(x.added_ttft_x_floor), number(x.added_ttft_p99_ms), str(x.errors)]
        for x in made if x.mode == "stream"
    ])  # fmt: skip
    held = [
        [x.row, str(x.c), number(x.lag_p50_ms), number(x.lag_p99_ms), f"{x.pieces_share or 0:.1%}", number(x.cpu_us),
         number(x.cpu_x_floor), str(x.errors)]
        for x in made if x.mode == "open"
    ]  # fmt: skip
    if held:
        heads = ["", "streams", "lag p50 ms", "lag p99 ms", "pieces in time", "CPU us/piece", "x floor", "errors"]
        yield "## Streams held open, 20 pieces a second each\n\n" + table(heads, held)


def _bars(made: list[Bar]) -> str:
    said = {None: "not measured", True: "met", False: "**not met**"}
    rows = [[bar.what, bar.wanted, number(bar.got), said[bar.met]] for bar in made]
    return "## The bars (trivet, policy)\n\n" + table(["", "wanted", "got", ""], rows) if made else ""


def _set_up(result: Result) -> str:
    told = [f"- **{name}** {result.versions.get(name, '')}: {how}." for name, how in result.tuning.items()]
    return "## How each was set up\n\n" + "\n".join(told)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    ruled = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ruled, *rows])


def number(value: float | None) -> str:
    """Write a figure with three digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
