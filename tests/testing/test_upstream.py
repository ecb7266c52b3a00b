"""The scripted upstream, asked by the official client and by raw sockets."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import async_solipsism
import openai
import pytest

from trivet.testing.upstream import CREATED, NEVER, Answer, Tool, Upstream
from trivet.types import Usage

pytestmark = pytest.mark.anyio

WAIT_S = 10  # for what must come; generous, never asserted on
ASK: list[Any] = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


def client(upstream: Upstream) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=upstream.base_url, api_key="sk-test", max_retries=0)


async def raw(upstream: Upstream, body: dict[str, Any] | None = None, *, path: str = "/v1/chat/completions") -> bytes:
    """Ask on a socket of our own, and give all that comes until the server closes it."""
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    sent = json.dumps(body or {}).encode()
    writer.write(b"POST %b HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(sent)))
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(WAIT_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


def events(answer: bytes) -> list[Any]:
    """Give the data of all events of a chunked stream."""
    return [
        line[6:] if line == b"data: [DONE]" else json.loads(line[6:])
        for line in answer.split(b"\r\n")
        for line in line.split(b"\n")
        if line.startswith(b"data: ")
    ]


async def test_the_official_client_reads_an_answer() -> None:
    used = Usage(input_tokens=1200, output_tokens=80, cached_tokens=1024, reasoning_tokens=16)
    async with Upstream("Hel", "lo", usage=used) as upstream, client(upstream) as ai:
        answer = await ai.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "Hello"
        assert answer.choices[0].finish_reason == "stop"
        assert (answer.model, answer.created, answer.object) == ("m", CREATED, "chat.completion")
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.completion_tokens_details is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1200, 80)
        assert answer.usage.total_tokens == 1280
        assert answer.usage.prompt_tokens_details.cached_tokens == 1024
        assert answer.usage.completion_tokens_details.reasoning_tokens == 16


async def test_the_official_client_reads_a_stream_with_usage_only_where_it_asked() -> None:
    async with Upstream("Hel", "lo") as upstream, client(upstream) as ai:
        plain = [c async for c in await ai.chat.completions.create(model="m", messages=ASK, stream=True)]
        asked = [
            c
            async for c in await ai.chat.completions.create(
                model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert [c.choices[0].delta.content for c in plain] == ["", "Hel", "lo", None]
    assert plain[0].choices[0].delta.role == "assistant"
    assert plain[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in c.model_fields_set for c in plain)
    assert all("usage" in c.model_fields_set and c.usage is None for c in asked[:-1])
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert (asked[-1].usage.prompt_tokens, asked[-1].usage.completion_tokens) == (9, 2)


async def test_usage_none_is_never_reported() -> None:
    async with Upstream("a", usage=None) as upstream, client(upstream) as ai:
        assert (await ai.chat.completions.create(model="m", messages=ASK)).usage is None
        answer = await raw(upstream, {"stream": True, "stream_options": {"include_usage": True}})
        assert b"usage" not in answer
        assert events(answer)[-1] == b"[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called(*, stream: bool) -> None:
    tools = [Tool("weather", '{"city":"Bern"}'), Tool("time", "{}")]
    async with Upstream(tools=tools) as upstream, client(upstream) as ai:
        if stream:
            async with ai.chat.completions.stream(model="m", messages=ASK) as answering:
                choice: Any = (await answering.get_final_completion()).choices[0]
        else:
            choice = (await ai.chat.completions.create(model="m", messages=ASK)).choices[0]
        called = [(c.function.name, c.function.arguments) for c in choice.message.tool_calls]
        assert called == [("weather", '{"city":"Bern"}'), ("time", "{}")]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content in (None, "")


async def test_as_many_choices_as_asked_for_come() -> None:
    async with Upstream("a", "b") as upstream, client(upstream) as ai:
        whole = await ai.chat.completions.create(model="m", messages=ASK, n=3)
        streamed = [c async for c in await ai.chat.completions.create(model="m", messages=ASK, n=3, stream=True)]
    assert [c.message.content for c in whole.choices] == ["ab"] * 3
    texts = ["", "", ""]
    for chunk in streamed:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["ab"] * 3


async def test_models_are_listed_and_other_paths_are_unknown() -> None:
    async with Upstream(models=["m1", "m2"]) as upstream, client(upstream) as ai:
        assert [m.id async for m in ai.models.list()] == ["m1", "m2"]
        with pytest.raises(openai.NotFoundError, match="/v1/images/generations"):
            await ai.images.generate(prompt="x")


async def test_an_error_has_its_status_its_words_and_its_headers() -> None:
    async with (
        Upstream(status=429, headers={"retry-after": "2"}, error={"message": "Slow down."}) as upstream,
        client(upstream) as ai,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            await ai.chat.completions.create(model="m", messages=ASK)
        assert caught.value.response.headers["retry-after"] == "2"
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.body == {
            "message": "Slow down.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded",
        }  # fmt: skip


async def test_what_was_asked_is_kept() -> None:
    async with Upstream() as upstream, client(upstream) as ai:
        for n in range(3):
            await ai.chat.completions.create(model="m", messages=ASK, seed=n, extra_body={"unknown": [1, None]})
        assert [r.body["seed"] for r in upstream.requests] == [0, 1, 2]
        first = upstream.requests[0]
        assert (first.method, first.path) == ("POST", "/v1/chat/completions")
        assert first.headers["authorization"] == "Bearer sk-test"
        assert first.body["unknown"] == [1, None]
        assert json.loads(first.raw) == first.body
        assert first.at_s <= upstream.requests[2].at_s
        assert upstream.connections == 1
        assert upstream.hang_ups == 0


async def test_a_script_decides_for_each_request() -> None:
    def script(body: Any) -> Answer:
        return Answer(pieces=(body["user"],)) if body["user"] != "bad" else Answer(status=503)

    async with Upstream(script=script) as upstream, client(upstream) as ai:
        answers = [
            ai.chat.completions.create(model="m", messages=ASK, user=user) for user in ("ann", "bad", "bob", "eve")
        ]
        ann, bad, bob, eve = await asyncio.gather(*answers, return_exceptions=True)
        assert isinstance(bad, openai.InternalServerError)
        assert bad.status_code == 503
        texts = [a.choices[0].message.content for a in (ann, bob, eve) if not isinstance(a, BaseException)]
        assert texts == ["ann", "bob", "eve"]


async def test_a_stream_hangs_where_it_is_told_and_notes_who_leaves() -> None:
    async with Upstream("Hel", "lo", hang_after=1) as upstream, client(upstream) as ai:
        stream = await ai.chat.completions.create(model="m", messages=ASK, stream=True)
        assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
        assert not upstream.hung_up.is_set()
        await stream.close()
        await asyncio.wait_for(upstream.hung_up.wait(), WAIT_S)
        assert upstream.hang_ups == 1
        assert upstream.closed_at is not None
        assert upstream.closed_at >= upstream.requests[0].at_s


@pytest.mark.parametrize("options", [{"first_delay_s": NEVER}, {"hang_after": 0}])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_a_silent_answer_has_hung_up(options: dict[str, Any], *, stream: bool) -> None:
    async with Upstream(**options) as upstream:
        asking = asyncio.create_task(raw(upstream, {"stream": stream}))
        await until(lambda: upstream.requests)
        asking.cancel()
        await asyncio.wait_for(upstream.hung_up.wait(), WAIT_S)


async def test_a_stream_cut_short_ends_without_its_end() -> None:
    async with Upstream("a", "b", "c", cut_after=2) as upstream:
        answer = await raw(upstream, {"stream": True})
        assert [e["choices"][0]["delta"].get("content") for e in events(answer)] == ["", "a", "b"]
        assert not answer.endswith(b"0\r\n\r\n")
        assert upstream.hang_ups == 0


async def test_an_answer_cut_short_is_shorter_than_it_says() -> None:
    async with Upstream("a", cut_after=0) as upstream:
        head, _, body = (await raw(upstream)).partition(b"\r\n\r\n")
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        assert 0 < len(body) < length


async def test_an_error_event_ends_a_stream_without_done() -> None:
    async with Upstream("a", "b", error_after=1, error={"code": "overloaded"}) as upstream, client(upstream) as ai:
        answer = await raw(upstream, {"stream": True})
        assert events(answer)[-1]["error"]["code"] == "overloaded"
        assert answer.endswith(b"0\r\n\r\n")
        stream = await ai.chat.completions.create(model="m", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="The script says 500"):
            await anext(c async for c in stream if c.choices[0].finish_reason)
        with pytest.raises(openai.InternalServerError):
            await ai.chat.completions.create(model="m", messages=ASK)


async def test_raw_events_and_garbage_go_out_as_they_are() -> None:
    lies = (b'data: {"usage":{"prompt_tokens":-1}}\n\n', b": nothing\n\n", b"da", b"ta: [DONE]\n\n")
    async with Upstream(events=lies) as upstream:
        head, _, body = (await raw(upstream, {"stream": True})).partition(b"\r\n\r\n")
        assert b"text/event-stream" in head
        assert body == b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in lies) + b"0\r\n\r\n"
        assert (await raw(upstream)).endswith(b"".join(lies))
    async with Upstream(garbage=True) as upstream:
        assert not (await raw(upstream)).startswith(b"HTTP/")


async def test_a_long_answer_waits_for_a_slow_client_and_comes_whole() -> None:
    event = b"data: " + b"x" * 100_000 + b"\n\n"
    async with Upstream(events=[event] * 300) as upstream:
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        writer.write(b'POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n{"stream":true}')
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        (link,) = upstream.open
        assert link._transport is not None
        assert link._transport.get_write_buffer_size() < 100 * len(event)
        for _ in range(300):
            assert await reader.readuntil(b"\r\n") == b"%x\r\n" % len(event)
            assert await reader.readexactly(len(event) + 2) == event + b"\r\n"
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.close()
        await writer.wait_closed()


async def test_leaving_the_block_closes_all_sockets_and_is_no_hang_up() -> None:
    async with Upstream(hang_after=0) as upstream:
        asking = asyncio.create_task(raw(upstream, {"stream": True}))
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        await until(lambda: upstream.requests and upstream.connections == 2)
    assert await reader.read() == b""
    await asyncio.gather(asking, return_exceptions=True)
    assert not upstream.hung_up.is_set()
    assert not upstream.open
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(upstream.host, upstream.port)


def test_it_keeps_virtual_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Upstream("a", "b", first_delay_s=100.0, delay_s=10.0) as upstream:
            assert len(events(await raw(upstream, {"stream": True}))) == 5
            assert loop.time() == pytest.approx(120.0)
            await raw(upstream)
            assert loop.time() == pytest.approx(230.0)
            assert upstream.requests[1].at_s == pytest.approx(120.0)

    virtually(main())


def virtually(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(main)
