"""One locked virtual environment for each client, made when its lock changes.

`locks/NAME.in` says what is wanted, `locks/NAME.txt` every package with its version. Not here: what runs in them.
Invariant: what is not in the lock is not installed, so two machines test the same versions.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
LOCKS, BUILD, SUITES = HERE / "locks", HERE / "build", HERE / "suites"


def ready(client: str, *, locks: Path = LOCKS, whole: bool = True) -> Path:
    """Give the Python of a client's environment; makes the environment if it is not there or its lock has changed.

    Args:
        whole: the lock names every package. Else pip adds what those in it need, which differs from machine to machine.
    Raises:
        subprocess.CalledProcessError: a package could not be installed.
    """
    lock, folder = locks / f"{client}.txt", BUILD / client
    digest, stamp = hashlib.sha256(lock.read_bytes()).hexdigest(), folder / "lock.sha256"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder, python, lock, whole=whole)
        stamp.write_text(digest)
    return python


def _make(folder: Path, python: Path, lock: Path, *, whole: bool) -> None:
    """Install a lock into a new environment: with uv where there is one (seconds), else with pip (a minute)."""
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        installer: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        venv.create(folder, with_pip=True)
        installer = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*installer, *(["--no-deps"] if whole else []), "--requirement", lock], check=True)


def has(package: str) -> bool:
    """Say whether a package is installed in this Python."""
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def versions(python: Path, packages: Sequence[str]) -> str:
    """Say which versions are installed there: `openai 3.54.0, pytest 9.2.0`."""
    program = "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    done = subprocess.run([python, "-c", program, *packages], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()
