"""`trivet run -- program`: an unchanged program, through a real gateway."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trivet.cli import gateway
from trivet.cli.run import environment

from .conftest import Upstream, command, trivet

pytestmark = pytest.mark.slow  # processes and pip

ASK = """
import json, os, urllib.request
def ask(text):
    body = {"model": "p", "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]
"""


def program(code: str) -> list[str]:
    return [sys.executable, "-c", ASK + code]


def test_a_program_is_answered_and_the_last_line_says_what_it_cost(home: Path, config: Path) -> None:
    result = trivet("run", "--config", str(config), "--", *program("print(ask('a')); print(ask('a')); print(ask('b'))"))
    assert (result.returncode, result.stdout) == (0, "hello\nhello\nhello\n")
    # Two answers at 10 x $1 + 5 x $2 a million, and one from the cache.
    assert result.stderr.splitlines()[-1] == "trivet: 3 requests, $0.00004, saved $0.00002"


def test_the_gateway_that_was_started_is_gone_afterwards(home: Path, config: Path) -> None:
    result = trivet("run", "--config", str(config), "--", *program("print(os.environ['OPENAI_BASE_URL'][:-3])"))
    url = result.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    assert gateway.ready(url) is None
    assert "no request reached the gateway" in result.stderr


@pytest.mark.parametrize(("code", "exit_code"), [("exit(7)", 7), ("os.kill(os.getpid(), 15)", 143)])
def test_the_exit_code_is_the_programs(home: Path, config: Path, code: str, exit_code: int) -> None:
    assert trivet("run", "--config", str(config), "--", *program(code)).returncode == exit_code


@pytest.mark.parametrize("gone", ["/no/such/program", "no-such-program-of-ours"])
def test_a_program_that_is_not_there_ends_as_in_a_shell_and_nothing_is_started(
    home: Path, config: Path, gone: str
) -> None:
    result = trivet("run", "--config", str(config), "--", gone)
    assert result.returncode == 127
    assert result.stderr == f"trivet: There is no program {gone!r}.\n"


def test_a_program_that_cannot_be_run_ends_as_in_a_shell(home: Path, config: Path, tmp_path: Path) -> None:
    assert trivet("run", "--config", str(config), "--", str(tmp_path)).returncode == 126


def test_stdin_and_options_are_the_programs(home: Path, config: Path) -> None:
    code = "import sys; print(sys.stdin.read(), sys.argv[1:])"
    result = trivet("run", "--config", str(config), "--", *program(code), "--config", "-x", "--", "y", input="typed")
    assert result.stdout == "typed ['--config', '-x', '--', 'y']\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_program(home: Path, config: Path, number: signal.Signals) -> None:
    code = (
        "import signal, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('got it', flush=True), os._exit(5)))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        command("run", "--config", str(config), "--", *program(code)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # no terminal, as in CI, where it would be the terminal's to tell the program
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert (rest, process.returncode) == (b"got it\n", 5)


def test_kill_9_leaves_no_gateway(home: Path, config: Path) -> None:
    code = (
        "import time; print(json.dumps([os.environ['OPENAI_BASE_URL'][:-3], os.getpid()]), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        command("run", "--config", str(config), "--", *program(code)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    url, pid = json.loads(process.stdout.readline())
    try:
        assert gateway.ready(url) is not None
        process.kill()
        process.wait(timeout=60)
        until_s = time.monotonic() + 60
        while gateway.ready(url) is not None:
            assert time.monotonic() < until_s, "the gateway lives on"
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGKILL)
        process.stdout.close()


def test_a_gateway_that_answers_already_is_used_and_left_running(home: Path, config: Path) -> None:
    with gateway.started(["--config", str(config)], tell=print) as url:
        result = trivet(
            "run", "--", *program("print(ask('a'), os.environ['OPENAI_BASE_URL'])"), env={"TRIVET_URL": url}
        )
        assert (result.returncode, result.stdout) == (0, f"hello {url}/v1\n")
        assert result.stderr == "trivet: 1 request, $0.00002, saved $0.00\n"
        assert gateway.ready(url) is not None


def test_a_gateway_that_was_named_and_does_not_answer_ends_with_2(home: Path) -> None:
    result = trivet("run", "--", "true", env={"TRIVET_URL": "http://127.0.0.1:1"})
    assert result.returncode == 2
    assert "No Trivet answers at http://127.0.0.1:1" in result.stderr


def test_where_keys_are_asked_for_the_program_is_not_run_without(home: Path, config: Path) -> None:
    key = trivet("keys", "create", "a", "--tenant", "t").stdout.strip()
    arguments = ["run", "--config", str(config), "--", *program("print(ask('a'))")]
    refused = trivet(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "trivet keys create" in refused.stderr
    assert trivet(*arguments, env={"OPENAI_API_KEY": key}).stdout == "hello\n"


def test_a_bad_file_ends_with_2_before_anything_is_started(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = 'x'\n")
    result = trivet("run", "--config", "bad.toml", "--", "echo", "ran")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("trivet: bad.toml:2: server.port")


def test_a_target_that_fails_is_the_programs_to_see(home: Path, config: Path, upstream: Upstream) -> None:
    upstream.status = 500
    result = trivet("run", "--config", str(config), "--", *program("ask('a')"))
    assert result.returncode == 1
    assert "HTTP Error 500" in result.stderr


def test_only_the_clients_own_variables_change() -> None:
    before = {"PATH": "/bin", "OPENAI_API_KEY": "sk-mine", "NO_PROXY": "corp"}
    after = environment("http://127.0.0.1:9", before)
    assert {name: value for name, value in after.items() if before.get(name) != value} == {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:9/v1",
        "NO_PROXY": "corp,127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    assert environment("u", {})["OPENAI_API_KEY"] == "trivet-local"
