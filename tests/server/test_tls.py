"""TLS at the edge: a real certificate, the real client, and a new one without a restart."""

import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge_kit import serving, toml, until
from trivet.config import TlsSettings
from trivet.errors import ConfigError
from trivet.server.run import certificate
from trivet.testing.upstream import Upstream

pytestmark = pytest.mark.anyio
ENV = {"CANARY_KEY": "sk-canary-0123456789abcdef"}


def make(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def trusting(cert: Path) -> Any:
    context = ssl.create_default_context(cafile=cert)
    return openai.DefaultAsyncHttpxClient(verify=context)


async def test_the_edge_speaks_tls_and_takes_a_new_certificate(tmp_path: Path) -> None:
    cert, key = make(tmp_path, "first")
    more = f'\n[server]\ntls = {{ cert = "{cert}", key = "{key}" }}\n'
    async with Upstream("Hel", "lo") as upstream, serving(
        tmp_path, toml({"a": upstream.base_url}, more), env=ENV
    ) as child:  # fmt: skip
        assert child.url.startswith("https://")
        for number in range(2):
            async with openai.AsyncOpenAI(
                base_url=f"{child.url}/v1", api_key="x", max_retries=0, http_client=trusting(cert)
            ) as client:
                stream = await client.chat.completions.create(
                    model="a", messages=[{"role": "user", "content": "hi"}], stream=True
                )
                said = [c.choices[0].delta.content or "" async for c in stream if c.choices]
                assert "".join(said) == "Hello"
            if not number:
                make(tmp_path, "second")
                child.process.send_signal(signal.SIGHUP)
                await until(lambda: "in force" in child.words())


def test_a_certificate_that_cannot_be_used_is_refused_with_its_file(tmp_path: Path) -> None:
    cert, key = make(tmp_path, "x")
    with pytest.raises(ConfigError, match="nothere"):
        certificate(TlsSettings(cert=str(tmp_path / "nothere"), key=str(key)))
    key.write_text("not a key")
    with pytest.raises(ConfigError, match="cannot be used"):
        certificate(TlsSettings(cert=str(cert), key=str(key)))
