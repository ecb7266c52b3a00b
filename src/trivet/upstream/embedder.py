"""Embeddings made in this process: provider `embedder`, for `/v1/embeddings` without a key and without a network.

Not here: the embedders (`embed/`), which it borrows from the Kit.
Invariants: nothing is cut off: a text that is longer than the embedder reads is refused; what is asked for and cannot
be had is refused, never ignored; the counted tokens are those that were read.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from trivet.config import TargetSettings
from trivet.errors import EmbedderError, NotReadyError, UnsupportedError, UpstreamError
from trivet.seams import Kit
from trivet.types import Chunk, Request, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TEXTS = 2048
"""In one request, as OpenAI's own interface has it."""

MAX_CHARACTERS = 4_000_000
"""Of all texts of one request together: about a million tokens. OpenAI allows 300,000 tokens."""


class _Asked(Struct, gc=False):
    """The members of a request that are understood here; `user` says nothing to a model, so it is let be."""

    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class Embedding:
    """A target that is an embedder."""

    kinds = frozenset({"embeddings"})

    def __init__(self, target: TargetSettings, kit: Kit) -> None:
        self._name = target.name
        self._embedder = kit.embedder(target.model)

    @property
    def context_tokens(self) -> int | None:
        """Tokens of the longest text; None: not known before it is loaded."""
        return self._embedder.max_tokens or None

    @property
    def width(self) -> int | None:
        """Numbers of a vector; None as above."""
        return self._embedder.width or None

    async def start(self) -> None:
        """Load the model in the background."""
        await self._embedder.start()

    def ready(self) -> str:
        """Say how far it is."""
        return self._embedder.ready()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer; in one piece, whatever was asked."""
        if request.kind not in self.kinds:
            words = f"Target {self._name!r} makes embeddings and cannot be asked for {request.kind}."
            raise UnsupportedError(words, param="model")
        texts, asked = self._read(request)
        try:
            vectors = await self._embedder.embed(texts)
        except EmbedderError as error:
            raise self._translated(error) from error
        for number, (count, cut) in enumerate(zip(vectors.tokens, vectors.cut, strict=True)):
            if cut:
                raise self._too_long(number if len(texts) > 1 else None)
            if not count:
                raise self._bad("`input` has a text with nothing in it, which has no embedding. Leave it out", "input")
        tokens = sum(vectors.tokens)
        rows = _short(vectors.rows, asked.dimensions)
        written: list[Raw] = []
        for at in range(0, len(rows), _WRITTEN_AT_ONCE):
            written += _written(rows[at : at + _WRITTEN_AT_ONCE], first=at, form=asked.encoding_format)
            await asyncio.sleep(0)  # two thousand rows take a tenth of a second, and others are waiting
        usage_told = {"prompt_tokens": tokens, "total_tokens": tokens}
        document = {"object": "list", "data": written, "model": self._embedder.name, "usage": usage_told}
        usage = Usage(input_tokens=tokens, output_tokens=0)
        yield Chunk(_encode(document), speaks=True, usage=usage, model=self._embedder.name)

    async def aclose(self) -> None:
        """Give the embedder back."""
        await self._embedder.aclose()

    def _read(self, request: Request) -> tuple[list[str], _Asked]:
        """Take the texts out of a request, or say why they cannot be had."""
        members = {name: request.fields[name] for name in _Asked.__struct_fields__ if name in request.fields}
        try:
            asked = _decode(_encode({name: raw for name, raw in members.items() if bytes(raw).strip() != b"null"}))
        except msgspec.ValidationError as error:
            words = str(error)
            member = next((name for name in _Asked.__struct_fields__ if f"$.{name}" in words), "input")
            raise self._bad(f"`{member}`: {words.partition(' - at ')[0]}", member) from error
        texts: Sequence[object] = [asked.input] if isinstance(asked.input, str) else asked.input
        if not texts:
            raise self._bad("`input` is an empty list. Send at least one text", "input")
        strings = [text for text in texts if isinstance(text, str)]
        if len(strings) != len(texts):
            raise UnsupportedError(
                f"Target {self._name!r} takes texts and no tokens: those of another model mean nothing to it. "
                "Send the text itself (LangChain: check_embedding_ctx_length=False).",
                param="input",
            )
        if len(texts) > MAX_TEXTS:
            raise self._bad(f"`input` has {len(texts)} texts; {MAX_TEXTS} are the most in one request", "input")
        if sum(map(len, strings)) > MAX_CHARACTERS:
            raise self._bad(f"`input` has over {MAX_CHARACTERS} characters. Send it in several requests", "input")
        least, most = self._embedder.min_width, self._embedder.width
        if asked.dimensions is not None and not least <= asked.dimensions <= most:
            can = f"{most} dimensions" if least == most else f"{least} to {most} dimensions"
            raise UnsupportedError(
                f"Target {self._name!r} has {can} and cannot give {asked.dimensions}. Leave `dimensions` out.",
                param="dimensions",
            )
        return strings, asked

    def _bad(self, words: str, param: str) -> UpstreamError:
        error = UpstreamError(
            f"Target {self._name!r}: {words}.", status=400, code="invalid_request", again=False, spent=False
        )
        error.kind, error.whose, error.param = "invalid_request_error", "client", param
        return error

    def _too_long(self, number: int | None) -> UpstreamError:
        which = "The text" if number is None else f"Text {number}"
        error = self._bad(
            f"{which} is longer than the {self.context_tokens} tokens that {self._embedder.name} reads, and nothing is "
            "cut off here. Split it" + (_LONGER if self._embedder.max_tokens < _LONG else ""),
            "input",
        )
        error.code, error.again = "context_length_exceeded", True  # another target of the pool may read more
        return error

    def _translated(self, error: EmbedderError) -> UpstreamError:
        words = f"Target {self._name!r}: {error}"
        state = self.ready()
        if error.retry_after_s is not None and state and not state.startswith("failed"):
            return NotReadyError(words, retry_after_s=error.retry_after_s)
        return UpstreamError(words, status=503, code=error.code, spent=False, retry_after_s=error.retry_after_s)


_WRITTEN_AT_ONCE = 32
"""Rows: a millisecond or two."""
_LONG = 8192
_LONGER = ', or ask a target with model = "builtin", which reads 8192'

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Asked).decode


def _short(rows: "NDArray[np.float32]", width: int | None) -> "NDArray[np.float32]":
    """Keep the first numbers of each row, and make it of unit length again."""
    if width is None or width == rows.shape[1]:
        return rows
    import numpy as np  # is loaded already

    cut = rows[:, :width].copy()
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    return cut


def _written(rows: "NDArray[np.float32]", *, first: int, form: Literal["float", "base64"]) -> list[Raw]:
    """Write rows as members of `data`: to eight decimals, which is what float32 holds; or as OpenAI packs them."""
    told: list[object]
    if form == "base64":
        told = [b64encode(row.tobytes()).decode() for row in rows.astype("<f4")]  # 32 bits a number, little end first
    else:
        told = rows.astype("f8").round(8).tolist()
    return [
        Raw(_encode({"object": "embedding", "index": index, "embedding": numbers}))
        for index, numbers in enumerate(told, start=first)
    ]


def build(target: TargetSettings, kit: Kit) -> Embedding:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: there is no embedder of that kind.
    """
    return Embedding(target, kit)
