"""What every Provider must do: `class TestMine(ProviderSuite)`, and say how yours is built."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

import pytest

from trivet.errors import UpstreamError
from trivet.seams import Provider
from trivet.testing.cache_suite import ask
from trivet.types import Chunk


class ProviderSuite:
    """Inherit; give a provider that answers, one that fails, and one that never comes to an end."""

    pytestmark = pytest.mark.anyio

    def answering(self) -> AbstractAsyncContextManager[Provider]:
        """A provider that answers every request with some text and reports usage."""
        raise NotImplementedError

    def failing(self) -> AbstractAsyncContextManager[Provider]:
        """A provider whose target does not answer as it should, in whatever way is usual for it."""
        raise NotImplementedError

    def endless(self) -> AbstractAsyncContextManager[tuple[Provider, asyncio.Event]]:
        """A provider whose target falls silent after some content of a stream; the event: its connection is closed."""
        raise NotImplementedError

    @pytest.fixture
    async def provider(self) -> AsyncGenerator[Provider, None]:
        async with self.answering() as provider:
            await provider.start()
            yield provider

    async def all_of(self, provider: Provider, *, stream: bool) -> list[Chunk]:
        async with aclosing(provider.stream(ask(stream=stream))) as chunks:
            return [chunk async for chunk in chunks]

    async def test_a_whole_answer_is_one_chat_completion(self, provider: Provider) -> None:
        (chunk,) = await self.all_of(provider, stream=False)
        document = json.loads(chunk.data)
        assert document["choices"][0]["message"]["content"]
        assert chunk.speaks
        assert chunk.finish == document["choices"][0]["finish_reason"]

    async def test_a_stream_is_chunks_that_end_with_a_reason(self, provider: Provider) -> None:
        chunks = await self.all_of(provider, stream=True)
        documents = [json.loads(chunk.data) for chunk in chunks]
        assert all(document["object"] == "chat.completion.chunk" for document in documents)
        assert [chunk.finish for chunk in chunks if chunk.finish]
        assert [chunk for chunk in chunks if chunk.speaks]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_usage_and_the_connection_are_told(self, provider: Provider, *, stream: bool) -> None:
        chunks = await self.all_of(provider, stream=stream)
        usage = [chunk.usage for chunk in chunks if chunk.usage]
        assert usage
        assert usage[-1].input_tokens > 0
        assert usage[-1].output_tokens > 0
        assert chunks[0].opened is not None
        assert chunks[0].opened.connect_ns >= 0

    async def test_many_at_once_do_not_mix(self, provider: Provider) -> None:
        answers = await asyncio.gather(*(self.all_of(provider, stream=i % 2 == 0) for i in range(10)))
        assert all(any(chunk.finish for chunk in chunks) for chunks in answers)

    async def test_it_says_whether_it_is_ready(self, provider: Provider) -> None:
        assert provider.ready() == ""

    async def test_it_can_be_closed_twice(self, provider: Provider) -> None:
        await provider.aclose()
        await provider.aclose()

    @pytest.mark.parametrize("stream", [False, True])
    async def test_it_fails_only_with_an_upstream_error_that_says_something(self, *, stream: bool) -> None:
        async with self.failing() as provider:
            with pytest.raises(UpstreamError) as caught:
                await self.all_of(provider, stream=stream)
        assert str(caught.value)
        assert 400 <= caught.value.status <= 599

    async def test_letting_go_early_closes_the_connection(self) -> None:
        async with self.endless() as (provider, closed):
            async with aclosing(provider.stream(ask(stream=True))) as chunks:
                async for chunk in chunks:
                    if chunk.speaks:
                        break
            await asyncio.wait_for(closed.wait(), 5)

    async def test_a_cancelled_caller_closes_the_connection(self) -> None:
        async with self.endless() as (provider, closed):
            task = asyncio.ensure_future(self.all_of(provider, stream=True))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.wait(), 5)
