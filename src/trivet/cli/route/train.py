"""`trivet route train`: outcomes to a router file.

Not here: how it is trained (`routing/learned/`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json
from trivet.cli.trial.vectors import bar
from trivet.errors import ConfigError

if TYPE_CHECKING:
    from trivet.routing.learned.data import Outcomes
    from trivet.routing.learned.learned import Learned


@click.command("train")
@click.argument("outcomes", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The router file to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is left out together, to calibrate.")
@click.option("--pair", "pairs", multiple=True, metavar="SMALL,LARGE", help="To report on; without, up to six.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(*, outcomes: Path, out: Path, seed: int, pairs: tuple[str, ...], as_json: bool) -> None:
    """Train a router on the outcomes in DIR: which prompt each model got right.

    DIR has prompts.* (pid, prompt; optional: ds, domain) and outcomes.* (pid, model, score from 0 to 1), as .parquet,
    .jsonl, .jsonl.gz or .csv. Parquet needs: pip install 'trivet[route]'. At least 20 outcomes of each model. With
    their parsed answers as `ans` it learns cascades too.

    What was learned is told of prompts that were left out: how far chances are from what came true (Brier score,
    calibration error), and for pairs of models APGR, the mean share of their quality gap that is won over all shares of
    large calls (0.5 is chance). `eval` tries the router on outcomes of another day, which is the better trial.

    \b
    Examples:
      trivet route train outcomes/ --out router.trv
      trivet route train outcomes/ --out router.trv --pair gpt-4o-mini,gpt-4o
      trivet route train outcomes/ --out router.trv --seed 7 --json
    """
    from trivet.routing.learned import data, learned, report

    read = data.read_outcomes(outcomes)
    asked = [_pair(words, read.models) for words in pairs]
    # By bytes, not by count: a bar is worth showing for a thousand prompts, whatever the number of models.
    with bar("training", max(len(read.models), len(read.prompts.pids))) as shown:
        per = max(len(read.models), len(read.prompts.pids)) / len(read.models)
        today = datetime.now(tz=UTC).date().isoformat()
        router = learned.train(
            read, date=today, seed=seed, tell=lambda done: shown.update(round(done * per) - shown.pos)
        )
    missing = []
    with bar("pool, clusters, cascade", 3) as shown:
        for learn, words in (
            (_pool, "The router has no pool, so `enrol` and `decide` cannot use it."),
            (_clusters, "The router has no clusters."),
            (_cascade, "The router has no cascade."),
        ):
            try:
                learn(router, read, seed=seed)
            except ConfigError as error:
                missing.append(f"{words} {error}")
            shown.update(1)
    for words in missing:
        click.echo(words, err=True)
    router.digest = router.save(out)
    told = {"out": str(out), **learned.described(router)}
    told["learned"] = [model._asdict() for model in report.models(router)]
    told["pairs"] = [pair._asdict() for pair in report.pairs(router, read, asked or report.usual_pairs(router))]
    if as_json:
        print_json(told)
        return
    _print(told)


def _pool(router: "Learned", read: "Outcomes", *, seed: int) -> None:
    from trivet.routing.pool import pool

    router.others |= pool.trained(read, router.space)


def _clusters(router: "Learned", read: "Outcomes", *, seed: int) -> None:
    from trivet.routing.pool import clusters

    features = router.space.dense(read.prompts.texts).astype(float)
    known, seen = clusters.learn(features, read.matrix(), read.models, seed=seed)
    router.others[clusters.NAME] = known.section(seen[router.evidence.prompt, router.evidence.model])


def _cascade(router: "Learned", read: "Outcomes", *, seed: int) -> None:
    from trivet.routing.cascade import section

    router.others[section.NAME] = section.learn(router, read, seed=seed)


def _pair(words: str, models: Sequence[str]) -> tuple[str, str]:
    names = tuple(name.strip() for name in words.split(","))
    if len(names) != 2 or names[0] == names[1] or not set(names) <= set(models):
        raise ConfigError(
            f"--pair {words!r} is not two models of the outcomes with a comma between them: the cheaper, then the "
            f"better. They have: {', '.join(models[:100])}."
        )
    return names[0], names[1]


def _print(told: dict[str, Any]) -> None:
    rows = [
        (
            clean(m["name"]),
            f"{m['labels']:,}",
            f"{m['score']:.3f}",
            f"{m['brier']:.3f}",
            f"{m['brier_of_mean']:.3f}",
            f"{m['error']:.3f}",
            _number(m["error_unseen"]),
        )
        for m in told["learned"]
    ]
    head = ("MODEL", "LABELS", "SCORE", "BRIER", "OF THE MEAN", "CALIBRATION ERROR", "DOMAIN NOT SEEN")
    table(head, rows, numbers=range(1, 7))
    if told["pairs"]:
        click.echo()
        table(
            ("SMALL", "LARGE", "PROMPTS", "GAP", "APGR", "DOMAIN NOT SEEN", "HALF THE LABELS", "TWICE", "ORDER"),
            [_shown(pair) for pair in told["pairs"]],
            numbers=range(2, 8),
        )
    click.echo(
        f"\n{told['prompts']:,} prompts of {len(told['domains'])} domains, {told['outcomes']:,} outcomes. "
        f"Written: {told['out']} (sha256 {told['digest'][:12]})."
    )


def _shown(pair: dict[str, Any]) -> tuple[str, ...]:
    return (
        clean(pair["small"]),
        clean(pair["large"]),
        f"{pair['prompts']:,}",
        f"{pair['gap']:.3f}",
        _within(pair["seen"], pair["seen_interval"]),
        _within(pair["unseen"], pair["unseen_interval"]),
        _number(pair["halved"]),
        _number(pair["doubled"]),
        pair["order"],
    )


def _within(value: float | None, interval: tuple[float, float] | None) -> str:
    return _number(value) + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval and value is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
