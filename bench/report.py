"""The figures of `gateway.py` as text: Markdown to read, JSON with every run.

Not here: what the figures are (`figures.py`). Invariant: a busy machine, and what was not measured, is said first.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict

from bench.figures import (
    BUSY_CORES,
    Bar,
    Held,
    Line,
    Result,
    added_p50,
    added_ttft,
    alone,
    bars,
    beside,
    busiest,
    busy_runs,
    failures,
    lines,
    middle,
    number,
    p50_x_floor,
)


def as_json(result: Result) -> str:
    """Give everything, raw runs included."""
    told = asdict(result) | {
        "lines": [asdict(x) for x in lines(result)],
        "beside": [asdict(x) for x in beside(result)],
        "bars": [asdict(x) for x in bars(result)],
    }
    return json.dumps(told, indent=1) + "\n"


def as_markdown(result: Result) -> str:
    """Give the tables."""
    made = lines(result)
    parts = [
        _heading(result),
        _summary(result, made),
        *_tables(made),
        _beside(result),
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
    told += [f"**Not (fully) measured: {name}**: {why}." for name, why in result.not_measured.items()]
    told += [
        f"**Fails: {x.row}, {x.mode}**: {x.errors:,} of {x.requests:,} answers were wrong; the first: {x.first_error}."
        for x in failures(result)
    ]
    return "\n\n".join(told)


def _summary(result: Result, made: list[Line]) -> str:
    rows = []
    for row, target in dict.fromkeys((x.row, x.target) for x in made):
        stood = result.stood.get(target)
        rows.append([
            row,
            number(busiest(made, row, lambda x: x.rps)),
            number(busiest(made, row, lambda x: x.cpu_us)),
            number(busiest(made, row, lambda x: x.cpu_x_floor)),
            number(alone(made, row, added_p50)),
            number(alone(made, row, p50_x_floor)),
            number(alone(made, row, added_ttft)),
            number(alone(made, row, lambda x: x.added_ttft_x_floor)),
            memory(stood.full if stood else None),
            memory(stood.end if stood else None),
            number(stood.start_s if stood else None),
        ])  # fmt: skip
    heads = ["", "rps, 1 core", "CPU us/request", "x floor", "added p50 ms", "x floor", "added TTFT p50 ms", "x floor",
             "PSS MiB (after)", "at the end", "start to first answer s"]  # fmt: skip
    return "Requests per second and CPU where each answers most; added latency at the lowest concurrency.\n\n" + table(
        heads, rows
    )


_SATURATED = """\
A closed loop: each of c clients asks again as soon as it has its answer. Above one client every gateway is busy all
the time, so what it adds there is its queue (c / rps), not its pace; direct is bounded by the harness's one core."""

_PACED = """\
Eight pieces of content, the first at once, then one every 20 ms; TTFT is to the first content. With few streams both
cores sleep between pieces, so waking up is part of what is added, by the floor too. Where direct is slower than the
floor, mock and load got in each other's way on the core they share."""


def _tables(made: list[Line]) -> Iterable[str]:
    heads = ["", "c", "rps", "spread", "of direct", "CPU us/request", "x floor", "added p50 ms"]
    rows = [
        [x.row, str(x.c), number(x.rps), f"{x.rps_spread:.0%}", *map(number, (
            x.rps_of_direct, x.cpu_us, x.cpu_x_floor, x.added_p50_ms, x.added_p99_ms
        )), str(x.errors)]
        for x in made if x.mode == "chat"
    ]  # fmt: skip
    yield f"## Whole answers\n\n{_SATURATED}\n\n" + table([*heads, "added p99 ms", "errors"], rows)
    heads = ["", "c", "streams/s", "CPU us/stream", "x floor", "TTFT p50 ms", "added p50 ms"]
    rows = [
        [x.row, str(x.c), *map(number, (
            x.rps, x.cpu_us, x.cpu_x_floor, x.ttft_p50_ms, x.added_ttft_p50_ms, x.added_ttft_p99_ms
        )), str(x.errors)]
        for x in made if x.mode == "stream"
    ]  # fmt: skip
    yield f"## Streamed answers\n\n{_PACED}\n\n" + table([*heads, "added p99 ms", "errors"], rows)
    heads = ["", "streams", "lag p50 ms", "lag p99 ms", "pieces that came", "CPU us/piece", "x floor", "errors"]
    rows = [
        [x.row, str(x.c), number(x.lag_p50_ms), number(x.lag_p99_ms), f"{x.pieces_share or 0:.1%}", number(x.cpu_us),
         number(x.cpu_x_floor), str(x.errors)]
        for x in made if x.mode == "open"
    ]  # fmt: skip
    if rows:
        yield "## Streams held open, 20 pieces a second each\n\n" + table(heads, rows)


_BESIDE = """\
Requests per second of one core over theirs, and their CPU per request over ours, where each answers most: the median
of the rounds' ratios (lowest to highest). On a busy machine trust the second: waiting is not in it."""


def _beside(result: Result) -> str:
    rows = [[x.ours, x.theirs, _ranged(x.rps), _ranged(x.cpu)] for x in beside(result)]
    return (
        f"## Beside the others\n\n{_BESIDE}\n\n" + table(["", "over", "rps, times", "CPU, times"], rows) if rows else ""
    )


def _ranged(values: list[float]) -> str:
    return f"{number(middle(values))} ({number(min(values))} to {number(max(values))})" if values else "-"


def _bars(made: list[Bar]) -> str:
    said = {None: "not measured", True: "met", False: "**not met**"}
    rows = [[bar.what, bar.wanted, number(bar.got), number(bar.times), said[bar.met]] for bar in made]
    heads = ["", "wanted", "got", "times what is wanted", ""]
    return "## The bars (trivet, policy)\n\n" + table(heads, rows) if made else ""


def _set_up(result: Result) -> str:
    told = [f"- **{name}** {result.versions.get(name, '')}: {how}." for name, how in result.tuning.items()]
    return "## How each was set up\n\n" + "\n".join(told)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    ruled = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ruled, *rows])


def memory(held: Held | None) -> str:
    """Write how much memory, and after how many requests."""
    return f"{number(held.pss_mib)} ({held.requests:,})" if held else "-"
