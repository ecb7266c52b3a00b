"""The commands, the exit codes, and what an error looks like."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trivet import __version__
from trivet.cli.main import cli

from .conftest import Upstream, command, trivet


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(cli, ["--version"], prog_name="trivet")
    assert (result.exit_code, result.output) == (0, f"trivet {__version__}\n")


def test_the_help_names_every_command_with_what_it_is_for() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    for name in ("demo", "init", "serve", "run", "usage", "keys", "doctor", "completion"):
        assert f"\n  {name} " in output
    assert "help-markdown" not in output


def test_the_help_imports_no_command_and_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['trivet', '--help']\nfrom trivet.cli.main import main\ntry: main()\nfinally: "
    code += "print([m for m in sys.modules if m.split('.')[0] in ('msgspec', 'rich', 'asyncio', 'uvicorn')"
    code += " or m.startswith('trivet.cli.') and m != 'trivet.cli.main'], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.startswith("Usage: trivet")
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("name", ["init", "serve", "run", "usage", "keys", "doctor", "completion"])
def test_each_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="trivet")
    assert result.exit_code == 0
    assert f"  trivet {name}" in result.output.partition("Examples:")[2]


def test_a_slip_of_the_fingers_is_met_with_the_nearest_command() -> None:
    result = CliRunner().invoke(cli, ["usgae"])
    assert result.exit_code == 2
    assert "Did you mean 'usage'?" in result.output


def test_a_bad_file_ends_with_2_and_the_line_and_no_traceback(home: Path, tmp_path: Path) -> None:
    (tmp_path / "trivet.toml").write_text("[server]\nport = 'x'\n")
    result = trivet("usage")
    assert result.returncode == 2
    assert result.stderr == 'trivet: trivet.toml:2: server.port: "x" is not a whole number from 0 to 65535.\n'
    assert result.stdout == ""


def test_an_error_of_ours_ends_with_1_and_no_traceback(home: Path) -> None:
    home.mkdir()
    (home / "keys.db").write_bytes(b"no database, " * 100)
    result = trivet("keys", "list")
    assert result.returncode == 1
    assert result.stderr.startswith("trivet: The keys in ")
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_enough_is_no_error(home: Path) -> None:
    process = subprocess.Popen(command("usage"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, words = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in words
    assert b"BrokenPipe" not in words


def test_control_c_ends_quietly_with_130(home: Path, upstream: Upstream) -> None:
    """Here while a gateway is waited for that does not get ready."""
    upstream.readyz = {"status": "not ready", "targets": {"small": "loading, 40 %"}}
    process = subprocess.Popen(
        command("run", "--", "echo", "ran"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TRIVET_URL": upstream.url},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"trivet: small: loading, 40 %\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130
