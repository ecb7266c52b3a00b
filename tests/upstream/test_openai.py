"""The OpenAI-compatible provider passes the suite of its seam, and translates what goes wrong."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from trivet.config import Secret, TargetSettings
from trivet.errors import ConfigError
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.testing.provider_suite import ProviderSuite
from trivet.testing.upstream import Upstream
from trivet.types import Chunk
from trivet.upstream.openai import build, remote
from trivet.upstream.remote import Remote

KEY = "sk-canary-0123456789abcdef"


@asynccontextmanager
async def provider_over(upstream: Upstream, **settings: Any) -> AsyncGenerator[Remote, None]:
    target = TargetSettings(provider="openai", model="m", name="t", **settings)
    with TemporaryDirectory() as folder:
        async with upstream:
            provider = remote(target, kit(Path(folder)), base_url=upstream.base_url, key=Secret(KEY))
            try:
                yield provider
            finally:
                await provider.aclose()


async def all_of(provider: Remote, *, stream: bool) -> list[Chunk]:
    async with aclosing(provider.stream(ask(stream=stream))) as chunks:
        return [chunk async for chunk in chunks]


class TestOpenAICompatible(ProviderSuite):
    def answering(self) -> Any:
        return provider_over(Upstream("Hel", "lo"))

    def failing(self) -> Any:
        return provider_over(Upstream(status=500))

    @asynccontextmanager
    async def endless(self) -> AsyncGenerator[tuple[Remote, asyncio.Event], None]:
        upstream = Upstream("Hel", "lo", hang_after=1)
        async with provider_over(upstream) as provider:
            yield provider, upstream.hung_up


pytestmark = pytest.mark.anyio


async def test_the_key_goes_in_a_header_and_connections_are_used_again() -> None:
    upstream = Upstream("x")
    async with provider_over(upstream) as provider:
        for stream in (True, False, True):
            chunks = await all_of(provider, stream=stream)
        assert chunks[0].opened is not None
        assert chunks[0].opened.connect_ns == 0
    assert upstream.connections == 1
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert upstream.requests[0].path == "/v1/chat/completions"


def test_a_provider_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        build(TargetSettings(provider="azure", name="t"), kit(tmp_path))
