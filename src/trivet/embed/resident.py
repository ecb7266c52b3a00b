"""An embedder in this process, whatever its model: how it is loaded, asked and let go of.

Not here: the models (`builtin.py`, `minilm.py`), the thread that runs them (`batches.py`).
Invariants: it is loaded once, however many ask; a load that failed is tried again when somebody asks after a while;
who is cancelled while it loads takes nothing from the others.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from trivet.embed.batches import Batches, Encoder
from trivet.errors import EmbedderError, WeightsError
from trivet.seams import Kit, Vectors

PATIENCE_S = 5.0
"""Longer than either model takes to load on a busy machine (1 s); who asks while a file is fetched is told so then."""

RETRY_S = 30.0
"""After a load that failed (no network, a full disk) the next request tries again, but not each of them."""

Tell = Callable[[str], None]


class Model(NamedTuple):
    """What tells one embedder from another."""

    kind: str
    name: str
    load: Callable[[Tell], Encoder]
    """In a thread: make the encoder, saying how far it is; what `Tell` raises ends it.

    Raises WeightsError, EmbedderError, OSError or ImportError.
    """
    digest: str = ""
    """"": the encoder is `Described`."""
    width: int = 0
    max_tokens: int = 0
    min_width: int = 0
    """0: its vectors cannot be cut short."""
    at_once_characters: int = 0
    """Requests of fewer are worked out where they are asked for, in under a millisecond."""


@runtime_checkable
class Described(Protocol):
    """What an encoder has besides where files say what it is, so that it is known once they are read."""

    digest: str
    width: int
    max_tokens: int


class Resident:
    """The embedder."""

    def __init__(self, model: Model, kit: Kit) -> None:
        self.name, self.digest, self.max_tokens = model.name, model.digest, model.max_tokens
        self.width, self.min_width = model.width, model.min_width or model.width
        self._model, self._kit = model, kit
        self._state, self._failed_ns = "not started", 0
        self._encoder: Encoder | None = None
        self._batches: Batches | None = None
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Load it in the background."""
        if self._encoder is None and self._loading is None and not self._closed:
            self._state = "loading"
            self._loading = asyncio.create_task(self._load(), name=f"embedder {self._model.kind}")

    async def _load(self) -> None:
        loop, kind = asyncio.get_running_loop(), self._model.kind

        def tell(words: str) -> None:
            if self._closed:
                raise EmbedderError(f"The embedder {kind} is closed.")
            loop.call_soon_threadsafe(self._tell, words)

        try:
            encoder = await asyncio.to_thread(self._model.load, tell)
            if isinstance(encoder, Described):
                self.digest, self.max_tokens = encoder.digest, encoder.max_tokens
                self.width = self.min_width = encoder.width
            self._batches = Batches(encoder, name=kind)
            self._encoder, self._state = encoder, ""
        except (WeightsError, EmbedderError, OSError, ImportError) as error:  # the last: a library that lacks another
            self._state, self._failed_ns = f"failed: {error}", self._kit.clock.mono_ns()
            if not self._closed:
                self._kit.tell(f"embedder {kind}: {self._state}")
        finally:
            self._loading = None

    def _tell(self, words: str) -> None:
        if self._loading is not None:
            if words.partition(" ")[0] != self._state.partition(" ")[0]:
                self._kit.tell(f"embedder {self._model.kind}: {words}")
            self._state = words

    def ready(self) -> str:
        """Say how far it is."""
        return "closed" if self._closed else self._state

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Turn texts into vectors; the first ones wait a moment for the model."""
        encoder = self._encoder or await self._loaded()
        if self._closed or self._batches is None:
            raise EmbedderError(f"The embedder {self._model.kind} is closed.")
        if texts and sum(map(len, texts)) > self._model.at_once_characters:
            return await self._batches.embed(texts)
        read = [encoder.read(text) for text in texts]
        return Vectors(encoder.rows([i for i, _ in read]), tuple(len(i) for i, _ in read), tuple(c for _, c in read))

    async def _loaded(self) -> Encoder:
        if not self._failed_ns or self._kit.clock.mono_ns() - self._failed_ns > RETRY_S * 1e9:
            await self.start()
        loading = self._loading
        if loading is not None:
            await asyncio.wait([loading], timeout=PATIENCE_S)  # which leaves it alone when we are cancelled
        if self._encoder is None:
            raise EmbedderError(
                f"The embedder {self._model.kind} is not ready: {self.ready()}", retry_after_s=RETRY_S / 3
            )
        return self._encoder

    async def aclose(self) -> None:
        """Let go of the model; what is waiting fails."""
        self._closed = True
        if self._loading is not None:
            await asyncio.wait([self._loading])
        if self._batches is not None:
            await self._batches.aclose()
        self._encoder = None
