"""One thread that turns texts into vectors, many requests at a time, so that the event loop never waits.

Not here: the models (`builtin.py`, `minilm.py`). What waits is taken in turns, a text of each request: a question is
not held up by somebody's two thousand documents.
Invariants: no more than `MAX_WAITING` texts wait; a request that is cancelled is taken out; whatever happens to a
batch, its requests are answered and the thread lives on; after `aclose` nothing waits.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from trivet.errors import EmbedderError
from trivet.seams import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TEXTS = 32
"""In a batch. MiniLM gains a third from eight questions together, and nothing from more (bench/embed.py)."""

MAX_CHARACTERS = 4096
"""In a batch of several texts: about a thousand tokens, a fraction of a second of MiniLM. A newcomer waits for it."""

MAX_WAITING = 8192
"""Texts: four requests of the most texts that OpenAI's interface has in one."""


class Encoder(Protocol):
    """A model, as the thread uses it."""

    width: int

    def read(self, text: str) -> tuple[Sequence[int], bool]:
        """Give the token ids of a text, and whether it has more than are read."""
        ...

    def rows(self, ids: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """Give the vectors of texts that are about as long as each other, shortest first."""
        ...


class _Asked:
    """One request."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Vectors] = self.loop.create_future()
        # The last is taken first; near in length, so that a batch needs little padding.
        self.waiting = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.missing = len(texts)
        self.rows: NDArray[np.float32] | None = None  # made in the thread, where importing numpy holds nobody up
        self.tokens, self.cut = [0] * len(texts), [False] * len(texts)

    def tell(self, error: Exception | None) -> None:
        """Answer it, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._tell, error)
        except RuntimeError:  # its loop is closed: nobody is waiting any more
            return

    def _tell(self, error: Exception | None) -> None:
        if self.answer.done():  # cancelled
            return
        if error is None:
            assert self.rows is not None
            self.answer.set_result(Vectors(self.rows, tuple(self.tokens), tuple(self.cut)))
        else:
            self.answer.set_exception(error)


class Batches:
    """The thread, started by the first request."""

    def __init__(self, encoder: Encoder, *, name: str) -> None:
        self._encoder, self._name = encoder, name
        self._change = threading.Condition()
        self._asked: deque[_Asked] = deque()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Wait for the vectors of one text or more.

        Raises:
            EmbedderError: too much is waiting; it was closed; or the model failed.
        """
        asked = _Asked(texts)
        self._take_in(asked)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self._take_out(asked)
            raise

    def _take_in(self, asked: _Asked) -> None:
        with self._change:
            if self._closed:
                raise EmbedderError(f"The embedder {self._name} is closed.")
            if self._waiting + len(asked.texts) > MAX_WAITING:
                raise EmbedderError(
                    f"{self._waiting} texts are waiting for the embedder {self._name}, and {MAX_WAITING} may. "
                    "Send fewer at once, or try again in a moment.",
                    retry_after_s=1.0,
                )
            self._asked.append(asked)
            self._waiting += len(asked.texts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"embedder {self._name}", daemon=True)
                self._thread.start()
            self._change.notify()

    def _take_out(self, asked: _Asked) -> None:
        with self._change:
            if asked in self._asked:
                self._asked.remove(asked)
                self._waiting -= len(asked.waiting)

    async def aclose(self) -> None:
        """Fail what is waiting, and wait for the batch that is running."""
        with self._change:
            self._closed = True
            left, self._waiting = list(self._asked), 0
            self._asked.clear()
            self._change.notify()
        for asked in left:
            asked.tell(EmbedderError(f"The embedder {self._name} was closed."))
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                await asyncio.to_thread(thread.join)
            except RuntimeError:  # the interpreter is ending and starts no threads any more (`trivet.openai()` at exit)
                thread.join()

    # In the thread.

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._answer(batch)
            except Exception as error:  # noqa: BLE001  # of whatever kind: its requests must hear of it
                told = EmbedderError(f"The embedder {self._name} failed: {type(error).__name__}: {str(error)[:200]}.")
                for asked in {id(asked): asked for asked, _ in batch}.values():
                    self._take_out(asked)
                    asked.tell(told)

    def _next(self) -> list[tuple[_Asked, int]]:
        """Wait for texts, and take a batch of them, in turns; an empty one when it is closed."""
        with self._change:
            self._change.wait_for(lambda: self._asked or self._closed)
            batch: list[tuple[_Asked, int]] = []
            characters = 0
            while self._asked and len(batch) < MAX_TEXTS:
                asked = self._asked[0]
                characters += len(asked.texts[asked.waiting[-1]])
                if batch and characters > MAX_CHARACTERS:
                    break
                batch.append((asked, asked.waiting.pop()))
                self._asked.rotate(-1)
                if not asked.waiting:
                    self._asked.remove(asked)
            self._waiting -= len(batch)
            return batch

    def _answer(self, batch: Sequence[tuple[_Asked, int]]) -> None:
        import numpy as np

        read = [self._encoder.read(asked.texts[i]) for asked, i in batch]
        order = sorted(range(len(batch)), key=lambda n: len(read[n][0]))
        for run in _runs(order, [len(ids) for ids, _ in read]):
            rows = self._encoder.rows([read[n][0] for n in run])
            for n, row in zip(run, rows, strict=True):
                asked, i = batch[n]
                if asked.rows is None:
                    asked.rows = np.zeros((len(asked.texts), self._encoder.width), np.float32)
                asked.rows[i] = row
                asked.tokens[i], asked.cut[i] = len(read[n][0]), read[n][1]
                asked.missing -= 1
                if not asked.missing:
                    asked.tell(None)


def _runs(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut a batch where the next text is over twice as long as the first, so that padding is never most of the work."""
    runs: list[list[int]] = []
    for n in order:
        if runs and lengths[n] <= 2 * lengths[runs[-1][0]] + 8:
            runs[-1].append(n)
        else:
            runs.append([n])
    return runs
