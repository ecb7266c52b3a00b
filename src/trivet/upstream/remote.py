"""One target at one base URL over HTTP, whatever language it speaks: the part that all such providers share.

Not here: its connections (`upstream/way.py`); what is written to a target and how its words are read: that is its
`Dialect` (`upstream/openai.py` has the first).
Invariants: an answer is whole only if it said why it ended (or its dialect's last word); whatever ends the generator
early closes the connection; neither our key nor a header that the operator set is in an error or a chunk, as far as
one event or document holds it whole.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from trivet.config import Secret, TargetSettings
from trivet.errors import UnsupportedError, UpstreamError
from trivet.seams import Connections, Kit
from trivet.types import Chunk, Kind, Opened, Request
from trivet.upstream.out import way_to
from trivet.upstream.reply import ConnectError, HttpError, Origin, PhaseTimeoutError, Reply, UnservedError
from trivet.upstream.warm import keep_warm
from trivet.wire.answer import split
from trivet.wire.sse import Events

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024

_THE_REQUESTS_FAULT = frozenset({400, 409, 413, 415, 422})
"""Asking another target would only say the same again."""

_MIN_SECRET = 12
"""Characters of a header of the operator's that is masked like a key. A shorter one is an ordinary word (`prod`)."""

_NOT_PASSED_ON = frozenset(
    b"connection keep-alive proxy-authenticate te trailer transfer-encoding upgrade content-length content-type "
    b"content-encoding set-cookie server date alt-svc strict-transport-security cache-control vary "
    b"access-control-allow-origin".split()
)
"""About the connection, or words of theirs about caching and cookies that would be wrong from us."""


class Reading(Protocol):
    """One answer being read, from what a target says to chunks of chat completions. No I/O.

    Its methods raise UpstreamError where the target says something that is no answer, or an error in the middle.
    """

    @property
    def whole(self) -> bool:
        """It said why it ended."""
        ...

    @property
    def over(self) -> bool:
        """It said its last word: nothing more need be waited for."""
        ...

    def event(self, data: bytes) -> Sequence[Chunk]:
        """Read one event of a stream."""
        ...

    def answer(self, body: bytes) -> Chunk:
        """Read an answer that is not streamed: one whole `chat.completion`."""
        ...


class Dialect(Protocol):
    """How a sort of target is spoken to. No I/O."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What can be asked for in it."""
        ...

    def path(self, request: Request, *, model: str) -> bytes:
        """Say where to POST, after the path of the base URL: b"/chat/completions"."""
        ...

    def body(self, request: Request, *, model: str) -> bytes:
        """Write the request. Raises UnsupportedError: this sort of target cannot be asked that."""
        ...

    def reading(self, request: Request, *, model: str) -> Reading:
        """Begin to read an answer to a request that was sent for `model`."""
        ...

    def refusal(self, body: bytes) -> UpstreamError | None:
        """Read the body of an error in OpenAI's shape; None if it is not in the shape that is expected."""
        ...


class Remote:
    """One target behind one base URL."""

    def __init__(
        self,
        target: TargetSettings,
        kit: Kit,
        dialect: Dialect,
        *,
        base_url: str,
        key: Secret | None,
        headers: Sequence[tuple[str, str]],
    ) -> None:
        """Make it; nothing is connected yet.

        Args:
            key: what must not be told to anybody else.
            headers: sent with each request, the key among them; those of the target's section are added.
        """
        self._target, self._dialect = target, dialect
        own = [Secret(value) for value in target.headers.values() if len(value) >= _MIN_SECRET]
        secrets = [(secret.reveal().encode(), str(secret).encode()) for secret in ([key] if key else []) + own]
        self._secrets = sorted(secrets, key=lambda pair: -len(pair[0]))  # one may be a part of another
        self._in_names = [secret.lower() for secret, _ in self._secrets]  # names of headers come in lower case
        self._place = _place(base_url, [*headers, *target.headers.items()])
        self._ours = frozenset(name.lower().encode("latin-1") for name, _ in [*headers, *target.headers.items()])
        self._way = way_to(self._place.origin, target, dial=kit.dial, clock=kit.clock)
        self._tell = kit.tell
        self._warming: asyncio.Task[None] | None = None

    @property
    def kinds(self) -> frozenset[Kind]:
        """What can be asked for."""
        return self._dialect.kinds

    async def start(self) -> None:
        """Begin to keep connections warm, where that is asked for; others are opened when they are needed."""
        if self._target.warm:
            keeping = keep_warm(self._way, self._target.warm, name=self._target.name, tell=self._tell)
            self._warming = asyncio.create_task(keeping)

    def ready(self) -> str:
        """Say that it can be asked: whether it answers is known when it is."""
        return ""

    async def aclose(self) -> None:
        """Close all connections."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        await self._way.aclose()

    def connections(self) -> Connections:
        """Say how many there are, and were."""
        return self._way.connections()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Ask the target, and yield its answer as it comes."""
        model = request.model if self._target.model == "*" else self._target.model
        try:
            if request.kind not in self._dialect.kinds:
                words = f"Target {self._target.name!r} cannot be asked for {request.kind}: its protocol has none here."
                raise UnsupportedError(words, param=None)
            body = self._dialect.body(request, model=model)
            reply = await self._way.send(self._head(request, model, len(body)), body)
            try:
                if reply.status != 200:
                    raise await self._refusal(reply)
                reading = self._dialect.reading(request, model=model)
                opened = Opened(reply.connect_ns, self._passed_on(reply))
                if not request.stream:
                    yield _opened(reading.answer(self._clean(await reply.read_all(MAX_ANSWER_BYTES))), opened)
                    return
                events, first = Events(), True
                if _is_whole(reply):  # some servers answer whole though a stream was asked for
                    whole = reading.answer(self._clean(await reply.read_all(MAX_ANSWER_BYTES)))
                    for chunk in split(whole.data, usage=True) if request.kind == "chat" else (whole,):
                        yield _opened(chunk, opened) if first else chunk
                        first = False
                    return
                while piece := await reply.read():
                    for data in events.feed(piece):
                        for chunk in reading.event(self._clean(data)):
                            yield _opened(chunk, opened) if first else chunk
                            first = False
                        if reading.over:
                            reply.finish()
                            return
                for chunk in _last(self._clean(events.unfinished() or b""), reading):
                    yield _opened(chunk, opened) if first else chunk
                    first = False
                if not (reading.whole or reading.over):
                    name = self._target.name
                    raise UpstreamError(f"Target {name!r} ended its stream before the answer was whole.")
            finally:
                reply.close()
        except HttpError as error:
            raise self._masked(_translated(self._target.name, error)) from error
        except UpstreamError as error:
            raise self._masked(error) from error.__cause__

    def _head(self, request: Request, model: str, length: int) -> bytes:
        ours, place = self._ours, self._place  # what the operator set for this target is not for clients to say again
        path = self._dialect.path(request, model=model)
        passed = b"".join([b"%b: %b\r\n" % h for h in request.headers if h[0] not in ours]) if request.headers else b""
        return b"POST %b%b%b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
            place.path,
            path,
            _joined(path, place.query),
            place.lines,
            passed,
            length,
        )

    async def _refusal(self, reply: Reply) -> UpstreamError:
        """Make an error of a status that is not 200, in the target's own words where they are understood."""
        status = reply.status
        body = self._clean(await reply.read_all(MAX_ERROR_BYTES))  # before it is cut short
        name = self._target.name
        headers = self._passed_on(reply)
        if not 400 <= status <= 599:
            return UpstreamError(f"Target {name!r} answered with status {status}, which is no answer and no error.")
        told = self._dialect.refusal(body)
        # A key or an account at fault is not the request's fault, whatever the status says: another target may answer.
        again = status not in _THE_REQUESTS_FAULT or (told is not None and told.whose == "operator")
        words = str(told) if told else body[:500].decode("utf-8", "replace").strip()
        code = told.code if told else "upstream_error"
        kept = f"Target {name!r} answered {status} ({code})."
        return UpstreamError(
            words if told else f"Target {name!r} answered {status}" + (f": {words}." if words else " without a word."),
            status=status,
            code=code,
            body=told.body if told else None,
            headers=headers,
            again=again,
            spent=False,
            kept=kept,
            retry_after_s=told.retry_after_s if told else None,
        )

    def _clean(self, said: bytes) -> bytes:
        """Take our secrets out of what the target says: some repeat what they were sent."""
        for secret, mask in self._secrets:
            if said.find(secret) >= 0:  # `in` costs a fifth more
                said = said.replace(secret, mask)
        return said

    def _masked(self, error: UpstreamError) -> UpstreamError:
        """Take our secrets out of an error that was not made of a body."""
        words, code, kept = (
            self._clean(text.encode(errors="replace")).decode() for text in (str(error), error.code, error.kept)
        )
        error.args, error.code, error.kept = (words,), code, kept
        return error

    def _passed_on(self, reply: Reply) -> tuple[tuple[bytes, bytes], ...]:
        """Choose the headers that go to the client: not the connection's, not ours, and none with our key in it."""
        headers = [h for h in reply.headers if h[0] not in _NOT_PASSED_ON and not h[0].startswith(b"x-trivet-")]
        if not headers:
            return ()
        for (secret, _), in_name in zip(self._secrets, self._in_names, strict=True):
            headers = [h for h in headers if secret not in h[1] and in_name not in h[0]]
        return tuple(headers)


def _translated(name: str, error: HttpError) -> UpstreamError:
    words = f"Target {name!r}: {error}"
    if isinstance(error, PhaseTimeoutError):
        return UpstreamError(words, status=504, code="upstream_timeout", spent=error.phase != "connect")
    if isinstance(error, ConnectError):
        return UpstreamError(words, code="upstream_unreachable", spent=False)
    return UpstreamError(words, code="upstream_broken", spent=not isinstance(error, UnservedError))


def _last(rest: bytes, reading: Reading) -> Sequence[Chunk]:
    """Read what stands behind the last blank line. Cut off behind a whole answer, it is dropped, as a browser would."""
    try:
        return reading.event(rest) if rest else ()
    except UpstreamError as error:
        if reading.whole and error.__cause__ is not None:  # no document; an error that the target sent has no cause
            return ()
        raise


def _opened(chunk: Chunk, opened: Opened) -> Chunk:
    return Chunk(chunk.data, chunk.speaks, chunk.finish, chunk.usage, chunk.model, opened)


def _is_whole(reply: Reply) -> bool:
    return any(n == b"content-type" and v.startswith(b"application/json") for n, v in reply.headers)


class _Place(NamedTuple):
    origin: Origin
    path: bytes
    query: bytes
    lines: bytes
    """Of the head, all that is the same for every request."""


def _place(base_url: str, headers: Sequence[tuple[str, str]]) -> _Place:
    url = urlsplit(base_url)
    assert url.hostname is not None  # config.py checked it
    secure = url.scheme == "https"
    origin = Origin("https" if secure else "http", url.hostname, url.port or (443 if secure else 80))
    lines = [("host", url.netloc), ("content-type", "application/json"), ("accept-encoding", "identity"), *headers]
    return _Place(
        origin,
        url.path.rstrip("/").encode("latin-1"),
        url.query.encode("latin-1"),
        "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1"),
    )


def _joined(path: bytes, query: bytes) -> bytes:
    """Add the query of the base URL (Azure's `api-version`) to a path that may have one of its own."""
    return b"" if not query else (b"&" if b"?" in path else b"?") + query
