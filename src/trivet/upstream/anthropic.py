"""Anthropic's Messages API, and whatever else speaks it: the native provider for Claude.

Not here: the exchange itself (`upstream/remote.py`), what is rewritten and how (`wire/anthropic_*.py`).
Invariant: the version of the API that we write and read is ours to say, not a client's.
"""

import os
from urllib.parse import urlsplit

from trivet.config import Secret, TargetSettings, secret
from trivet.errors import UpstreamError
from trivet.seams import Kit
from trivet.types import Kind, Request
from trivet.upstream.remote import Remote
from trivet.wire.anthropic_answer import read_error
from trivet.wire.anthropic_request import for_anthropic
from trivet.wire.anthropic_stream import Answering

BASE_URL = "https://api.anthropic.com/v1"

KEY = "env:ANTHROPIC_API_KEY"
"""Where the key is if `api_key` does not say; only for Anthropic's own address."""

VERSION = "2023-06-01"
"""Not the last one: 2026-10-21 is the same for all that we write, but refuses `temperature` and `top_p` also for the
models that know them. It can be set in the target's `headers`."""


class Anthropic:
    """The dialect."""

    kinds: frozenset[Kind] = frozenset({"chat"})

    def path(self, request: Request, *, model: str) -> bytes:
        """Give the one path there is."""
        return b"/messages"

    def body(self, request: Request, *, model: str) -> bytes:
        """Rewrite the request."""
        return for_anthropic(request, model=model)

    def reading(self, request: Request, *, model: str) -> Answering:
        """Begin to read; an answer was created when it was asked for, as Anthropic does not say."""
        return Answering(created=request.at_ns // 1_000_000_000)

    def refusal(self, body: bytes) -> UpstreamError | None:
        """Read an error, put into OpenAI's shape."""
        return read_error(body)


def place(base_url: str) -> str:
    """Give the base URL with `/v1` at its end: Anthropic's own clients want it without, OpenAI's with it."""
    url = urlsplit(base_url or BASE_URL)
    path = url.path.rstrip("/")
    return url._replace(path=path if path.endswith("/v1") else f"{path}/v1").geturl()


def headers(target: TargetSettings, key: Secret | None) -> list[tuple[str, str]]:
    """Give what is sent with each request beside the target's own headers: the key, and which version we speak."""
    sent = [("x-api-key", key.reveal())] if key is not None else []
    if "anthropic-version" not in {name.lower() for name in target.headers}:
        sent.append(("anthropic-version", VERSION))
    return sent


def build(target: TargetSettings, kit: Kit) -> Remote:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: its key cannot be read.
    """
    where = target.api_key or ("" if target.base_url else KEY)
    key = secret(where, os.environ) if where else None
    return Remote(target, kit, Anthropic(), base_url=place(target.base_url), key=key, headers=headers(target, key))
