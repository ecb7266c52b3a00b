"""A scripted upstream: an OpenAI-compatible server on a real loopback port that does as the test says.

    async with Upstream("Hel", "lo", hang_after=1) as upstream:
        ...  # ask upstream.base_url
        await asyncio.wait_for(upstream.hung_up.wait(), timeout=5)

Not here: models, keys, limits. It checks nothing and echoes nothing; what it was asked is in `requests`.
Invariants: the same script gives the same bytes; time is the loop's, so it runs in virtual time too; leaving the
block closes every socket, and no task is ever started.
"""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, Self, cast

import httptools
import msgspec

from trivet.testing import documents
from trivet.testing.documents import embeddings, moderations
from trivet.types import Usage

CREATED = 1_700_000_000
"""`created` in every answer, so that the same script gives the same bytes."""
NEVER = math.inf
"""As a delay: silence until the client leaves."""

_ERRORS = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("authentication_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_json = msgspec.json.encode


class Tool(NamedTuple):
    """A tool that the scripted model calls; `arguments` is a JSON text."""

    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer to one request. Counts are of `pieces`; in an answer that is not streamed they are one."""

    pieces: tuple[str, ...] = ()
    """The content, one delta each."""
    tools: tuple[Tool, ...] = ()
    """Called after the content; the arguments come in two deltas."""
    model: str | None = None
    """The model it says it is; as asked for where None."""
    width: int = documents.WIDTH
    """Of a vector, where embeddings are asked for."""
    usage: Usage | EllipsisType | None = ...
    """What it reports: `...`: 9 tokens in and one out for each piece; None: never reports any."""
    finish: str = "stop"
    first_delay_s: float = 0.0
    """Before the head."""
    delay_s: float = 0.0
    """Before each piece; before the body of an answer that is not streamed."""
    hang_after: int | None = None
    """Then silence until the client leaves. 0: after the head and the role; not streamed: before the head."""
    cut_after: int | None = None
    """Then the socket is closed: no finish, no [DONE]. Not streamed: in the middle of the body."""
    error_after: int | None = None
    """Then an error event inside the 200, and the end without [DONE]. Not streamed: a 500."""
    status: int = 200
    """Anything else is an error with a body of OpenAI's shape."""
    error: Mapping[str, Any] | None = None
    """Members of the error body that are to be otherwise."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers: `(("retry-after", "2"),)`."""
    events: tuple[bytes, ...] | None = None
    """Raw bytes of the stream, sent as they are and nothing else, each as one chunk of HTTP."""
    garbage: bool = False
    """Bytes that are not HTTP."""


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Lower-case names."""
    body: Any
    """Parsed JSON; None where there was no body, or it is not JSON."""
    raw: bytes
    at_s: float
    """On the loop's clock."""


Script = Callable[[Any], Answer]
"""Given the parsed body of a request, what to answer."""


class Upstream:
    """The server. All options are those of `Answer`, for every request; or `script` decides for each."""

    def __init__(
        self,
        *pieces: str,
        script: Script | None = None,
        tools: Sequence[Tool] = (),
        model: str | None = None,
        usage: Usage | EllipsisType | None = ...,
        finish: str = "stop",
        first_delay_s: float = 0.0,
        delay_s: float = 0.0,
        hang_after: int | None = None,
        cut_after: int | None = None,
        error_after: int | None = None,
        status: int = 200,
        error: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        events: Sequence[bytes] | None = None,
        garbage: bool = False,
        models: Sequence[str] = ("scripted",),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        answer = Answer(
            pieces=pieces or (() if tools else ("Hel", "lo")),
            tools=tuple(tools),
            model=model,
            usage=usage,
            finish=finish,
            first_delay_s=first_delay_s,
            delay_s=delay_s,
            hang_after=hang_after,
            cut_after=cut_after,
            error_after=error_after,
            status=status,
            error=error,
            headers=tuple((headers or {}).items()),
            events=None if events is None else tuple(events),
            garbage=garbage,
        )
        self.script: Script = script or (lambda body: answer)
        self.host, self.port = host, port
        self.models = tuple(models)
        self.requests: list[Asked] = []
        self.connections = 0
        """Accepted so far."""
        self.hang_ups = 0
        """Answers that the client did not wait for."""
        self.hung_up = asyncio.Event()
        self.closed_at: float | None = None
        """When the client last hung up, on the loop's clock."""
        self.ids = itertools.count(1)
        self.open: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def base_url(self) -> str:
        """As an `openai` client wants it."""
        return f"http://{self.host}:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Link(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self.open:
            link.drop()
        while self.open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        await self._server.wait_closed()

    def forget(self, link: "_Link") -> None:
        """A connection is closed."""
        self.open.discard(link)
        if not self.open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


class _Link(asyncio.Protocol):
    """One connection: reads a request, plays the steps of its answer, reads the next."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._steps: Iterator[_Step] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._full, self._keep = False, True
        self._asked: list[Asked] = []
        self._path, self._headers, self._body = b"", list[tuple[bytes, bytes]](), list[bytes]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the class
        self._upstream.connections += 1
        self._upstream.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._steps is not None:
            self._end()
            self._upstream.hang_ups += 1
            self._upstream.closed_at = self._loop.time()
            self._upstream.hung_up.set()
        self._upstream.forget(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.drop()
            return
        while self._asked and self._steps is None:
            self._upstream.requests.append(self._asked[0])
            self._steps = _answer(self._asked.pop(0), self._upstream)
            self._play()

    def drop(self) -> None:
        """Close at our own wish: nobody hung up."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    # One request.

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw = b"".join(self._body)
        asked = Asked(
            method=self._parser.get_method().decode(),
            path=self._path.decode(),
            headers={name.decode(): value.decode("latin-1") for name, value in self._headers},
            body=_parse(raw),
            raw=raw,
            at_s=self._loop.time(),
        )
        self._keep = self._parser.should_keep_alive()
        self._path, self._headers, self._body = b"", [], []
        self._asked.append(asked)

    # Its answer.

    def _play(self) -> None:
        """Write until the next wait; what needs no wait between goes out in one write."""
        assert self._transport is not None
        self._timer = None
        ready: list[bytes] = []
        while self._steps is not None and not self._full:
            step = next(self._steps, None)
            if isinstance(step, bytes):
                ready.append(step)
                if len(ready) < 64:  # so that a long answer meets the client's backpressure
                    continue
            self._transport.write(b"".join(ready))
            ready.clear()
            if step is None or isinstance(step, _Cut):
                self._end()
                if step or not self._keep:
                    self._transport.close()
            elif isinstance(step, float):
                if step != NEVER:
                    self._timer = self._loop.call_later(step, self._play)
                return

    def _end(self) -> None:
        self._steps = None
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._timer is None and self._steps is not None:
            self._play()


class _Cut:
    """As a step: close the socket."""


_Step = bytes | float | _Cut
"""Write; wait; close."""


_OLDER = "/v1/completions"
_EMBEDDINGS, _MODERATIONS = "/v1/embeddings", "/v1/moderations"
_ANSWERED = {"/v1/chat/completions", _OLDER, _EMBEDDINGS, _MODERATIONS}


def _answer(asked: Asked, upstream: Upstream) -> Iterator[_Step]:
    if asked.method == "GET" and asked.path == "/v1/models":
        rows = [{"id": m, "object": "model", "created": CREATED, "owned_by": "scripted"} for m in upstream.models]
        yield _whole(200, (), _json({"object": "list", "data": rows}))
    elif asked.method == "POST" and asked.path in _ANSWERED:
        yield from _completion(asked, upstream.script(asked.body), next(upstream.ids))
    else:
        yield _failure(Answer(status=404, error={"message": f"Unknown request URL: {asked.method} {asked.path}."}))


def _completion(asked: Asked, answer: Answer, number: int) -> Iterator[_Step]:
    body = asked.body if isinstance(asked.body, dict) else {}
    stream = body.get("stream") is True
    yield from _wait(answer.first_delay_s)
    if answer.garbage:
        yield b"\x15\x03\x03\x00\x02\x02\x16 this is not HTTP\r\n\r\n"
        yield _Cut()
    elif answer.status != 200:
        yield _failure(answer)
    elif stream:
        yield from _streamed(answer, body, number, older=asked.path == _OLDER)
    else:
        yield from _unstreamed(answer, body, number, path=asked.path)


def _streamed(answer: Answer, body: dict[str, Any], number: int, *, older: bool) -> Iterator[_Step]:
    asked_usage = (body.get("stream_options") or {}).get("include_usage") is True
    shared: dict[str, Any] = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": CREATED}
    shared["model"] = answer.model or body.get("model", "scripted")
    tail = {"usage": None} if asked_usage and answer.usage is not None else {}

    def event(delta: dict[str, Any], finish: str | None = None) -> list[bytes]:
        choices = ({"index": i, "delta": delta, "logprobs": None, "finish_reason": finish} for i in range(_n(body)))
        chunks = [shared | {"choices": [choice]} | tail for choice in choices]
        return [_event(documents.older(chunk) if older else chunk) for chunk in chunks]

    opening, closing = event({"role": "assistant", "content": ""}), event({}, _finish(answer))
    pieces = [e for delta in _deltas(answer) for e in event(delta)]
    if tail:
        closing.append(_event(shared | {"choices": [], "usage": _usage(answer)}))
    closing.append(b"data: [DONE]\n\n")
    if answer.events is not None:
        opening, pieces, closing = [], list(answer.events), []

    yield _head(200, (*answer.headers, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")))
    yield from map(_chunk, opening)
    for at in range(len(pieces) + 1):
        if at == answer.hang_after:
            yield from _wait(NEVER)
        if at == answer.cut_after:
            yield _Cut()
        if at == answer.error_after:
            closing = [_event(_error(answer, 500))]
            break
        if at < len(pieces):
            yield from _wait(answer.delay_s)
            yield _chunk(pieces[at])
    yield from map(_chunk, closing)
    yield b"0\r\n\r\n"


def _unstreamed(answer: Answer, body: dict[str, Any], number: int, *, path: str) -> Iterator[_Step]:
    if answer.hang_after is not None:
        yield from _wait(NEVER)
    yield from _wait(answer.delay_s)
    if answer.error_after is not None:
        yield _failure(answer, 500)
        return
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.pieces) or None, "refusal": None}
    if answer.tools:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": tool._asdict()} for i, tool in enumerate(answer.tools)
        ]
    choice = {"message": message, "logprobs": None, "finish_reason": _finish(answer)}
    document = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": answer.model or body.get("model", "scripted"),
        "choices": [{"index": i, **choice} for i in range(_n(body))],
    }
    if answer.usage is not None:
        document["usage"] = _usage(answer)
    if path == _OLDER:
        document = documents.older(document)
    elif path == _EMBEDDINGS:
        document = embeddings(body, width=answer.width)
    elif path == _MODERATIONS:
        document = moderations(body)
    raw = _json(document) if answer.events is None else b"".join(answer.events)
    whole = _whole(200, answer.headers, raw)
    if answer.cut_after is None:
        yield whole
    else:
        yield whole[: -(len(raw) // 2 + 1)]
        yield _Cut()


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    for piece in answer.pieces:
        yield {"content": piece}
    for i, (name, arguments) in enumerate(answer.tools):
        half = len(arguments) // 2
        called = {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [{"index": i, **called}]}
        for part in (arguments[:half], arguments[half:]):
            yield {"tool_calls": [{"index": i, "function": {"arguments": part}}]}


def _wait(delay_s: float) -> Iterator[float]:
    while delay_s == NEVER:
        yield NEVER
    if delay_s > 0:
        yield float(delay_s)


def _n(body: dict[str, Any]) -> int:
    n = body.get("n")
    return n if isinstance(n, int) and 1 <= n <= 128 else 1


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.tools else answer.finish


def _usage(answer: Answer) -> dict[str, Any] | None:
    if answer.usage is None:
        return None
    given = answer.usage
    used = Usage(input_tokens=9, output_tokens=len(answer.pieces)) if isinstance(given, EllipsisType) else given
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens, "audio_tokens": used.input_audio_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": used.output_audio_tokens,
        },
    }


def _error(answer: Answer, status: int) -> dict[str, Any]:
    kind, code = _ERRORS.get(status, ("server_error", None))
    error = {"message": f"The script says {status}.", "type": kind, "param": None, "code": code}
    return {"error": error | dict(answer.error or {})}


def _failure(answer: Answer, status: int | None = None) -> bytes:
    status = status or answer.status
    return _whole(status, answer.headers, _json(_error(answer, status)))


def _whole(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    length = (("content-type", "application/json"), ("content-length", str(len(body))))
    return _head(status, (*headers, *length)) + body


def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % _json(document)


def _parse(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
