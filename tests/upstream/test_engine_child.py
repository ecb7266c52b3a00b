"""The child process: what llama.cpp's server does as we set it up, and that it never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.upstream.engine_room import alive, ask, chat, smollm
from trivet.upstream.engine_child import Order, Report

COMMAND = (sys.executable, "-m", "trivet.upstream.engine_child")
KEY = "a key for a test"

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "trivet.upstream.engine_child"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, start_new_session=True)
child.stdin.write(sys.argv[1].replace("PARENT", str(os.getpid())).encode() + b"\\n")
child.stdin.flush()
if sys.argv[2] == "loaded":
    child.stdout.readline()
print(child.pid, flush=True)
time.sleep(1000)
"""


def order(path: Path, *, context: int = 512, slots: int = 2) -> Order:
    return Order(path=str(path), name="smol", key=KEY, context=context, slots=slots, threads=2, parent=os.getpid())


@contextmanager
def child(told: Order, log: Path) -> Iterator[Report]:
    with (
        log.open("wb") as stderr,
        subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(told) + b"\n")
        process.stdin.flush()
        yield msgspec.json.decode(process.stdout.readline(), type=Report)
        process.stdin.close()
        assert process.wait(30) in (0, 1)  # nobody had to kill it


def test_a_file_that_is_no_model_is_reported_and_the_child_ends(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no model at all")
    with child(order(tmp_path / "bad.gguf"), tmp_path / "log") as report:
        assert "Failed to init server" in report.error
        assert report.url == ""
    assert "failed to load model" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_it_answers_those_who_have_the_key_and_ends_when_stdin_does(tmp_path: Path) -> None:
    with child(order(smollm()), tmp_path / "log") as report:
        status, answer = ask(report.url, "/v1/chat/completions", chat("Say hello to Zanzibar."), key=KEY)
        assert status == 200
        assert answer["model"] == "smol"
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] > 0
        assert ask(report.url, "/v1/chat/completions", chat("Hello"), key="another key")[0] == 401
        assert ask(report.url, "/metrics", key="")[0] == 401
        assert ask(report.url, "/health", key="")[0] == 200
    log = (tmp_path / "log").read_text()
    assert "Zanzibar" not in log
    assert KEY not in log


@pytest.mark.slow
def test_a_prompt_too_long_is_refused_with_numbers_and_an_answer_too_long_ends_as_length(tmp_path: Path) -> None:
    with child(order(smollm(), context=512, slots=2), tmp_path / "log") as report:
        slots = ask(report.url, "/slots", key=KEY)[1]
        assert [slot["n_ctx"] for slot in slots] == [512, 512]
        status, answer = ask(report.url, "/v1/chat/completions", chat("word " * 600), key=KEY)
        assert status == 400
        assert "exceeds the available context size (512 tokens)" in answer["error"]["message"]
        assert answer["error"]["n_prompt_tokens"] > 600
        long = chat("word " * 400, max_tokens=1000, ignore_eos=True)
        status, answer = ask(report.url, "/v1/chat/completions", long, key=KEY)
        assert status == 200
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["prompt_tokens"] > 400  # all of it was read
        assert answer["usage"]["total_tokens"] == 512


@pytest.mark.slow
def test_logprobs_and_a_json_schema_are_obeyed(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    with child(order(smollm()), tmp_path / "log") as report:
        asked = chat("Name a colour.", response_format=shape, max_tokens=60, logprobs=True, top_logprobs=3)
        status, answer = ask(report.url, "/v1/chat/completions", asked, key=KEY)
    assert status == 200
    choice = answer["choices"][0]
    assert msgspec.json.decode(choice["message"]["content"])["colour"] in ("red", "green")
    assert all(len(token["top_logprobs"]) == 3 for token in choice["logprobs"]["content"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("when", ["loaded", "loading"])
def test_kill_9_of_the_parent_ends_the_child(tmp_path: Path, when: str) -> None:
    told = msgspec.json.encode(order(smollm())).decode().replace(f'"parent":{os.getpid()}', '"parent":PARENT')
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, told, when], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
