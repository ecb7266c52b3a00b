"""The script for the shell."""

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from trivet.cli.main import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_that_calls_trivet(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell], prog_name="trivet")
    assert result.exit_code == 0
    assert "_TRIVET_COMPLETE" in result.output


def test_the_script_is_right_for_bash() -> None:
    script = CliRunner().invoke(cli, ["completion", "bash"], prog_name="trivet").output
    bash = shutil.which("bash")
    assert bash is not None
    assert subprocess.run([bash, "-n"], input=script.encode(), check=False).returncode == 0


def test_another_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("trivet ini", {"init"}),
        ("trivet init --", {"--path", "--force", "--print", "--json", "--engine-port", "--help"}),
        ("trivet doctor --", {"--config", "--call", "--json", "--help"}),
    ],
)
def test_what_the_shell_asks_for_is_answered(typed: str, offered: set[str]) -> None:
    env = {"_TRIVET_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    words = [sys.executable, "-m", "trivet.cli.main"]
    told = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=True)
    assert {line.partition(",")[2] for line in told.stdout.splitlines()} == offered
