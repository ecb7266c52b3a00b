"""Has schemathesis ask a real `trivet serve` whatever `/openapi.json` lets it think of, and counts the entries.

    python -m tests.hostile.contract [--examples 400]

Asserted: no 5xx, errors in OpenAI's shape, types as they are declared, methods that are not there refused; each answer
of a route that asks has the id of an entry of its own, and there are no others.

Not here: what is checked of an answer (`contract_hooks.py`), the gateway (`run.py`). schemathesis has an environment of
its own, made from `schemathesis.txt`: it brings 24 packages that nothing else here needs.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.compat import environments
from tests.hostile.run import House, house

HERE = Path(__file__).parent
CHECKS = "one_shape,content_type_conformance,response_schema_conformance"
TOO_LONG_S = 900


class Verdict(NamedTuple):
    """What came of it."""

    cases: int
    statuses: Counter[str]
    entries: int
    wrong: list[str]


async def examine(opened: House, *, python: Path, examples: int, seed: int = 1) -> Verdict:
    """Run schemathesis once over all operations."""
    seen = opened.folder / "seen"
    seen.touch()
    bearer = f"Authorization: Bearer {opened.key.decode()}"
    process = await asyncio.create_subprocess_exec(
        *(
            python.with_name("schemathesis"),
            "run",
            f"{opened.child.url}/openapi.json",
            "-H",
            bearer,
            "--checks",
            CHECKS,
        ),
        *(
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
            "--continue-on-failure",
            "--phases",
            "coverage,fuzzing",
        ),
        cwd=opened.folder,
        env={
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(opened.folder),
            "NO_COLOR": "1",
            "PYTHONPATH": str(HERE),
            "CONTRACT_SEEN": str(seen),
            "SCHEMATHESIS_HOOKS": "contract_hooks",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), TOO_LONG_S)
    finally:
        if process.returncode is None:
            process.kill()
    answers = [line.partition(" ") for line in seen.read_text().splitlines()]
    ids = Counter(id_ for _, _, id_ in answers if id_)
    await asyncio.sleep(0.5)  # the ledger's writer is behind by moments
    kept = opened.entries().keys()
    wrong = [said.decode(errors="replace")[-6000:]] if process.returncode else []
    wrong += [f"{id_} was told {count} times" for id_, count in ids.items() if count > 1]
    wrong += [f"{len(ids.keys() ^ kept)} entries without an answer, or answers without an entry"] * (ids.keys() != kept)
    wrong += [opened.child.words()[-2000:]] * ("Traceback" in opened.child.words())
    return Verdict(len(answers), Counter(status for status, _, _ in answers), len(kept), wrong + opened.seen.harmed)


async def main_async(examples: int) -> Verdict:
    """Open a house and have it examined."""
    python = environments.ready("schemathesis", locks=HERE)
    async with house() as opened:
        return await examine(opened, python=python, examples=examples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; gives 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile.contract", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--examples", type=int, default=400, help="of each operation and kind of value")
    verdict = asyncio.run(main_async(parser.parse_args(arguments).examples))
    told = ", ".join(f"{status}: {count}" for status, count in sorted(verdict.statuses.items()))
    print(f"schemathesis: {verdict.cases} cases ({told}), {verdict.entries} entries, {len(verdict.wrong)} wrong")
    print(*verdict.wrong, sep="\n")
    return int(bool(verdict.wrong))


if __name__ == "__main__":
    sys.exit(main())
