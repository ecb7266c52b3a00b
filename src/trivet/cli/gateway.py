"""A gateway to talk to: one that answers already, or one of our own, which ends when we do.

Not here: what the gateway does (`serve.py`).
Invariant: a gateway that was started here does not outlive this process, also by kill -9 (`leash.py`).
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import msgspec

from trivet.errors import ConfigError, TrivetError

USUAL = "http://127.0.0.1:8088"

_ANSWER_S = 2.0  # for /readyz, which looks nothing up
_POLL_S = 0.1
_STOP_S = 15.0  # the server gives running answers 10 s (`server/run.py`), then closes what it opened

# A proxy that the environment names is for the way out, not for a gateway on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class GatewayError(TrivetError):
    """A gateway did not start, or ended by itself; the message has its last words."""

    code, whose = "gateway_failed", "operator"


def ready(url: str) -> dict[str, Any] | None:
    """Ask a gateway how its targets are; None where no Trivet answers. `status` is "ready" or "not ready"."""
    try:
        with _direct.open(f"{url}/readyz", timeout=_ANSWER_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:  # 503: it answers, and no target is ready yet
        with error:
            body = error.read()
    except (OSError, ValueError):
        return None
    try:
        told = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return told if isinstance(told, dict) and isinstance(told.get("targets"), dict) else None


def admits(url: str, key: str) -> bool:
    """Say whether a gateway takes this key; one without keys of its own takes any."""
    asked = urllib.request.Request(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})  # noqa: S310  # http
    try:
        _direct.open(asked, timeout=_ANSWER_S).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code not in (401, 403)
    except (OSError, ValueError):
        return False
    return True


def find(env: Mapping[str, str]) -> str | None:
    """Find a gateway that answers: at TRIVET_URL, or else where `trivet serve` listens by default.

    Raises:
        ConfigError: TRIVET_URL names one, and it does not answer.
    """
    named = env.get("TRIVET_URL", "").rstrip("/").removesuffix("/v1")
    if not named:
        return USUAL if ready(USUAL) is not None else None
    if not named.startswith(("http://", "https://")) or ready(named) is None:
        raise ConfigError(f"No Trivet answers at {named} (TRIVET_URL). Start it there, or unset TRIVET_URL.")
    return named


def wait(url: str, *, tell: Callable[[str], None]) -> None:
    """Wait until a target of the gateway at `url` can answer, telling what each is waiting for as it changes.

    Raises:
        GatewayError: it no longer answers.
    """
    said = ""
    while (state := ready(url)) is not None and state.get("status") != "ready":
        words = ", ".join(f"{name}: {why}" for name, why in state["targets"].items())
        if words != said:
            tell(words)
            said = words
        time.sleep(_POLL_S)
    if state is None:
        raise GatewayError(f"The gateway at {url} no longer answers.")


@contextmanager
def started(arguments: Sequence[str], *, tell: Callable[[str], None]) -> Generator[str, None, None]:
    """Start `trivet serve` with these arguments on a free port, wait for it, give its URL, and stop it at the end.

    It is in a session of its own: Ctrl-C in the terminal is for the program that uses it.

    Raises:
        GatewayError: it ended before it was ready.
    """
    leash, held = os.pipe()
    told, tells = os.pipe()
    with tempfile.TemporaryFile() as words, os.fdopen(told, "rb") as url_line, os.fdopen(held, "wb"):
        serve = ["serve", "--port", "0", "--ready-fd", str(tells), *arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", "trivet.cli.leash", str(leash), *serve],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            pass_fds=(leash, tells),
            start_new_session=True,
        )
        try:
            os.close(leash)
            os.close(tells)
            line = url_line.readline()
            if not line:
                raise GatewayError(f"The gateway did not start. Its last words:\n{_ending(process, words)}")
            url = str(msgspec.json.decode(line)["url"])
            try:
                wait(url, tell=tell)
            except GatewayError as error:
                raise GatewayError(f"The gateway ended. Its last words:\n{_ending(process, words)}") from error
            yield url
        finally:
            _stop(process)


def _ending(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    _stop(process)
    words.seek(0)
    return words.read()[-2000:].decode("utf-8", "replace").strip() or f"none (it ended with {process.returncode})"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and after a while end it and all that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
