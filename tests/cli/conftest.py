"""What the tests of the command line share: a home of their own, a real upstream, and `trivet` as a process."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trivet.config import parse
from trivet.testing.documents import embeddings

ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


class Upstream(http.server.ThreadingHTTPServer):
    """A target on a real port: lists one model, gives one answer; `status` other than 200 refuses.

    With `readyz` it passes for a gateway too.
    """

    daemon_threads = True
    status = 200
    readyz: Any = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.seen: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        if self.path == "/readyz" and self.server.readyz is not None:
            self._send(self.server.readyz)
            return
        self._send({"object": "list", "data": [{"id": "m-1", "object": "model", "owned_by": "me"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._send(embeddings(body) if self.path.endswith("/embeddings") else ANSWER)

    def _send(self, document: Any) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        body = json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's word
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a folder without trivet.toml to stand in; no keys of the person who runs the tests."""
    for name in [n for n in os.environ if n.startswith(("TRIVET_", "OPENAI_")) or n.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRIVET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRIVET_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> Path:
    """A trivet.toml with one priced target at the upstream, and a policy that keeps answers."""
    text = f"""
[targets.one]
provider = "openai"
model = "m-1"
base_url = "{upstream.url}"
price = {{ input = "$1", output = "$2" }}

[policies.p]
pool = ["one"]

[policies.p.cache]
mode = "exact"
"""
    parse(text, source="t")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def trivet(*arguments: str, env: Mapping[str, str] | None = None, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run `trivet` as a person would."""
    return subprocess.run(
        command(*arguments), env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=60, **more
    )


def command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "trivet.cli.main", *arguments]
