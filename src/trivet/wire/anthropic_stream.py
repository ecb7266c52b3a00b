"""A streamed answer of Anthropic's Messages API, event by event, as chunks of a chat completion.

    message_start -> (content_block_start, content_block_delta ..., content_block_stop) ... -> message_delta
    -> message_stop

Not here: framing (`wire/sse.py`), whole answers (`wire/anthropic_answer.py`).
Invariants: a call's arguments are JSON when it ends, also where there were none; the usage of the last `message_delta`
counts, over what `message_start` said; events, blocks and deltas of a kind that is not known do no harm, and blocks are
kept.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from trivet.errors import UpstreamError
from trivet.types import Chunk
from trivet.wire.anthropic_answer import FINISH, Json, Shape, plain, read_answer, read_error, reasons, usage_of
from trivet.wire.anthropic_messages import KEPT

MAX_STREAM_BYTES = 64 * 1024 * 1024
"""As large as an answer that comes whole may be."""

_encode = msgspec.json.Encoder().encode


class _Event(Struct, gc=False):
    type: str
    index: int = 0
    message: Json | None = None
    content_block: Json | None = None
    delta: Json | None = None
    usage: Json | None = None


_read_event = msgspec.json.Decoder(_Event).decode
_read_object = msgspec.json.Decoder(dict[str, Raw]).decode


class _Open:
    """One block as far as it has come."""

    __slots__ = ("block", "call", "citations", "grown")

    def __init__(self, block: Json, call: int | None) -> None:
        self.block, self.call = block, call
        self.grown: dict[str, list[str]] = {}
        self.citations: list[object] = []


class Answering:
    """One answer being read: `event` for a stream, `answer` for one that comes whole."""

    def __init__(self, *, created: int, max_bytes: int = MAX_STREAM_BYTES) -> None:
        self.over = self.whole = False
        self._created, self._max_bytes = created, max_bytes
        self._id = self._model = ""
        self._spent: Json = {}
        self._open: dict[int, _Open] = {}
        self._blocks: list[Json] = []
        self._calls = self._bytes = 0

    def answer(self, body: bytes) -> Chunk:
        """Read a whole answer."""
        return read_answer(body, created=self._created)

    def event(self, data: bytes) -> Sequence[Chunk]:
        """Read one event.

        Raises:
            UpstreamError: it is none, or it is an error in the middle of the answer.
        """
        if data == b"[DONE]":  # Anthropic does not say it; others that speak its protocol do
            self.over = True
            return ()
        self._bytes += len(data)
        if self._bytes > self._max_bytes:  # the blocks are gathered, in case they must be kept
            raise UpstreamError(f"The target's stream is larger than {self._max_bytes} bytes.")
        try:
            return self._event(_read_event(data), data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, AttributeError) as error:
            raise UpstreamError(f"The target sent something that is not an event of Anthropic's: {error}.") from error

    def _event(self, event: _Event, data: bytes) -> Sequence[Chunk]:
        match event.type:
            case "content_block_delta":
                return self._grow(event.index, event.delta or {})
            case "content_block_start":
                return self._begin(event.index, event.content_block or {})
            case "content_block_stop":
                return self._stop(event.index)
            case "message_start":
                return self._start(event.message or {})
            case "message_delta":
                return self._end(event.delta or {}, event.usage or {})
            case "message_stop":
                self.over = True
            case "error":
                raise read_error(data) or UpstreamError("The target sent an error that says nothing.")
        return ()

    # The message.

    def _start(self, message: Json) -> Sequence[Chunk]:
        self._id, self._model = str(message.get("id") or ""), str(message.get("model") or "")
        self._spend(message.get("usage") or {})
        return (self._chunk({"role": "assistant", "content": ""}, speaks=False),)

    def _spend(self, usage: Json) -> None:
        self._spent |= {name: value for name, value in usage.items() if value is not None}

    def _end(self, delta: Json, usage: Json) -> Sequence[Chunk]:
        """Read a `message_delta`: why it ended, and what it cost."""
        self._spend(usage)
        reason = delta.get("stop_reason")
        if not isinstance(reason, str):
            return ()
        chunks = [chunk for index in list(self._open) for chunk in self._stop(index)]
        if not self.whole and not plain(_shape(block) for block in self._blocks):
            chunks.append(self._chunk({KEPT: self._blocks}))
        self.whole = True
        finish = FINISH.get(reason, reason)
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
        choice |= reasons(reason, delta.get("stop_sequence"), delta.get("stop_details"))
        document = self._head() | {"choices": [choice]}
        if delta.get("container") is not None:
            document["container"] = delta["container"]
        chunks.append(Chunk(_encode(document), finish=finish, model=self._model or None))
        spent, told = usage_of(self._spent)
        if told is not None:
            document = self._head() | {"choices": [], "usage": told}
            chunks.append(Chunk(_encode(document), usage=spent, model=self._model or None))
        return chunks

    # Its blocks.

    def _begin(self, index: int, block: Json) -> Sequence[Chunk]:
        call = None
        if block.get("type") == "tool_use":
            call, self._calls = self._calls, self._calls + 1
        self._open[index] = begun = _Open(block, call)
        self._blocks.append(block)
        match block.get("type"):
            case "text" if block.get("text"):
                return (self._chunk({"content": block["text"]}),)
            case "thinking" if block.get("thinking"):
                return (self._chunk({"reasoning_content": block["thinking"]}),)
            case "tool_use":
                arguments = ""
                if block.get("input"):  # all of it at once: no deltas follow
                    arguments = _encode(block["input"]).decode()
                    begun.grown["partial_json"] = [arguments]
                function = {"name": block.get("name", ""), "arguments": arguments}
                return (self._call(call, {"id": block.get("id", ""), "type": "function", "function": function}),)
        return ()

    def _grow(self, index: int, delta: Json) -> Sequence[Chunk]:
        """Add a delta to its block. One of a kind that is not known grows the members that it names."""
        begun = self._open.get(index)
        if begun is None:
            raise TypeError(f"a delta of block {index}, which is not open")
        if delta.get("type") == "citations_delta":
            begun.citations.append(delta.get("citation"))
            return ()
        for name, value in delta.items():
            if name != "type" and isinstance(value, str):
                begun.grown.setdefault(name, []).append(value)
        match delta.get("type"):
            case "text_delta" if delta.get("text"):
                return (self._chunk({"content": delta["text"]}),)
            case "thinking_delta" if delta.get("thinking"):
                return (self._chunk({"reasoning_content": delta["thinking"]}),)
            case "input_json_delta" if delta.get("partial_json") and begun.call is not None:
                return (self._call(begun.call, {"function": {"arguments": delta["partial_json"]}}),)
        return ()

    def _stop(self, index: int) -> Sequence[Chunk]:
        begun = self._open.pop(index, None)
        if begun is None:
            return ()
        arguments = "".join(begun.grown.pop("partial_json", ()))
        if begun.citations:
            begun.block["citations"] = [*(begun.block.get("citations") or ()), *begun.citations]
        for name, pieces in begun.grown.items():
            begun.block[name] = str(begun.block.get(name) or "") + "".join(pieces)
        if arguments:
            begun.block["input"] = _whole_json(arguments)
        elif begun.call is not None:
            return (self._call(begun.call, {"function": {"arguments": "{}"}}),)
        return ()

    # Documents.

    def _head(self) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }

    def _chunk(self, delta: Json, *, speaks: bool = True) -> Chunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return Chunk(_encode(self._head() | {"choices": [choice]}), speaks=speaks, model=self._model or None)

    def _call(self, number: int | None, call: Json) -> Chunk:
        return self._chunk({"tool_calls": [{"index": number, **call}]})


def _shape(block: Json) -> Shape:
    caller = block.get("caller") or {}
    direct = isinstance(caller, dict) and caller.get("type", "direct") == "direct"
    return Shape(str(block.get("type")), bool(block.get("citations") or block.get("toolset_name")) or not direct)


def _whole_json(arguments: str) -> object:
    """Take arguments as they came; those that were cut off are none."""
    try:
        _read_object(arguments)
    except msgspec.MsgspecError:
        return {}
    return Raw(arguments)
