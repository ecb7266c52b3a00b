"""What both ways out must do, HTTP/1.1 and HTTP/2 alike, against real servers on real ports, on both loops."""

import asyncio
import hashlib
import random
from typing import Any

import pytest

from tests.upstream.http_kit import HEAD, WAIT_S, ask, on_both_loops, until, virtually
from tests.upstream.way_kit import Asked, Talk, asking, hello, listening, pool1, pool2
from trivet.seams import BOUNDS_S, Connections
from trivet.upstream.http import dial
from trivet.upstream.reply import ConnectError, LostError, PhaseTimeoutError, ProtocolError
from trivet.upstream.way import Counts

pytestmark = pytest.mark.anyio
anyio_backend = on_both_loops

both = pytest.mark.parametrize("version", ["1.1", "2"])


async def silence(asked: Asked) -> None:
    await asked.body()
    await asyncio.Event().wait()


async def only_a_head(asked: Asked) -> None:
    await asked.body()
    await asked.head()
    await asyncio.Event().wait()


async def half_a_body(asked: Asked) -> None:
    await asked.body()
    await asked.head()
    await asked.piece(b"hel")
    await asyncio.Event().wait()


async def never_reads(asked: Asked) -> None:
    await asyncio.Event().wait()


# What is asked and answered.


@both
async def test_a_connection_is_used_again_and_the_reply_says_so(version: str) -> None:
    async with asking(version) as (way, server):
        first = await way.send(HEAD % 2, b"{}")
        assert await first.read_all(10) == b"hello"
        second = await way.send(HEAD % 2, b"{}")
        assert await second.read_all(10) == b"hello"
        assert await second.read() == b""
        assert first.connect_ns > 0
        assert second.connect_ns == 0
        assert server.connections == 1
        told = way.connections()
        assert told[:6] == (1, 1, 0, 1, 1, 0)
        assert sum(told.connect_counts) == 1
        assert told.connect_ns == first.connect_ns


@both
async def test_the_target_sees_the_same_words_in_the_same_order(version: str) -> None:
    head = (
        b"POST /v1/chat?api-version=1 HTTP/1.1\r\nhost: example.com:8000\r\ncontent-type: application/json\r\n"
        b"accept-encoding: identity\r\nauthorization: Bearer sk-1\r\nX-Team: a, b\r\nx-empty: \r\nx-team: c\r\n"
        b"content-length: 4\r\n\r\n"
    )
    async with asking(version) as (way, server):
        reply = await way.send(head, b"body")
        await reply.read_all(10)
        (asked,) = server.asked
        assert asked.path == b"/v1/chat?api-version=1"
        assert asked.headers == [
            (b"content-type", b"application/json"), (b"accept-encoding", b"identity"),
            (b"authorization", b"Bearer sk-1"), (b"x-team", b"a, b"), (b"x-empty", b""), (b"x-team", b"c"),
            (b"content-length", b"4"),
        ]  # fmt: skip
        assert reply.status == 200
        assert (b"x-id", b"7") in reply.headers


@both
async def test_pieces_are_given_as_they_come(version: str) -> None:
    go = asyncio.Event()

    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"a")
        await go.wait()
        await asked.piece(b"b")
        await asked.end()

    async with asking(version, talk) as (way, _):
        reply = await way.send(HEAD % 2, b"{}")
        assert await reply.read() == b"a"
        go.set()
        assert await reply.read_all(10) == b"b"


@both
async def test_many_at_once_do_not_mix(version: str) -> None:
    async def talk(asked: Asked) -> None:
        body = await asked.body()
        await asked.head()
        for at in range(0, len(body), 7):
            await asked.piece(body[at : at + 7])
        await asked.end()

    async with asking(version, talk) as (way, server):
        bodies = [b"%d " % i * 20 for i in range(40)]
        assert await asyncio.gather(*(ask(way, body) for body in bodies)) == bodies
        assert server.connections == (1 if version == "2" else 40)


@both
async def test_an_answer_without_a_body_is_whole(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head(204)
        await asked.end()

    async with asking(version, talk) as (way, server):
        for _ in range(2):
            reply = await way.send(HEAD % 2, b"{}")
            assert (reply.status, await reply.read_all(1)) == (204, b"")
        assert server.connections == 1


@both
async def test_interim_answers_are_skipped_and_too_many_refused(version: str) -> None:
    count = 2

    async def talk(asked: Asked) -> None:
        await asked.body()
        for _ in range(count):
            await asked.interim(103)
        await asked.head(200, (b"x-id", b"1"))
        await asked.piece(b"hello")
        await asked.end()

    async with asking(version, talk) as (way, _):
        reply = await way.send(HEAD % 2, b"{}")
        assert await reply.read_all(10) == b"hello"
        assert (b"link", b"x") not in reply.headers
        count = 9
        with pytest.raises(ProtocolError, match="interim answer number 9"):
            await ask(way)


@both
async def test_an_answer_that_is_compressed_is_refused(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head(200, (b"content-encoding", b"gzip"))
        await asked.piece(b"hello")

    async with asking(version, talk) as (way, server):
        with pytest.raises(ProtocolError, match="content-encoding"):
            await ask(way)
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)


@both
async def test_a_body_over_the_limit_is_refused_and_the_exchange_ended(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"x" * 60)
        await asyncio.Event().wait()

    async with asking(version, talk) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        with pytest.raises(ProtocolError, match="more than 50 bytes"):
            await reply.read_all(50)
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)


@both
async def test_an_answer_cut_short_gives_what_came_and_then_an_error(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"hel")
        asked.cut()

    async with asking(version, talk) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        assert await reply.read() == b"hel"
        with pytest.raises(LostError, match="before the end"):
            await reply.read()
        assert server.connections == 1


@both
async def test_a_large_request_arrives_as_it_was(version: str) -> None:
    body = random.Random(1).randbytes(5_000_000)
    came: list[bytes] = []

    async def talk(asked: Asked) -> None:
        came.append(await asked.body())
        await asked.head()
        await asked.piece(b"hello")
        await asked.end()

    async with asking(version, talk) as (way, server):
        assert await ask(way, body) == b"hello"
        assert [hashlib.sha256(c).digest() for c in came] == [hashlib.sha256(body).digest()]
        assert server.connections == 1


@both
async def test_an_answer_that_comes_before_the_request_is_out_is_taken(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.head(413)
        await asked.piece(b"no")
        await asked.end()

    async with asking(version, talk) as (way, _):
        body = b"x" * 50_000_000
        reply = await way.send(HEAD % len(body), body)
        assert (reply.status, await reply.read_all(10)) == (413, b"no")


# Connections gone stale.


@both
async def test_a_request_on_a_connection_gone_stale_is_sent_once_more_on_a_new_one(version: str) -> None:
    bodies = []

    async def talk(asked: Asked) -> None:
        bodies.append(await asked.body())
        if len(bodies) == 2:
            asked.cut()  # as a server does that thought it idle
        else:
            await asked.head()
            await asked.piece(b"hello")
            await asked.end()

    async with asking(version, talk) as (way, server):
        assert await ask(way, b"1") == b"hello"
        assert await ask(way, b"2") == b"hello"
        assert server.connections == 2
        assert bodies == [b"1", b"2", b"2"]
        assert way.connections().retried == 1


@both
async def test_a_request_on_a_new_connection_is_never_sent_twice(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        asked.cut()

    async with asking(version, talk) as (way, server):
        with pytest.raises(LostError) as caught:
            await ask(way)
        assert caught.value.unanswered or version == "2"  # its settings have come
        assert len(server.asked) == 1


@both
async def test_an_answer_that_has_begun_is_not_asked_for_again(version: str) -> None:
    async def talk(asked: Asked) -> None:
        if len(server.asked) == 1:
            await hello(asked)
        else:
            await asked.body()
            await asked.head()
            asked.cut()

    async with asking(version, talk) as (way, server):
        await ask(way)
        with pytest.raises(LostError):
            await ask(way)
        assert len(server.asked) == 2


# How long is waited.


@both
@pytest.mark.parametrize(
    ("talk", "phase"),
    [(silence, "first_byte"), (only_a_head, "first_byte"), (half_a_body, "idle")],
    ids=["nothing", "only a head", "half a body"],
)
async def test_silence_is_an_error_that_names_its_phase_and_ends_the_exchange(
    version: str, talk: Talk, phase: str
) -> None:
    async with asking(version, talk, first_byte_s=0.05, idle_s=0.04) as (way, server):
        with pytest.raises(PhaseTimeoutError, match=r"0\.0[45] s") as caught:
            await ask(way)
        assert caught.value.phase == phase
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)
        assert len(server.asked) == 1  # a slow server is not asked again


@both
async def test_a_server_that_stops_taking_the_request_is_given_up(version: str) -> None:
    async with asking(version, never_reads, idle_s=0.05) as (way, server):
        with pytest.raises(PhaseTimeoutError) as caught:
            await ask(way, b"x" * 50_000_000)
        assert caught.value.phase == "send"
        if version == "2":
            await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)
        else:  # the server reads nothing, so it cannot see it
            assert way.connections().open == 0
        assert len(server.asked) == 1


@both
async def test_a_slow_reader_is_not_taken_for_a_silent_server(version: str) -> None:
    async with asking(version, half_a_body, idle_s=0.05) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        await asyncio.sleep(0.2)
        assert not server.asked[0].gone.is_set()
        assert await reply.read() == b"hel"
        with pytest.raises(PhaseTimeoutError):
            await reply.read()


@both
async def test_waiting_in_line_ends_with_the_connect_timeout(version: str) -> None:
    async with asking(version, silence, max_streams=1, max_open=1, connect_s=0.1) as (way, server):
        busy = asyncio.create_task(ask(way))
        await until(lambda: server.asked)
        await asyncio.sleep(0.02)  # its settings have come
        with pytest.raises(PhaseTimeoutError, match="kept all 1 connections busy") as caught:
            await ask(way)
        assert caught.value.phase == "connect"
        assert way.connections().waiting == 0
        busy.cancel()
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)


@both
async def test_a_full_pool_serves_in_the_order_of_asking(version: str) -> None:
    order: list[bytes] = []

    async def talk(asked: Asked) -> None:
        order.append(await asked.body())
        await asked.head()
        await asked.piece(b"hello")
        await asked.end()

    async with asking(version, talk, max_streams=1, max_open=1) as (way, server):
        await ask(way, b"first")  # by now its limit is known
        await asyncio.gather(*(ask(way, b"%d" % i) for i in range(9)))
        assert order == [b"first", *(b"%d" % i for i in range(9))]
        assert server.connections == 1


@both
async def test_a_dialer_that_hangs_ends_with_the_connect_timeout(version: str) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    way = (pool2 if version == "2" else pool1)(1, dial=hang, connect_s=0.05, max_open=1)
    for _ in range(3):
        with pytest.raises(PhaseTimeoutError, match="accepted no connection"):
            await ask(way)
    await until(lambda: way.connections().open == 0)
    await way.aclose()


@both
async def test_a_port_where_nobody_listens_is_a_connect_error(version: str) -> None:
    way = (pool2 if version == "2" else pool1)(1)
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1 cannot be connected to") as caught:
        await ask(way)
    assert caught.value.phase == "connect"
    assert way.connections()[:3] == (0, 0, 0)
    await way.aclose()


# Who leaves.


@both
@pytest.mark.parametrize(
    ("talk", "size"),
    [(never_reads, 50_000_000), (silence, 2), (only_a_head, 2), (half_a_body, 2)],
    ids=["sending", "before the head", "before the body", "in the body"],
)
async def test_a_cancelled_caller_ends_its_exchange(version: str, talk: Talk, size: int) -> None:
    async with asking(version, talk) as (way, server):
        caller = asyncio.create_task(ask(way, b"x" * size))
        await until(lambda: server.asked)
        await asyncio.sleep(0.05)  # in the phase by now; where it is not, an earlier one is tried
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        if version == "1.1" and size > 2:
            assert way.connections().open == 0  # the server reads nothing, so it cannot see it
        else:
            await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)


@both
async def test_a_cancelled_connect_leaves_no_socket(version: str) -> None:
    made = asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        result = await dial(*args, **options)
        made.set()
        await asyncio.Event().wait()  # such as a proxy's greeting
        return result

    async with asking(version, silence, dial=slow) as (way, server):
        caller = asyncio.create_task(ask(way))
        await asyncio.wait_for(made.wait(), WAIT_S)
        await until(lambda: server.links)
        caller.cancel()
        await until(lambda: not server.links)
        await until(lambda: way.connections().open == 0)


@both
async def test_a_caller_that_leaves_the_line_takes_nobodys_turn(version: str) -> None:
    go = asyncio.Event()

    async def talk(asked: Asked) -> None:
        await asked.body()
        await go.wait()
        await asked.head()
        await asked.piece(b"hello")
        await asked.end()

    async with asking(version, talk, max_streams=1, max_open=1) as (way, server):
        first = asyncio.create_task(ask(way))
        await until(lambda: server.asked)
        await asyncio.sleep(0.02)
        second, third = asyncio.create_task(ask(way)), asyncio.create_task(ask(way))
        await until(lambda: way.connections().waiting == 2)
        second.cancel()
        go.set()
        assert set(await asyncio.wait_for(asyncio.gather(first, third), WAIT_S)) == {b"hello"}


@both
async def test_a_reply_closed_early_ends_the_exchange_and_wakes_its_reader(version: str) -> None:
    async with asking(version, only_a_head) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        reader = asyncio.create_task(reply.read())
        await asyncio.sleep(0)
        reply.close()
        reply.close()
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)
        with pytest.raises(LostError):
            await reader


@both
async def test_a_stream_finished_before_its_end_leaves_its_connection_to_others(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"[DONE]")
        await asyncio.sleep(0.02)
        await asked.end()

    async with asking(version, talk) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        assert await reply.read() == b"[DONE]"
        reply.finish()
        reply.close()
        assert await reply.read() == b""
        await until(lambda: way.connections().idle == 1)
        assert not server.asked[0].gone.is_set()
        assert await ask(way) == b"[DONE]"
        assert server.connections == 1


@both
async def test_a_stream_finished_that_goes_on_is_ended(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        await asked.piece(b"[DONE]")
        while True:
            await asyncio.sleep(0.01)
            await asked.piece(b"x")

    async with asking(version, talk) as (way, server):
        reply = await way.send(HEAD % 2, b"{}")
        assert await reply.read() == b"[DONE]"
        reply.finish()
        await asyncio.wait_for(server.asked[0].gone.wait(), WAIT_S)


@both
async def test_a_closed_way_ends_what_is_under_way_and_takes_nothing_new(version: str) -> None:
    async with asking(version, silence, max_open=1, max_streams=1) as (way, server):
        callers = [asyncio.create_task(ask(way))]
        await until(lambda: server.asked)
        await asyncio.sleep(0.02)  # its settings have come
        callers += [asyncio.create_task(ask(way)) for _ in range(2)]
        await until(lambda: way.connections().waiting == 2)
        await way.aclose()
        await way.aclose()
        for result in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(result, ConnectError)
        with pytest.raises(ConnectError, match="pool is closed"):
            await ask(way)
        assert way.connections()[:3] == (0, 0, 0)


# How much is held.


@both
async def test_a_slow_reader_stops_the_server_and_holds_little(version: str) -> None:
    total, sent = 5_000_000 if version == "2" else 20_000_000, 0  # more than sockets hold

    async def talk(asked: Asked) -> None:
        nonlocal sent
        await asked.body()
        await asked.head()
        while sent < total:
            await asked.piece(b"x" * 100_000)
            sent += 100_000
        await asked.end()

    async with asking(version, talk, high_water_bytes=100_000) as (way, _):
        reply = await way.send(HEAD % 2, b"{}")
        taken = len(await reply.read())
        before = -1
        while before != sent:  # until it is at a stand
            before = sent
            await asyncio.sleep(0.1)
        assert sent < total
        assert reply._answer.size <= 100_000 + (262_144 if version == "1.1" else 0)
        while piece := await reply.read():
            taken += len(piece)
        assert taken == total


# Ahead of anybody.


@both
async def test_a_warm_connection_spares_the_first_request_the_wait(version: str) -> None:
    async with asking(version) as (way, server):
        await way.warm()
        assert way.connections()[:4] == (1, 1, 0, 1)
        reply = await way.send(HEAD % 2, b"{}")
        assert reply.connect_ns == 0
        assert await reply.read_all(10) == b"hello"
        assert server.connections == 1
        assert way.connections().reused == 1


@both
async def test_a_warm_connection_gone_stale_is_replaced(version: str) -> None:
    async with asking(version) as (way, server):
        await way.warm()
        await until(lambda: server.links)
        await asyncio.sleep(0.02)  # what it says at first has come
        for link in list(server.links):
            (link.writer.transport if version == "1.1" else link.transport).abort()
        assert await ask(way) == b"hello"
        assert server.connections == 2


@both
async def test_warming_stops_at_what_may_be_open(version: str) -> None:
    async with asking(version, max_open=2) as (way, server):
        for _ in range(5):
            await way.warm()
        await until(lambda: server.connections == 2)
        assert way.connections().open == 2
        await way.aclose()
        await way.warm()
        assert way.connections().opened == 2


# Virtual time.


@both
def test_two_minutes_of_silence_pass_in_no_time(version: str) -> None:
    async def main() -> None:
        async with asking(version, silence, first_byte_s=120.0) as (way, server):
            with pytest.raises(PhaseTimeoutError, match="within 120 s"):
                await ask(way)
            await server.asked[0].gone.wait()

    assert 120.0 <= virtually(main()) < 121.0


@both
def test_an_idle_connection_is_closed_after_a_minute(version: str) -> None:
    async def main() -> None:
        async with asking(version) as (way, server):
            await ask(way)
            await asyncio.sleep(59.0)
            await ask(way)
            assert server.connections == 1
            await asyncio.sleep(61.0)
            assert not server.links
            await ask(way)
            assert server.connections == 2

    virtually(main())


@both
def test_a_stream_finished_that_never_ends_is_closed_soon(version: str) -> None:
    async def main() -> None:
        async with asking(version, half_a_body) as (way, server):
            reply = await way.send(HEAD % 2, b"{}")
            assert await reply.read() == b"hel"
            reply.finish()
            await server.asked[0].gone.wait()

    assert 0.9 < virtually(main()) < 2.0


@both
def test_a_stream_of_an_hour_is_no_silence(version: str) -> None:
    async def talk(asked: Asked) -> None:
        await asked.body()
        await asked.head()
        for _ in range(120):
            await asyncio.sleep(30.0)
            await asked.piece(b"x")
        await asked.end()

    async def main() -> None:
        async with asking(version, talk, first_byte_s=40.0, idle_s=31.0) as (way, _):
            assert await ask(way) == b"x" * 120

    assert virtually(main()) >= 3600.0


@both
def test_no_timer_outlives_its_way(version: str) -> None:
    async def main() -> None:
        async with listening(version, silence) as server:
            way = (pool2 if version == "2" else pool1)(server.port, first_byte_s=120.0)
            caller = asyncio.create_task(ask(way))
            await until(lambda: server.asked)
            caller.cancel()
            await server.asked[0].gone.wait()
            await way.aclose()
            timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # CPython's loops have it
            assert all(timer.cancelled() for timer in timers)

    virtually(main())


def test_counts_put_a_duration_below_its_bound() -> None:
    counts = Counts()
    for took_ns in (1_000_000, 1_000_001, 61_000_000_000):
        counts.connected(took_ns)
    told = counts.told(open=3, idle=2, waiting=1)
    assert told.connect_counts == (1, 1, *(0,) * (len(BOUNDS_S) - 2), 1)
    assert told == Connections(3, 2, 1, 3, 0, 0, told.connect_counts, 61_002_000_001)
