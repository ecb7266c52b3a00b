"""The OpenAI-compatible provider passes the suite of its seam, and translates what goes wrong."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from trivet.config import Secret, TargetSettings
from trivet.errors import ConfigError, UpstreamError
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.testing.provider_suite import ProviderSuite
from trivet.testing.upstream import Upstream
from trivet.types import Chunk
from trivet.upstream.openai import OpenAICompatible, build

KEY = "sk-canary-0123456789abcdef"


@asynccontextmanager
async def provider_over(upstream: Upstream, **settings: Any) -> AsyncGenerator[OpenAICompatible, None]:
    target = TargetSettings(provider="openai", model="m", name="t", **settings)
    with TemporaryDirectory() as folder:
        async with upstream:
            provider = OpenAICompatible(target, kit(Path(folder)), base_url=upstream.base_url, key=Secret(KEY))
            try:
                yield provider
            finally:
                await provider.aclose()


async def all_of(provider: OpenAICompatible, *, stream: bool) -> list[Chunk]:
    async with aclosing(provider.stream(ask(stream=stream))) as chunks:
        return [chunk async for chunk in chunks]


class TestOpenAICompatible(ProviderSuite):
    def answering(self) -> Any:
        return provider_over(Upstream("Hel", "lo"))

    def failing(self) -> Any:
        return provider_over(Upstream(status=500))

    @asynccontextmanager
    async def endless(self) -> AsyncGenerator[tuple[OpenAICompatible, asyncio.Event], None]:
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


async def test_a_client_cannot_say_again_what_the_operator_set() -> None:
    upstream = Upstream("x")
    async with provider_over(upstream, headers={"OpenAI-Project": "ours"}) as provider:
        request = ask(headers=[(b"openai-project", b"theirs"), (b"x-other", b"1")])
        async with aclosing(provider.stream(request)) as chunks:
            assert [chunk async for chunk in chunks]
    raw = upstream.requests[0].headers
    assert (raw["openai-project"], raw["x-other"]) == ("ours", "1")


async def test_a_key_that_the_target_repeats_is_masked() -> None:
    upstream = Upstream(status=401, error={"message": f"Incorrect API key provided: {KEY}."})
    async with provider_over(upstream) as provider:
        with pytest.raises(UpstreamError) as caught:
            await all_of(provider, stream=False)
    assert KEY not in str(caught.value)
    assert KEY.encode() not in (caught.value.body or b"")
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("upstream", "status", "words"),
    [
        (Upstream(garbage=True), 502, "HTTP"),
        (Upstream("a", "b", cut_after=1), 502, "closed the connection"),
        (Upstream(events=[b"data: {oops}\n\n"]), 502, "not a chat"),
        (Upstream(events=[b'data: {"choices":[]}\n\n']), 502, "before the answer was whole"),
        (Upstream(events=[b""]), 502, "before the answer was whole"),
        (Upstream(status=302), 502, "status 302"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_no_answer_is_an_error_that_says_so(upstream: Upstream, status: int, words: str) -> None:
    async with provider_over(upstream) as provider:
        with pytest.raises(UpstreamError, match=words) as caught:
            await all_of(provider, stream=True)
    assert caught.value.status == status


async def test_a_silent_target_is_a_504() -> None:
    from trivet.config import TimeoutSettings

    times = TimeoutSettings(first_byte="50ms")
    async with provider_over(Upstream("x", first_delay_s=60), timeouts=times) as provider:
        with pytest.raises(UpstreamError, match="sent nothing") as caught:
            await all_of(provider, stream=False)
    assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")


async def test_an_error_that_is_not_json_keeps_its_status_and_words() -> None:
    async with provider_over(Upstream(status=503, events=None, error={"message": "Busy"})) as provider:
        with pytest.raises(UpstreamError, match="Busy") as caught:
            await all_of(provider, stream=False)
    assert caught.value.status == 503
    assert json.loads(caught.value.body or b"{}")["error"]["message"] == "Busy"


async def test_a_stream_that_ends_without_done_but_with_a_reason_is_whole() -> None:
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    async with provider_over(Upstream(events=[piece])) as provider:
        (chunk,) = await all_of(provider, stream=True)
    assert chunk.finish == "stop"


def test_a_provider_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        build(TargetSettings(provider="azure", name="t"), kit(tmp_path))
