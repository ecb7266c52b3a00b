"""What all targets over HTTP share, asked in OpenAI's dialect: headers, refusals, the end of streams."""

import json
from contextlib import aclosing

import pytest

from tests.upstream.test_openai import KEY, all_of, provider_over
from trivet.errors import UpstreamError
from trivet.testing.cache_suite import ask
from trivet.testing.upstream import Upstream
from trivet.upstream.remote import _translated
from trivet.upstream.reply import ConnectError, LostError, Origin, PhaseTimeoutError, UnservedError

pytestmark = pytest.mark.anyio


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


OWN = "operator-secret-Qm7x1Lz9"


@pytest.mark.parametrize("secret", [KEY, OWN])
@pytest.mark.parametrize("stream", [False, True])
async def test_neither_our_key_nor_a_header_of_the_operators_comes_back(secret: str, *, stream: bool) -> None:
    """In an error page that is cut short in the middle of it, in a header, in a chunk, in words of the framing."""
    said = f'{{"choices":[{{"index":0,"delta":{{"content":"{secret}"}},"finish_reason":"stop"}}]}}'.encode()
    answers = [Upstream(events=[b"data: " + said + b"\n\n"] if stream else [said], headers={"x-echo": secret})]
    page = "x" * 485 + f" {secret} "
    error = {"message": page, "code": secret, "x": [secret]}
    answers += [
        Upstream(status=500, error=error, headers={"x-debug": secret}),
        Upstream(status=302, headers={"a": secret}),
    ]
    answers += [Upstream(headers={"content-encoding": f"Bearer {secret}"})]
    for upstream in answers:
        told = ""
        async with provider_over(upstream, headers={"x-tenant-token": OWN}) as provider:
            try:
                told = repr(await all_of(provider, stream=stream))
            except UpstreamError as caught:
                told = f"{caught} {caught.code} {caught.kept} {caught.body!r} {caught.headers}"
        assert told
        assert not [at for at in range(len(secret) - 9) if secret[at : at + 10] in told], told
        assert upstream.requests[0].headers["x-tenant-token"] == OWN


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


def test_an_error_says_whether_the_target_can_have_begun() -> None:
    here = Origin("https", "h", 443)
    spent = {
        ConnectError(here, "connect", "x"): False,
        PhaseTimeoutError(here, "connect", "x"): False,
        UnservedError(here, "x"): False,
        PhaseTimeoutError(here, "first_byte", "x"): True,
        LostError(here, "first_byte", "x", unanswered=True): True,
    }
    assert {error: _translated("t", error).spent for error in spent} == spent


async def test_a_stream_that_ends_without_done_but_with_a_reason_is_whole() -> None:
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    async with provider_over(Upstream(events=[piece])) as provider:
        (chunk,) = await all_of(provider, stream=True)
    assert chunk.finish == "stop"


@pytest.mark.parametrize("rest", [b"data: [DO", b'data: {"choices":[],"usage":{"pro', b"data", b"data:  [DONE] \n\n"])
async def test_a_whole_answer_stays_whole_though_its_last_words_are_cut_off_or_oddly_spaced(rest: bytes) -> None:
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    async with provider_over(Upstream(events=[piece, rest])) as provider:
        (chunk,) = await all_of(provider, stream=True)
    assert chunk.finish == "stop"


async def test_an_error_behind_a_whole_answer_is_an_error_with_or_without_its_blank_line() -> None:
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    for end in (b"", b"\n\n"):
        async with provider_over(Upstream(events=[piece, b'data: {"error":{"message":"late"}}' + end])) as provider:
            with pytest.raises(UpstreamError, match="late"):
                await all_of(provider, stream=True)
