"""Room and rights on the disk, and the engine and files of the models that Trivet runs itself.

Not here: who else can read (`modes.py`), the ledger's contents (`ledger.py`).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from trivet.cli.doctor.check import Check, bad, ok, warn
from trivet.config import Settings, home, models_folder
from trivet.errors import TrivetError
from trivet.ledger import sqlite
from trivet.upstream.embedded import MISSING
from trivet.weights import MINILM, File, Store, find
from trivet.weights.store import SPARE_BYTES

_ENOUGH_BYTES = 1_000_000_000  # a million entries, about 600 bytes each in journal and tables, and some air
_LEAST_BYTES = 100_000_000  # then the ledger is near the point where it stops taking requests


def home_checks(settings: Settings | None, env: Mapping[str, str]) -> Iterator[Check]:
    """See that state can be written where it belongs, and that there is room."""
    folder = home(env)
    trouble = _unwritable(folder)
    if trouble:
        yield bad("home", f"{folder} cannot be written: {trouble}", "export TRIVET_HOME=FOLDER")
        return
    yield ok("home", f"{folder} can be written")
    yield _room(folder)
    if settings is None or settings.ledger.store != "sqlite":
        return
    ledger = sqlite.folder(settings.ledger, folder)
    near = next(p for p in (ledger, *ledger.absolute().parents) if p.exists())
    if not (near.is_dir() and os.access(near, os.W_OK | os.X_OK)):
        fix = "Set `ledger.path` to a folder that you can write to."
        yield bad("ledger folder", f"{ledger} cannot be written: {near} does not let you", fix)
    elif near.stat().st_dev != folder.stat().st_dev:
        yield _room(near)


def _unwritable(folder: Path) -> str:
    """Say why a folder cannot be made or written in; "" if it can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _room(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    words = f"{free / 1e9:.1f} GB free for {folder}"
    fix = f"Make room, or move it: df -h {folder}"
    if free > _ENOUGH_BYTES:
        return ok("disk", words)
    if free > _LEAST_BYTES:
        return warn("disk", words, fix)
    return bad("disk", f"{words}: requests are refused when an entry cannot be kept", fix)


_RUNS = {
    "minilm": "onnxruntime",
    "onnx": "onnxruntime",
    "sentence-transformers": "sentence-transformers",
    "fastembed": "fastembed",
}
"""What embedders run on."""


def engine_checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Look at what runs models in this machine, their files and folder, if a target needs them."""
    models = sorted({t.model for t in settings.targets.values() if t.provider == "llamacpp" and not t.base_url})
    usual = {settings.embedder.kind} - {"auto"}
    embedders = sorted({t.model for t in settings.targets.values() if t.provider == "embedder"} | usual)
    if models and find_spec("xllamacpp") is None:
        yield bad("engine", "xllamacpp is not installed, and targets need it", MISSING.partition("Run: ")[2])
    elif models:
        yield ok("engine", f"xllamacpp {_version('xllamacpp')}")
    for kind in embedders:
        package = _RUNS.get(kind, "")
        words = f"{package} {_version(package)}" if package else "needs nothing"
        if kind == "target":
            words = f"asks {settings.embedder.target}, which `trivet doctor --call` can try"
        yield ok(f"embedder {kind}", words)
    if not models and "minilm" not in embedders:
        return
    folder = models_folder(settings, env)
    store = Store(folder, env=env)
    missing_bytes = 0
    for name in [*models, *(MINILM.name for kind in embedders if kind == "minilm")]:
        check, to_fetch_bytes = _model(name, store)
        missing_bytes += to_fetch_bytes
        yield check
    yield from _models_folder(folder, missing_bytes)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(of unknown version)"


def _model(name: str, store: Store) -> tuple[Check, int]:
    """Look at one model, and say how many bytes are still to be fetched."""
    model: File | None = MINILM if name == MINILM.name else find(name)
    what = f"model {name}"
    if name.lower().endswith(".gguf"):
        if Path(name).expanduser().is_file():
            return ok(what, "here; its digest is not known, so it is loaded as it is"), 0
        return bad(what, "is not there", "Correct its path in the file."), 0
    if model is None:
        return bad(what, "is not one that Trivet knows", "See docs/configuration.md for those it does."), 0
    try:
        path = store.find(model)
    except TrivetError as error:
        return bad(what, str(error), "export TRIVET_MODELS=FOLDER"), 0
    if path is None:
        words = f"not here yet: {model.size_bytes / 1e6:.0f} MB to fetch at the first start"
        return ok(what, words), model.size_bytes
    return ok(what, f"here, {model.size_bytes / 1e6:.0f} MB"), 0


def _models_folder(folder: Path, missing_bytes: int) -> Iterator[Check]:
    """See that what is missing can be put there, and whether earlier fetches left pieces."""
    what = "models folder"
    near = next(p for p in (folder, *folder.parents) if p.exists())
    trouble = _unwritable(folder) if missing_bytes and folder.is_dir() else ""
    needed, free = missing_bytes + SPARE_BYTES, shutil.disk_usage(near).free
    if trouble:
        yield bad(what, f"{folder} cannot be written: {trouble}", "export TRIVET_MODELS=FOLDER")
    elif missing_bytes and free < needed:
        words = f"{needed / 1e6:,.0f} MB are needed in {folder}, and {free / 1e6:,.0f} MB are free"
        yield bad(what, words, "export TRIVET_MODELS=FOLDER_WITH_ROOM")
    else:
        yield ok(what, f"{folder}, {free / 1e9:.1f} GB free" + ("" if folder.is_dir() else "; made at the first start"))
    pieces = [p for p in folder.glob("*.part") if p.is_file()] if folder.is_dir() else []
    if pieces:
        size_bytes = sum(p.stat().st_size for p in pieces)
        words = (
            f"{size_bytes / 1e6:,.0f} MB of fetches that did not end are in {folder}; the next one goes on from there"
        )
        yield warn(what, words, f"Start `trivet serve` to go on; or: rm {folder}/*.part")
