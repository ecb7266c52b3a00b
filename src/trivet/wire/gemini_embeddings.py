"""An embeddings request as Gemini's `batchEmbedContents` has it, and its answer as OpenAI's list.

Not here: chat (`gemini_request.py`), where it is sent (`upstream/gemini.py`).
Invariants: every member of the request is converted, or passed through with its bytes, or refused, but for `user`,
which changes nothing; there is one vector for each text, in their order, with Google's numbers; tokens that Google did
not count are not made up.
"""

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from trivet.errors import UpstreamError
from trivet.types import Chunk, Request, Usage
from trivet.wire.gemini_error import as_error, unsupported
from trivet.wire.gemini_request import camel
from trivet.wire.gemini_usage import counted

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode


class _Asked(Struct, gc=False):
    """The members of OpenAI's that are converted."""

    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


_OURS = frozenset(_Asked.__struct_fields__)
_SILENT = frozenset({"model", "user"})
"""Said in the address, or about accounts."""
_WRITTEN = frozenset({"content", "requests"})
"""Members of Google's that `input` becomes."""

_read_asked = msgspec.json.Decoder(_Asked).decode


def for_gemini(request: Request, *, resource: str) -> bytes:
    """Write the body of `batchEmbedContents`.

    Args:
        resource: the model as each of the texts names it again: `models/NAME`.

    Raises:
        UnsupportedError: Gemini has no word for something that would change the answer.
    """
    texts, asked = _read(request)
    each: Json = {} if asked.dimensions is None else {"outputDimensionality": asked.dimensions}
    for name, value in request.fields.items():  # members of Google's: `taskType`, `title`
        if name in _OURS or name in _SILENT or bytes(value) == b"null":
            continue
        theirs = camel(name)
        if theirs in each or theirs in _WRITTEN:
            raise unsupported(f"`{name}` says again what another member says. Leave one out.", param=name)
        each[theirs] = value
    return _encode({"requests": [{"model": resource, "content": {"parts": [{"text": t}]}, **each} for t in texts]})


def _read(request: Request) -> tuple[Sequence[str], _Asked]:
    """Take the texts out of a request."""
    try:
        asked = _read_asked(_encode({name: value for name, value in request.fields.items() if name in _OURS}))
    except msgspec.ValidationError as error:
        words = str(error)
        member = next((name for name in _Asked.__struct_fields__ if f"$.{name}" in words), "input")
        raise unsupported(f"`{member}`: {words.partition(' - at ')[0]}.", param=member) from error
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not texts:
        raise unsupported("`input` is an empty list. Send at least one text.", param="input")
    strings = [text for text in texts if isinstance(text, str)]
    if len(strings) != len(texts):
        raise unsupported(
            "it takes texts and no tokens: those of another model mean nothing to it. "
            "Send the text itself (LangChain: check_embedding_ctx_length=False).",
            param="input",
        )
    return strings, asked


class _Vector(Struct, gc=False):
    values: list[float]


class _Answered(Struct, gc=False):
    embeddings: list[_Vector] | None = None
    usageMetadata: Raw = Raw(b"null")  # noqa: N815  # Gemini's name
    error: Raw = Raw(b"null")


_read_answer = msgspec.json.Decoder(_Answered).decode


class Embeddings:
    """One answer being read (`upstream.remote.Reading`). It comes whole: nobody can ask for a stream of vectors."""

    whole = over = False

    def __init__(self, request: Request, *, model: str) -> None:
        """Begin; `model` is its name for clients and for the price, since the answer has none."""
        texts, asked = _read(request)
        self._texts, self._packed, self._model = len(texts), asked.encoding_format == "base64", model

    def event(self, data: bytes) -> Sequence[Chunk]:
        """Refuse an event of a stream."""
        raise UpstreamError("The target sent a stream where embeddings were asked for.")

    def answer(self, body: bytes) -> Chunk:
        """Read the vectors. Raises UpstreamError: it is an error, or there is not one for each text."""
        try:
            told = _read_answer(body)
            error = msgspec.json.decode(told.error)
            if isinstance(error, dict):
                raise as_error(error)
            vectors = [vector.values for vector in told.embeddings or ()]
            rows = [self._row(index, values) for index, values in enumerate(vectors)]
            metadata = msgspec.json.decode(told.usageMetadata)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise UpstreamError(f"The target sent something that is no answer of embeddings: {error}.") from error
        if len(rows) != self._texts or not all(vectors):
            made = sum(map(bool, vectors))
            raise UpstreamError(f"The target sent {made} vectors for {self._texts} texts.")
        usage = counted(metadata)
        document = {"object": "list", "data": rows, "model": self._model, "usage": _told(usage)}
        return Chunk(_encode(document), speaks=True, usage=usage, model=self._model)

    def _row(self, index: int, values: list[float]) -> Json:
        # OpenAI packs vectors as 32-bit numbers, the little end first.
        numbers = b64encode(struct.pack(f"<{len(values)}f", *values)).decode() if self._packed else values
        return {"object": "embedding", "index": index, "embedding": numbers}


def _told(usage: Usage | None) -> Json | None:
    """Write OpenAI's `usage`; null where Google counted nothing: a zero would be taken for a number."""
    return None if usage is None else {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
