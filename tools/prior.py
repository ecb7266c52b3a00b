"""Fit the priors of `verified`: `python -m tools.prior STREAMS OUT` (about ten minutes on two cores).

STREAMS is a folder with `bank`, `clinc` and `hwu` as `.jsonl.gz`, lines of `{"text", "cls"}`: the utterances of
BANKING77 (Casanueva et al. 2020, PolyAI, CC BY 4.0), CLINC150 (Larson et al. 2019, CC BY 3.0) and HWU64 (Liu et al.
2019, CC BY 4.0) with their intents. With them go the cases of `cases.txt`, which are ours. Of all that, a prior keeps
some hundred numbers and no text. The same files, versions and processor give the same numbers to four digits.
"""

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tools.cases import Case, cases

from trivet.build import SystemClock
from trivet.cache.semantic.fitting import Stream, fit
from trivet.cache.semantic.priors import Prior
from trivet.cache.semantic.trial import Foreseen, Labelled
from trivet.cli.trial.labelled import read_stream
from trivet.cli.trial.vectors import Embedded, embed

MADE_FROM = (
    "BANKING77 (PolyAI, CC BY 4.0), CLINC150 (clinc/oos-eval, CC BY 3.0), HWU64 (Liu et al., CC BY 4.0), "
    "and cases of our own; by tools/prior.py"
)
NAMES = ("bank", "clinc", "hwu")
SEED = 5
APART = 0.3
"""Share of the pairs of one family that ask for different things which is used: all would be four in five."""

Pairs = list[tuple[str, str, float, bool]]


def material(folder: Path, kind: str, names: Sequence[str] = NAMES) -> tuple[list[Stream], Pairs, Embedded]:
    """Read and embed what a prior is fitted on."""
    questions = {name: read_stream(folder / f"{name}.jsonl.gz") for name in names}
    ours = list(cases())
    questions["cases"] = [Labelled(case.text, case.cls) for case in ours]
    rng = random.Random(SEED)
    for rows in questions.values():
        rng.shuffle(rows)
    vectors = embed([q.text for rows in questions.values() for q in rows], kind)
    streams = [stream_of(rows, vectors) for rows in questions.values()]
    return streams, pairs_of(ours, vectors, rng), vectors


def pairs_of(ours: Sequence[Case], vectors: Embedded, rng: random.Random) -> Pairs:
    """Give the pairs of each family: all that ask for the same, and some of the others."""
    pairs: Pairs = []
    for i, one in enumerate(ours):
        for other in ours[:i]:
            same = one.cls == other.cls
            if one.family == other.family and (same or rng.random() < APART):
                cosine = float(vectors.vectors[vectors.rows[one.text]] @ vectors.vectors[vectors.rows[other.text]])
                pairs.append((one.text, other.text, cosine, same))
    return pairs


def stream_of(questions: Sequence[Labelled], vectors: Embedded) -> Stream:
    """Give a stream with the neighbours of its own questions alone."""
    texts = list(dict.fromkeys(q.text for q in questions if q.text in vectors.rows))
    place = {text: i for i, text in enumerate(texts)}
    rows = vectors.vectors[[vectors.rows[text] for text in texts]]
    return Stream(questions, Foreseen(rows), [place.get(q.text, -1) for q in questions])


def write(prior: Prior, folder: Path) -> None:
    """Write a prior so that people can read it."""
    told = msgspec.json.format(msgspec.json.encode(prior), indent=1).decode()
    (folder / f"{prior.name}.json").write_text(told + "\n")
    print(prior.name, f"{time.process_time():.0f} s", flush=True)


def main(streams: Path, out: Path) -> None:
    """Fit one prior for each embedder that is in the package, and a careful one for all others."""
    clock = SystemClock()
    together: list[Stream] = []
    pairs: Pairs = []
    for kind in ("builtin", "minilm"):
        some, alone, vectors = material(streams, kind)
        write(fit(some, alone, name=vectors.name, made_from=MADE_FROM, clock=clock), out)
        together += [some[0], some[2], some[3]]
        pairs += alone
    both = fit(together, pairs, name="unknown", made_from=MADE_FROM, clock=clock)
    careful = tuple(
        msgspec.structs.replace(n, weight=n.weight - 1.0 if n.name == "one" else n.weight, variance=4 * n.variance)
        for n in both.numbers
    )
    # Of an embedder that nobody measured it is known only that nearer is likelier: every hit counts as riskier by
    # e to 1 until verdicts say otherwise, and they count for more.
    write(msgspec.structs.replace(both, numbers=careful), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
