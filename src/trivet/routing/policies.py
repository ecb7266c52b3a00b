"""Policies compiled from settings: names to pools, levers and digests; and the one place where a name is looked up.

Not here: reading the file (`config.py`). Invariants: a target outside a policy's `residency` is not in its compiled
pool, so no router can rank it; the digest covers everything that can change an answer.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from math import ceil

import msgspec

from trivet.config import (
    CascadeSection,
    ClassifierSection,
    PolicySettings,
    RuleSection,
    Settings,
    TargetSettings,
    bound,
    floor,
    seconds,
)
from trivet.errors import UnknownModelError
from trivet.types import (
    Aim,
    CachePolicy,
    CascadePolicy,
    ClassifierPolicy,
    LabelPolicy,
    Nanos,
    Policy,
    Rule,
    ShadowPolicy,
)

_encode = msgspec.json.Encoder(order="sorted").encode

_FAMILIES = {
    "openai": ("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-"),
    "anthropic": ("claude-",),
    "gemini": ("gemini-",),
}
"""Which wildcard target a bare model name belongs to, where there are several: by the names its models have."""


class Policies:
    """Every name that a client may ask for, and what it means."""

    def __init__(self, settings: Settings) -> None:
        self.targets = settings.targets
        """By name, as the file has them."""
        self._aliases = settings.aliases
        self._wild = tuple(name for name, t in settings.targets.items() if t.model == "*")
        self._found: dict[str, Policy] = {
            name: _direct(name, target) for name, target in settings.targets.items() if target.model != "*"
        }
        self._found |= {name: _compile(name, policy, settings) for name, policy in settings.policies.items()}

    def names(self) -> tuple[str, ...]:
        """List the names that can be asked for; a wildcard target as `name/*`."""
        return (*self._found, *self._aliases, *(f"{name}/*" for name in self._wild))

    def compiled(self) -> tuple[Policy, ...]:
        """Give every policy that has a name of its own, targets included."""
        return tuple(self._found.values())

    def alias(self, name: str) -> str | None:
        """Say what an alias stands for; None if it is none."""
        return self._aliases.get(name)

    def known_as(self, model: str) -> tuple[str, ...]:
        """Give the names under which a key may be allowed a name: itself, what it is an alias of, `WILDCARD/*`."""
        name = self._aliases.get(model, model)
        wild = None if name in self._found else self._wildcard(name)
        if wild is None:
            return model, name
        return model, name, f"{wild}/{name.removeprefix(f'{wild}/')}", f"{wild}/*"

    def find(self, model: str) -> Policy:
        """Look a name up: alias, policy, target, `wildcard/model`, or a bare name that one wildcard target claims.

        Raises:
            UnknownModelError: nothing is called that.
        """
        name = self._aliases.get(model, model)
        found = self._found.get(name)
        if found is not None:
            return found
        target = self._wildcard(name)
        if target is None:
            raise UnknownModelError(model, known=self.names())
        return _direct(target, self.targets[target], model=name.removeprefix(f"{target}/"))

    def _wildcard(self, name: str) -> str | None:
        prefix, _, rest = name.partition("/")
        if rest and prefix in self._wild:
            return prefix
        if len(self._wild) == 1:
            return self._wild[0]
        return next((w for w in self._wild if name.startswith(_FAMILIES.get(w, ("\0",)))), None)


def _direct(name: str, target: TargetSettings, *, model: str = "") -> Policy:
    return Policy(name=name, digest=_digest({name: target}, None), pool=(name,), transparent=True, model=model)


def _compile(name: str, policy: PolicySettings, settings: Settings) -> Policy:
    targets, pool = settings.targets, _resident(policy, settings.targets)
    section = policy.cache
    cache = CachePolicy(
        mode=section.mode,
        ttl_s=seconds(section.ttl),
        max_temperature=section.max_temperature,
        tools=section.tools,
        partition=section.partition,
        threshold=section.threshold,
        max_error=section.max_error,
        judge=section.judge,
        auto_off=section.auto_off,
    )
    labels = LabelPolicy(max_entries=policy.labels.max_entries, ttl_s=seconds(policy.labels.ttl))
    baseline = policy.baseline or policy.pool[-1]
    return Policy(
        name=name,
        digest=_digest({t: targets[t] for t in pool}, policy),
        pool=pool,
        route=policy.route,
        rules=tuple(_rule(rule, pool) for rule in policy.rules),
        aim=_aim(policy) if policy.router else None,
        classifier=_classifier(policy.classifier, pool, settings) if policy.classifier else None,
        cascade=_cascade(policy.cascade or CascadeSection(), pool) if policy.route == "cascade" else None,
        cache=None if section.mode == "off" else cache,
        labels=labels if policy.labels.keep else None,
        shadow=_shadow(policy, baseline) if policy.shadow.share else None,
        baseline=baseline,
    )


def _shadow(policy: PolicySettings, baseline: str) -> ShadowPolicy:
    section = policy.shadow
    dollars = Decimal(section.budget.removeprefix("$").removesuffix("/day"))
    return ShadowPolicy(
        share=section.share,
        target=section.target or baseline,
        budget_nanos=Nanos(int(dollars * 1_000_000_000)),
        tools=section.tools,
        judge=policy.cache.judge,
    )


def _resident(policy: PolicySettings, targets: Mapping[str, TargetSettings]) -> tuple[str, ...]:
    return tuple(t for t in policy.pool if not policy.residency or targets[t].region in policy.residency)


def _classifier(section: ClassifierSection, pool: tuple[str, ...], settings: Settings) -> ClassifierPolicy:
    other, targets = settings.policies.get(section.model), settings.targets
    asked = (section.model,) if other is None else _resident(other, targets)
    return ClassifierPolicy(
        model=section.model,
        digest=_digest({name: targets[name] for name in asked}, other),
        within_ms=ceil(seconds(section.timeout) * 1000),
        simple=tuple(name for name in section.simple if name in pool),
        complex=tuple(name for name in section.complex if name in pool),
        fallback=section.fallback,
        memory=section.memory,
        ttl_s=seconds(section.ttl),
        prompt=section.prompt,
    )


def _cascade(section: CascadeSection, pool: tuple[str, ...]) -> CascadePolicy:
    large = section.large if section.large in pool else pool[-1]
    cheap = tuple(name for name in pool if name != large)
    return CascadePolicy(
        cheap=cheap,
        large=large,
        agree=section.agree or min(2, len(cheap) * section.samples),
        samples=section.samples,
        together=section.together,
        within_ms=ceil(seconds(section.within) * 1000),
        streams=section.streams,
        compare=section.compare,
        sure=section.sure,
    )


def _aim(policy: PolicySettings) -> Aim:
    share, reference = floor(policy.quality) if policy.quality else (None, "")
    percentile, ttft_s = bound(policy.ttft) if policy.ttft else (0.95, None)
    return Aim(
        best="quality" if policy.maximize else policy.minimize or "cost",
        quality=share,
        reference=reference,
        confidence=policy.confidence,
        cost_nanos=int(Fraction(policy.cost[1:]) * 1_000_000_000) if policy.cost else None,
        ttft_s=ttft_s,
        percentile=percentile,
        router=policy.router,
        sticky_s=seconds(policy.sticky),
    )


def _rule(rule: RuleSection, pool: tuple[str, ...]) -> Rule:
    stated = {"tools": rule.tools, "images": rule.images, "audio": rule.audio, "schema": rule.schema}
    return Rule(
        use=tuple(name for name in rule.use if name in pool),
        needs=frozenset(name for name, there in stated.items() if there) or None,
        lacks=frozenset(name for name, there in stated.items() if there is False),
        tokens_from=rule.tokens_from,
        tokens_below=rule.tokens_below,
        language=frozenset(rule.language),
        header=frozenset((name.lower().encode(), value.encode()) for name, value in rule.header.items()),
        key=frozenset(rule.key),
        feature=frozenset(rule.feature),
        agent=frozenset(rule.agent),
        customer=frozenset(rule.customer),
    )


def _digest(targets: Mapping[str, TargetSettings], policy: PolicySettings | None) -> str:
    """Digest what can change an answer: pool, models, addresses, engines; not prices, times or keys."""
    answering = [(name, t.provider, t.model, t.base_url, t.headers, t.engine) for name, t in targets.items()]
    rules: tuple[object, ...] | None = None
    if policy is not None:
        rules = (policy.route, policy.rules, policy.cache.tools, policy.cache.max_temperature)
        if (by := policy.classifier) is not None:
            rules += ((by.model, by.simple, by.complex, by.fallback, by.prompt),)
        if policy.route == "cascade":
            how = policy.cascade or CascadeSection()
            rules += ((how.large, how.agree, how.samples, how.together, how.streams, how.compare, how.sure),)
    return blake2b(_encode((answering, rules)), digest_size=12).hexdigest()
