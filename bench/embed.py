"""What an embedding costs: one question, many in one request, many requests at once; for each embedder that is here.

    python bench/embed.py [--seconds 3] [--json]

Processor time of this process, so that what else happens on the machine matters less; and the longest time for which
the event loop was held up meanwhile. Not here: how good the vectors are (docs/embeddings.md).
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from trivet.config import EmbedderSettings
from trivet.embed import builtin, minilm
from trivet.seams import Embedder
from trivet.testing.house import kit

QUESTION = "how do i reset the password of my account on this site"
"""Twelve words."""
DOCUMENT = "the quick brown fox jumps over the lazy dog and runs away from it " * 14
"""About two hundred tokens."""

MODELS = Path("~/.cache/trivet/models").expanduser()

Row = dict[str, float | str]


async def measured(name: str, what: str, texts: int, ask: Callable[[], Awaitable[object]], seconds: float) -> Row:
    """Ask again and again, and give milliseconds for each text."""
    await ask()
    late_s = 0.0

    async def watch() -> None:
        nonlocal late_s
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            late_s = max(late_s, time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        await ask()
        count += 1
    used = time.process_time() - cpu
    took = time.perf_counter() - wall
    watching.cancel()
    return {
        "embedder": name,
        "what": what,
        "cpu_ms_per_text": round(1e3 * used / count / texts, 3),
        "wall_ms_per_text": round(1e3 * took / count / texts, 3),
        "loop_held_up_ms": round(1e3 * late_s, 1),
    }


async def rows(name: str, embedder: Embedder, seconds: float) -> list[Row]:
    """Measure one embedder."""
    await embedder.embed([QUESTION])
    many = [f"{QUESTION} {n}" for n in range(2048)]
    some = many[:32]

    async def crowd() -> None:
        await asyncio.gather(*(embedder.embed([text]) for text in some))

    cases: list[tuple[str, int, Callable[[], Awaitable[object]]]] = [
        ("one question", 1, lambda: embedder.embed([QUESTION])),
        ("8 questions in one request", 8, lambda: embedder.embed(many[:8])),
        ("32 questions in one request", 32, lambda: embedder.embed(some)),
        ("32 requests at once", 32, crowd),
        ("4 documents of 196 tokens", 4, lambda: embedder.embed([DOCUMENT] * 4)),
    ]
    if name == "builtin":
        cases.append(("2048 questions in one request", 2048, lambda: embedder.embed(many)))
    return [await measured(name, what, texts, ask, seconds) for what, texts, ask in cases]


async def main() -> None:
    """Measure all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    made: list[Row] = []
    with TemporaryDirectory() as folder:
        for name, build in (("builtin", builtin.build), ("minilm", minilm.build)):
            embedder = build(EmbedderSettings(), kit(Path(folder))._replace(models=MODELS))
            await embedder.start()
            while words := embedder.ready():
                if words.startswith("failed"):
                    print(f"{name}: {words}", file=sys.stderr)
                    break
                await asyncio.sleep(0.1)
            else:
                made += await rows(name, embedder, asked.seconds)
            await embedder.aclose()
    if asked.json:
        print(json.dumps(made, indent=2))
        return
    for row in made:
        print("  ".join(f"{key} {value}" if key != "what" else f"{value:30}" for key, value in row.items()))


if __name__ == "__main__":
    asyncio.run(main())
