"""Policies compiled from settings: names to pools, levers and digests; and the one place where a name is looked up.

Not here: reading the file (`config.py`). Invariants: a target outside a policy's `residency` is not in its compiled
pool, so no router can rank it; the digest covers everything that can change an answer.
"""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from trivet.config import PolicySettings, RuleSection, Settings, TargetSettings, seconds
from trivet.errors import UnknownModelError
from trivet.types import CachePolicy, Policy, Rule

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
        self._found |= {name: _compile(name, policy, settings.targets) for name, policy in settings.policies.items()}

    def names(self) -> tuple[str, ...]:
        """List the names that can be asked for; a wildcard target as `name/*`."""
        return (*self._found, *self._aliases, *(f"{name}/*" for name in self._wild))

    def compiled(self) -> tuple[Policy, ...]:
        """Give every policy that has a name of its own, targets included."""
        return tuple(self._found.values())

    def alias(self, name: str) -> str | None:
        """Say what an alias stands for; None if it is none."""
        return self._aliases.get(name)

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


def _compile(name: str, policy: PolicySettings, targets: Mapping[str, TargetSettings]) -> Policy:
    pool = tuple(t for t in policy.pool if not policy.residency or targets[t].region in policy.residency)
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
    return Policy(
        name=name,
        digest=_digest({t: targets[t] for t in pool}, policy),
        pool=pool,
        route=policy.route,
        rules=tuple(_rule(rule, pool) for rule in policy.rules),
        cache=None if section.mode == "off" else cache,
        baseline=policy.baseline or policy.pool[-1],
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
    rules = None if policy is None else (policy.route, policy.rules, policy.cache.tools, policy.cache.max_temperature)
    return blake2b(_encode((answering, rules)), digest_size=12).hexdigest()
