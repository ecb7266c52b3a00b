"""Google's Gemini in its own language: `generateContent`, `streamGenerateContent` and `batchEmbedContents`.

Not here: the exchange itself (`upstream/remote.py`), the meaning of bytes (`wire/gemini_*.py`).
Invariants: the key goes in a header and never in an address, where logs would have it; a model's name cannot leave its
place in the path.
"""

import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from trivet.config import TargetSettings, secret
from trivet.errors import ConfigError, UpstreamError
from trivet.seams import Kit
from trivet.types import Kind, Request
from trivet.upstream.remote import Reading, Remote
from trivet.wire import gemini_embeddings
from trivet.wire.gemini_answer import Answer
from trivet.wire.gemini_error import read_refusal
from trivet.wire.gemini_request import for_gemini

BASE_URL = "https://generativelanguage.googleapis.com/v1beta"
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
"""Where the key is if `api_key` does not say; only for Google's own address: a key must not go elsewhere."""

_COLLECTIONS = ("models", "tunedModels")


class Gemini:
    """The dialect."""

    kinds: frozenset[Kind] = frozenset({"chat", "embeddings"})

    def path(self, request: Request, *, model: str) -> bytes:
        """Say where a model is asked: by its bare name, or as `models/NAME` or `tunedModels/NAME`."""
        collection, name = _resource(model)
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        if request.kind == "embeddings":
            verb = "batchEmbedContents"
        return f"/{collection}/{quote(name, safe='')}:{verb}".encode()

    def body(self, request: Request, *, model: str) -> bytes:
        """Write the request in Gemini's words."""
        if request.kind == "embeddings":
            return gemini_embeddings.for_gemini(request, resource="/".join(_resource(model)))
        return for_gemini(request, model=model)

    def reading(self, request: Request, *, model: str) -> Reading:
        """Begin to read."""
        if request.kind == "embeddings":
            return gemini_embeddings.Embeddings(request, model=_resource(model)[1])
        return Answer(request)

    def refusal(self, body: bytes) -> UpstreamError | None:
        """Read an error of Google's."""
        return read_refusal(body)


def _resource(model: str) -> tuple[str, str]:
    """Say in which collection a model is, and its name there."""
    collection, _, name = model.partition("/")
    return (collection, name) if collection in _COLLECTIONS and name else ("models", model)


def build(target: TargetSettings, kit: Kit) -> Remote:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: its key cannot be read, or its address is that of Google's OpenAI-compatible endpoint.
    """
    base_url = target.base_url or BASE_URL
    if urlsplit(base_url).path.rstrip("/").endswith("/openai"):
        raise ConfigError(
            f"targets.{target.name}: {base_url} speaks OpenAI's protocol. Leave `base_url` out, or write "
            'provider = "openai".'
        )
    where = target.api_key or ("" if target.base_url else usual_key(os.environ))
    key = secret(where, os.environ) if where else None
    headers = [] if key is None else [("x-goog-api-key", key.reveal())]
    return Remote(target, kit, Gemini(), base_url=base_url, key=key, headers=headers)


def usual_key(env: Mapping[str, str]) -> str:
    """Give the first of the usual places that has a key; where none has, the one to tell the operator of."""
    return "env:" + next((name for name in KEYS if env.get(name, "").strip()), KEYS[0])
