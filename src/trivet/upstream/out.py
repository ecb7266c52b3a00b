"""From a target's settings to its way out: version of HTTP, certificates, proxy.

Not here: connections themselves (`http.py`, `http2.py`, `proxy.py`). Invariant: whom a target is, is always checked;
there is no setting that turns it off.
"""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from trivet.config import TargetSettings, TargetTlsSettings, seconds, secret
from trivet.errors import ConfigError
from trivet.seams import Clock, Dialer
from trivet.upstream.http import Pool
from trivet.upstream.proxy import Proxy, proxy_of_environment, read_proxy, through
from trivet.upstream.reply import Origin
from trivet.upstream.way import Way

_SYSTEM = TargetTlsSettings()
HTTP2_MISSING = """http = "2" needs a package that is not installed. Run: pip install 'trivet[http2]'"""


def way_to(origin: Origin, target: TargetSettings, *, dial: Dialer, clock: Clock) -> Way:
    """Make the way to a target; nothing is connected yet.

    Raises:
        ConfigError: a file or variable that the settings name cannot be read, or a package is missing.
    """
    at = f"targets.{target.name}"
    proxy = _proxy(origin, target, os.environ)
    if proxy is not None:
        secure = proxy.origin.scheme == "https"
        dial = through(proxy, dial, tls=tls_context(target.tls, at=at) if secure else None)
    alpn = "h2" if target.http == "2" else "http/1.1"
    tls = tls_context(target.tls, at=at, alpn=alpn) if origin.scheme == "https" else None
    times = target.timeouts
    connect_s, first_byte_s, idle_s = seconds(times.connect), seconds(times.first_byte), seconds(times.idle)
    if target.http == "1.1":
        return Pool(
            origin, dial=dial, clock=clock, tls=tls, connect_s=connect_s, first_byte_s=first_byte_s, idle_s=idle_s
        )
    try:
        from trivet.upstream.http2 import Streams  # an extra
    except ImportError as error:
        raise ConfigError(f"{at}: {HTTP2_MISSING}") from error
    return Streams(
        origin, dial=dial, clock=clock, tls=tls, connect_s=connect_s, first_byte_s=first_byte_s, idle_s=idle_s
    )


def tls_context(settings: TargetTlsSettings = _SYSTEM, *, at: str = "tls", alpn: str = "http/1.1") -> ssl.SSLContext:
    """Make a context for TLS: the system's certificates, or those of `ca` alone. Takes about 20 ms.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be; `at` is the section that names it.
    """
    try:
        context = ssl.create_default_context(cafile=_path(settings.ca) if settings.ca else None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{at}.tls.ca: {settings.ca} {_wrong(error, 'certificates (PEM)')}.") from error
    context.set_alpn_protocols([alpn])
    if settings.cert:
        try:
            # Without a password of ours, OpenSSL would ask for one at the terminal.
            key = _path(settings.key) if settings.key else None
            context.load_cert_chain(_path(settings.cert), key, password="")
        except OSError as error:
            files = f"{settings.cert} and {settings.key}" if settings.key else settings.cert
            wrong = _wrong(error, "a certificate and its key (PEM, without a password)")
            raise ConfigError(f"{at}.tls.cert: {files} {wrong}.") from error
    return context


def _path(name: str) -> Path:
    return Path(name).expanduser()


def _wrong(error: OSError, wanted: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"cannot be used: {wanted} expected ({error.reason or error})"
    return f"cannot be read: {error.strerror or error}"


def _proxy(origin: Origin, target: TargetSettings, env: Mapping[str, str]) -> Proxy | None:
    at = f"targets.{target.name}.proxy"
    url = target.proxy
    if url == "environment":
        url = proxy_of_environment(origin, env)
        at += " (environment)"
    elif url.startswith(("env:", "file:")):
        found = secret(url, env)
        url = found.reveal() if found is not None else ""
    if not url:
        return None
    try:
        return read_proxy(url)
    except ValueError as error:
        raise ConfigError(f"{at}: this is not a proxy: {error}.") from error
