"""Any target that speaks OpenAI's chat completions: OpenAI, Azure, OpenRouter, vLLM, Ollama, llama.cpp, and others.

Not here: sockets (`upstream/http.py`), the meaning of bytes (`wire/chat.py`).
Invariants: documents are yielded as they came; an answer is whole only if it said why it ended (or said `[DONE]`);
whatever ends the generator early closes the connection; our key is in no error and no chunk.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import urlsplit

from trivet.config import Secret, TargetSettings, seconds, secret
from trivet.errors import ConfigError, UpstreamError
from trivet.seams import Kit
from trivet.types import Chunk, Opened, Request
from trivet.upstream.http import ConnectError, HttpError, Origin, PhaseTimeoutError, Pool, Reply, tls_context
from trivet.wire.answer import split
from trivet.wire.chat import for_target, read_error, read_piece
from trivet.wire.sse import Events

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "vllm": "http://127.0.0.1:8000/v1",
}
"""Where each provider is if `base_url` does not say; the others (Azure) have no one place."""

KEYS = {"openai": "env:OPENAI_API_KEY", "openrouter": "env:OPENROUTER_API_KEY"}
"""Where the key is if `api_key` does not say; only for the provider's own address: a key must not go elsewhere."""

_THE_REQUESTS_FAULT = frozenset({400, 409, 413, 415, 422})
"""Asking another target would only say the same again."""

_NOT_PASSED_ON = frozenset(
    b"connection keep-alive proxy-authenticate te trailer transfer-encoding upgrade content-length content-type "
    b"content-encoding set-cookie server date alt-svc strict-transport-security cache-control vary "
    b"access-control-allow-origin".split()
)
"""About the connection, or words of theirs about caching and cookies that would be wrong from us."""


class _Place(NamedTuple):
    origin: Origin
    path: bytes
    head: bytes
    """The request head up to the headers that differ by request."""


class OpenAICompatible:
    """One target behind one base URL."""

    def __init__(self, target: TargetSettings, kit: Kit, *, base_url: str, key: Secret | None) -> None:
        self._target, self._key = target, key
        self._place = _place(target, base_url=base_url, key=key)
        self._ours = frozenset(name.lower().encode("latin-1") for name in target.headers)
        times = target.timeouts
        self._pool = Pool(
            self._place.origin,
            dial=kit.dial,
            clock=kit.clock,
            tls=tls_context() if self._place.origin.scheme == "https" else None,
            connect_s=seconds(times.connect),
            first_byte_s=seconds(times.first_byte),
            idle_s=seconds(times.idle),
        )

    async def start(self) -> None:
        """Nothing to do: connections are opened when they are needed."""

    def ready(self) -> str:
        """Say that it can be asked: whether it answers is known when it is."""
        return ""

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Ask the target, and yield its documents as they come."""
        model = request.model if self._target.model == "*" else self._target.model
        body = for_target(request, model=model)
        try:
            reply = await self._pool.send(self._head(request, len(body)), body)
            try:
                if reply.status != 200:
                    raise await self._refusal(reply)
                opened: Opened | None = Opened(reply.connect_ns, self._passed_on(reply))
                async with aclosing(self._chunks(reply, streamed=request.stream)) as chunks:
                    async for chunk in chunks:
                        yield chunk if opened is None else _opened(chunk, opened)
                        opened = None
            finally:
                reply.close()
        except HttpError as error:
            raise self._masked(_translated(self._target.name, error)) from error
        except UpstreamError as error:
            raise self._masked(error) from error.__cause__

    async def _chunks(self, reply: Reply, *, streamed: bool) -> AsyncGenerator[Chunk, None]:
        if not streamed:
            yield read_piece(await reply.read_all(MAX_ANSWER_BYTES), streamed=False)
            return
        if _is_whole(reply):  # some servers answer whole though a stream was asked for
            body = await reply.read_all(MAX_ANSWER_BYTES)
            read_piece(body, streamed=False)  # an error under a status of 200, or no answer at all
            for chunk in split(body, usage=True):
                yield chunk
            return
        events, ended = Events(), False
        while piece := await reply.read():
            for data in events.feed(piece):
                if data == b"[DONE]":
                    reply.finish()
                    return
                chunk = read_piece(data, streamed=True)
                ended = ended or chunk.finish is not None
                yield chunk
        rest = events.unfinished()
        if rest == b"[DONE]":
            return
        if rest is not None:
            chunk = read_piece(rest, streamed=True)
            ended = ended or chunk.finish is not None
            yield chunk
        if not ended:
            raise UpstreamError(f"Target {self._target.name!r} ended its stream before the answer was whole.")

    def _head(self, request: Request, length: int) -> bytes:
        ours = self._ours  # what the operator set for this target is not for clients to say again
        passed = b"".join([b"%b: %b\r\n" % header for header in request.headers if header[0] not in ours])
        return b"%b%bcontent-length: %d\r\n\r\n" % (self._place.head, passed, length)

    async def _refusal(self, reply: Reply) -> UpstreamError:
        """Make an error of a status that is not 200, in the target's own words where they are in OpenAI's shape."""
        status = reply.status
        body = await reply.read_all(MAX_ERROR_BYTES)
        name = self._target.name
        headers = self._passed_on(reply)
        again = status not in _THE_REQUESTS_FAULT
        if not 400 <= status <= 599:
            return UpstreamError(f"Target {name!r} answered with status {status}, which is no answer and no error.")
        told = read_error(body)
        words = str(told) if told else body[:500].decode("utf-8", "replace").strip()
        code = told.code if told else "upstream_error"
        kept = f"Target {name!r} answered {status} ({code})."
        return UpstreamError(
            words if told else f"Target {name!r} answered {status}" + (f": {words}." if words else " without a word."),
            status=status,
            code=code,
            body=body if told else None,
            headers=headers,
            again=again,
            spent=False,
            kept=kept,
        )

    def _masked(self, error: UpstreamError) -> UpstreamError:
        """Take our key out of what the target says: some repeat what they were sent."""
        if self._key is not None:
            key, mask = self._key.reveal(), str(self._key)
            error.args = (str(error).replace(key, mask),)
            error.code, error.kept = error.code.replace(key, mask), error.kept.replace(key, mask)
            error.body = error.body and error.body.replace(key.encode(), mask.encode())
        return error

    def _passed_on(self, reply: Reply) -> tuple[tuple[bytes, bytes], ...]:
        """Choose the headers that go to the client: not the connection's, not ours, and none with our key in it."""
        headers = [h for h in reply.headers if h[0] not in _NOT_PASSED_ON and not h[0].startswith(b"x-trivet-")]
        if self._key is not None:
            key = self._key.reveal().encode()
            headers = [h for h in headers if key not in h[1]]
        return tuple(headers)


def _translated(name: str, error: HttpError) -> UpstreamError:
    words = f"Target {name!r}: {error}"
    if isinstance(error, PhaseTimeoutError):
        return UpstreamError(words, status=504, code="upstream_timeout", spent=error.phase != "connect")
    if isinstance(error, ConnectError):
        return UpstreamError(words, code="upstream_unreachable", spent=False)
    return UpstreamError(words, code="upstream_broken")


def _opened(chunk: Chunk, opened: Opened) -> Chunk:
    return Chunk(chunk.data, chunk.speaks, chunk.finish, chunk.usage, chunk.model, opened)


def _is_whole(reply: Reply) -> bool:
    return any(n == b"content-type" and v.startswith(b"application/json") for n, v in reply.headers)


def _place(target: TargetSettings, *, base_url: str, key: Secret | None) -> _Place:
    url = urlsplit(base_url)
    assert url.hostname is not None  # config.py checked it
    secure = url.scheme == "https"
    origin = Origin("https" if secure else "http", url.hostname, url.port or (443 if secure else 80))
    path = url.path.rstrip("/") + "/chat/completions" + (f"?{url.query}" if url.query else "")
    lines = [f"POST {path} HTTP/1.1", f"host: {url.netloc}", "content-type: application/json"]
    lines += ["accept-encoding: identity"]
    if key is not None:
        lines.append(
            f"api-key: {key.reveal()}" if target.provider == "azure" else f"authorization: Bearer {key.reveal()}"
        )
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    return _Place(origin, path.encode("latin-1"), ("\r\n".join(lines) + "\r\n").encode("latin-1"))


def build(target: TargetSettings, kit: Kit) -> OpenAICompatible:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: no base URL is known for it, or its key cannot be read.
    """
    base_url = target.base_url or BASE_URLS.get(target.provider, "")
    if not base_url:
        raise ConfigError(f"targets.{target.name}: provider {target.provider!r} needs a `base_url`.")
    where = target.api_key or ("" if target.base_url else KEYS.get(target.provider, ""))
    key = secret(where, os.environ) if where else None
    return OpenAICompatible(target, kit, base_url=base_url, key=key)
