"""Any target that speaks OpenAI's protocol: OpenAI, Azure, OpenRouter, vLLM, Ollama, llama.cpp, and others.

Not here: the exchange itself (`upstream/remote.py`), the meaning of bytes (`wire/chat.py`).
Invariant: documents are yielded as they came.
"""

import os
from collections.abc import Sequence

from trivet.config import Secret, TargetSettings, secret
from trivet.errors import ConfigError, UpstreamError
from trivet.seams import Kit
from trivet.types import Chunk, Kind, Request
from trivet.upstream.remote import Remote
from trivet.wire.chat import read_document, read_error, read_piece
from trivet.wire.request import for_target

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}
"""Where each provider is if `base_url` does not say; the others (Azure) have no one place."""

KEYS = {"openai": "env:OPENAI_API_KEY", "openrouter": "env:OPENROUTER_API_KEY"}
"""Where the key is if `api_key` does not say; only for the provider's own address: a key must not go elsewhere."""


_PATHS: dict[Kind, bytes] = {
    "chat": b"/chat/completions",
    "completions": b"/completions",
    "embeddings": b"/embeddings",
    "moderations": b"/moderations",
}


class OpenAI:
    """The dialect."""

    kinds = frozenset(_PATHS)

    def path(self, request: Request, *, model: str) -> bytes:
        """Give the path of what is asked for."""
        return _PATHS[request.kind]

    def body(self, request: Request, *, model: str) -> bytes:
        """Write the request as it came, but for the model's name, and with usage asked for."""
        return for_target(request, model=model)

    def reading(self, request: Request, *, model: str) -> "Documents":
        """Begin to read."""
        return Documents(request.kind)

    def refusal(self, body: bytes) -> UpstreamError | None:
        """Read an error, which stays as it came."""
        return read_error(body)


class Documents:
    """An answer whose documents are chunks already."""

    __slots__ = ("_kind", "over", "whole")

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.over = self.whole = False

    def event(self, data: bytes) -> Sequence[Chunk]:
        """Read one document, or the last word."""
        if data == b"[DONE]" or (len(data) < 32 and data.strip() == b"[DONE]"):
            self.over = True
            return ()
        chunk = read_piece(data, streamed=True)
        if chunk.finish is not None:
            self.whole = True
        return (chunk,)

    def answer(self, body: bytes) -> Chunk:
        """Read a whole answer."""
        if self._kind in ("chat", "completions"):
            return read_piece(body, streamed=False)
        return read_document(body, kind=self._kind)


def remote(target: TargetSettings, kit: Kit, *, base_url: str, key: Secret | None) -> Remote:
    """Make a target that speaks this dialect at an address."""
    headers = []
    if key is not None:
        azure = target.provider == "azure"
        headers = [("api-key", key.reveal()) if azure else ("authorization", f"Bearer {key.reveal()}")]
    return Remote(target, kit, OpenAI(), base_url=base_url, key=key, headers=headers)


def build(target: TargetSettings, kit: Kit) -> Remote:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: no base URL is known for it, or its key cannot be read.
    """
    base_url = target.base_url or BASE_URLS.get(target.provider, "")
    if not base_url:
        raise ConfigError(f"targets.{target.name}: provider {target.provider!r} needs a `base_url`.")
    where = target.api_key or ("" if target.base_url else KEYS.get(target.provider, ""))
    key = secret(where, os.environ) if where else None
    return remote(target, kit, base_url=base_url, key=key)
