"""Canaries for every secret there is, targets that repeat all they are sent, and a search of all that comes out.

The secrets: a client's key, the provider's keys (from the environment and from a file), a header that the operator
sets, and a key inside a prompt. What comes out: answers, what the process printed (with asyncio's debugging on, the
loudest it gets), ledger and journal, metrics, `/openapi.json`, `doctor`, `usage`.

Not here: `tests/test_attacks.py` has the same search over more ways to fail,
with one key. What cannot be tested: a core
dump, which has the memory of the process and so the keys (SECURITY.md says how to switch it off).
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.edge_kit import Child, bearer, get, make_key, post, raw, serving
from tests.hostile.wires import Asked, Step, Target, chunks, listening, whole
from trivet.ledger.journal import parse as parse_journal
from trivet.ledger.keys import FILE

pytestmark = pytest.mark.anyio

IN_ENV = "sk-canary-env-Zx81mQd0v7Yt2Lk9"  # made up, as all of them
IN_FILE = "sk-canary-file-Hb3nWp6Rc5Jf8Gs1"
IN_HEADER = "canary-header-Tu4kEa7Xi2Do9Vm6"
IN_PROMPT = "sk-canary-prompt-Ny5gCq1Sl8Br3Kz0"
WINDOW = 14
"""Characters in a row that give a secret away; a mask shows three and four."""

CONFIG = """
[targets.env]
provider = "openai"
model = "m-1"
base_url = "{url}"
api_key = "env:CANARY_KEY"
headers = {{ "x-tenant-token" = "{header}" }}
price = {{ input = "$1", output = "$2" }}

[targets.file]
provider = "azure"
model = "m-2"
base_url = "{url}"
api_key = "file:{folder}/key"
headers = {{ "x-tenant-token" = "{header}" }}
price = {{ input = "$1", output = "$2" }}

[policies.p]
pool = ["env", "file"]
[policies.p.cache]
mode = "exact"
"""
WAYS = (
    "error", "code", "page", "text", "status", "header", "content", "event", "model", "finish", "usage", "inside",
    "garbage",
    "framing", "coding", "name",
)  # fmt: skip


def repeating(asked: Asked) -> Sequence[Step]:
    """Say again everything that was sent, in the way that the request names."""
    body = json.loads(asked.body or b"{}")  # `doctor` asks for models, and for a token of each target
    way, stream = body.get("user", "error"), body.get("stream") is True
    lines = " ".join(f"{name.decode()}: {value.decode('latin-1')}" for name, value in asked.headers)
    said = f"{lines} {'' if way in ('content', 'event') else body.get('messages')}"
    token = asked.header(b"authorization") + asked.header(b"api-key") + asked.header(b"x-tenant-token")
    choice = {"index": 0, "finish_reason": "stop", "delta": {"content": "x"}, "message": {"content": "x"}}
    document = {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    spoken: dict[str, object] = {
        "content": {**document, "choices": [{**choice, "delta": {"content": said}, "message": {"content": said}}]},
        "event": {**document, "debug": said}, "usage": {**document, "usage": {"prompt_tokens": said}},
        "finish": {**document, "choices": [{**choice, "finish_reason": token.decode()}]},
        "model": {**document, "model": token.decode()}, "inside": {"error": {"message": said, "code": token.decode()}},
        "garbage": said,
    }  # fmt: skip
    if way in spoken:
        data = json.dumps(spoken[way]).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        return [head, *chunks([b"data: " + data + b"\n\n"])] if stream else [whole(data)]
    error = json.dumps({"error": {"message": said, "type": said, "code": token.decode(), "x": [said]}}).encode()
    page = b"<html>" + b"x" * (470 - len(asked.body) % 20) + said.encode()
    steps: dict[str, Sequence[Step]] = {
        "error": [whole(error, status=401)], "code": [whole(error, status=400)], "page": [whole(page, status=500)],
        "text": [whole(b'"' + said.encode(), status=429)], "status": [whole(said.encode(), status=302)],
        "header": [whole(error, (b"x-echo", token), (b"www-authenticate", token), status=403)],
        "framing": [b"HTTP/1.1 200 OK\r\ncontent-length: " + token + b"\r\n\r\n", None],
        "coding": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: " + token + b"\r\n\r\n", None],
        "name": [whole(error, (asked.header(b"x-tenant-token"), b"1"), status=500)],
    }  # fmt: skip
    return steps[way]


async def ask_all(child: Child, key: str) -> bytes:
    """Ask in every way; gives the answers, without the prompt, which a target may repeat to whom it came from."""
    answers = bytearray()
    for way in WAYS:
        for stream in (False, True):
            for model in ("env", "file", "p", "p"):
                messages = [{"role": "user", "content": f"my key is {IN_PROMPT}"}]
                body = {"model": model, "stream": stream, "user": way, "messages": messages}
                reply = await raw(child.url, post(body, bearer(key), ("x-trivet-report", b"on")))
                assert reply.status, way
                answers += reply.raw.replace(IN_PROMPT.encode(), b"")
    bad = [
        post(b'{"model":"' + IN_PROMPT.encode()[:-1], bearer(key)),
        post({"messages": IN_PROMPT, "model": 5}, bearer(key)),
        post({"model": "env", "messages": [], "n": IN_PROMPT}, bearer(key)), post({"model": "env"}, bearer(key[:-1])),
        post({"model": "env"}, bearer(key), bearer(key)), post({"model": "env"}, ("x-api-key", key.encode() + b"\0")),
        get("/metrics", bearer(key)), get("/openapi.json"), get("/readyz"), get("/v1/models", bearer(key)),
        get("/nothing", bearer(key)),
    ]  # fmt: skip
    for data in bad:
        answers += (await raw(child.url, data)).raw
    return bytes(answers)


async def command(home: Path, file: Path, env: Mapping[str, str], *words: str) -> bytes:
    """Run `trivet`, and give all that it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "trivet", *words),
        cwd=file.parent,
        env={**os.environ, "TRIVET_HOME": str(home), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said


def on_disk(home: Path) -> bytes:
    """Read every file below the home, the journal record by record."""
    files = [path for path in home.rglob("*") if path.is_file()]
    records = [p for f in files if f.suffix == ".log" for p in parse_journal(f.read_bytes()).payloads]
    return b"".join([*(path.read_bytes() for path in files), *records])


def given_away(secret: str, output: bytes) -> list[str]:
    """Give the parts of a secret that are in there."""
    parts = (secret[at : at + WINDOW] for at in range(len(secret) - WINDOW + 1))
    return [part for part in parts if part.encode() in output and part not in ("sk-canary-prom",)]


@pytest.mark.slow
async def test_no_secret_comes_out_anywhere(tmp_path: Path) -> None:
    key = make_key(tmp_path / "home" / FILE, "acme")
    (tmp_path / "key").write_text(IN_FILE + "\n")
    env = {"CANARY_KEY": IN_ENV, "PYTHONASYNCIODEBUG": "1"}
    outputs: dict[str, bytes] = {}
    async with listening(Target(repeating)) as target:
        config = CONFIG.format(url=target.base_url, header=IN_HEADER, folder=tmp_path)
        async with serving(tmp_path, config, env=env) as child:
            outputs["answers"] = await ask_all(child, key)
            outputs["disk"] = on_disk(child.home)
            for words in ("doctor", "doctor --call", "doctor --json", "usage", "usage --by key", "keys list"):
                outputs[words] = await command(child.home, tmp_path / "trivet.toml", env, *words.split())
            assert await child.stop() == 0
            outputs["printed"] = child.words().encode()
            outputs["closed disk"] = on_disk(child.home)
        sent = b" ".join(value for asked in target.asked for _, value in asked.headers)
    assert all(secret.encode() in sent for secret in (IN_ENV, IN_FILE, IN_HEADER))  # so they could have come back
    for name, output in outputs.items():
        assert output, name
        for secret in (IN_ENV, IN_FILE, IN_HEADER, IN_PROMPT, key):
            assert not given_away(secret, output), f"{given_away(secret, output)[:3]} in {name}"
        assert b"Traceback" not in output, name
