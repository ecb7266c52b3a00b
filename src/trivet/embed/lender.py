"""One embedder of a kind for everybody in the process: it is loaded once, and let go of when nobody has it any more.

Not here: the embedders. Invariants: of one kind there is at most one that is not closed; what somebody borrowed works
until they give it back, whatever others do.
"""

from collections.abc import Sequence

from trivet.config import EmbedderSettings, embedder_kind
from trivet.errors import EmbedderError
from trivet.seams import Account, Charging, Embedder, Kit, Vectors, load


class _Shared:
    """An embedder, and how many have it."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.borrowers = embedder, 0


class Lender:
    """Builds embedders when they are first asked for. `take` is what goes into a Kit."""

    def __init__(self, settings: EmbedderSettings, kit: Kit) -> None:
        self._settings, self._kit = settings, kit
        self._shared: dict[str, _Shared] = {}

    def take(self, kind: str) -> Embedder:
        """Lend the embedder of a kind; `auto`: the one that `[embedder]` means.

        Raises ConfigError: there is none, or it cannot be built.
        """
        kind = embedder_kind(self._settings) if kind == "auto" else kind
        shared = self._shared.get(kind)
        if shared is None:
            shared = self._shared[kind] = _Shared(load("trivet.embedder", kind)(self._settings, self._kit))
        inner = shared.embedder
        return _LentCharging(kind, shared, self, inner) if isinstance(inner, Charging) else _Lent(kind, shared, self)

    async def give_back(self, kind: str, shared: _Shared) -> None:
        """Take it back, and close it if that was the last one."""
        shared.borrowers -= 1
        if not shared.borrowers:
            if self._shared.get(kind) is shared:
                del self._shared[kind]
            await shared.embedder.aclose()


class _Lent:
    """Somebody's own embedder, as far as they can tell."""

    def __init__(self, kind: str, shared: _Shared, lender: Lender) -> None:
        self._kind, self._shared, self._lender = kind, shared, lender
        shared.borrowers += 1
        self.name = shared.embedder.name
        self._closed = False

    @property
    def digest(self) -> str:
        return self._shared.embedder.digest

    @property
    def width(self) -> int:
        return self._shared.embedder.width

    @property
    def min_width(self) -> int:
        return self._shared.embedder.min_width

    @property
    def max_tokens(self) -> int:
        return self._shared.embedder.max_tokens

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self._closed:
            raise EmbedderError(f"The embedder {self._kind} was given back.")
        return await self._shared.embedder.embed(texts)

    async def start(self) -> None:
        if not self._closed:
            await self._shared.embedder.start()

    def ready(self) -> str:
        return "closed" if self._closed else self._shared.embedder.ready()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lender.give_back(self._kind, self._shared)


class _LentCharging(_Lent):
    """One that may charge for its work."""

    def __init__(self, kind: str, shared: _Shared, lender: Lender, charging: Charging) -> None:
        super().__init__(kind, shared, lender)
        self._charging, self.target, self.patience_s = charging, charging.target, charging.patience_s

    def on(self, account: Account) -> Embedder:
        return self if self._closed else self._charging.on(account)
