"""What a request needs of a target, and the facts that rules ask for: read off its bytes, without a tokenizer.

Not here: who can do it, and who is chosen (`rules.py`). Invariant: a body that cannot be read has no needs that are not
plain from its members; to refuse it is the target's business.
"""

import re
from collections.abc import Mapping
from functools import cached_property

import msgspec
from msgspec import Raw, Struct

from trivet.types import Request
from trivet.wire.language import language

BYTES_A_TOKEN = 4
"""Of English with OpenAI's and llama.cpp's tokenizers, about; code has 3, and Chinese 3 to 4 in UTF-8."""

TOKENS_OF_AN_IMAGE = 1000
"""About what 1024 x 1024 pixels cost with OpenAI, Anthropic and Gemini; its bytes say nothing."""

MAX_READ = 2000
"""Characters of the last question by which its language is guessed."""

ABILITIES = ("tools", "images", "audio", "schema")
"""What not every target can do: call tools, see, hear, and answer by a JSON schema."""

_WORD = re.compile(r"[^\W\d_]+")


class _Part(Struct, gc=False):
    type: str = ""
    text: str = ""


class _Message(Struct, gc=False):
    role: str = ""
    content: str | list[_Part] | None = None


class _Format(Struct, gc=False):
    type: str = ""


_read_messages = msgspec.json.Decoder(list[_Message]).decode
_read_format = msgspec.json.Decoder(_Format).decode
_NOTHING = frozenset({b"null", b"[]", b'"none"'})
_OF_PARTS = {"image_url": "images", "image": "images", "input_image": "images", "input_audio": "audio"}


class Needs:
    """The facts of one request, each worked out when it is first asked for."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @cached_property
    def _messages(self) -> list[_Message]:
        return _messages(self._request)

    @cached_property
    def abilities(self) -> frozenset[str]:
        """Of `ABILITIES`, what it takes to answer."""
        fields = self._request.fields
        found = {_OF_PARTS[part.type] for m in self._messages for part in _parts(m) if part.type in _OF_PARTS}
        if _has(fields, "tools") or _has(fields, "functions"):
            found.add("tools")
        if _format(fields) == "json_schema":
            found.add("schema")
        return frozenset(found)

    @cached_property
    def tokens(self) -> int:
        """About how many tokens the prompt has."""
        fields = self._request.fields
        written = sum(memoryview(fields[name]).nbytes for name in ("tools", "functions", "prompt") if name in fields)
        images = 0
        for message in self._messages:
            if isinstance(message.content, str):
                written += len(message.content.encode("utf-8", "replace"))
            for part in _parts(message):
                written += len(part.text.encode("utf-8", "replace"))
                images += _OF_PARTS.get(part.type) == "images"
        return written // BYTES_A_TOKEN + images * TOKENS_OF_AN_IMAGE

    @cached_property
    def room(self) -> int:
        """Tokens of the prompt, and those that the answer may have."""
        return self.tokens + self._asked

    @cached_property
    def most_room(self) -> int:
        """What `room` is at most; found without reading the messages."""
        fields = self._request.fields
        written = [bytes(fields[name]) for name in ("messages", "prompt", "tools", "functions") if name in fields]
        images = sum(raw.count(b"image") + raw.count(b"\\") for raw in written)  # a word may be written in escapes
        return sum(map(len, written)) // BYTES_A_TOKEN + images * TOKENS_OF_AN_IMAGE + self._asked

    @property
    def _asked(self) -> int:
        for name in ("max_completion_tokens", "max_tokens"):
            asked = bytes(self._request.fields.get(name, b""))
            if asked.isdigit() and len(asked) < 10:
                return int(asked)
        return 0

    @cached_property
    def question(self) -> str:
        """The last words of the user, or "" where they are none."""
        return next((_text(m) for m in reversed(self._messages) if m.role == "user"), "")

    @cached_property
    def said(self) -> str:
        """All words of the user, a line for each turn."""
        return "\n".join(filter(None, [_text(m) for m in self._messages if m.role == "user"]))

    @cached_property
    def earlier(self) -> tuple[int, int]:
        """How many questions of the user came before the last, and the characters of all that was said before it."""
        asked = [at for at, message in enumerate(self._messages) if message.role == "user"]
        before = self._messages[: asked[-1]] if asked else []
        said = (len(m.content) if isinstance(m.content, str) else sum(len(p.text) for p in _parts(m)) for m in before)
        return max(0, len(asked) - 1), sum(said)

    @cached_property
    def language(self) -> str:
        """Of the question: `en`, `de`, ..., or the name of its script; "" where that cannot be said."""
        text = self.question[:MAX_READ]
        return language(text, frozenset(_WORD.findall(text.lower())))


def told(request: Request) -> list[str]:
    """Give the words of each turn of the user, in their order."""
    return [_text(message) for message in _messages(request) if message.role == "user"]


def _messages(request: Request) -> list[_Message]:
    raw = request.fields.get("messages")
    if raw is None:
        return []
    try:
        return _read_messages(raw)
    except (msgspec.MsgspecError, UnicodeError):
        return []


def _text(message: _Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in _parts(message) if part.text)


def _parts(message: _Message) -> list[_Part]:
    return message.content if isinstance(message.content, list) else []


def _has(fields: Mapping[str, Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) not in _NOTHING


def _format(fields: Mapping[str, Raw]) -> str:
    if "response_format" not in fields:
        return ""
    try:
        return _read_format(fields["response_format"]).type
    except (msgspec.MsgspecError, UnicodeError):
        return ""
