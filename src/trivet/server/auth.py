"""Who is asking: a bearer key looked up by its digest, and what is open while there are no keys.

Not here: where keys are stored (`ledger/keys.py`). Invariants: default deny once any key exists; the key itself is in
no error; without keys only loopback is served (`server/run.py` refuses to bind elsewhere), and a browser page of
another site is refused, since it could spend money from inside the machine.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from trivet.errors import AuthError
from trivet.ledger.keys import KeyRing
from trivet.types import Permit

LOCAL = "local"
"""The tenant of everyone, while there are no keys."""

_OWN_ORIGINS = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_KEY_BYTES = 512
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})
"""OpenAI's, Anthropic's and Azure's."""


class Caller(NamedTuple):
    """Who asks."""

    tenant: str
    key_id: str = ""
    """"": without a key."""
    permit: Permit = Permit()


class Checks(Protocol):
    """Says who asks."""

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Give the tenant, the key's id and what it may do. Raises AuthError."""
        ...


_ANYONE = Caller(LOCAL)


class Auth:
    """Checks the headers of a request against the key ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Give the tenant, the key's id and what it may do. Raises AuthError."""
        if not self._ring.any:
            _own_page(headers)
            return _ANYONE
        given = scheme = b""
        for name, value in headers:
            if name in _KEY_HEADERS:
                if scheme:
                    raise AuthError("More than one API key was given. Send one.")
                scheme, given = name, value
        if scheme == b"authorization":
            if given[:7].lower() != b"bearer ":
                raise AuthError("The Authorization header is not of the form `Bearer sk-trivet-...`.")
            given = given[7:]
        elif not scheme:
            raise AuthError("No API key was given. Send one as `Authorization: Bearer sk-trivet-...`.")
        key = self._ring.check(given.strip()) if len(given) <= _MAX_KEY_BYTES else None
        if key is None:
            raise AuthError(
                "The API key is not known here, or it was revoked. `trivet keys list` shows those that are."
            )
        return Caller(key.tenant, key.id, key.permit)


def _own_page(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"origin" and _host(value) not in _OWN_ORIGINS:
            raise AuthError(
                "A web page of another site may not call a gateway that has no keys. "
                "Make one with `trivet keys create`."
            )


def _host(origin: bytes) -> str | None:
    try:
        return urlsplit(origin.decode("latin-1")).hostname
    except ValueError:  # brackets that do not match, ...
        return None
