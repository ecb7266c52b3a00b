"""Messages of a chat completion, rewritten as the turns of Anthropic's Messages API.

Not here: all other members of a request (`wire/anthropic_request.py`), and the way back (`wire/anthropic_answer.py`).
Invariants: turns alternate between user and assistant; results of tools come before all else in their turn, as the API
wants them; arguments of tools, signatures and blocks of Anthropic's own shape keep their bytes; what cannot be said
raises (only the `name` of a participant and the `detail` of an image are left out), and no error repeats the words of
a prompt.
"""

import base64
import binascii
import re
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from trivet.errors import UnsupportedError

NULL = Raw(b"null")
KEPT = "anthropic_content"
"""The member of an assistant's message that holds an answer's blocks as they came, where text and calls of tools do not
say it all: thinking with its signature, citations, tools that ran at Anthropic. Sent back, it is said again exactly."""

Block = dict[str, object] | Raw


class Turn(Struct, gc=False):
    """One message as Anthropic has it."""

    role: str
    content: list[Block]


class Conversation(NamedTuple):
    """All messages."""

    system: list[Block]
    turns: list[Turn]


class _Function(Struct, frozen=True, gc=False):
    name: str = ""
    arguments: str = ""


class _Call(Struct, gc=False):
    id: str = ""
    type: str = "function"
    function: _Function = _Function()


class _Said(Struct, gc=False):
    role: str
    content: str | list[Raw] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str = ""
    refusal: str | None = None
    is_error: bool | None = None
    cache_control: Raw = NULL
    anthropic_content: list[Raw] | None = None
    function_call: Raw = NULL
    audio: Raw = NULL


class _Url(Struct, gc=False):
    url: str = ""


class _File(Struct, gc=False):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(Struct, gc=False):
    type: str = "text"
    text: str = ""
    refusal: str = ""
    image_url: _Url | str | None = None
    file: _File | None = None
    cache_control: Raw = NULL
    citations: Raw = NULL


_read_said = msgspec.json.Decoder(list[_Said]).decode
_read_part = msgspec.json.Decoder(_Part).decode
_read_object = msgspec.json.Decoder(dict[str, Raw]).decode


def refused(words: str, *, param: str) -> UnsupportedError:
    """Make the error for what this API cannot say."""
    return UnsupportedError(f"Anthropic's Messages API cannot be asked this: {words}", param=param)


def conversation(messages: Raw) -> Conversation:
    """Rewrite `messages`.

    Raises:
        UnsupportedError: they are not messages, or say what Anthropic has no words for.
    """
    try:
        said = _read_said(messages)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"`messages` cannot be read: {error}.", param="messages") from error
    system: list[Block] = []
    turns = _Turns()
    for at, message in enumerate(said):
        try:
            _say(message, system, turns)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise refused(f"`messages[{at}]` cannot be read: {error}.", param=f"messages[{at}]") from error
    if system and not turns.said:
        words = "there are only system messages. Write at least one message with the role `user`."
        raise refused(words, param="messages")
    if turns.said and turns.said[-1].role == "assistant" and said[-1].role != "assistant":
        # What stood last is now above or nowhere, and the model would go on with its own words.
        words = "the last message is empty, or the system's. End with what the model is to answer, as the role `user`."
        raise refused(words, param="messages")
    return Conversation(system, turns.said)


def _say(message: _Said, system: list[Block], turns: "_Turns") -> None:
    match message.role:
        case "system" | "developer":
            system += _marked(_blocks(message), message.cache_control)
        case "user":
            turns.add("user", _marked(_blocks(message), message.cache_control))
        case "assistant":
            turns.add("assistant", _marked(_assistant(message), message.cache_control))
        case "tool":
            turns.add_result(_result(message))
        case other:
            words = f"a message has the role {other[:40]!r}. Write system, developer, user, assistant or tool."
            raise refused(words, param="messages")


class _Turns:
    """Turns so far; what one role says twice in a row is one turn."""

    def __init__(self) -> None:
        self.said: list[Turn] = []
        self._results = 0  # of tools, at the beginning of the last turn

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if not self.said or self.said[-1].role != role:
            self.said.append(Turn(role, []))
            self._results = 0
        self.said[-1].content += blocks

    def add_result(self, block: Block) -> None:
        if not self.said or self.said[-1].role != "user":
            self.said.append(Turn("user", []))
            self._results = 0
        self.said[-1].content.insert(self._results, block)
        self._results += 1


# ---- one message ------------------------------------------------------------------------------------------------


def _blocks(message: _Said) -> list[Block]:
    """Rewrite the content; text of nothing but spaces is left out, because Anthropic refuses it."""
    content = message.content
    if content is None:
        return []
    if isinstance(content, str):
        return _text(content)
    return [block for raw in content for block in _part(raw)]


def _text(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _marked(blocks: list[Block], cache_control: Raw) -> list[Block]:
    """Put a `cache_control` that was written on the message onto its last block."""
    if not blocks or cache_control == NULL:
        return blocks
    last = blocks[-1]
    block: dict[str, object] = {**(_read_object(last) if isinstance(last, Raw) else last)}
    return [*blocks[:-1], {**block, "cache_control": cache_control}]


def _assistant(message: _Said) -> list[Block]:
    if message.anthropic_content:
        return [raw for raw in message.anthropic_content if not _is_empty(raw)]
    if message.function_call != NULL:
        raise refused("`function_call` is the old way. Write `tool_calls`.", param="messages")
    if message.audio != NULL:
        raise refused("there is audio in an assistant's message. Write its transcript.", param="messages")
    calls = [_tool_use(call) for call in message.tool_calls or ()]
    return [*_blocks(message), *_text(message.refusal or ""), *calls]


def _is_empty(raw: Raw) -> bool:
    """Say whether it is text of nothing but spaces: Claude may say it, and Anthropic refuses to be told so."""
    block = _read_part(raw)
    return block.type == "text" and not block.text.strip()


def _tool_use(call: _Call) -> Block:
    name = call.function.name
    if call.type != "function":
        raise refused(f"a call has the type {call.type[:40]!r}. Only functions can be called.", param="messages")
    arguments = call.function.arguments.strip() or "{}"
    try:
        _read_object(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        words = f"the arguments of a call of {name[:64]!r} are not a JSON object. Mend them, or leave the call out."
        raise refused(words, param="messages") from None
    return {"type": "tool_use", "id": _id(call.id), "name": name, "input": Raw(arguments)}


def _result(message: _Said) -> Block:
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
    content = message.content if isinstance(message.content, str) else _blocks(message)
    if content:
        block["content"] = content
    if message.is_error is not None:
        block["is_error"] = message.is_error
    if message.cache_control != NULL:
        block["cache_control"] = message.cache_control
    return block


_STRANGE = re.compile(r"[^A-Za-z0-9_-]")


def _id(id_: str) -> str:
    """Make an id that Anthropic takes of one that another provider gave: `functions.f:0` is `functions_2e_f_3a_0`."""
    return _STRANGE.sub(lambda found: f"_{ord(found[0]):x}_", id_)


# ---- one part of a content --------------------------------------------------------------------------------------


def _part(raw: Raw) -> list[Block]:
    part = _read_part(raw)
    match part.type:
        case "text" if part.text.strip():
            blocks: list[Block] = [{"type": "text", "text": part.text}]
            if part.citations != NULL:
                blocks = [{"type": "text", "text": part.text, "citations": part.citations}]
        case "text":
            blocks = []
        case "refusal":
            blocks = _text(part.refusal)
        case "image_url":
            url = part.image_url
            blocks = [_image(url.url if isinstance(url, _Url) else url or "")]
        case "file":
            blocks = [_document(part.file or _File())]
        case "input_audio":
            raise refused("there is audio in a message. Write its transcript.", param="messages")
        case _:  # a block of Anthropic's own (document, search_result, ...), or one that it will name in its error
            return [raw]
    return _marked(blocks, part.cache_control)


_IMAGES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}


def _image(url: str) -> Block:
    if url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media, data = _data(url, "an image")
    if media not in _IMAGES:
        words = f"an image is {media[:40] or 'of no type'}. It takes JPEG, PNG, GIF and WebP."
        raise refused(words, param="messages")
    return {"type": "image", "source": {"type": "base64", "media_type": _IMAGES[media], "data": data}}


def _document(file: _File) -> Block:
    named: dict[str, object] = {"title": file.filename} if file.filename else {}
    if file.file_id is not None:
        if file.file_id.startswith("file-"):  # Anthropic's begin with file_
            raise refused("`file_id` names a file at OpenAI. Send its bytes as `file_data`.", param="messages")
        return {"type": "document", "source": {"type": "file", "file_id": file.file_id}, **named}
    url = file.file_data or ""
    if url.startswith("https://"):
        return {"type": "document", "source": {"type": "url", "url": url}, **named}
    media, data = _data(url, "a file")
    if media == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": media, "data": data}, **named}
    if media == "text/plain":
        return {"type": "document", "source": {"type": "text", "media_type": media, "data": _plain(data)}, **named}
    words = f"a file is {media[:40] or 'of no type'}. It takes PDF and plain text."
    raise refused(words, param="messages")


def _data(url: str, what: str) -> tuple[str, str]:
    """Cut `data:image/png;base64,AAAA` into its media type, in lower case, and its base64."""
    head, comma, data = url.partition(",")
    media, *rest = head.removeprefix("data:").split(";")
    if not (comma and head.startswith("data:") and "base64" in rest):
        words = f"{what} is neither a data: URL in base64 nor an https URL. Send one of these."
        raise refused(words, param="messages")
    return media.strip().lower(), data


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise refused("a file of plain text is not UTF-8 in base64.", param="messages") from error
