"""A gateway on a leash ends when its holder does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # processes and pip


def test_it_serves_while_the_pipe_is_held_and_ends_when_it_is_let_go(home: Path, config: Path) -> None:
    leash, held = os.pipe()
    told, tells = os.pipe()
    serve = ["serve", "--port", "0", "--config", str(config), "--ready-fd", str(tells)]
    process = subprocess.Popen(
        [sys.executable, "-m", "trivet.cli.leash", str(leash), *serve],
        pass_fds=(leash, tells),
        stderr=subprocess.DEVNULL,
    )
    os.close(leash)
    os.close(tells)
    with os.fdopen(told, "rb") as line:
        assert line.readline().startswith(b'{"url":"http://127.0.0.1:')
    assert process.poll() is None
    os.close(held)
    assert process.wait(timeout=30) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
