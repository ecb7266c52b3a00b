"""The tables of `bench.online`. Not here: what is in them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from bench.drift import MOST_WAITED, QUIET
from bench.traffic import Row

from trivet.routing.online.drift import FALSE_EVERY


def as_markdown(result: Row) -> str:
    """Give the tables."""
    about = f"{result['machine']}, {result['cores']} cores, Python {result['python']}, {result['seconds']:.0f} s"
    quiet, requests = result["false_alarms"], result["requests"]
    parts = [f"# Learning on the job\n\n`{result['command']}` on {about}.\n\n## Falls of a known size\n"]
    parts.append(
        "Values until it is noticed, median and nine in ten, against a reference of so many values. *Ideal*: the\n"
        f"logarithm of {FALSE_EVERY:,} over the relative entropy, which the best alarm of one rate known beforehand,\n"
        "for another known one, nears on average as false alarms get rare (Lorden 1971).\n"
    )
    parts.append("| from | by | reference of 300 | 1,000 | 8,000 | ideal |\n|---|---|---|---|---|---|")
    for row in result["delays"]:
        told = " | ".join(_waited(row[f"of {known}"]) for known in (300, 1000, 8000))
        parts.append(f"| {row['was']} | {row['drop']} | {told} | {row['limit']:.0f} |")
    parts.append(
        f"\nFalse alarms: {quiet['alarms']} in {quiet['runs']} runs of {quiet['values']:,} yes/no without a change, "
        f"at most {quiet['most']} in one.\n\n## Swaps\n"
    )
    parts.append(
        f"Requests until it is noticed, of {MOST_WAITED:,} (median, least and most of the seeds), and requests that\n"
        "the swapped model served until then: half of them. After the alarm it serves nothing.\n"
    )
    parts += _swapped(result["swaps"])
    parts.append(
        f"\n## Regret\n\nLoss over {requests:,} requests, more than that of the best threshold in hindsight: mean of\n"
        "the seeds (the most); and the points of score that this is.\n"
    )
    parts += _regretted(result["regret"])
    parts.append(
        "\nWhat the static router would have scored, from what Thompson sampling logged, less what it would, in\n"
        "standard errors:\n\n| | estimates | mean square | beyond 2 | standard error of score |\n|---|---|---|---|---|"
    )
    parts += _replays(result["regret"])
    parts.append(
        f"\n## Floors\n\nA tenth of {2 * requests:,} requests labelled; confidence .9; nothing is promised before.\n"
        "Share of small calls beside that of the best threshold in hindsight; *under*: seeds in which quality so far\n"
        "was under the floor at any time after 500 requests; *back*: in which all went back to the large model.\n"
    )
    names = ("pair", "scenario", "floor", "quality", "small calls", "hindsight", "under", "back")
    parts += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for (pair, scenario, floor), rows in _grouped(result["floors"], "pair", "scenario", "floor"):
        quality, small, best = (float(np.mean([r[name] for r in rows])) for name in ("quality", "small", "hindsight"))
        under, back = sum(r["under"] > 0 for r in rows), sum(r["back"] is not None for r in rows)
        cells = (f"{quality:.3f}", f"{small:.0%}", f"{best:.0%}", f"{under} of {len(rows)}", str(back))
        parts.append(f"| {pair} | {scenario} | {floor} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def _grouped(rows: list[Row], *names: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(found.items())


def _waited(took: list[float]) -> str:
    return ", ".join(f"{t:,.0f}" if t < MOST_WAITED else f"over {MOST_WAITED:,}" for t in took)


def _swapped(rows: list[Row]) -> list[str]:
    made = [
        "| pair | swapped for | points lost | signal | from, to | requests | served |",
        "|---|---|---|---|---|---|---|",
    ]
    for (pair, swapped, signal), some in _grouped([row for row in rows if "delay" in row], "pair", "swapped", "signal"):
        took = sorted(row["delay"] or MOST_WAITED for row in some)
        middle = took[len(took) // 2]
        lost = np.mean([row["points"] for row in some])
        moved = (
            f"{np.mean([r['was'] for r in some]):.2f}, {np.mean([r['is'] for r in some]):.2f}"
            if "was" in some[0]
            else ""
        )
        each = f"{_waited([middle])} ({_waited([took[0]])} to {_waited([took[-1]])})"
        made.append(f"| {pair} | {swapped} | {lost:.0f} | {signal} | {moved} | {each} | {middle / 2:,.0f} |")
    quiet = [row for row in rows if "false" in row]
    made.append(f"\nWithout a swap, alarms in {QUIET:,} requests, {len(quiet)} runs:\n")
    made += ["| pair | signal | alarms in each run |", "|---|---|---|"]
    for (pair, signal), some in _grouped(quiet, "pair", "signal"):
        made.append(f"| {pair} | {signal} | {', '.join(str(row['false']) for row in some)} |")
    return made


def _regretted(rows: list[Row]) -> list[str]:
    names = list(dict.fromkeys(row["method"] for row in rows))
    made = ["| pair | scenario | weight | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for (pair, scenario, weight), some in _grouped(rows, "pair", "scenario", "weight"):
        cells = []
        for name in names:
            of = [row for row in some if row["method"] == name]
            over, points = [row["over"] for row in of], [(row["loss"] - row["best"]) * 100 for row in of]
            cells.append(f"{np.mean(over):.1%} ({max(over):.0%}); {np.mean(points):.1f}")
        made.append(f"| {pair} | {scenario} | {weight} | " + " | ".join(cells) + " |")
    return made


def _replays(rows: list[Row]) -> Iterator[str]:
    for name in ("ips", "robust"):
        off = np.array([row[f"{name}_off"] for row in rows if f"{name}_off" in row])
        error = np.mean([row[f"{name}_error"] for row in rows if f"{name}_off" in row])
        yield f"| {name} | {len(off)} | {(off**2).mean():.2f} | {(np.abs(off) > 2).mean():.0%} | {error:.4f} |"
