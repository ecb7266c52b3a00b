"""The script for the shell."""

import shutil
import subprocess

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
