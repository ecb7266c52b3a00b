"""How often each judge of the semantic cache agrees with the truth, on answers of real models to real questions.

    python -m bench.judge PAIRS --work FOLDER [--pairs 100] [--answerer small large] [--judge large] [--out NAME]

PAIRS is a folder of `.jsonl.gz` files, lines of `{"a", "b", "y"}`: two questions, and whether they ask the same. They
are asked as they are, and so are those of `bench/facts.py`, with the facts before the model. Comparisons are of three
kinds:

    again       one question, asked twice: the truth is "the same"
    paraphrase  two questions that ask the same: the truth is "the same"
    different   two that do not, and read alike: the truth is "different"

The truth is about the questions: a model that answers one question in two ways is a false "different" of any judge, and
its answers to two questions may happen to say the same. `again` says how much of the first there is. Small models make
up much of what they say, so of the two sources that with the facts says more about the judges.
The embedded models answer (0.5B `small`, 1.5B `large`), through the engine, as a policy's targets would. Likeness is
measured with each embedder; its threshold is chosen on one half of the comparisons and reported on the other.
FOLDER keeps questions, answers and verdicts, so that a run that was stopped goes on; the results hold none of them.
"""

import argparse
import asyncio
import gzip
import itertools
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from bench.facts import PAIRS, SYSTEM
from bench.machine import CORES
from msgspec import Raw

from trivet import build
from trivet.cache.semantic import jury
from trivet.cache.semantic.verified import interval
from trivet.config import parse
from trivet.embed.lender import Lender
from trivet.errors import TrivetError
from trivet.pipeline import answer
from trivet.tally import Stages, Tally
from trivet.types import Controls, Request
from trivet.wire.alike import LIKE, Prose, likeness, settled

MODELS = {"small": "qwen2.5-coder-0.5b-instruct", "large": "qwen2.5-coder-1.5b-instruct"}
CONFIG = "\n".join(
    f'[targets.{name}]\nprovider = "llamacpp"\nmodel = "{model}"\nengine = {{ context = 4096, slots = 4 }}'
    for name, model in MODELS.items()
)
SYSTEMS = {"facts": SYSTEM, "questions": "You are a helpful assistant. Answer in one or two sentences."}
MAX_TOKENS = 160
"""Answers that were cut off there are left out: a gateway does not keep them either."""

AT_ONCE = 4
KINDS = ("again", "paraphrase", "different")
THRESHOLDS = tuple(i / 100 for i in range(50, 100))
HIDDEN = 0.05
"""Of wrong hits, that a judge may take for right ones: what is promised is then at most a twentieth more."""

SEED = 5
RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]


class Notes:
    """What was answered so far, in a file of JSON lines: by a key, once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self.known: dict[str, Any] = dict(json.loads(line) for line in path.read_text().splitlines())

    def add(self, key: str, value: Any) -> None:
        """Note one."""
        self.known[key] = value
        with self._path.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")


def compared(folder: Path, count: int) -> list[Row]:
    """Choose what is compared, the same for the same seed: all of the facts, and `count` of each kind of the files."""
    rng = random.Random(SEED)
    every = [*_of_facts(rng), *_of_files(folder, count, rng)]
    rng.shuffle(every)
    return [row | {"half": i % 2} for i, row in enumerate(every)]


def _of_facts(rng: random.Random) -> Iterator[Row]:
    for pair in PAIRS:
        for fact in pair:
            for one, other in itertools.combinations(fact.asked, 2):
                yield {"from": "facts", "kind": "paraphrase", "a": one, "b": other}
            for one in fact.asked:
                yield {"from": "facts", "kind": "again", "a": one, "b": one}
        for one, other in rng.sample(list(itertools.product(*(fact.asked for fact in pair))), 6):
            yield {"from": "facts", "kind": "different", "a": one, "b": other}


def _of_files(folder: Path, count: int, rng: random.Random) -> Iterator[Row]:
    found: dict[bool, list[list[tuple[str, str]]]] = {True: [], False: []}
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        rows = [r for r in rows if isinstance(r["a"], str) and r["a"].lower() != r["b"].lower()]
        if not rows or sum("?" in r["a"] for r in rows) < 0.2 * len(rows):
            continue  # statements, or conversations
        top = max(float(r["y"]) for r in rows)
        for same in (True, False):
            pairs = [(r["a"], r["b"]) for r in rows if (r["y"] >= 0.8 * top if same else r["y"] <= 0.4 * top)]
            rng.shuffle(pairs)
            found[same].append(pairs)
    for same in (True, False):
        turns = itertools.chain.from_iterable(itertools.zip_longest(*found[same]))
        for a, b in itertools.islice((p for p in turns if p), count):
            yield {"from": "questions", "kind": "paraphrase" if same else "different", "a": a, "b": b}
            if same:
                yield {"from": "questions", "kind": "again", "a": a, "b": a}


class Asking:
    """The engine with its models, and what they said."""

    def __init__(self, stages: Stages, notes: Notes) -> None:
        self._stages, self._notes = stages, notes
        self._room = asyncio.Semaphore(AT_ONCE)

    async def say(self, model: str, row: Row, which: str, *, seed: int) -> str | None:
        """Give a model's answer to a question; None: it was cut off."""
        key = f"{model} {row['from']} {seed} {row[which]}"
        if key not in self._notes.known:
            messages = [{"role": "system", "content": SYSTEMS[row["from"]]}, {"role": "user", "content": row[which]}]
            fields = {"messages": messages, "max_tokens": MAX_TOKENS, "seed": seed}
            body = await self._ask(model, {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()})
            said = json.loads(body or b"null")
            choice: Any = said["choices"][0] if said else {"finish_reason": "failed"}
            self._notes.add(key, choice["message"]["content"] if choice["finish_reason"] == "stop" else None)
        found: str | None = self._notes.known[key]
        return found

    async def judged(self, model: str, question: str, prose: Prose) -> tuple[bool | None, str]:
        """Give what a model says of two answers, as the cache would ask it, and what went wrong if it says nothing."""
        key = f"judge {model} {jury.SYSTEM} {question} {prose.fresh} {prose.kept}"
        if key not in self._notes.known:
            bodies = [await self._ask(model, fields) for fields in jury.asks(question, *prose)]
            self._notes.add(key, jury.heard(bodies))
        same, trouble = self._notes.known[key]
        return same, trouble

    async def _ask(self, model: str, fields: dict[str, Raw]) -> bytes | None:
        async with self._room:
            request = Request(
                id=f"bench-{time.monotonic_ns()}",
                tenant="bench",
                model=model,
                fields={"model": Raw(msgspec.json.encode(model)), **fields},
                controls=Controls(cache="off"),
            )
            tally = Tally(request, self._stages.clock.mono_ns())
            try:
                return b"".join([chunk.data async for chunk in answer(tally, self._stages)])
            except TrivetError:
                return None


async def measured(given: argparse.Namespace) -> list[Row]:
    """Give a row for each comparison that both answers are there for."""
    os.environ.setdefault("TRIVET_HOME", str(given.work / "home"))
    settings = parse(CONFIG, source="bench")
    kit = build.kit(settings, os.environ, tell=lambda line: print(line, file=sys.stderr))
    rows: list[Row] = []
    async with build.stages(settings, kit) as stages:
        asking = Asking(stages, Notes(given.work / "notes.jsonl"))
        for name in {*given.answerer, *given.judge}:
            while state := stages.providers[name].ready():
                assert "failed" not in state, state
                await asyncio.sleep(0.2)
        every = compared(given.pairs_in, given.pairs)
        for model in given.answerer:
            rows += await told(every, lambda row, model=model: answered(row, model, asking), f"answers of {model}")
        for model in given.judge:
            for answerer in given.answerer:
                some = [row for row in rows if row["model"] == answerer][: given.judged]
                await told(some, lambda row, model=model: put(row, model, asking), f"verdicts of {model} on {answerer}")
    lender = Lender(settings.embedder, kit)
    for kind in given.embedder:
        embedder = lender.take(kind)
        await embedder.start()
        while embedder.ready():  # noqa: ASYNC110  # it says no other way that it is
            await asyncio.sleep(0.05)
        for row in rows:
            if "prose" in row:
                row[embedder.name] = await likeness(row["prose"], embedder)
        await embedder.aclose()
    return rows


async def told(rows: Sequence[Row], work: Any, words: str) -> list[Row]:
    """Do it for all rows, some at once; say how far it is. Gives what came of those that something came of."""
    began, done = time.monotonic(), 0

    async def one(row: Row) -> Row | None:
        nonlocal done
        made: Row | None = await work(row)
        done += 1
        if done % 20 == 0:
            print(f"{words}: {done} of {len(rows)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return made

    made = []
    for start in range(0, len(rows), AT_ONCE):
        made += await asyncio.gather(*(one(row) for row in rows[start : start + AT_ONCE]))
    return [row for row in made if row is not None]


async def answered(row: Row, model: str, asking: Asking) -> Row | None:
    """Have both questions answered, and say what is clear without a judge of meanings."""
    kept = await asking.say(model, row, "a", seed=1)
    fresh = await asking.say(model, row, "b", seed=2)
    if kept is None or fresh is None:
        return None
    bodies = [json.dumps({"choices": [{"message": {"content": said}}]}).encode() for said in (fresh, kept)]
    found = settled(*bodies)
    made = row | {"model": model, "fresh": fresh, "kept": kept}
    return made | ({"prose": found} if isinstance(found, Prose) else {"settled": found})


async def put(row: Row, model: str, asking: Asking) -> Row:
    """Put two answers before a model."""
    row["put"] = True
    if "prose" in row:
        row[f"judge {model}"], row[f"trouble {model}"] = await asking.judged(model, row["b"], row["prose"])
    return row


def said_of(row: Row, judge: str, threshold: float | None) -> bool | None:
    """Give what a judge says of a comparison."""
    if "settled" in row:
        found: bool | None = row["settled"]
        return found
    if judge == "equality":
        return False
    found = row[judge]
    return found if threshold is None else float(found or 0.0) >= threshold


def counted(rows: Sequence[Row], judge: str, threshold: float | None = None) -> Row:
    """Count what a judge says, by kind."""
    figures: Row = {"judge": judge, "threshold": threshold}
    for kind in KINDS:
        said = [said_of(row, judge, threshold) for row in rows if row["kind"] == kind]
        clear = [s for s in said if s is not None]
        wrong = sum(s != (kind != "different") for s in clear)
        figures[kind] = {"all": len(said), "no_verdict": len(said) - len(clear), "wrong": wrong}
        figures[kind]["low"], figures[kind]["high"] = interval(wrong, len(clear))
    return figures


def chosen(rows: Sequence[Row], judge: str) -> float:
    """Choose the threshold of likeness: the lowest with at most `HIDDEN` false "same"; the highest, if none has so few.

    The two errors do not weigh the same: a false "different" costs hits, a false "same" hides a wrong one from audits.
    """
    share = {t: (of := counted(rows, judge, t)["different"])["wrong"] / max(1, of["all"]) for t in THRESHOLDS}
    return next((t for t in THRESHOLDS if share[t] <= HIDDEN), THRESHOLDS[-1])


def summed(rows: Sequence[Row], judges: Sequence[str], embedders: Iterable[str]) -> list[Row]:
    """Give a row for each judge; those that were chosen on one half are reported on the other."""
    told = [counted(rows, "equality")]
    put = [row for row in rows if row.get("put")]
    if put:
        told += [counted(put, f"judge {name}") for name in judges]
        told += [counted(put, name, LIKE) | {"of_those": len(put)} for name in embedders]
    for name in embedders:
        told.append(counted(rows, name, LIKE))
        first, second = ([r for r in rows if r["half"] == half] for half in (0, 1))
        threshold = chosen(first, name)
        told += [counted(second, name, LIKE) | {"half": 1}, counted(second, name, threshold) | {"half": 1}]
        told += [counted(rows, name, t) | {"curve": True} for t in THRESHOLDS[::5]]
    return told


def written(told: Row) -> str:
    """Write the results for people."""
    lines = [
        "# Judges of the semantic cache",
        "",
        f"`{told['command']}` on {told['machine']}, {told['seconds']} s.",
        "",
        "Wrong verdicts, of those given, with their 95 % intervals. *Other half*: the threshold was chosen on the one.",
        "",
    ]
    for answerer, figures in told["answerers"].items():
        lines += [
            f"## {answerer.capitalize()}",
            "",
            f"{figures['rows']} comparisons of whole answers; equality, numbers or links settle {figures['settled']}.",
            "",
            "| judge | again: false different | paraphrase: false different | different: false same | no verdict |",
            "|---|---|---|---|---|",
        ]
        for row in figures["judges"]:
            name = row["judge"].removeprefix("judge ")
            name += "" if row["threshold"] is None else f" at {row['threshold']:.2f}"
            name += ", other half" if row.get("half") else ""
            name += ", on what models judged" if row.get("of_those") else ""
            cells = [f"{_share(row[kind])}" for kind in KINDS]
            silent = sum(row[kind]["no_verdict"] for kind in KINDS) / max(1, sum(row[kind]["all"] for kind in KINDS))
            lines.append(f"| {' | '.join([name, *cells, f'{silent:.1%}'])} |")
        lines.append("")
    return "\n".join(lines)


def _share(of: Row) -> str:
    clear = of["all"] - of["no_verdict"]
    return f"{of['wrong'] / clear:.1%} ({of['low']:.1%} to {of['high']:.1%})" if clear else "-"


def main() -> None:
    """Run it and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs_in", type=Path, metavar="PAIRS")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100, help="Comparisons of each kind that are taken from PAIRS.")
    parser.add_argument("--answerer", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--judge", nargs="*", choices=MODELS, default=["large"])
    parser.add_argument("--judged", type=int, help="Comparisons of each answerer that are put before the models.")
    parser.add_argument("--embedder", nargs="*", default=["builtin", "minilm"])
    parser.add_argument("--out", default="judge")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows = asyncio.run(measured(given))
    judges = [f"{name}" for name in given.judge]
    fixed = {"from", "kind", "a", "b", "half", "model", "fresh", "kept", "prose", "settled", "put"}
    embedders = sorted({key for row in rows for key in row if key not in fixed and " " not in key})
    told: Row = {
        "command": f"python -m bench.judge PAIRS {' '.join(sys.argv[2:])}".replace(str(given.work), "FOLDER"),
        "machine": f"{platform.machine()}, {len(CORES)} cores, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - began),
        "answerers": {},
    }
    parts = {"all of both sources and of all models": rows}
    for model, source in itertools.product(given.answerer, SYSTEMS):
        mine = [row for row in rows if row["model"] == model and row["from"] == source]
        parts[f"{source}, {MODELS[model]}"] = mine
    for name, mine in parts.items():
        told["answerers"][name] = {
            "rows": len(mine),
            "settled": sum("settled" in row for row in mine),
            "judges": summed(mine, judges, embedders),
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{given.out}.json").write_text(json.dumps(told, indent=1) + "\n")
    (RESULTS / f"{given.out}.md").write_text(written(told))
    print(written(told))


if __name__ == "__main__":
    main()
