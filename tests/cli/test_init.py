"""`trivet init` as a person runs it, and a gateway that really serves from what it wrote."""

import json
import os
import shlex
import socket
import stat
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner, Result

from tests.cli.conftest import ANSWER, Upstream, command, trivet
from tests.edge_kit import make_key
from tests.upstream.test_discover import OLLAMA, VLLM
from trivet.cli.init import next_steps, write
from trivet.cli.main import cli
from trivet.config import load, parse
from trivet.errors import ConfigError
from trivet.ledger.keys import FILE

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up
NOBODY = "9"
"""The discard port: nothing answers HTTP there."""


class _Engine(BaseHTTPRequestHandler):
    """An engine: its documents, and one answer to every question, from the model that was asked."""

    protocol_version = "HTTP/1.1"
    documents: Mapping[str, Any]
    asked: list[str]

    def do_GET(self) -> None:
        self._send(200 if self.path in self.documents else 404, self.documents.get(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body["model"])
        self._send(200, {**ANSWER, "model": body["model"]})

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's word
        pass


@contextmanager
def engine(documents: Mapping[str, Any]) -> Generator[tuple[int, list[str]], None, None]:
    """Answer as an engine does, on a real port; gives the port and the models that were asked."""
    asked: list[str] = []
    handler = type("Engine", (_Engine,), {"documents": documents, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ollama() -> Iterator[tuple[int, list[str]]]:
    with engine(OLLAMA) as found:
        yield found


def run(*arguments: str, ports: tuple[int | str, ...] = (NOBODY,)) -> Result:
    options = [word for port in ports for word in ("--engine-port", str(port))]
    return CliRunner().invoke(cli, ["init", *options, *arguments], prog_name="trivet")


# What is written.


def test_the_file_loads_and_holds_where_the_key_is_and_not_the_key(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    result = run()
    assert result.exit_code == 0, result.output
    assert KEY not in result.output
    text = (tmp_path / "trivet.toml").read_text()
    assert KEY not in text
    settings = load(None, {})
    assert settings.targets["openai"].api_key == "env:OPENAI_API_KEY"
    assert settings.policies["auto"].pool == ("gpt-4.1-mini",)
    assert "Not used: GROQ_API_KEY: " in result.output


def test_a_file_that_is_there_is_not_touched_unless_it_is_forced(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text("# mine\n")
    file.chmod(0o640)
    result = run()
    assert result.exit_code == 2
    assert "was not touched" in result.output
    assert "--force" in result.output
    assert file.read_text() == "# mine\n"
    assert run("--force").exit_code == 0
    assert parse(file.read_text(), source="t").targets
    assert stat.S_IMODE(file.stat().st_mode) == 0o640, "the mode that its owner chose"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trivet.toml"], "nothing is left beside it"


def test_a_new_file_has_the_mode_that_the_umask_says(home: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert run("-o", "made.toml").exit_code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "made.toml").stat().st_mode) == 0o640


def test_a_link_is_not_replaced_by_a_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("# mine\n")
    (tmp_path / "trivet.toml").symlink_to("real.toml")
    assert run().exit_code == 2
    assert run("--force").exit_code == 0
    assert (tmp_path / "trivet.toml").is_symlink()
    assert parse((tmp_path / "real.toml").read_text(), source="t").targets


def test_a_link_that_leads_nowhere_is_not_written_through(home: Path, tmp_path: Path) -> None:
    (tmp_path / "trivet.toml").symlink_to("nowhere.toml")
    assert run().exit_code == 2
    assert not (tmp_path / "nowhere.toml").exists()


def test_of_many_at_once_one_writes_and_the_file_is_whole(tmp_path: Path) -> None:
    path, texts = tmp_path / "trivet.toml", [f"# {i}\n" * 20_000 for i in range(8)]
    refused: list[str] = []

    def attempt(text: str) -> None:
        try:
            write(path, text, replace=False)
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=attempt, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert len(refused) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["trivet.toml"]


def test_where_it_cannot_be_written_it_says_so_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    result = run("-o", str(tmp_path / "no" / "folder.toml"))
    assert result.exit_code == 2
    assert "cannot be written: No such file or directory" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_print_writes_nothing_and_can_be_piped(home: Path, tmp_path: Path) -> None:
    result = run("--print")
    assert parse(result.stdout, source="t").targets
    assert list(tmp_path.iterdir()) == []
    assert "Found no engine" in result.stderr
    assert run("--print", "--json").exit_code == 2


def test_json_tells_what_was_found_and_what_to_do(
    home: Path, tmp_path: Path, ollama: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    result = run("--json", "-o", "g.toml", ports=(ollama[0],))
    told = json.loads(result.stdout)
    base_url = f"http://127.0.0.1:{ollama[0]}/v1"
    assert told["written"] == "g.toml"
    assert told["engines"] == [{"kind": "ollama", "base_url": base_url, "models": ["qwen2.5:0.5b"]}]
    assert told["keys"] == [{"name": "ANTHROPIC_API_KEY", "base_url": "https://api.anthropic.com/v1"}]
    assert [u["name"] for u in told["unused"]] == ["COHERE_API_KEY"]
    assert told["targets"] == list(load(tmp_path / "g.toml", {}).targets)
    assert told["policies"] == ["auto"]
    assert told["next"][-1].startswith("trivet serve --config g.toml")
    assert told["ask_for"] == "auto"
    assert KEY not in result.stdout


def test_the_usual_place_is_the_one_that_serve_reads(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVET_CONFIG", str(tmp_path / "mine.toml"))
    told = json.loads(run("--json").stdout)
    assert told["written"] == str(tmp_path / "mine.toml")
    assert "--config" not in told["next"][-1]


# What it says at the end.


def test_the_next_command_takes_another_port_where_the_usual_one_is_taken(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = parse(f"[server]\nport = {taken.getsockname()[1]}\n", source="t")
        assert next_steps(settings, config="") == ["trivet serve --port 0"]
    assert next_steps(settings, config="my file.toml") == ["trivet serve --config 'my file.toml'"]


def test_it_says_when_a_key_will_be_asked_for(home: Path) -> None:
    assert "with a key of yours" not in run("-o", "a.toml").output
    make_key(home / FILE, "acme")
    assert "with a key of yours" in run("-o", "b.toml").output


def test_an_address_with_no_known_model_is_asked_by_the_name_of_the_target(
    home: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
    told = json.loads(run("--json").stdout)
    assert (told["targets"], told["policies"], told["ask_for"]) == (["openai"], [], "openai/MODEL")
    with serving(["trivet", "serve"]) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        with client:
            answer = client.chat.completions.create(model="openai/m-1", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "hello"
    assert ("/v1/chat/completions", f"Bearer {KEY}") in [(p, h.get("authorization")) for p, h in upstream.seen]


@contextmanager
def serving(words: list[str]) -> Generator[str, None, None]:
    """Run the command that `trivet init` told, on a free port: the usual one belongs to the whole machine."""
    assert words[0] == "trivet"
    ours, its = os.pipe()
    arguments = [*words[1:], "--ready-fd", str(its), *([] if "--port" in words else ["--port", "0"])]
    process = subprocess.Popen(command(*arguments), pass_fds=[its], stderr=subprocess.PIPE)
    os.close(its)
    try:
        with os.fdopen(ours) as pipe:
            line = pipe.readline()
        assert line, process.communicate(timeout=20)[1]
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("documents", "model"), [(OLLAMA, "qwen2.5:0.5b"), (VLLM, "Qwen/Qwen2.5-7B")], ids=["ollama", "vllm"]
)
def test_the_command_that_it_says_serves_the_engine_that_it_found(
    home: Path, documents: Mapping[str, Any], model: str
) -> None:
    with engine(documents) as (port, asked):
        told = json.loads(run("--json", "-o", "g.toml", ports=(port,)).stdout)
        with serving(shlex.split(told["next"][-1])) as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            with client:
                listed = {m.id for m in client.models.list()}
                for _ in range(2):
                    answer = client.chat.completions.create(
                        model=told["ask_for"], messages=[{"role": "user", "content": "hi"}]
                    )
                direct = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "hello"
    assert direct.model == model
    assert {"auto", model} <= listed
    assert asked == [model, model], "the policy once, and then from its cache; the target by its own name"


def test_doctor_finds_nothing_broken_in_the_file(home: Path, ollama: tuple[int, list[str]]) -> None:
    assert run("-o", "g.toml", ports=(ollama[0],)).exit_code == 0
    text = Path("g.toml").read_text()
    Path("g.toml").write_text(text.replace("#port = 8088", "port = 0"))
    done = trivet("doctor", "--config", "g.toml", "--call", "--json")
    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert checks["target qwen2.5:0.5b"]["state"] == "ok"
    assert checks["call of qwen2.5:0.5b"]["words"].startswith("qwen2.5:0.5b answered 200")
    assert ollama[1] == ["qwen2.5:0.5b"]


def test_the_last_line_says_where_to_ask_and_for_what(home: Path, ollama: tuple[int, list[str]]) -> None:
    said = run(ports=(ollama[0],)).output.splitlines()
    assert said[0] == f"Found ollama at http://127.0.0.1:{ollama[0]}/v1: qwen2.5:0.5b"
    assert said[1] == "Wrote trivet.toml: targets qwen2.5:0.5b; policies auto."
    assert said[2].startswith("Next: trivet serve")
    assert "for the model 'auto'" in said[3]
