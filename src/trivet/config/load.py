"""From a file to settings, and where files are.

Invariants: unknown keys and bad values are refused with file, line and what to write, all at once; nothing that is not
built yet is silently ignored.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from trivet.config.conflicts import conflicts
from trivet.config.misfits import Misfit, dotted, misfits
from trivet.config.places import line_of, places
from trivet.config.secret import read_text
from trivet.config.settings import EmbedderSettings, Settings
from trivet.errors import ConfigError


def home(env: Mapping[str, str]) -> Path:
    """Say where state lives: TRIVET_HOME, else below XDG_DATA_HOME, else below ~/.local/share."""
    if env.get("TRIVET_HOME"):
        return Path(env["TRIVET_HOME"]).expanduser()
    return Path(env.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "trivet"


def models_folder(settings: Settings, env: Mapping[str, str]) -> Path:
    """Say where model files live: TRIVET_MODELS, else `models.path`, else below XDG_CACHE_HOME or ~/.cache."""
    if env.get("TRIVET_MODELS") or settings.models.path:
        return Path(env.get("TRIVET_MODELS") or settings.models.path).expanduser()
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trivet" / "models"


def embedder_kind(settings: EmbedderSettings) -> str:
    """Say which embedder is meant: the one that is named, else the best of those that are installed."""
    if settings.kind != "auto":
        return settings.kind
    return "builtin" if find_spec("onnxruntime") is None else "minilm"


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Read `path`, else $TRIVET_CONFIG, else ./trivet.toml if it is there; with none of them, empty Settings.

    Raises:
        ConfigError: one line for each thing that is wrong: file, line, key, what it is, what to write.
    """
    if path is None and env.get("TRIVET_CONFIG"):
        path = Path(env["TRIVET_CONFIG"]).expanduser()
    if path is None:
        path = Path("trivet.toml")
        if not path.exists():
            return Settings()
    return parse(read_text(path, "the settings are expected in it"), source=str(path))


def parse(text: str, *, source: str) -> Settings:
    """Turn the text of a `trivet.toml` into settings; `source` is the file that errors name."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        line = place[1] if place else len(text.splitlines())
        raise ConfigError(f"{source}:{line}: {str(error).partition(' (at ')[0]}. This is not TOML.") from error
    _refuse(misfits(raw, Settings, ()), text=text, source=source)
    for name, target in raw.get("targets", {}).items():
        target["name"] = name
    settings = _with_embedders_named(msgspec.convert(raw | {"source": source}, Settings))
    _refuse(conflicts(settings), text=text, source=source)
    return settings


def _with_embedders_named(settings: Settings) -> Settings:
    """Name the model of targets that have the one of `[embedder]`: others without a name have any."""
    kind = embedder_kind(settings.embedder)
    targets = {
        name: msgspec.structs.replace(target, model=kind)
        if target.provider == "embedder" and target.model == "*"
        else target
        for name, target in settings.targets.items()
    }
    return msgspec.structs.replace(settings, targets=targets)


def _refuse(misfits: Iterable[Misfit], *, text: str, source: str) -> None:
    found = list(misfits)
    if found:
        lines = places(text)
        raise ConfigError("\n".join(f"{source}:{line_of(lines, at)}: {dotted(at)}: {words}" for at, words in found))
