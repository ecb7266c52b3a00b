"""The connections of HTTP/2 to one origin: which is asked, and that no place is ever lost."""

import asyncio
import random
import ssl
from typing import Any

import pytest

from tests.upstream.http_kit import HEAD, WAIT_S, ask, on_both_loops, until, virtually
from tests.upstream.tls_kit import Certificates
from tests.upstream.way_kit import Asked2, asking, hello, listening, pool2
from trivet.config import TargetTlsSettings
from trivet.upstream.http import dial
from trivet.upstream.http2 import Streams
from trivet.upstream.out import tls_context
from trivet.upstream.reply import ConnectError, HttpError, Origin

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops


async def test_those_who_wait_for_the_same_connection_share_it() -> None:
    async with asking("2") as (way, server):
        replies = await asyncio.gather(*(way.send(HEAD % 2, b"{}") for _ in range(30)))
        assert [await reply.read_all(10) for reply in replies] == [b"hello"] * 30
        assert server.connections == 1
        assert all(reply.connect_ns > 0 for reply in replies)  # all of them waited for it
        assert way.connections()[:5] == (1, 1, 0, 1, 0)


async def test_another_connection_is_opened_where_the_first_is_full() -> None:
    go = asyncio.Event()

    async def talk(asked: Asked2) -> None:
        await asked.body()
        await go.wait()
        await asked.head()
        await asked.piece(b"hello")
        await asked.end()

    async with asking("2", talk, max_streams=3, max_open=2) as (way, server):
        asks = [asyncio.create_task(ask(way))]
        await until(lambda: server.asked)
        await asyncio.sleep(0.02)  # its settings have come
        asks += [asyncio.create_task(ask(way)) for _ in range(7)]
        await until(lambda: way.connections().waiting == 2 and len(server.asked) == 6)
        assert server.connections == 2
        go.set()
        assert await asyncio.wait_for(asyncio.gather(*asks), WAIT_S) == [b"hello"] * 8
        assert server.connections == 2


async def test_a_connection_that_nobody_waits_for_any_more_is_not_opened() -> None:
    asked_for, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        asked_for.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    way = pool2(1, dial=hang)
    one, two = asyncio.create_task(ask(way)), asyncio.create_task(ask(way))
    await asyncio.wait_for(asked_for.wait(), WAIT_S)
    one.cancel()
    await asyncio.sleep(0.01)
    assert not cancelled.is_set()
    two.cancel()
    await asyncio.wait_for(cancelled.wait(), WAIT_S)
    await until(lambda: way.connections().open == 0)
    await way.aclose()


async def test_who_comes_while_a_connection_is_given_up_gets_another() -> None:
    dials = 0

    async def slow_at_first(*args: Any, **options: Any) -> Any:
        nonlocal dials
        dials += 1
        if dials == 1:
            await asyncio.Event().wait()
        return await dial(*args, **options)

    async with asking("2", dial=slow_at_first) as (way, server):
        first = asyncio.create_task(ask(way))
        await until(lambda: dials == 1)
        first.cancel()
        second = asyncio.create_task(ask(way))
        assert await asyncio.wait_for(second, WAIT_S) == b"hello"
        assert server.connections == 1


async def test_a_server_that_speaks_only_http11_is_told_apart(certificates: Certificates) -> None:
    trusting = tls_context(TargetTlsSettings(ca=str(certificates.ca)), alpn="h2")
    async with listening("1.1", hello, tls=certificates.server()) as server:
        way = pool2(server.port, tls=trusting)
        with pytest.raises(ConnectError, match=r'does not speak HTTP/2. Write http = "1.1"'):
            await ask(way)
        await until(lambda: not server.links)
        await way.aclose()


def test_a_tls_context_goes_with_https_only() -> None:
    with pytest.raises(ValueError, match="goes with https"):
        Streams(
            Origin("http", "x", 80), dial=dial, clock=_NoClock(), tls=ssl.create_default_context(), connect_s=1,
            first_byte_s=1, idle_s=1,
        )  # fmt: skip


class _NoClock:
    def now_ns(self) -> int:
        raise NotImplementedError

    mono_ns = now_ns


def test_no_place_is_lost_whoever_leaves_and_whatever_breaks() -> None:
    endings: set[str] = set()
    for seed in range(12):
        endings |= storm(seed)
    # That all of it happened, or the test above says little.
    assert endings >= {"hello", "TimeoutError", "PhaseTimeoutError", "LostError", "ConnectError"}


def storm(seed: int) -> set[str]:
    """Random cancels, cuts, hangs, refusals and GOAWAYs, at random times, against two connections of three streams."""
    dice = random.Random(seed)
    endings: set[str] = set()

    async def talk(asked: Asked2) -> None:
        await asked.body()
        await asyncio.sleep(dice.choice([0, 0, 0.01, 0.3, 5]))
        await asked.head()
        await asked.piece(b"hel")
        fate = dice.random()
        if fate < 0.05:
            asked.cut()
        elif fate < 0.1:
            asked.link.go_away(asked.id)
        elif fate < 0.15:
            await asyncio.sleep(60)
        await asked.piece(b"lo")
        await asked.end()

    async def flaky(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(dice.choice([0, 0.01, 2]))
        if dice.random() < 0.2:
            raise ConnectionRefusedError("the dice say no")
        return await dial(*args, **options)

    async def client(way: Streams) -> None:
        await asyncio.sleep(dice.randrange(3000) / 1000)
        try:
            async with asyncio.timeout(dice.choice([0.001, 0.02, 0.31, 2, 60])):
                endings.add((await ask(way)).decode())
        except (HttpError, TimeoutError) as error:
            endings.add(type(error).__name__)

    async def main() -> None:
        async with listening("2", talk, max_streams=3) as server:
            way = pool2(server.port, dial=flaky, max_open=2, connect_s=20.0, first_byte_s=4.0, idle_s=1.0)
            await asyncio.gather(*(client(way) for _ in range(120)))
            await asyncio.sleep(1.0)
            assert not way._line
            assert way._opening is None
            assert all(not c.busy and not c.reserved for c in way.live)
            assert set(way._taking) == way.live
            await asyncio.sleep(61.0)
            assert way.connections().open == len(way.live) == 0
            await way.aclose()

    virtually(main())
    return endings
