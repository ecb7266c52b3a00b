"""`trivet route eval`: a router on outcomes that it has not seen: the cost-quality curve, beside chance and hindsight.

Not here: the curve (`routing/learned/curve.py`), the drawing (`picture.py`).
Invariant: what has too few prompts, or models that differ too little, to be told from chance is said to be so.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trivet.cli.route.picture import draw
from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json
from trivet.errors import ConfigError

if TYPE_CHECKING:
    from trivet.routing.learned.data import Outcomes
    from trivet.routing.learned.learned import Learned

FEW = 200
"""Prompts: with fewer, the interval of an APGR is wider than what any router has been seen to win."""

_POINTS = 101
"""Of a curve that is written as JSON: every percent of calls."""


@click.command("eval")
@click.argument("router", type=click.Path(path_type=Path), metavar="FILE")
@click.argument("outcomes", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--small", required=True, help="The cheaper model, by the name it had in training.")
@click.option("--large", required=True, help="The dearer one.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the curve into this SVG file.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws for the interval.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    *,
    router: Path,
    outcomes: Path,
    small: str,
    large: str,
    picture: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Try a router on outcomes that it was not trained on.

    DIR is as for `train`; only prompts that both models answered count. APGR is the mean share of the quality gap that
    is won over all shares of large calls: 0.5 is chance. Costs are relative to the large model alone, from cost_usd
    where the outcomes have it, else one for a large call and nothing for a small one. Ends with 4 if there are too few
    prompts to say, or the router cannot be told from chance.

    \b
    Examples:
      trivet route eval router.trv fresh/ --small gpt-4o-mini --large gpt-4o
      trivet route eval router.trv fresh/ --small haiku --large sonnet --picture curve.svg --json
    """
    from trivet.routing.learned import data, learned

    asked = learned.load(router)
    told, curves = _tried(asked, data.read_outcomes(outcomes), small=small, large=large, seed=seed)
    told = {"router": str(router), "digest": asked.digest, **told}
    if picture is not None:
        try:
            picture.write_text(draw(curves, title=f"{small} and {large}, {told['prompts']:,} prompts"))
        except OSError as error:
            raise ConfigError(f"Cannot write {picture}: {error.strerror or error}.") from error
    print_json(told) if as_json else _print(told)
    if told["in_training_too"]:
        click.echo(
            f"{told['in_training_too']:,} of the {told['prompts']:,} prompts were trained on: they flatter it.",
            err=True,
        )
    why = _not_enough(told)
    if why:
        click.echo(why, err=True)
        ctx.exit(4)


def _tried(
    asked: "Learned", read: "Outcomes", *, small: str, large: str, seed: int
) -> tuple[dict[str, Any], dict[str, list[tuple[float, float]]]]:
    import numpy as np

    from trivet.routing.learned.curve import curve, interval

    pair = asked.pair(small, large)
    missing = [name for name in (small, large) if name not in read.models]
    if missing:
        raise ConfigError(
            f"The outcomes have none of {', '.join(missing)}. They have: {', '.join(read.models[:100]) or 'none'}."
        )
    at = [read.models.index(small), read.models.index(large)]
    scores, costs = read.matrix()[:, at], read.matrix("cost_usd")[:, at]
    both = np.flatnonzero(np.isfinite(scores).all(1))
    if not len(both):
        raise ConfigError(f"No prompt here was answered by both {small} and {large}. Evaluate on some that were.")
    ys, yl = scores[both].T
    priced = bool(np.isfinite(costs[both]).all()) and float(costs[both, 1].sum()) > 0
    money = (costs[both, 0], costs[both, 1]) if priced else None
    texts = [read.prompts.texts[i] for i in both]
    guesses = [pair.estimate(text) for text in texts]
    gain, p_small = np.array([g.gain for g in guesses]), np.array([g.p_small for g in guesses])
    orders = {"this router": gain, "random": np.zeros(len(both)), "oracle": ys - yl}
    drawn = {name: curve(order, ys, yl, costs=money) for name, order in orders.items()}
    methods = {}
    for name, one in drawn.items():
        points = {f"{part:.0%}": one.at_quality(part) for part in (0.95, 0.98)}
        methods[name] = {
            "apgr": one.apgr(),
            "apgr_interval": interval(orders[name], ys, yl, seed=seed) if name == "this router" else None,
            "cpt": {f"{part:.0%}": one.cpt(part) for part in (0.5, 0.8)},
            "calls_at": {part: share for part, (share, _) in points.items()},
            "cost_at": {part: cost for part, (_, cost) in points.items()},
        }
    step = np.linspace(0, len(both), min(_POINTS, len(both) + 1)).round().astype(int)
    told = {
        "small": small,
        "large": large,
        "prompts": len(both),
        "in_training_too": sum(map(asked.trained_on, texts)),
        "quality": {"small": float(ys.mean()), "large": float(yl.mean())},
        "cost_of_small": float(drawn["random"].cost[0]),
        "costs": "cost_usd" if priced else "calls",
        "order": "gain, with ease" if pair.rule.eased else "gain",
        "in_training": {
            "prompts": pair.rule.prompts,
            "apgr_seen": pair.rule.apgr_seen,
            "apgr_unseen": pair.rule.apgr_unseen,
        },
        "brier_small": float(((p_small - ys) ** 2).mean()),
        "methods": methods,
        "domains": _by_domain([read.prompts.domains[i] for i in both], gain, np.stack([ys, yl], 1)),
        "curve": [
            {"large_calls": float(one.share[i]), "quality": float(one.quality[i]), "cost": float(one.cost[i])}
            for one in [drawn["this router"]]
            for i in step
        ],
    }
    shown = {name: [(float(one.cost[i]), float(one.quality[i])) for i in step] for name, one in drawn.items()}
    return told, shown


def _by_domain(domains: list[str], gain: Any, scores: Any) -> dict[str, dict[str, Any]]:
    import numpy as np

    from trivet.routing.learned.curve import apgr

    of, told = np.array(domains), {}
    for name in sorted(set(domains)):
        at = np.flatnonzero(of == name)
        ys, yl = scores[at].T
        told[name or "(none)"] = {
            "prompts": len(at),
            "apgr": apgr(gain[at], ys, yl),
            "gain_expected": float(gain[at].mean()),
            "gain": float((ys - yl).mean()),
        }
    return told


def _not_enough(told: dict[str, Any]) -> str:
    if told["prompts"] < FEW:
        return f"Too few to say: {told['prompts']} prompts; {FEW} are the least."
    interval = told["methods"]["this router"]["apgr_interval"]
    if interval is None:
        return "Both models did equally well on these prompts, so there is nothing to win by routing but the price."
    if interval[0] <= 0.5 <= interval[1]:
        return "On these prompts the router cannot be told from chance (0.5 is in the interval)."
    return ""


def _print(told: dict[str, Any]) -> None:
    rows = []
    for name, m in told["methods"].items():
        low_high = m["apgr_interval"]
        rows.append(
            (
                name,
                _number(m["apgr"]),
                "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}",
                *(_percent(m["cpt"][part]) for part in ("50%", "80%")),
                *(f"{_percent(m['calls_at'][part])}, {m['cost_at'][part]:.2f}" for part in ("95%", "98%")),
            )
        )
    head = ("ORDER", "APGR", "95 % INTERVAL", "CPT50", "CPT80", "CALLS, COST AT 95 %", "AT 98 %")
    table(head, rows, numbers=range(1, 7))
    told_costs = "cost_usd" if told["costs"] == "cost_usd" else "calls to the large model"
    click.echo(
        f"\n{told['prompts']:,} prompts. Quality: {clean(told['small'])} {told['quality']['small']:.3f}, "
        f"{clean(told['large'])} {told['quality']['large']:.3f}. Costs are in {told_costs}, of the large model alone; "
        f"the small model's is {told['cost_of_small']:.2f}."
    )
    if len(told["domains"]) > 1:
        click.echo()
        shown = [
            (clean(n), f"{d['prompts']:,}", _number(d["apgr"]), f"{d['gain_expected']:+.3f}", f"{d['gain']:+.3f}")
            for n, d in told["domains"].items()
        ]
        table(("DOMAIN", "PROMPTS", "APGR", "GAIN EXPECTED", "GAIN"), shown, numbers=range(1, 5))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
