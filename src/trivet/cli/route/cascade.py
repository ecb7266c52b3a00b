"""`trivet route cascade`: recorded answers of cheap models to who would have been asked, and whose answer served.

Not here: the vote, the rule (`routing/cascade/`).
Invariant: scores are not read, even where there are some.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json
from trivet.errors import ConfigError
from trivet.routing.cascade import section, signals, stop
from trivet.routing.learned import learned
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.pool.logistic import Floats
from trivet.routing.pool.promise import Held

_FOREIGN = 0.1
"""Share of prompts of domains that were not in training, from which on estimates are those of unknown domains."""


@click.command("cascade")
@click.argument("router", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("outcomes", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--small", required=True, help="Cheap models, with commas between them.")
@click.option("--large", required=True, help="The dear one.")
@click.option(
    "--quality", type=click.FloatRange(0, 1, min_open=True), required=True, help="Floor, of the large model's."
)
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.9, show_default=True, help="That it holds.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV to write: pid, model, calls.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cascade(
    *,
    router: Path,
    outcomes: Path,
    small: str,
    large: str,
    quality: float,
    confidence: float,
    out: Path,
    as_json: bool,
) -> None:
    """Ask cheap models first, and the large one where their answers do not settle it.

    FILE is a router trained on outcomes with answers (`ans`). DIR has prompts and outcomes as for `trivet route train`:
    `ans`, `out_tok` and `cost_usd` of each model; no `score`. An answer of the large model is used only where it is
    called. The CSV says whose answer is served, and which models were called, in order: a+b+c.

    The floor is tested on the outcomes of training, and holds for prompts like them. A prompt that a cheap model has no
    outcome for goes to the large model at once.

    \b
    Examples:
      trivet route cascade router.trv answers/ --small mini,flash --large gpt-4o --quality 0.98 --out served.csv
      trivet route cascade router.trv answers/ --small a,b,c --large d --quality 0.95 --out served.csv --json
    """
    asked = learned.load(router)
    known = section.load(asked)
    read = read_outcomes(outcomes, need_score=False)
    names, notes = _names(read, small, large)
    told = planned(asked, known, read, names, quality=quality, confidence=confidence)
    _write(out, read.prompts.pids, told)
    _print(told, [*notes, *told.notes], quality=quality, confidence=confidence, as_json=as_json)


class Planned(NamedTuple):
    """A cascade over recorded answers."""

    names: tuple[str, ...]
    """The large model last."""
    made: stop.Stages
    order: tuple[int, ...]
    held: Held
    stand_ins: bool
    cost: float
    """Of the calls, relative to the large model alone."""
    notes: tuple[str, ...]


def planned(
    asked: learned.Learned,
    known: section.Cascade,
    read: Outcomes,
    names: Sequence[str],
    *,
    quality: float,
    confidence: float,
) -> Planned:
    """Plan a cascade of models, the large one last. Raises ConfigError: a cost is not known."""
    answers = section.fresh(asked, known, read, names)
    at = [read.models.index(name) for name in names]
    costs = read.matrix("cost_usd")[:, at]
    means = _costs(known, names, costs)
    foreign = float(np.mean([domain not in asked.about.domains for domain in read.prompts.domains]))
    own = known.own(asked, names)
    trial = own or known.trial(names, agreement=section.agree(answers.codes[:, :-1]), foreign=foreign > _FOREIGN)
    if own is not None:
        foreign = 0.0  # the labels are of this traffic, whatever training had
    here = np.zeros((len(costs), len(names)), bool)
    for i, model in enumerate(at):
        here[read.prompt[read.model == model], i] = True
    notes = []
    k = len(names) - 1
    if trial is None:
        notes.append("No set of models in training answered the same prompts, so nothing can be promised.")
        rule = stop.Rule(stop.Shape(tuple(range(k)), 0.0, 0.0, vote=False), -np.inf, Held(0, 1.0, 1.0, 0), 1.0)
    else:
        rule = stop.choose(
            known.votes, trial.answers, trial.scores,
            costs=means, quality=quality, confidence=confidence, groups=trial.groups,
            strange=foreign > _FOREIGN or trial.groups is not None,
        )  # fmt: skip
        if foreign > _FOREIGN or trial.groups is not None:
            rule = stop.capped(known.votes, answers, rule, quality=quality)
        if trial.groups is not None:
            strange = [name for name in names if name not in {known.models[i] for i in known.answered}]
            who = ", ".join(map(clean, strange)) or "these models together"
            notes.append(f"Training has no answers of {who}: sets of models that agree as often stand in.")
    if foreign > 0:
        notes.append(f"{foreign:.0%} of the prompts are of domains that were not in training: the floor may not hold.")
    seen = stop.see(known.votes, answers, rule.shape.order)
    made = stop.stages(seen, rule.shape, rule.threshold)
    if stop.paid(made, rule.shape.order, means).mean() >= means[-1]:
        # Here the cheap models settle too little to be worth their calls.
        rule = rule._replace(threshold=-np.inf, held=rule.held._replace(step=0, quality=1.0, at_least=1.0))
        made = stop.stages(seen, rule.shape, rule.threshold)
    lost = ~here[:, :k].all(1)
    silent = ~here[:, k]
    # Without its answer on record there is nothing to vote with: where the large model is called, it is served.
    called = (made.stage > k) | (made.stage == stop.AT_ONCE) | lost
    made = stop.Stages(np.where(lost, stop.AT_ONCE, made.stage), np.where(lost | (silent & called), k, made.served))
    if lost.any():
        notes.append(f"{lost.sum():,} prompts have no outcome of a cheap model: they go to {clean(names[k])} at once.")
    if silent.any():
        notes.append(f"{silent.sum():,} prompts have no outcome of {clean(names[k])}: it is served where it is called.")
    filled = np.where(np.isfinite(costs), costs, means)
    spent = stop.paid(made, rule.shape.order, filled).sum() / max(filled[:, k].sum(), 1e-12)
    return Planned(
        tuple(names), made, rule.shape.order, rule.held, trial is not None and trial.groups is not None,
        float(spent), tuple(notes),
    )  # fmt: skip


def _names(read: Outcomes, small: str, large: str) -> tuple[list[str], list[str]]:
    """Give the models that are asked, the large one last, and what there is to say. Raises ConfigError."""
    cheap = [name.strip() for name in small.split(",") if name.strip()]
    if not cheap or large in cheap or len(set(cheap)) < len(cheap):
        raise ConfigError(
            f"--small {small!r} and --large {large!r}: name at least one cheap model, and each model once."
        )
    missing = [name for name in [*cheap, large] if name not in read.models]
    if missing:
        raise ConfigError(
            f"The outcomes have none of {', '.join(missing)}. They have: {', '.join(read.models[:100]) or 'none'}."
        )
    codes = np.full((len(read.prompts.pids), len(read.models)), signals.NONE)
    codes[read.prompt, read.model] = signals.codes(read.answers)
    silent = [name for name in cheap if (codes[:, read.models.index(name)] == signals.NONE).all()]
    if len(silent) == len(cheap):
        raise ConfigError(
            f"The outcomes have no answer of {', '.join(cheap)}: `ans` is missing, or empty everywhere. Write the "
            "parsed answer of each outcome as `ans`, the same text where two are the same."
        )
    notes = [f"{clean(name)} gave no answer that could be parsed: it is not asked." for name in silent]
    cheap = [name for name in cheap if name not in silent]
    at = [read.models.index(name) for name in cheap]
    double = signals.twins(codes[:, at], read.matrix("out_tok")[:, at])
    notes += [f"{clean(cheap[b])} answers as {clean(cheap[a])} does, always: it is not asked." for a, b in double]
    return [*(name for i, name in enumerate(cheap) if i not in {b for _, b in double}), large], notes


def _costs(known: section.Cascade, names: Sequence[str], costs: Floats) -> Floats:
    """Give the mean cost of a call to each: here, else in training. Raises ConfigError."""
    made = []
    for i, name in enumerate(names):
        told = costs[:, i][np.isfinite(costs[:, i])]
        if not len(told) and name in known.models:
            column = known.costs[:, known.models.index(name)]
            told = column[np.isfinite(column)]
        if not len(told) or (i == len(names) - 1 and not told.sum() > 0):
            raise ConfigError(f"What a call to {name!r} costs is not known. Write `cost_usd` into its outcomes.")
        made.append(float(told.mean()))
    return np.array(made)


def _write(out: Path, pids: Sequence[str], told: Planned) -> None:
    paths = ["+".join(told.names[i] for i in stop.calls(stage, told.order)) for stage in range(len(told.names) + 1)]
    try:
        with out.open("w", newline="", encoding="utf-8") as written:
            rows = csv.writer(written)
            rows.writerow(("pid", "model", "calls"))
            for pid, served, stage in zip(pids, told.made.served.tolist(), told.made.stage.tolist(), strict=True):
                rows.writerow((pid, told.names[served], paths[stage]))
    except OSError as error:
        raise ConfigError(f"Cannot write {out}: {error.strerror or error}.") from error


def _print(told: Planned, notes: Sequence[str], *, quality: float, confidence: float, as_json: bool) -> None:
    stages, n = told.made.stage.tolist(), max(1, len(told.made.stage))
    served = Counter(told.made.served.tolist())
    calls = Counter(i for stage in stages for i in stop.calls(stage, told.order))
    held, large = told.held, told.names[-1]
    if as_json:
        made: dict[str, Any] = {
            "prompts": len(stages),
            "order": [told.names[i] for i in told.order],
            "large": large,
            "served": {name: served[i] / n for i, name in enumerate(told.names)},
            "called": {name: calls[i] / n for i, name in enumerate(told.names)},
            "quality": held.quality,
            "at_least": held.at_least,
            "cost_of_large": told.cost,
            "labels": held.labels,
            "stand_ins": told.stand_ins,
            "notes": list(notes),
        }
        print_json(made)
        return
    rows = [(clean(name), f"{calls[i] / n:.1%}", f"{served[i] / n:.1%}") for i, name in enumerate(told.names)]
    table(("MODEL", "CALLED", "SERVED"), rows, numbers=(1, 2))
    if held.step:
        click.echo(
            f"\nExpected: {held.quality:.3f} of the quality of {clean(large)}, at least {held.at_least:.3f}, "
            f"{confidence:.0%} sure; cost {told.cost:.2f} of {clean(large)} alone, every call counted. It rests on "
            f"{held.labels:,} labels."
        )
    else:
        click.echo(
            f"\nAll to {clean(large)}: {held.labels:,} labels do not show that a cascade keeps {quality:g} of its "
            f"quality, {confidence:.0%} sure, for less. Add outcomes, or lower --quality or --confidence."
        )
    for note in notes:
        click.echo(note, err=True)
