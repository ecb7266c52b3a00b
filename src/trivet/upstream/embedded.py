"""Models that run on this machine: provider `llamacpp`.

With a `base_url` it is somebody's own llama.cpp server, and no more than an OpenAI-compatible target. Without one, the
model is a name of the catalog (`weights/catalog.py`) or the path of a `.gguf` file, and Trivet runs it (`engine.py`).

Not here: the child process (`engine.py`), the protocol (`openai.py`).
Invariant: a prompt longer than `engine.context` is refused with 400 and llama.cpp's own words; nothing is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

import msgspec

from trivet.config import TargetSettings, TimeoutSettings
from trivet.errors import ConfigError, NotReadyError, UnsupportedError, UpstreamError
from trivet.seams import Connections, Kit, Provider
from trivet.types import Chunk, Request
from trivet.upstream import openai
from trivet.upstream.engine import Address, Engine
from trivet.upstream.engine_child import HTTP_THREADS
from trivet.upstream.remote import Remote
from trivet.weights import MODELS, Model, find

MISSING = "The runtime for local models is not installed. Run: pip install 'trivet[local]'"

PATIENT = TimeoutSettings(first_byte="30m", idle="10m")
"""In place of the defaults, which are for machines that are not busy: two prompts of 3000 tokens keep two cores reading
for over two minutes (Qwen2.5 1.5B). A child that is stuck is found by its /health, and its end ends the answers."""


class Embedded:
    """A model in a child process of ours."""

    def __init__(self, target: TargetSettings, weights: Model | Path, kit: Kit) -> None:
        if target.timeouts == TimeoutSettings():
            target = msgspec.structs.replace(target, timeouts=PATIENT)
        self._target, self._weights, self._kit = target, weights, kit
        self.context_tokens = target.engine.context
        """Of one request, prompt and answer."""
        if isinstance(weights, Model):
            self.context_tokens = min(self.context_tokens, weights.context)
        self._engine: Engine | None = None
        self._inner: Remote | None = None
        self._inner_at: Address | None = None
        # Who is over this waits here, where it costs nothing, so that the child always has a thread for /health.
        self._room = asyncio.Semaphore(HTTP_THREADS // 2)

    kinds = frozenset({"chat", "completions"})
    """What can be asked for: the child makes no embeddings."""

    async def start(self) -> None:
        """Fetch and load the model in the background."""
        if find_spec("xllamacpp") is None:
            return
        settings = self._target.engine
        if settings.context > self.context_tokens:
            settings = msgspec.structs.replace(settings, context=self.context_tokens)
            self._kit.tell(f"{self._target.name}: context is {settings.context} tokens, the most the model can use")
        self._engine = Engine(
            self._target.name,
            self._weights,
            settings,
            served_as=self._target.model,
            kit=self._kit,
        )
        self._engine.start()

    def ready(self) -> str:
        """Say how far the engine is, or "" when it answers."""
        if self._engine is None:
            return "not started" if find_spec("xllamacpp") else MISSING
        return self._engine.state.words

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Ask the child."""
        if request.kind not in self.kinds:
            words = f"Target {self._target.name!r} writes text and makes no {request.kind}."
            if request.kind == "embeddings":
                words += ' Ask a target with provider = "embedder".'
            raise UnsupportedError(words, param="model")
        async with self._room:
            inner = await self._answering()
            async with aclosing(inner.stream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _answering(self) -> Remote:
        """Give the provider for the child that lives now.

        Raises:
            NotReadyError: none does yet. UpstreamError: none will, until somebody does something.
        """
        name, engine = self._target.name, self._engine
        if engine is None or engine.state.failed:
            raise UpstreamError(f"Target {name!r}: {self.ready()}", status=503, code="model_unavailable", spent=False)
        if engine.address is None:
            state = engine.state
            raise NotReadyError(f"Target {name!r} is not ready: {state.words}", retry_after_s=state.retry_after_s)
        if self._inner is None or self._inner_at != engine.address:
            old, self._inner_at = self._inner, engine.address
            self._inner = new = openai.remote(
                self._target, self._kit, base_url=f"{engine.address.url}/v1", key=engine.address.key
            )
            if old is not None:
                await old.aclose()
            return new
        return self._inner

    def connections(self) -> Connections:
        """Say how many there are to the child that lives now, and were."""
        return Connections() if self._inner is None else self._inner.connections()

    async def aclose(self) -> None:
        """Stop the child."""
        if self._engine is not None:
            await self._engine.aclose()
        if self._inner is not None:
            await self._inner.aclose()


def build(target: TargetSettings, kit: Kit) -> Provider:
    """Build the provider of a target from its section.

    Raises:
        ConfigError: the model is neither in the catalog nor a file.
    """
    if target.base_url:
        return openai.build(target, kit)
    if target.model.lower().endswith(".gguf"):
        path = Path(target.model).expanduser().absolute()
        if not path.is_file():
            raise ConfigError(f"targets.{target.name}: there is no file {path}.")
        return Embedded(msgspec.structs.replace(target, model=path.stem), path, kit)
    model = find(target.model)
    if model is None:
        known = ", ".join(m.name for m in MODELS)
        raise ConfigError(
            f"targets.{target.name}: no embedded model is called {target.model!r}. "
            f"Write one of {known}; the path of a .gguf file; or a `base_url` where such a model is served."
        )
    return Embedded(target, model, kit)
