"""Connections kept open ahead: there at once, replaced when they go, and quiet about a target that is down."""

import asyncio
from typing import Any

import pytest

from tests.upstream.http_kit import ask, until, virtually
from tests.upstream.test_openai import all_of, provider_over
from tests.upstream.way_kit import asking
from trivet.testing.upstream import Upstream
from trivet.upstream.http import dial
from trivet.upstream.warm import keep_warm

both = pytest.mark.parametrize("version", ["1.1", "2"])


@both
def test_a_connection_that_idles_out_is_replaced(version: str) -> None:
    async def main() -> None:
        async with asking(version) as (way, server):
            keeping = asyncio.create_task(keep_warm(way, 2, name="t", tell=_nothing))
            for _ in range(300):
                await asyncio.sleep(1.0)
                assert way.connections().open <= 2
            await asyncio.sleep(2.0)
            assert way.connections().open == 2
            assert 8 <= server.connections <= 12  # two a minute
            keeping.cancel()

    assert virtually(main()) >= 300.0


def _nothing(line: str) -> None:
    raise AssertionError(line)


@both
def test_a_target_that_is_down_costs_an_attempt_a_minute_and_one_line(version: str) -> None:
    up, dials = False, 0
    told: list[str] = []

    async def flaky(*args: Any, **options: Any) -> Any:
        nonlocal dials
        dials += 1
        if not up:
            raise ConnectionRefusedError("nobody is there")
        return await dial(*args, **options)

    async def main() -> None:
        nonlocal up
        async with asking(version, dial=flaky) as (way, server):
            keeping = asyncio.create_task(keep_warm(way, 1, name="t", tell=told.append))
            await asyncio.sleep(600.0)
            assert 10 <= dials <= 17
            assert len(told) == 1
            assert told[0].startswith("t: no connection could be opened ahead: ")
            assert "nobody is there" in told[0]
            up = True
            await asyncio.sleep(61.0)
            assert server.connections == 1
            assert await ask(way) == b"hello"
            assert len(told) == 1
            keeping.cancel()

    virtually(main())


@both
def test_a_target_that_closes_what_nobody_uses_is_not_hammered(version: str) -> None:
    async def main() -> None:
        async with asking(version) as (way, server):
            keeping = asyncio.create_task(keep_warm(way, 1, name="t", tell=_nothing))
            for _ in range(600):
                await asyncio.sleep(1.0)
                for link in list(server.links):
                    (link.writer.transport if version == "1.1" else link.transport).abort()
            assert server.connections <= 30
            keeping.cancel()

    virtually(main())


@pytest.mark.anyio
async def test_a_target_asked_to_be_warm_is_connected_before_its_first_request_and_closed_with_it() -> None:
    upstream = Upstream("x")
    async with provider_over(upstream, warm=2) as provider:
        await provider.start()
        await until(lambda: provider.connections().idle == 2)
        assert not upstream.requests
        chunks = await all_of(provider, stream=True)
        assert chunks[0].opened is not None
        assert chunks[0].opened.connect_ns == 0
        assert upstream.connections == 2
        assert provider.connections().reused == 1
        await provider.aclose()
        await until(lambda: not upstream.open)


@pytest.mark.anyio
async def test_no_target_is_connected_before_it_is_asked_unless_it_is_to_be() -> None:
    upstream = Upstream("x")
    async with provider_over(upstream) as provider:
        await provider.start()
        await asyncio.sleep(0.05)
        assert upstream.connections == 0
