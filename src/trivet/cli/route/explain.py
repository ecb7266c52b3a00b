"""`trivet route explain`: why a request goes where it goes.

Not here: the routing itself; it is what the gateway does, on the same settings, router and ledger.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from trivet import build
from trivet.cli.text import clean, table
from trivet.cli.trial.evaluate import print_json
from trivet.errors import BadRequestError, ConfigError
from trivet.seams import Explaining
from trivet.wire.request import read_request


@click.command("explain")
@click.argument("request", metavar="REQUEST", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--policy", default="", help="Route it by this policy, whatever its `model` says.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request; repeatable.")
@click.option("--config", type=click.Path(path_type=Path), help="The settings.  [default: ./trivet.toml, if there]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(
    ctx: click.Context, *, request: Path, policy: str, headers: tuple[str, ...], config: Path | None, as_json: bool
) -> None:
    """Say where a request would go, and why: nothing is sent.

    REQUEST is the JSON body of a chat completion, as a file; - is stdin. Shows for each target how likely it is to be
    right, what it costs and what that is worth to the policy; and, of a policy that holds a leg of the triangle, what
    it rests on and what else could be had. Ends with 1 if the request would be refused.

    \b
    Examples:
      trivet route explain request.json
      trivet route explain - --policy support --header "x-trivet-quality: 0.99" --json < request.json
    """
    try:
        body = sys.stdin.buffer.read() if str(request) == "-" else request.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {request}: {error.strerror or error}.") from error
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ConfigError(f"--header {header!r} has no colon. Write NAME:VALUE.")
        pairs.append((name.strip().lower().encode(), value.strip().encode()))
    told = asyncio.run(_explained(body, policy, pairs, config))
    print_json(told) if as_json else _print(told)
    ctx.exit(1 if told["refused"] else 0)


async def _explained(
    body: bytes, policy: str, headers: list[tuple[bytes, bytes]], config: Path | None
) -> dict[str, Any]:
    settings = await build.settings_or_found(config, os.environ)
    parts = await build.offline(settings, os.environ, tell=lambda line: None)  # the report says it
    request = read_request(body, headers, id="explained", tenant="explained", key_id="", at_ns=0)
    found = parts.policies.find(policy or request.model)
    told: dict[str, Any] = {"policy": found.name, "route": found.route, "refused": "", "order": [], "why": ""}
    router = parts.inner[found.route]
    if isinstance(router, Explaining) and not found.transparent:
        told |= router.explain(request, found)
    try:
        ranked = await parts.routers[found.route].rank(request, found)
    except BadRequestError as error:
        return told | {"refused": str(error)}
    return told | {"order": [c.target for c in ranked], "why": ranked[0].why if ranked else ""}


def _print(told: dict[str, Any]) -> None:
    if told["refused"]:
        click.echo(f"Refused: {told['refused']}")
    else:
        why = f" ({told['why']})" if told["why"] else ""
        click.echo(f"{clean(told['policy'])}, {told['route']}: {' then '.join(map(clean, told['order']))}{why}")
    targets = told.get("targets", {})
    if targets:
        click.echo()
        rows = [
            (clean(name), f"{t['likely']:.3f}", "-" if t["price"] is None else f"{t['price']:.3g}", f"{t['worth']:.3f}")
            for name, t in targets.items()
        ]
        table(("TARGET", "LIKELY RIGHT", f"PRICE, {told['price_in']}", "WORTH"), rows, numbers=range(1, 4))
        click.echo(
            f"\n{told['familiar']:.0%} of its words are known to the router (sha256 {told['router'][:12]}). "
            f"{told['plan']}"
        )
    if "cheap" in told:
        click.echo(_of_cascade(told))
    curve = told.get("curve", [])
    if curve:
        click.echo("\nWhat can be had, as estimated:")
        rows = [
            (
                f"{point['quality']:.3f}",
                f"{point['cost_usd']:.3g}" if point["cost_usd"] is not None else "-",
                ", ".join(f"{clean(name)} {share:.0%}" for name, share in point["shares"].items()),
                "held" if point["held"] else "",
            )
            for point in curve
        ]
        table(("QUALITY, OF THE REFERENCE'S", "USD A REQUEST", "SHARES", ""), rows, numbers=(0, 1))


def _of_cascade(told: dict[str, Any]) -> str:
    if "plan" in told:
        words = str(told["plan"])
        return f"{words} This text goes to the large one at once: {told['at_once']}." if told["at_once"] else words
    cheap, large = " and ".join(map(clean, told["cheap"])), clean(told["large"])
    wanted = "none of them is well-formed" if told["agree"] == 1 else f"fewer than {told['agree']} of them say the same"
    return f"{cheap} answer first; {large} where {wanted}, or after {told['within_ms'] / 1000:g} s."
