"""What a gateway holds as it goes on: memory after 2,000 requests and after 20,000, each way of asking on its own.

    python bench/memory.py [--json]

PSS of the process, as in `gateway.py`, whose mock and load it uses. The bar: with no lever that keeps anything, the
second is within 10 % of the first. A policy with a cache keeps answers, so there it grows by what is kept.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python bench/memory.py` looks beside the file only

from bench import machine
from bench.profile import MODES, Bench

EARLY, LATE = 2_000, 20_000


def held(mode: str) -> tuple[float, float]:
    """Ask a fresh gateway in one way, and give its memory early and late, in MiB."""
    with ExitStack() as opened:
        bench = Bench(opened)
        answered = bench.ask(mode, limit=EARLY, seconds=600)
        early = bench.process.pss_mib()
        bench.ask(mode, limit=LATE - answered, seconds=600)
        return round(early, 1), round(bench.process.pss_mib(), 1)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = {mode: held(mode) for mode in MODES}
    if given.json:
        print(json.dumps({"machine": machine.described(), "requests": [EARLY, LATE], "pss_mib": told}, indent=1))
        return
    for mode, (early, late) in told.items():
        print(f"{mode:12s} {early:6.1f} MiB after {EARLY:,}  {late:6.1f} after {LATE:,}  x {late / early:.2f}")


if __name__ == "__main__":
    main()
