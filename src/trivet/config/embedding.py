"""The settings of embedders against the others: which there are, what each takes, and where texts may be sent.

Not here: each value against its type (`misfits.py`).
"""

import difflib
import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from trivet import seams
from trivet.config.misfits import Misfit, Place, either, shown
from trivet.config.settings import EmbedderSettings, PolicySettings, Settings, TargetSettings

_PLAIN = TargetSettings(provider="")
_USUAL = EmbedderSettings()

_TAKES = {
    "target": ("target",),
    "timeout": ("target",),
    "path": ("onnx", "fastembed"),
    "model": ("sentence-transformers", "fastembed"),
    "pooling": ("onnx",),
    "max_tokens": ("target", "onnx", "sentence-transformers", "fastembed"),
}
"""Settings that not all kinds have, and those that do."""

_NEEDS = {
    "minilm": ("onnxruntime", "embed"),
    "onnx": ("onnxruntime", "embed"),
    "sentence-transformers": ("sentence_transformers", "sentence-transformers"),
    "fastembed": ("fastembed", "fastembed"),
}
"""Packages of embedders, and the extras that they come with."""

_NAMED = {"onnx": "path", "sentence-transformers": "model", "fastembed": "model"}
"""What has to be said of a kind."""

_MODELS = ("model.onnx", "onnx/model.onnx")

_NO_VECTORS = ("anthropic",)
"""Providers that are asked for chat completions alone."""

_ELSEWHERE = ("static", "vcache", "verified", "shadow")
"""Modes of a cache that have texts turned into vectors."""


def conflicts_of_embedder(target: TargetSettings, settings: Settings, at: Place) -> Iterator[Misfit]:
    """Check a target whose provider is an embedder in this process."""
    for key in ("base_url", "api_key", "headers", "http", "proxy", "tls", "warm", "timeouts"):
        if getattr(target, key) != getattr(_PLAIN, key):
            yield (*at, key), "An embedder runs in this process and has none. Remove the line."
    if target.model == "target":
        words = "It would ask another target. Give that one an alias, or write which embedder of this process is meant:"
        yield (*at, "model"), f'{words} model = "builtin".'
    elif target.model != settings.embedder.kind:  # that one is checked where it is written
        yield from _conflicts_of_kind(target.model, (*at, "model"), but="target")
        if target.model in _NAMED:
            kind = json.dumps(target.model)
            yield (
                (*at, "model"),
                f"Which one that is stands in [embedder], if its kind is {kind}. Write it there.",
            )


def conflicts_of_embedding(settings: Settings) -> Iterator[Misfit]:
    """Check `[embedder]`."""
    embedder, at = settings.embedder, ("embedder",)
    for key, kinds in _TAKES.items():
        if getattr(embedder, key) != getattr(_USUAL, key) and embedder.kind not in kinds:
            whose = either(json.dumps(kind) for kind in kinds)
            yield (*at, key), f"Only the kind {whose} takes it. Remove the line, or write that kind."
    if embedder.kind != "auto":
        yield from _conflicts_of_kind(embedder.kind, (*at, "kind"))
    if embedder.kind == "target":
        yield from _conflicts_of_target(settings, (*at, "target"))
    needed = _NAMED.get(embedder.kind, "")
    if needed and not getattr(embedder, needed):
        example = '"/srv/models/bge-small"' if needed == "path" else '"sentence-transformers/all-MiniLM-L6-v2"'
        yield at, f"`{needed}` is missing: write which model it is, such as {needed} = {example}."
    folder = Path(embedder.path).expanduser()
    if embedder.path and not any((folder / model).is_file() for model in _MODELS):
        yield (*at, "path"), "There is no model.onnx in that folder. Correct the path."


def _conflicts_of_kind(kind: str, at: Place, *, but: str = "") -> Iterator[Misfit]:
    """Check the name of an embedder."""
    installed = [name for name in seams.names("trivet.embedder") if name != but]
    package, extra = _NEEDS.get(kind, ("", ""))
    if kind not in installed:
        yield at, f"{shown(kind)} is no embedder that is installed. Write {either(json.dumps(i) for i in installed)}."
    elif package and find_spec(package) is None:
        yield at, f"It needs a package that is not installed. Run: pip install 'trivet[{extra}]'"


def _conflicts_of_target(settings: Settings, at: Place) -> Iterator[Misfit]:
    """Check the target that makes vectors: it sees the questions of every policy that compares them."""
    name, targets = settings.embedder.target, settings.targets
    if not name:
        known = either(json.dumps(n) for n in targets) if targets else "one"
        yield at[:-1], f'`target` is missing: kind = "target" asks one for vectors. Write which: {known}.'
        return
    if name not in targets:
        yield at, no_target(name, targets)
        return
    target = targets[name]
    if target.provider == "embedder":
        own = f'kind = "{target.model}"' if target.model != "target" else 'kind = "builtin"'
        yield at, f'"{name}" is an embedder of this process, which needs no target: write {own}.'
    elif target.provider in _NO_VECTORS or (target.provider == "llamacpp" and not target.base_url):
        yield at, f'"{name}" answers chat completions and makes no embeddings here. Write a target that does.'
    elif target.model == "*":
        yield at, f'"{name}" takes any model, and vectors of two do not mix. Add a target that names one.'
    for policy in settings.policies.values():
        if _leaves(policy, target):
            have = json.dumps(target.region)
            yield at, f'It would show questions to "{name}", which is in {have}, and `residency` leaves that out.'


def _leaves(policy: PolicySettings, target: TargetSettings) -> bool:
    elsewhere = bool(policy.residency) and target.region not in policy.residency
    return elsewhere and policy.cache.mode in _ELSEWHERE


def no_target(name: str, targets: Iterable[str]) -> str:
    """Say that there is no target of a name."""
    near = difflib.get_close_matches(name, list(targets), n=1)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(targets) or 'none'}."
    return f"There is no target {shown(name)}. {hint}"
