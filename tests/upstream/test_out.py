"""From a target's settings to a way that works: own authorities, client certificates, proxies, versions of HTTP."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.http_kit import Clock, ask, on_both_loops
from tests.upstream.test_proxy import proxying
from tests.upstream.tls_kit import Certificates
from tests.upstream.way_kit import hello, listening
from trivet.config import TargetSettings, TargetTlsSettings
from trivet.errors import ConfigError
from trivet.upstream.http import dial
from trivet.upstream.out import tls_context, way_to
from trivet.upstream.reply import ConnectError, HttpError, Origin
from trivet.upstream.way import Way

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops

both = pytest.mark.parametrize("version", ["1.1", "2"])


def way(version: str, port: int, *, scheme: Any = "https", host: str = "127.0.0.1", **settings: Any) -> Way:
    target = TargetSettings(provider="openai", name="t", http=version, **settings)  # type: ignore[arg-type]
    return way_to(Origin(scheme, host, port), target, dial=dial, clock=Clock())


async def asked(over: Way) -> bytes:
    try:
        return await ask(over)
    finally:
        await over.aclose()


@both
async def test_an_authority_of_ones_own_is_trusted_and_no_other(version: str, certificates: Certificates) -> None:
    async with listening(version, hello, tls=certificates.server()) as server:
        assert await asked(way(version, server.port, tls=TargetTlsSettings(ca=str(certificates.ca)))) == b"hello"
        for tls in (TargetTlsSettings(), TargetTlsSettings(ca=str(certificates.stranger_ca))):
            with pytest.raises(ConnectError, match="certificate"):
                await asked(way(version, server.port, tls=tls))


@both
async def test_a_certificate_for_another_name_is_refused(version: str, certificates: Certificates) -> None:
    async with listening(version, hello, tls=certificates.server()) as server:
        tls = TargetTlsSettings(ca=str(certificates.ca))
        assert await asked(way(version, server.port, tls=tls)) == b"hello"
        with pytest.raises(ConnectError, match="certificate"):
            await asked(way(version, server.port, host="localhost", tls=tls))


@both
async def test_a_target_that_wants_to_know_us_is_shown_our_certificate(
    version: str, certificates: Certificates
) -> None:
    async with listening(version, hello, tls=certificates.server(wants_client=True)) as server:
        ours = TargetTlsSettings(
            ca=str(certificates.ca), cert=str(certificates.client_cert), key=str(certificates.client_key)
        )
        assert await asked(way(version, server.port, tls=ours)) == b"hello"
        with pytest.raises(HttpError):
            await asked(way(version, server.port, tls=TargetTlsSettings(ca=str(certificates.ca))))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (TargetTlsSettings(ca="{folder}/none.pem"), "t.tls.ca: .*none.pem cannot be read: No such file"),
        (TargetTlsSettings(ca="{folder}/noise.pem"), "t.tls.ca: .*noise.pem cannot be used: certificates"),
        (TargetTlsSettings(cert="{folder}/none.pem"), "t.tls.cert: .*none.pem cannot be read"),
        (TargetTlsSettings(cert="{client}"), "t.tls.cert: .* cannot be used: a certificate and its key"),
        (TargetTlsSettings(cert="{client}", key="{folder}/locked.key"), "without a password"),
    ],
    ids=["no ca", "a ca that is none", "no cert", "no key", "a key with a password"],
)
def test_files_that_cannot_be_used_are_refused_by_name(
    tls: TargetTlsSettings,
    words: str,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    (tmp_path / "noise.pem").write_text("noise")
    locked = tmp_path / "locked.key"
    lock = f"openssl pkey -in {certificates.client_key} -aes128 -passout pass:x -out {locked}"
    subprocess.run(lock.split(), check=True, capture_output=True)

    def real(name: str) -> str:
        return name.format(folder=tmp_path, client=certificates.client_cert)

    with pytest.raises(ConfigError, match=words):
        way("1.1", 1, tls=TargetTlsSettings(ca=real(tls.ca), cert=real(tls.cert), key=real(tls.key)))


def test_who_a_target_is_is_always_checked() -> None:
    import ssl

    context = tls_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@both
@pytest.mark.parametrize("where", ["env", "file", "environment", "open"])
async def test_a_proxy_is_taken_from_where_the_settings_say(
    version: str,
    where: str,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(version, hello, tls=certificates.server()) as server, proxying() as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        (tmp_path / "proxy").write_text(f"{url}\n")
        monkeypatch.setenv("OUR_PROXY", url)
        monkeypatch.setenv("HTTPS_PROXY", url if where == "environment" else "http://127.0.0.1:1")
        monkeypatch.delenv("NO_PROXY", raising=False)
        said = {"env": "env:OUR_PROXY", "file": f"file:{tmp_path / 'proxy'}", "open": url}.get(where, where)
        tls = TargetTlsSettings(ca=str(certificates.ca))
        assert await asked(way(version, server.port, tls=tls, proxy=said)) == b"hello"
        assert len(proxy.told) == 1
        assert await asked(way(version, server.port, tls=tls)) == b"hello"  # who does not say so has no proxy
        assert len(proxy.told) == 1
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert await asked(way(version, server.port, tls=tls, proxy="environment")) == b"hello"
        assert len(proxy.told) == 1


@pytest.mark.parametrize("url", ["socks5://user:secret@p:1", "http://user:secret@"])
def test_a_proxy_that_is_none_is_refused_without_repeating_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_PROXY", url)
    with pytest.raises(ConfigError, match=r"targets\.t\.proxy: this is not a proxy") as caught:
        way("1.1", 1, proxy="env:OUR_PROXY")
    assert "secret" not in str(caught.value)


def test_without_its_package_http2_is_refused_in_words_and_http11_works(tmp_path: Path) -> None:
    """A fresh process in which h2 is not to be found, as where the extra is not installed."""
    program = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("h2", "hpack", "hyperframe"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone())
import asyncio
from trivet.config import TargetSettings
from trivet.errors import ConfigError
from trivet.upstream.http import dial
from trivet.upstream.out import way_to
from trivet.upstream.reply import Origin
class Clock:
    now_ns = mono_ns = lambda self: 0
for version in ("1.1", "2"):
    try:
        target = TargetSettings(provider="openai", name="t", http=version)
        way_to(Origin("http", "x", 1), target, dial=dial, clock=Clock())
        print("made")
    except ConfigError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    made, refused = done.stdout.splitlines()
    assert made == "made"
    assert refused.startswith('targets.t: http = "2" needs a package')
    assert refused.endswith("pip install 'trivet[http2]'")


async def test_the_timeouts_of_the_settings_are_those_of_the_way() -> None:
    from trivet.config import TimeoutSettings

    async def silence(asked: Any) -> None:
        await asked.body()
        await asyncio.Event().wait()

    async with listening("2", silence) as server:
        with pytest.raises(HttpError, match=r"within 0\.05 s"):
            await asked(way("2", server.port, scheme="http", timeouts=TimeoutSettings(first_byte="50ms")))
