"""What a request cost, what the baseline would have cost, and the difference by lever.

A target's price is its own (`price` in trivet.toml, per token or per hour), or its provider's list price, or unknown
with a reason. Not here: arithmetic (`rates.py`), the list (`pricelist.py`).
Invariants: an unknown price is None and never 0; nothing here raises for a request; levers sum to baseline minus cost.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from trivet.config import PriceSettings, TargetSettings
from trivet.errors import ConfigError
from trivet.ledger import money
from trivet.ledger.rates import PER_MILLION, HourRate, Tiers, hour_rate, rates, time_cost, token_cost
from trivet.types import Baseline, Nanos, Usage

if TYPE_CHECKING:
    from trivet.ledger.pricelist import Listed

_OURS = "trivet.toml"
_SELF_HOSTED = frozenset({"llamacpp", "ollama", "vllm"})
"""Engines that people run themselves: nobody lists a price, so the list is not even loaded for them."""
_MAX_RESOLVED = 4096
"""Models named in answers are the upstream's words: what is remembered of them is bounded."""


class Cost(Struct, frozen=True, gc=False):
    """What one request cost, or why that is not known; and whose prices were used."""

    nanos: Nanos | None
    why_unknown: str
    version: str


class Pace:
    """How fast a target has been lately: nanoseconds a token, over about the last hundred answers."""

    # A ratio of sums, each fading by 1 % an answer: short answers, mostly start-up, then weigh little.
    _KEEP = 0.99

    def __init__(self) -> None:
        self._ns = 0.0
        self._tokens = 0.0

    def learn(self, tokens: int, took_ns: int) -> None:
        """Take one answer into account."""
        if tokens > 0:
            self._ns = self._ns * self._KEEP + took_ns
            self._tokens = self._tokens * self._KEEP + tokens

    def guess_ns(self, tokens: int) -> int | None:
        """Say how long that many tokens would take; None before the first answer."""
        return round(self._ns / self._tokens * tokens) if self._tokens else None


class Prices:
    """The prices of all targets."""

    def __init__(self, targets: Mapping[str, TargetSettings]) -> None:
        """Compile what trivet.toml says. Raises `ConfigError` for a `price` that cannot be one."""
        self._targets = targets
        self._regions = {name: target.region for name, target in targets.items()}
        self._own = {name: _own(name, t.price) for name, t in targets.items() if t.price is not None}
        self._pace = {name: Pace() for name in targets}
        self._resolved: dict[tuple[str, str], _Price] = {}

    def follow(self, before: "Prices") -> None:
        """Go on from what another configuration's prices had learned: how fast the targets are that both have."""
        self._pace |= {name: pace for name, pace in before._pace.items() if name in self._pace}  # noqa: SLF001  # of this class

    def warm(self) -> None:
        """Load the price list now if a target may need it: later, the first request would pay 0.3 s for it."""
        for name, target in self._targets.items():
            self._price(name, target.model)

    def cost(self, target: str, *, model: str, usage: Usage | None, took_ns: int, at_ns: int) -> Cost:
        """Price one answer: by the `model` that it names, else the target's; `took_ns` is the target's own time."""
        price = self._price(target, model)
        if price.hour is not None:
            return Cost(time_cost(price.hour, took_ns), "", price.version)
        tiers = price.tiers or price.at(at_ns)
        if isinstance(tiers, str):
            return Cost(None, tiers, price.version)
        found = f"{target} did not report its tokens" if usage is None else token_cost(tiers, usage)
        return Cost(None, found, price.version) if isinstance(found, str) else Cost(found, "", price.version)

    def told(self, target: str, *, model: str = "", at_ns: int) -> dict[str, str] | None:
        """Say what a target costs at a time of day, in dollars: per million tokens, or per hour; None: not known.

        For people. Of prices with tiers, those of the shortest prompts.
        """
        settings = self._targets[target]
        if settings.model == "*" and not model:
            return None
        if settings.price is not None and settings.price.hour is not None:
            return {"hour": settings.price.hour.removeprefix("$")}
        price = self._price(target, model)
        tiers = price.tiers or price.at(at_ns)
        if isinstance(tiers, str):
            return None
        rates = tiers[-1][1]
        parts = {"input": rates.input, "output": rates.output}
        if rates.cached is not None and rates.input is not None:
            parts["cached"] = rates.input + rates.cached
        return {
            name: money.usd(Nanos(money.half_even(rate * PER_MILLION, rates.per_nano)))
            for name, rate in parts.items()
            if rate is not None
        }

    def context(self, target: str, *, model: str = "") -> int | None:
        """Say how many tokens a list gives a target's model, prompt and answer; None where that is not known."""
        if self._targets[target].model == "*" and not model:
            return None
        listed = None if target in self._own else self._price(target, model).listed
        return listed.model.context_window if listed else None

    def learn(self, target: str, *, usage: Usage, took_ns: int) -> None:
        """Note how long a target took, for the time that it would have taken elsewhere."""
        pace = self._pace.get(target)
        if pace is not None:
            pace.learn(usage.input_tokens + usage.output_tokens, took_ns)

    def counterfactual(self, target: str, *, usage: Usage | None, at_ns: int) -> Baseline:
        """Say what the same tokens would have cost at a target. (Its tokenizer may count the text differently.)"""
        if usage is None:
            return Baseline(target=target, why_unknown="the tokens of the answer are not known")
        price = self._price(target, "")
        if price.tiers is not None:  # by the token: nothing to guess
            found = token_cost(price.tiers, usage)
            return (
                Baseline(target=target, why_unknown=found)
                if isinstance(found, str)
                else Baseline(target=target, cost_nanos=found)
            )
        by_hour = price.hour is not None
        took_ns = self._pace[target].guess_ns(usage.input_tokens + usage.output_tokens) if by_hour else 0
        if took_ns is None:
            return Baseline(target=target, why_unknown=f"{target} has not answered yet, so its pace is not known")
        cost = self.cost(target, model="", usage=usage, took_ns=took_ns, at_ns=at_ns)
        return Baseline(target=target, cost_nanos=cost.nanos, why_unknown=cost.why_unknown, estimated=by_hour)

    def compare(
        self, baseline: str, *, target: str, hit: str, usage: Usage | None, cost: Cost, at_ns: int, alone: bool = True
    ) -> tuple[Baseline, dict[str, Nanos]]:
        """Hold what was spent against the declared baseline.

        Args:
            target: who answered; for a hit, who gave the answer first.
            hit: the kind of hit (`exact`, ...), or "" where a target was called.
            cost: what was spent; nothing for a hit.
            alone: all of it on that target's answer.
        """
        if target == baseline and not hit and alone:
            return Baseline(target=baseline, cost_nanos=cost.nanos, why_unknown=cost.why_unknown), {}
        found = self.counterfactual(baseline, usage=usage, at_ns=at_ns)
        return found, savings(found, cost=cost.nanos, lever=hit or self._lever(baseline, target))

    def _lever(self, baseline: str, target: str) -> str:
        there, here = self._regions.get(baseline, ""), self._regions.get(target, "")
        return "local" if here == "local" != there else "route"

    def _price(self, target: str, model: str) -> "_Price":
        own = self._own.get(target)
        if own is not None:
            return own
        settings = self._targets.get(target)
        if settings is None:
            return _Price(why=f"No target is called {target!r}")
        key = target, model or settings.model
        price = self._resolved.get(key)
        if price is None:
            if len(self._resolved) >= _MAX_RESOLVED:
                self._resolved.clear()
            price = self._resolved[key] = _listed(settings, key[1], advice=f"Set `targets.{target}.price`.")
        return price


def savings(baseline: Baseline, *, cost: Nanos | None, lever: str) -> dict[str, Nanos]:
    """Split baseline minus cost by lever: one lever has acted, so it has all; empty where either is not known."""
    if baseline.cost_nanos is None or cost is None:
        return {}
    return {lever: Nanos(baseline.cost_nanos - cost)}


class _Price(NamedTuple):
    """A price found once: one of `hour`, `tiers`, `listed`; or why there is none."""

    version: str = ""
    hour: HourRate | None = None
    tiers: Tiers | None = None
    listed: "Listed | None" = None
    why: str = ""
    advice: str = ""

    def at(self, at_ns: int) -> Tiers | str:
        """Give the token rates of a time of day, or why there are none."""
        found = self.tiers or (self.listed.at(at_ns) if self.listed else self.why)
        return f"{found}. {self.advice}" if isinstance(found, str) else found


def _listed(target: TargetSettings, model: str, *, advice: str) -> _Price:
    if _self_hosted(target):
        return _Price(why="a model that runs on a machine of yours has no list price", advice=advice)
    from trivet.ledger import pricelist  # 17 MiB and 0.3 s: only for those who need it

    provider = pricelist.provider_of(target.provider, target.base_url)
    if provider is None:
        place = urlsplit(target.base_url).hostname or target.provider
        return _Price(why=f"{pricelist.VERSION} has no prices for {place}", advice=advice)
    found = pricelist.find(provider, model)
    if isinstance(found, str):
        return _Price(pricelist.VERSION, why=found, advice=advice)
    return _Price(pricelist.VERSION, listed=found, advice=advice)


def _self_hosted(target: TargetSettings) -> bool:
    if not target.base_url:
        return target.provider in _SELF_HOSTED
    host = urlsplit(target.base_url).hostname or ""
    try:
        return ip_address(host).is_private  # loopback is
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def _own(name: str, price: PriceSettings) -> _Price:
    where = f"targets.{name}.price"
    if price.hour is not None:
        if price.input is not None or price.output is not None or price.cached is not None:
            raise ConfigError(f"`{where}` has both `hour` and tokens: it can be one of them.")
        return _Price(_OURS, hour=hour_rate(money.dollars(price.hour), slots=price.slots))
    if price.input is None or price.output is None:
        raise ConfigError(f"`{where}` needs both `input` and `output` (dollars per million tokens), or `hour`.")
    each = {"input": money.dollars(price.input), "output": money.dollars(price.output)}
    if price.cached is not None:
        each["cached"] = money.dollars(price.cached)
    return _Price(_OURS, tiers=((-1, rates({k: v / PER_MILLION for k, v in each.items()})),))
