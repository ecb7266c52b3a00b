"""What the author of the package writes: the seam's suite, over their own provider."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from trivet_parrot import Parrot

from trivet.testing.provider_suite import ProviderSuite


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestParrot(ProviderSuite):
    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[Parrot, None]:
        yield Parrot("polly")

    @asynccontextmanager
    async def failing(self) -> AsyncGenerator[Parrot, None]:
        yield Parrot("polly", mood="sulking")

    @asynccontextmanager
    async def endless(self) -> AsyncGenerator[tuple[Parrot, asyncio.Event], None]:
        polly = Parrot("polly", mood="dreamy")
        yield polly, polly.left
