"""The HTTP client against real loopback sockets that send exact bytes; and in virtual time, where waits are long."""

import asyncio
import random
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.http_kit import (
    CHUNKED,
    HEAD,
    HELLO,
    OK,
    WAIT_S,
    Clock,
    Link,
    Server,
    Talk,
    answering,
    ask,
    on_both_loops,
    pool_for,
    serving,
    until,
    virtually,
)
from trivet.testing.upstream import NEVER, Upstream
from trivet.upstream.http import Pool, dial
from trivet.upstream.out import tls_context
from trivet.upstream.reply import (
    ConnectError,
    HttpError,
    LostError,
    Origin,
    PhaseTimeoutError,
)

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops

# Which connection is used.


async def test_a_connection_is_used_again_and_the_reply_says_so() -> None:
    async with serving(answering(HELLO, HELLO)) as (pool, server):
        first = await pool.send(HEAD % 2, b"{}")
        await first.read_all(10)
        second = await pool.send(HEAD % 2, b"{}")
        await second.read_all(10)
        assert first.connect_ns > 0
        assert second.connect_ns == 0
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        HELLO + HELLO,
        HELLO + b"x",
        HELLO + b"HT",
        CHUNKED + b"0\r\n\r\n",
    ],
    ids=["says close", "http/1.0", "two answers", "a byte more", "half an answer more", "two ends"],
)
async def test_a_connection_whose_answer_did_not_end_cleanly_is_not_used_again(answer: bytes) -> None:
    async with serving(answering(answer, HELLO)) as (pool, server):
        assert await ask(pool) == b"hello"
        assert await ask(pool) == b"hello"
        assert server.connections == 2


async def test_a_connection_that_speaks_unasked_is_closed() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(HELLO, HELLO)

    async with serving(talk) as (pool, server):
        assert await ask(pool) == b"hello"
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert not pool._idle
        assert await ask(pool) == b"hello"
        assert server.connections == 2


async def test_an_idle_connection_that_the_server_closes_leaves_the_pool() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(HELLO)
        link.writer.close()

    async with serving(talk) as (pool, server):
        await ask(pool)
        await until(lambda: not pool._idle)
        assert pool._open == 0
        assert (await pool.send(HEAD % 2, b"{}")).connect_ns > 0
        assert server.connections == 2


async def test_a_request_on_a_connection_gone_stale_is_sent_once_more_on_a_new_one() -> None:
    bodies = []

    async def talk(link: Link) -> None:
        bodies.append(await link.request())
        await link.send(HELLO)
        bodies.append(await link.request())
        link.writer.close()  # as a server does that thought it idle

    async with serving(talk) as (pool, server):
        assert await ask(pool, b"1") == b"hello"
        assert await ask(pool, b"2") == b"hello"
        assert server.connections == 2
        assert bodies == [b"1", b"2", b"2"]
        assert pool._open == 1


async def test_a_request_on_a_new_connection_is_never_sent_twice() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        link.writer.close()

    async with serving(talk) as (pool, server):
        with pytest.raises(LostError) as caught:
            await ask(pool)
        assert caught.value.unanswered
        assert caught.value.phase == "first_byte"
        assert server.connections == 1


async def test_an_answer_that_broke_off_in_its_head_is_not_asked_for_again() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(HELLO)
        await link.request()
        await link.send(b"HTTP/1.1 200")
        link.writer.close()

    async with serving(talk) as (pool, server):
        await ask(pool)
        with pytest.raises(LostError):
            await ask(pool)
        assert server.connections == 1


async def test_the_connection_used_last_is_used_next() -> None:
    async def talk(link: Link) -> None:
        number = b"%d" % server.connections
        while True:
            await link.request()
            await link.send(OK + b"content-length: 1\r\n\r\n" + number)

    async with serving(talk) as (pool, server):
        await asyncio.gather(*(ask(pool) for _ in range(4)))
        assert len({await ask(pool) for _ in range(5)}) == 1
        assert server.connections == 4


async def test_no_more_connections_are_kept_than_may_be() -> None:
    async with serving(answering(HELLO, HELLO), max_idle=2) as (pool, server):
        await asyncio.gather(*(ask(pool) for _ in range(5)))
        await until(lambda: pool._open == 2)
        assert len(pool._idle) == 2
        assert server.connections == 5


async def test_a_full_pool_serves_in_the_order_of_asking() -> None:
    order: list[bytes] = []

    async def talk(link: Link) -> None:
        while True:
            order.append(await link.request())
            await link.send(HELLO)

    async with serving(talk, max_open=1) as (pool, server):
        await asyncio.gather(*(ask(pool, b"%d" % i) for i in range(9)))
        assert order == [b"%d" % i for i in range(9)]
        assert server.connections == 1


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_a_connection_handed_on_is_never_lost(*, leaves: bool, dies: bool) -> None:
    """Not if it dies, or who gets it leaves, in the very step in which it is handed on."""
    go = asyncio.Event()

    async def talk(link: Link) -> None:
        while True:
            await link.request()
            await go.wait()
            await link.send(HELLO)

    async with serving(talk, max_open=1) as (pool, server):

        async def first() -> None:
            await ask(pool)
            assert waiting.done()  # the connection is theirs, and they do not know it yet
            if dies:
                waiting.result().eof_received()  # as the loop calls it when the server has closed
            if leaves:
                second.cancel()

        one = asyncio.create_task(first())
        await asyncio.sleep(0)
        second, third = asyncio.create_task(ask(pool)), asyncio.create_task(ask(pool))
        await until(lambda: len(pool._line) == 2)
        waiting: asyncio.Future[Any] = next(iter(pool._line))
        go.set()
        assert await asyncio.wait_for(third, WAIT_S) == b"hello"
        await one
        if leaves:
            assert second.cancelled()
        else:
            assert await asyncio.wait_for(second, WAIT_S) == b"hello"
        assert server.connections == (2 if dies else 1)
        assert pool._open == len(pool._idle) == 1
        assert not next(iter(pool._idle)).gone


async def test_a_stream_finished_before_its_framing_leaves_its_connection_to_others() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"transfer-encoding: chunked\r\n\r\n6\r\n[DONE]\r\n", b"0\r\n\r\n")
        await link.request()
        await link.send(HELLO)

    async with serving(talk) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        assert await reply.read() == b"[DONE]"
        reply.finish()
        reply.close()
        assert await reply.read() == b""
        await until(lambda: pool._idle)
        assert await ask(pool) == b"hello"
        assert server.connections == 1


async def test_a_stream_finished_that_goes_on_is_closed() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"transfer-encoding: chunked\r\n\r\n6\r\n[DONE]\r\n", b"1\r\nx\r\n")

    async with serving(talk) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        assert await reply.read() == b"[DONE]"
        reply.finish()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0


# How long is waited.


async def silence(link: Link) -> None:
    await link.request()


async def never_reads(link: Link) -> None:
    await link.reader.readuntil(b"\r\n\r\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("talk", "size", "phase"),
    [
        (silence, 2, "first_byte"),
        (answering(b"HTTP/1.1 200 OK\r\na: b"), 2, "first_byte"),
        (answering(OK + b"content-length: 5\r\n\r\n"), 2, "first_byte"),
        (answering(HELLO[:-1]), 2, "idle"),
    ],
    ids=["nothing", "half a head", "only a head", "half a body"],
)
async def test_silence_is_an_error_that_names_its_phase_and_closes_the_connection(
    talk: Talk, size: int, phase: str
) -> None:
    async with serving(talk, first_byte_s=0.05, idle_s=0.04) as (pool, server):
        with pytest.raises(PhaseTimeoutError, match=r"0\.0[45] s") as caught:
            await ask(pool, b"x" * size)
        assert caught.value.phase == phase
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0
        assert server.connections == 1  # a slow server is not asked again


async def test_a_server_that_stops_taking_the_request_is_given_up() -> None:
    stop = asyncio.Event()

    async def talk(link: Link) -> None:
        await link.reader.readuntil(b"\r\n\r\n")
        await stop.wait()

    async with serving(talk, idle_s=0.05) as (pool, server):
        with pytest.raises(PhaseTimeoutError) as caught:
            await ask(pool, b"x" * 50_000_000)
        assert caught.value.phase == "send"
        stop.set()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)


async def test_framing_that_trickles_without_content_does_not_put_off_the_end() -> None:
    async def talk(link: Link) -> None:
        await link.request()
        await link.send(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n5;")
        while True:
            await link.send(b"x")

    async with serving(talk, idle_s=0.1) as (pool, _):
        with pytest.raises(PhaseTimeoutError):
            await ask(pool)


async def test_a_slow_reader_is_not_taken_for_a_silent_server() -> None:
    async with serving(answering(HELLO[:-1]), idle_s=0.05) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        await asyncio.sleep(0.2)
        assert not server.lost.is_set()
        assert await reply.read() == b"hell"
        with pytest.raises(PhaseTimeoutError):
            await reply.read()


async def test_waiting_in_line_ends_with_the_connect_timeout() -> None:
    async with serving(silence, max_open=1, connect_s=0.05) as (pool, server):
        busy = asyncio.create_task(ask(pool))
        await until(lambda: pool.live)
        with pytest.raises(PhaseTimeoutError, match="kept all 1 connections busy") as caught:
            await ask(pool)
        assert caught.value.phase == "connect"
        busy.cancel()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0
        assert not pool._line


async def test_a_dialer_that_hangs_ends_with_the_connect_timeout_and_gives_its_place_back() -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    pool = pool_for(1, dial=hang, connect_s=0.05, max_open=1)
    for _ in range(3):
        with pytest.raises(PhaseTimeoutError, match="accepted no connection"):
            await ask(pool)
    assert pool._open == 0
    await pool.aclose()


async def test_a_port_where_nobody_listens_is_a_connect_error() -> None:
    async with serving(silence) as (pool, _):
        gone = pool.origin._replace(port=1)
    other = pool_for(gone.port)
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1 cannot be connected to") as caught:
        await ask(other)
    assert caught.value.phase == "connect"
    assert other._open == 0


# Who leaves.


@pytest.mark.parametrize(
    ("talk", "size"),
    [(never_reads, 50_000_000), (silence, 2), (answering(HELLO[:-5]), 2), (answering(HELLO[:-1]), 2)],
    ids=["sending", "before the head", "before the body", "in the body"],
)
async def test_a_cancelled_caller_closes_the_servers_socket(talk: Talk, size: int) -> None:
    closed = asyncio.Event()

    async def watched(link: Link) -> None:
        talking = asyncio.ensure_future(talk(link))
        await asyncio.sleep(0.05)  # in the phase by now; where it is not, an earlier one is tried
        caller.cancel()
        try:
            if size > 2:
                talking.cancel()
                while await link.reader.read(1 << 20):
                    pass
            else:
                await talking
                await link.reader.read()
        except ConnectionError:
            pass
        closed.set()

    async with serving(watched) as (pool, _):
        caller = asyncio.create_task(ask(pool, b"x" * size))
        await asyncio.wait_for(closed.wait(), WAIT_S)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert pool._open == 0


async def test_a_cancelled_connect_leaves_no_socket_and_gives_its_place_back() -> None:
    made = asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        result = await dial(*args, **options)
        made.set()
        await asyncio.Event().wait()  # such as a proxy's greeting
        return result

    async with serving(silence, dial=slow, max_open=1) as (pool, server):
        caller = asyncio.create_task(ask(pool))
        await asyncio.wait_for(made.wait(), WAIT_S)
        caller.cancel()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0


async def test_a_connection_made_after_its_caller_left_is_closed() -> None:
    asked, go = asyncio.Event(), asyncio.Event()
    dialing: list[asyncio.Task[Any]] = []

    async def later(*args: Any, **options: Any) -> Any:
        await go.wait()
        return await dial(*args, **options)

    async def stubborn(*args: Any, **options: Any) -> Any:
        dialing.append(asyncio.create_task(later(*args, **options)))
        asked.set()
        return await asyncio.shield(dialing[0])

    async with serving(silence, dial=stubborn) as (pool, server):
        caller = asyncio.create_task(ask(pool))
        await asyncio.wait_for(asked.wait(), WAIT_S)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go.set()
        await asyncio.gather(*dialing, return_exceptions=True)
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        assert pool._open == 0


async def test_a_connection_made_while_the_pool_closes_is_closed() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def later(*args: Any, **options: Any) -> Any:
        asked.set()
        await go.wait()
        return await dial(*args, **options)

    async with serving(silence, dial=later) as (pool, server):
        caller = asyncio.create_task(ask(pool))
        await asyncio.wait_for(asked.wait(), WAIT_S)
        await pool.aclose()
        go.set()
        with pytest.raises(ConnectError, match="pool is closed"):
            await caller
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        await until(lambda: not pool.live)


async def test_a_reply_closed_early_closes_the_socket_and_wakes_its_reader() -> None:
    async with serving(answering(OK + b"content-length: 5\r\n\r\n")) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        reader = asyncio.create_task(reply.read())
        await asyncio.sleep(0)
        reply.close()
        reply.close()
        await asyncio.wait_for(server.lost.wait(), WAIT_S)
        with pytest.raises(LostError):
            await reader


async def test_a_reply_closed_after_its_end_does_not_touch_the_next_exchange_on_its_connection() -> None:
    go = asyncio.Event()

    async def talk(link: Link) -> None:
        await link.request()
        await link.send(HELLO)
        await link.request()
        await go.wait()
        await link.send(HELLO)

    async with serving(talk) as (pool, server):
        reply = await pool.send(HEAD % 2, b"{}")
        await until(lambda: pool._idle)
        other = asyncio.create_task(ask(pool))
        await asyncio.sleep(0.01)
        reply.close()
        go.set()
        assert await other == b"hello"
        assert server.connections == 1


async def test_a_closed_pool_ends_what_is_under_way_and_takes_nothing_new() -> None:
    async with serving(silence, max_open=2) as (pool, server):
        callers = [asyncio.create_task(ask(pool)) for _ in range(3)]  # two busy, one in line
        await until(lambda: server.connections == 2)
        await pool.aclose()
        for result in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(result, ConnectError)
        with pytest.raises(ConnectError, match="pool is closed"):
            await ask(pool)
        assert not pool.live


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {chain}".split(),
        check=True,
        capture_output=True,
    )
    return key, chain


async def test_tls_speaks_to_a_certificate_it_trusts_and_to_no_other(certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(chain, key)
    trusting = tls_context()
    trusting.load_verify_locations(chain)

    async with serving(answering(HELLO, CHUNKED), server_tls=server_tls, tls=trusting) as (pool, server):
        assert await ask(pool) == b"hello"
        assert await ask(pool) == b"hello"
        assert server.connections == 1
        stranger = pool_for(server.port, tls=tls_context())
        with pytest.raises(ConnectError, match="certificate"):
            await ask(stranger)
        await stranger.aclose()


def test_a_tls_context_goes_with_https_only() -> None:
    with pytest.raises(ValueError, match="goes with https"):
        Pool(Origin("https", "x", 443), dial=dial, clock=Clock(), tls=None, connect_s=1, first_byte_s=1, idle_s=1)


# Virtual time.


def test_two_minutes_of_silence_pass_in_no_time() -> None:
    async def main() -> None:
        async with Upstream(first_delay_s=NEVER) as upstream:
            pool = pool_for(upstream.port, first_byte_s=120.0)
            with pytest.raises(PhaseTimeoutError, match="within 120 s"):
                await ask(pool)
            await upstream.hung_up.wait()
            await pool.aclose()

    assert 120.0 <= virtually(main()) < 121.0


def test_no_timer_outlives_its_connection() -> None:
    async def main() -> None:
        async with Upstream(first_delay_s=NEVER) as upstream:
            pool = pool_for(upstream.port, first_byte_s=120.0)
            caller = asyncio.create_task(ask(pool))
            await until(lambda: upstream.requests)
            caller.cancel()
            await upstream.hung_up.wait()
            await pool.aclose()
            timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # CPython's loops have it
            assert all(timer.cancelled() for timer in timers)

    virtually(main())


def test_an_idle_connection_is_closed_after_a_minute() -> None:
    async def main() -> None:
        async with Upstream() as upstream:
            pool = pool_for(upstream.port)
            await ask(pool)
            await asyncio.sleep(59.0)
            await ask(pool)
            assert upstream.connections == 1
            await asyncio.sleep(61.0)
            assert not upstream.open
            await ask(pool)
            assert upstream.connections == 2
            await pool.aclose()

    virtually(main())


def test_a_stream_finished_whose_framing_never_ends_is_closed_soon() -> None:
    async def main() -> None:
        async with Upstream(events=[b"data: [DONE]\n\n"], hang_after=1) as upstream:
            pool = pool_for(upstream.port)
            reply = await pool.send(HEAD % 15, b'{"stream":true}')
            assert b"[DONE]" in await reply.read()
            reply.finish()
            await upstream.hung_up.wait()
            await pool.aclose()

    assert 0.9 < virtually(main()) < 2.0


def test_a_stream_of_an_hour_is_no_silence() -> None:
    async def main() -> None:
        async with Upstream(*("x" * 120), delay_s=30.0) as upstream:
            pool = pool_for(upstream.port, first_byte_s=40.0, idle_s=31.0)
            body = b'{"stream":true}'
            assert (await ask(pool, body)).count(b'"content":"x"') == 120
            await pool.aclose()

    assert virtually(main()) >= 3600.0


def test_no_place_in_the_pool_is_lost_whoever_leaves_and_whatever_breaks() -> None:
    endings: set[str] = set()
    for seed in range(20):
        endings |= storm(seed)
    # That all of it happened, or the test above says little.
    assert endings >= {"hello", "TimeoutError", "PhaseTimeoutError", "LostError", "ProtocolError", "ConnectError"}


def storm(seed: int) -> set[str]:
    """Random cancels, cuts, hangs, refusals and closes, at random times, against a pool of four."""
    dice = random.Random(seed)
    endings: set[str] = set()

    async def talk(link: Link) -> None:
        while True:
            await link.request()
            await asyncio.sleep(dice.choice([0, 0, 0.01, 0.3, 5]))
            answer = dice.choice([HELLO, HELLO, HELLO, CHUNKED, HELLO[:-2], HELLO + b"x", b"noise\r\n\r\n", b""])
            for piece in (answer[:20], answer[20:]):
                await link.send(piece)
            if dice.random() < 0.2 or answer not in (HELLO, CHUNKED):
                link.writer.close()
                return

    async def flaky(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(dice.choice([0, 0.01, 2]))
        if dice.random() < 0.1:
            raise ConnectionRefusedError("the dice say no")
        return await dial(*args, **options)

    async def client(pool: Pool) -> None:
        await asyncio.sleep(dice.randrange(3000) / 1000)
        try:
            async with asyncio.timeout(dice.choice([0.001, 0.02, 0.31, 2, 60])):
                endings.add((await ask(pool)).decode())
        except (HttpError, TimeoutError) as error:
            endings.add(type(error).__name__)

    async def main() -> None:
        server = Server(talk)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        pool = pool_for(port, dial=flaky, max_open=4, max_idle=3, connect_s=20.0, first_byte_s=4.0, idle_s=1.0)
        await asyncio.gather(*(client(pool) for _ in range(150)))
        await asyncio.sleep(1.0)
        assert not pool._line
        assert pool._open == len(pool._idle) == len(pool.live)
        await asyncio.sleep(61.0)
        assert pool._open == len(pool.live) == 0
        await pool.aclose()
        listener.close()
        await until(lambda: not server.tasks)

    virtually(main())
    return endings
