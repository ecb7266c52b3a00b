"""Whole answers from the pieces of a stream, and pieces from a whole answer: so that a hit can be replayed either way.

Not here: which answers are kept (`pipeline.py`). Invariant: what the OpenAI client reads from `split(whole)` is what it
reads from `whole`; unknown members of chunks and deltas survive both ways.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from trivet.errors import UpstreamError
from trivet.types import Chunk
from trivet.wire.chat import read_piece

_encode = msgspec.json.Encoder().encode

Json = dict[str, Any]


def join(pieces: Sequence[bytes]) -> bytes:
    """Make one `chat.completion` of the `chat.completion.chunk`s of a whole stream.

    Text is put together, tool calls are put together by their index, lists grow, and of anything else the last
    word counts.

    Raises:
        UpstreamError: they are not the chunks of one answer (an index that is no number, ...).
    """
    try:
        return _join(pieces)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError, TypeError) as error:
        raise UpstreamError(f"The target's chunks do not make one chat completion: {error}.") from error


def _join(pieces: Sequence[bytes]) -> bytes:
    answer: Json = {}
    choices: dict[int, Json] = {}
    for data in pieces:
        piece = msgspec.json.decode(data)
        for choice in piece.pop("choices", None) or ():
            _join_choice(choices.setdefault(choice.get("index", 0), {}), choice)
        answer |= {name: value for name, value in piece.items() if value is not None or name not in answer}
    answer["object"] = "chat.completion"
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return _encode(answer)


def _join_choice(whole: Json, piece: Json) -> None:
    delta = piece.pop("delta", None) or {}
    message = whole.setdefault("message", {"role": "assistant", "content": None})
    for name, value in delta.items():
        message[name] = (
            _join_calls(message.get(name), value) if name == "tool_calls" else _grow(message.get(name), value, name)
        )
    for name, value in piece.items():
        whole[name] = _join_logprobs(whole.get(name), value) if name == "logprobs" else _last(whole.get(name), value)


_NAMES = frozenset({"role", "id", "type", "name"})
"""Strings that are said once, or over again: the last one counts."""


def _grow(old: Any, new: Any, name: str) -> Any:
    if new is None:
        return old
    if isinstance(old, str) and isinstance(new, str) and name not in _NAMES:
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{n: _grow(old.get(n), v, n) for n, v in new.items()}}
    return new


def _last(old: Any, new: Any) -> Any:
    return old if new is None else new


def _join_calls(old: list[Json] | None, new: list[Json] | None) -> list[Json] | None:
    calls = dict(enumerate(old or []))
    for call in new or ():
        index = call.get("index", len(calls))
        rest = {name: value for name, value in call.items() if name != "index"}
        calls[index] = {
            **calls.get(index, {}),
            **{n: _grow(calls.get(index, {}).get(n), v, n) for n, v in rest.items()},
        }
    return [calls[index] for index in sorted(calls)] if calls else new


def _join_logprobs(old: Json | None, new: Json | None) -> Json | None:
    if old is None or new is None:
        return new if old is None else old
    return {**old, **{name: _grow(old.get(name), value, name) for name, value in new.items()}}


def split(body: bytes, *, usage: bool) -> list[Chunk]:
    """Make the chunks of a stream of one whole `chat.completion`: role, content, finish and, if asked, usage.

    Values go on with their bytes: what was relayed once (1e400, bytes that are no UTF-8) must not break when replayed.

    Args:
        body: as `read_piece` has taken it for whole: its choices are a list of objects.
    Raises:
        UpstreamError: a name in it is no text.
    """
    try:
        answer = _read_members(body)
        pieces = [piece for choice in _read_objects(answer.pop("choices")) for piece in _split_choice(choice)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The target's chat completion cannot be told in pieces: {error}.") from error
    spent = answer.pop("usage", None)
    head = {**answer, "object": "chat.completion.chunk"}
    asked = {"usage": None} if usage else {}
    documents = [_encode({**head, "choices": [piece], **asked}) for piece in pieces]
    if usage:
        documents.append(_encode({**head, "choices": [], "usage": spent}))
    return [read_piece(document, streamed=True) for document in documents]


Members = dict[str, Raw]
"""Of an object, with the bytes of their values."""
_read_members = msgspec.json.Decoder(Members).decode
_read_objects = msgspec.json.Decoder(list[Members]).decode


def _split_choice(choice: Members) -> list[dict[str, Any]]:
    index = choice.get("index", 0)
    said = bytes(choice.get("message", b""))
    message = {n: v for n, v in _read_members(said).items() if bytes(v) != b"null"} if said[:1] == b"{" else {}
    finish = choice.pop("finish_reason", None)
    logprobs = choice.pop("logprobs", None)
    rest = {name: value for name, value in choice.items() if name not in ("index", "message")}
    role = {"index": index, "delta": {"role": message.get("role", "assistant"), "content": ""}, "finish_reason": None}
    deltas = _split_message({name: value for name, value in message.items() if name != "role"})
    content = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    content[0]["logprobs"] = logprobs
    end: dict[str, Any] = {**rest, "index": index, "delta": {}, "finish_reason": finish}
    return [role, *content, end]


def _split_message(message: Members) -> Sequence[Mapping[str, Any]]:
    """Give each tool call a delta of its own, after the rest, as models do: there are clients that read only one."""
    try:
        calls = _read_objects(message.get("tool_calls", b"[]"))
    except msgspec.ValidationError:  # they are something else, and go on as they are
        calls = []
    if not calls:
        return [message]
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return [*([rest] if rest else []), *({"tool_calls": [{"index": i, **call}]} for i, call in enumerate(calls))]
