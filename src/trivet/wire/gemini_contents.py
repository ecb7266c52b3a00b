"""The messages of a chat completion as Gemini's `systemInstruction` and `contents`.

Not here: what is linked or attached (`gemini_media.py`), everything else in a request (`gemini_request.py`), answers.
Invariants: no message, part or call is left out; what Gemini has no word for is refused, and the refusal says what to
write instead and repeats nothing of the prompt. Tool arguments and results that are JSON objects keep their bytes.

Round trip: what an answer had beyond OpenAI's members came in `extra_content.google` of its message (`parts`,
`thought_signature`) and of its tool calls (`thought_signature`). A client that sends them back has them put where they
were. That is the member that Google's own OpenAI-compatible endpoint uses.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from trivet.wire.gemini_error import unsupported
from trivet.wire.gemini_media import Audio, File, Url, attached, audio, media

Json = dict[str, Any]

UNSIGNED = "skip_thought_signature_validator"
"""Google's word for "this call was made by another model, or its signature was lost": Gemini 3 refuses a tool call
in the current turn that has no signature at all."""


class _Google(Struct):
    thought_signature: str | None = None
    parts: list[Json] | None = None


class _Extra(Struct):
    google: _Google | None = None


class _Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Url | str | None = None
    video_url: Url | str | None = None
    input_audio: Audio | None = None
    file: File | None = None


class _Function(Struct):
    name: str
    arguments: str = ""


class _Call(Struct):
    id: str = ""
    type: str = "function"
    function: _Function | None = None
    extra_content: _Extra | None = None


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    audio: Raw = Raw(b"null")
    function_call: Raw = Raw(b"null")
    extra_content: _Extra | None = None


_read = msgspec.json.Decoder(list[_Message]).decode


class Talk(NamedTuple):
    """A conversation in Gemini's words."""

    system: list[Json]
    """Parts of `systemInstruction`."""
    contents: list[Json]
    low: bool
    """All its images asked for `detail: low`."""


def read_messages(messages: Raw, *, signed: bool) -> Talk:
    """Convert a conversation.

    Args:
        signed: the model wants a thought signature on tool calls, so calls without one are marked as such.

    Raises:
        UpstreamError: 400: not messages of a chat completion, or Gemini has no word for them.
    """
    try:
        said = _read(messages)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unsupported(f"its messages are not those of a chat completion: {error}.", param="messages") from error
    reader = _Reader(signed=signed)
    for at, message in enumerate(said):
        reader.read(message, at=f"messages[{at}]")
    if not reader.contents:
        raise unsupported("there is no message but the system's. Add one of role `user`.", param="messages")
    return Talk(reader.system, reader.contents, low=reader.low())


class _Reader:
    """Where a conversation has been read to."""

    def __init__(self, *, signed: bool) -> None:
        self.system: list[Json] = []
        self.contents: list[Json] = []
        self._signed = signed
        self._names: dict[str, str] = {}
        self._details: set[str] = set()
        self._answering = False

    def read(self, message: _Message, *, at: str) -> None:
        """Read the next message."""
        role = message.role
        if message.function_call != Raw(b"null") or role == "function":
            raise unsupported(f"{at} has a `function_call`. Write `tool_calls` and role `tool`.", param=at)
        if role == "tool":
            part = self._result(message, at=at)
            if not self._answering:  # the results of one message's calls are one turn
                self.contents.append({"role": "user", "parts": []})
            self.contents[-1]["parts"].append(part)
        elif role in ("system", "developer"):
            self.system += [{"text": text} for text in _texts(message.content, at=at)]
        elif role == "user":
            self.contents.append({"role": "user", "parts": self._parts(message, at=at) or [{"text": ""}]})
        elif role == "assistant":
            self.contents.append({"role": "model", "parts": self._turn(message, at=at) or [{"text": ""}]})
        else:
            raise unsupported(f"{at} has the role {role[:40]!r}. Write user or assistant.", param=f"{at}.role")
        self._answering = role == "tool"

    def low(self) -> bool:
        """Say whether all images asked for low detail: Gemini has one resolution for the whole request, so one that
        asks for more decides."""
        return self._details == {"low"}

    def _parts(self, message: _Message, *, at: str) -> list[Json]:
        content, extra = message.content, _google(message.extra_content).parts
        if isinstance(content, str):
            parts = [{"text": content}]
        else:
            parts = [self._part(part, at=f"{at}.content[{i}]") for i, part in enumerate(content or ())]
        return parts + [{name: value for name, value in part.items() if name != "index"} for part in extra or ()]

    def _part(self, part: _Part, *, at: str) -> Json:
        link = part.image_url or part.video_url
        if part.text is not None:
            return {"text": part.text}
        if part.refusal is not None:
            return {"text": part.refusal}
        if link is not None:
            detail = None if isinstance(link, str) else link.detail
            if part.image_url is not None:
                self._details.add("low" if detail == "low" else "high")  # `auto` and `high` are Gemini's default
            return media(link if isinstance(link, str) else link.url, at=at)
        if part.input_audio is not None:
            return audio(part.input_audio, at=at)
        if part.file is not None:
            return attached(part.file, at=at)
        raise unsupported(f"{at} is of type {part.type[:40]!r}. Send text, image_url, input_audio or file.", param=at)

    def _turn(self, message: _Message, *, at: str) -> list[Json]:
        """Read what the assistant said: text, then what only Gemini has words for, then calls."""
        if message.audio != Raw(b"null"):
            raise unsupported(f"{at} refers to earlier audio. Send its transcript as text.", param=f"{at}.audio")
        calls, signature = message.tool_calls or [], _google(message.extra_content).thought_signature
        parts = self._parts(message, at=at)
        if calls or signature:
            parts = [part for part in parts if part != {"text": ""}]
        if message.refusal:
            parts.append({"text": message.refusal})
        if signature:
            _sign(parts, signature)
        called = [self._call(call, at=f"{at}.tool_calls[{i}]") for i, call in enumerate(calls)]
        if self._signed and called and not any("thoughtSignature" in part for part in called):
            called[0]["thoughtSignature"] = UNSIGNED  # the first of parallel calls carries it
        return parts + called

    def _call(self, call: _Call, *, at: str) -> Json:
        if call.function is None:
            raise unsupported(f"{at} is of type {call.type[:40]!r}. Only calls of functions are known.", param=at)
        name, arguments = call.function.name, call.function.arguments
        self._names[call.id] = name
        wanted = _object(arguments) if arguments.strip() else Raw(b"{}")
        if wanted is None:
            raise unsupported(f"{at} has arguments that are no JSON object. Correct them.", param=at)
        part: Json = {"functionCall": {"name": name, "args": wanted} | ({"id": call.id} if call.id else {})}
        signature = _google(call.extra_content).thought_signature
        return part | ({"thoughtSignature": signature} if signature else {})

    def _result(self, message: _Message, *, at: str) -> Json:
        call_id = message.tool_call_id or ""
        name = self._names.get(call_id) or message.name
        if not name:
            raise unsupported(
                f"{at} answers no tool call of an earlier message, and Gemini knows results by their function's name. "
                "Send the assistant's message with the call, or add `name`.",
                param=f"{at}.tool_call_id",
            )
        text = "".join(_texts(message.content, at=at))
        found: object = _object(text)
        # `output` is the member that Google names for what is no object.
        response = {"output": text} if found is None else found
        return {"functionResponse": {"name": name, "response": response} | ({"id": call_id} if call_id else {})}


def _google(extra: _Extra | None) -> _Google:
    return (extra and extra.google) or _Google()


def _sign(parts: list[Json], signature: str) -> None:
    """Put a message's signature where it was: on its last text, or on an empty one at its end."""
    texts = [part for part in parts if "text" in part]
    if texts and "thoughtSignature" not in texts[-1]:
        texts[-1]["thoughtSignature"] = signature
    else:
        parts.append({"text": "", "thoughtSignature": signature})


def _texts(content: str | Sequence[_Part] | None, *, at: str) -> list[str]:
    """List the texts of a message that can have nothing else."""
    if content is None or isinstance(content, str):
        return [content or ""]
    for i, part in enumerate(content):
        if part.text is None:
            where = f"{at}.content[{i}]"
            raise unsupported(f"{where} is of type {part.type[:40]!r}. Only text can be here.", param=where)
    return [part.text or "" for part in content]


def _object(text: str) -> Raw | None:
    """Take a text for a JSON object, with its bytes as they are; None if it is none."""
    try:
        data = text.encode()
        return Raw(data) if isinstance(msgspec.json.decode(data), dict) else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
