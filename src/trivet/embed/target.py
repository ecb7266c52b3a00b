"""The embedder that is somewhere else: any target that answers `/v1/embeddings`, asked through the gateway's providers.

Not here: the asking (`pipeline.embed`, behind `Kit.desk`), by which each request leaves an Entry on somebody's account.
Invariants: who waits for a look waits for `timeout` at the most; no vector leaves here that is not like the first one:
of another width, or of a target that was made another; a target that fails again and again is left alone for a while.
"""

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from trivet.config import EmbedderSettings, seconds
from trivet.embed.wordpiece import WordPiece, vocabulary
from trivet.errors import EmbedderError, TrivetError, WidthError
from trivet.seams import Account, Embedder, Given, Kit, Vectors, Wanted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TEXTS = 32
"""In one request: servers take from 32 (text-embeddings-inference) to 2,048 (OpenAI)."""

MAX_CHARACTERS = 32_000
"""In a request of several texts: some 8,000 tokens, which a small server reads in seconds."""

MAX_TEXT = 50_000
"""Characters of one text that are sent; the cache asks for no longer ones."""

MAX_WIDTH = 16_384
"""Numbers of a vector: four times those of the largest models that are sold."""

USUAL_TOKENS = 256
"""Where nothing is said of how many tokens a model reads. Servers may cut longer texts and not say so (Ollama does),
and a vector of the beginning is like all that begin so; of the models in wide use none reads fewer."""

PATIENT_TIMES, LEAST_PATIENT_S = 10.0, 5.0
"""How much longer an answer that nobody waits for may take: there are up to 32 texts, and a model may have to load."""

TRIES, REST_S = 3, 10.0
"""Failures in a row after which it is left alone, and for how long: a look should not wait for what hangs each time."""

AT_ONCE_CHARACTERS, AT_ONCE_BYTES = 4_096, 65_536
"""Of texts that are read, and of answers, up to which it is done where it is asked for: a millisecond."""

_FIRST = "How long is a vector?"
"""What is asked to learn that."""


class _Row(Struct, gc=False):
    embedding: list[float] | str
    index: int = -1


class _Answer(Struct, gc=False):
    data: list[_Row]


class _Read(NamedTuple):
    """A text as it is sent."""

    text: str
    tokens: int
    cut: bool


class _NotAskedError(EmbedderError):
    """The target was not asked, so it has not failed."""


class Target:
    """The embedder."""

    def __init__(self, settings: EmbedderSettings, kit: Kit) -> None:
        self.target, self._kit = settings.target, kit
        self.name, self.digest, self.width = f"target {settings.target}", "", 0
        self.max_tokens = settings.max_tokens or USUAL_TOKENS
        self.patience_s = seconds(settings.timeout)
        self._made_by = ""
        self._words: WordPiece | None = None
        self._first: asyncio.Task[None] | None = None
        self._failures, self._why, self._rests_until_ns = 0, "", 0
        self._trying = False
        """One asks whether it is back; the others need not wait for that."""
        self._closed = False

    @property
    def min_width(self) -> int:
        """Its vectors are not cut short: who can do that is the target."""
        return self.width

    def on(self, account: Account) -> Embedder:
        """Give the same embedder, for work on this account."""
        return _On(self, account)

    async def start(self) -> None:
        """Learn in the background what its vectors are like."""
        if self._first is None and not self._closed:
            self._first = asyncio.create_task(self._learn_first(), name=f"embedder {self.name}")

    async def _learn_first(self) -> None:
        self._failures = TRIES - 1  # nothing is known of it: one failure is enough
        try:
            await self.vectors([_FIRST], Account(of="start", patient=True))
        except EmbedderError as error:
            self._kit.tell(f"embedder {self.name}: {error}")

    def ready(self) -> str:
        """Say why it cannot be asked now."""
        if self._closed:
            return "closed"
        if self._first is None:
            return "not started"
        if self._failures >= TRIES:
            left_s = (self._rests_until_ns - self._kit.clock.mono_ns()) / 1e9
            if left_s > 0 or self._trying:
                return f"failed: {self._why} It is asked again in {max(0.0, left_s):.0f} s."
        elif not (self.digest or self._first.done()):
            return f"asking {self.name} for a first vector"
        return ""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Turn texts into vectors, on nobody's account."""
        return await self.vectors(texts, Account(of="asked", patient=True))

    async def vectors(self, texts: Sequence[str], account: Account) -> Vectors:
        """Turn texts into vectors, in requests of a bounded size. Raises EmbedderError."""
        import numpy as np

        if self._closed or (self._failures >= TRIES and self.ready()):
            raise EmbedderError(f"The embedder {self.name} is not ready: {self.ready()}", retry_after_s=REST_S)
        self._trying = self._failures >= TRIES
        try:
            read = await self._read(texts)
            wanted = [i for i, one in enumerate(read) if one.tokens]
            if not (self.width or wanted):
                await self._ask([_FIRST], account)
            made: NDArray[np.float32] | None = None
            for some in _batches(wanted, read):
                rows = await self._ask([read[i].text for i in some], account)
                if made is None:
                    made = np.zeros((len(texts), self.width), np.float32)
                made[some] = rows
        finally:
            self._trying = False
        if made is None:
            made = np.zeros((len(texts), self.width), np.float32)
        return Vectors(made, tuple(one.tokens for one in read), tuple(one.cut for one in read))

    async def _read(self, texts: Sequence[str]) -> list[_Read]:
        if self._words is None:
            self._words = await asyncio.to_thread(lambda: WordPiece(vocabulary()))
        if sum(map(len, texts)) <= AT_ONCE_CHARACTERS:
            return [_read(self._words, text, self.max_tokens) for text in texts]
        words = self._words
        return await asyncio.to_thread(lambda: [_read(words, text, self.max_tokens) for text in texts])

    async def _ask(self, texts: Sequence[str], account: Account) -> "NDArray[np.float32]":
        id_ = f"{account.of}-embed-{self._kit.random.getrandbits(64):016x}"
        patience_s = self.patience_s
        if account.patient:
            patience_s = max(LEAST_PATIENT_S, PATIENT_TIMES * patience_s)
        try:
            async with asyncio.timeout(patience_s):
                given = await self._kit.desk.ask(Wanted(self.target, texts, id_, account))
            if given.body is None and not given.asked:  # a key's permission, a ledger that is full
                raise _NotAskedError(given.why)
            if given.body is None:
                raise EmbedderError(given.why)
            rows = await self._rows(given.body, len(texts))
            self._like_the_first(given, rows.shape[1])
        except TimeoutError:
            raise self._failed(EmbedderError(f"{self.name} gave no vectors within {patience_s:g} s.")) from None
        except _NotAskedError:
            raise
        except EmbedderError as error:
            raise self._failed(error) from error.__cause__
        except TrivetError as error:
            raise self._failed(EmbedderError(str(error))) from error
        self._failures = 0
        return rows

    async def _rows(self, body: bytes, count: int) -> "NDArray[np.float32]":
        try:
            if len(body) <= AT_ONCE_BYTES:
                return _rows(body, count)
            return await asyncio.to_thread(_rows, body, count)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            words = f"{self.name} gave what are no vectors of {count} texts: {str(error)[:200]}."
            raise EmbedderError(words) from error

    def _like_the_first(self, given: Given, width: int) -> None:
        """See that a vector may be held against those before it."""
        if not self.digest:
            self._made_by, self.width = given.digest, width
            making = f"{self.name} {given.digest} {width} l2 {self.max_tokens}"
            self.digest = hashlib.sha256(making.encode()).hexdigest()
        elif given.digest != self._made_by:
            raise EmbedderError(f"{self.name} was made another since the first vector.")
        elif width != self.width:
            raise WidthError(
                f"{self.name} gave vectors of {width} numbers, and {self.width} before: another model answers there. "
                "Restart the gateway if that is wanted; kept questions get new vectors then."
            )

    def _failed(self, error: EmbedderError) -> EmbedderError:
        self._failures += 1
        self._why = str(error)
        self._rests_until_ns = self._kit.clock.mono_ns() + int(REST_S * 1e9)
        return error

    async def aclose(self) -> None:
        """Ask nothing any more."""
        self._closed = True
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])


class _On:
    """The embedder on an account."""

    def __init__(self, target: Target, account: Account) -> None:
        self._target, self._account = target, account
        self.name, self.max_tokens = target.name, target.max_tokens

    @property
    def digest(self) -> str:
        return self._target.digest

    @property
    def width(self) -> int:
        return self._target.width

    @property
    def min_width(self) -> int:
        return self._target.min_width

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return await self._target.vectors(texts, self._account)

    async def start(self) -> None:
        await self._target.start()

    def ready(self) -> str:
        return self._target.ready()

    async def aclose(self) -> None:
        """Leave it to those who have borrowed it."""


def _read(words: WordPiece, text: str, most: int) -> _Read:
    """Count the tokens of a text, and cut it behind the last that is read. BERT's count stands for all models'."""
    sent = text[:MAX_TEXT].encode("utf-8", "ignore").decode()  # half a character is none in JSON
    ids, more = words.ids(sent, most=most)
    if not more:
        return _Read(sent, len(ids), len(text) > MAX_TEXT)
    fits, over = 0, len(sent)
    while over - fits > 1:
        middle = (fits + over) // 2
        if words.ids(sent[:middle], most=most)[1]:
            over = middle
        else:
            fits = middle
    return _Read(sent[:fits], len(ids), cut=True)


def _batches(wanted: Sequence[int], read: Sequence[_Read]) -> Iterator[list[int]]:
    some: list[int] = []
    characters = 0
    for i in wanted:
        size = len(read[i].text)
        if some and (len(some) == MAX_TEXTS or characters + size > MAX_CHARACTERS):
            yield some
            some, characters = [], 0
        some.append(i)
        characters += size
    if some:
        yield some


def _rows(body: bytes, count: int) -> "NDArray[np.float32]":
    """Read an answer: float32 [count, width], each of unit length. Raises ValueError, msgspec.MsgspecError."""
    import numpy as np

    data = _decode(body).data
    if all(row.index < 0 for row in data):
        order = data  # a server that numbers nothing keeps the order
    else:
        order = sorted(data, key=lambda row: row.index)
        if [row.index for row in order] != list(range(len(data))):
            raise ValueError("they are not numbered from 0")
    if len(order) != count:
        raise ValueError(f"there are {len(order)}")
    rows = [
        np.frombuffer(b64decode(row.embedding, validate=True), "<f4") if isinstance(row.embedding, str)
        else np.asarray(row.embedding, np.float64)
        for row in order
    ]  # fmt: skip
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not 1 <= max(widths) <= MAX_WIDTH:
        raise ValueError(f"they have {' and '.join(map(str, sorted(widths)[:3]))} numbers")
    made: NDArray[np.float64] = np.stack(rows).astype(np.float64)
    largest = np.abs(made).max(axis=1, keepdims=True)
    if not (np.isfinite(largest).all() and largest.all()):
        raise ValueError("one has no direction")
    made /= largest  # so that no square is too large
    lengths = np.sqrt((made * made).sum(axis=1, keepdims=True))
    made /= lengths
    return made.astype(np.float32)


_decode = msgspec.json.Decoder(_Answer).decode


def build(settings: EmbedderSettings, kit: Kit) -> Target:
    """Build it; the target is asked when it is started."""
    return Target(settings, kit)
