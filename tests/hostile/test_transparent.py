"""A target named directly, and the same target asked without us: nothing differs but what is written down here.

Each request is sent by bare sockets to the target itself and through a gateway; what the target got and what the client
got is compared: members of bodies by their bytes, headers, status, answers, streams event by event.

The differences, all of them (docs/http.md#what-differs-from-asking-the-target has the same list for people):

- towards the target: `STAYS_HERE` and what `Connection` names; the headers in `OURS_TO_SAY`; the member `trivet`; the
  model's name, written anew; usage asked for in streams; the gaps between members; a member given twice, once;
- towards the client: `NOT_PASSED_ON`, and `OURS_TO_TELL` in their place; the challenge that a 401 must have; usage
  taken out of a stream that did not ask, and with it the gaps of that document; names, ids, comments and retry times of
  events; what comes after `[DONE]`; a line break between tokens of an event, which becomes a space; how bodies are
  framed.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
import pytest

from tests.hostile.spellings import PATHS, Case, answer, case
from tests.hostile.wires import Asked, Header, Target, Told, events, listening, request, tell
from trivet.testing.house import Gateway, config, house

pytestmark = pytest.mark.anyio

MODEL = "vendor-1"
OURS_TO_SAY = frozenset({b"host", b"content-type", b"content-length", b"accept-encoding"})
STAYS_HERE = frozenset(
    b"accept accept-language cookie connection te trailer keep-alive forwarded via x-real-ip origin referer "
    b"authorization x-api-key api-key proxy-authorization expect upgrade transfer-encoding content-encoding".split()
)
STAYS_HERE_TOO = (b"x-trivet-", b"x-forwarded-", b"sec-", b"cf-", b"proxy-")
NOT_PASSED_ON = frozenset(
    b"connection keep-alive proxy-authenticate te trailer transfer-encoding upgrade content-length content-type "
    b"content-encoding set-cookie server date alt-svc strict-transport-security cache-control vary "
    b"access-control-allow-origin".split()
)
OURS_TO_TELL = frozenset(b"content-type content-length transfer-encoding connection date cache-control vary".split())
OURS_IN_STREAMS: list[Header] = [(b"x-accel-buffering", b"no")]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Both(NamedTuple):
    """One request, sent both ways."""

    case: Case
    asked: Asked
    """Directly: what the target got."""
    told: Told
    asked_by_us: Asked
    told_by_us: Told


@asynccontextmanager
async def both_ways() -> AsyncGenerator[tuple[Target, Gateway], None]:
    """Open a target that answers by what it was asked, and a gateway over it."""

    def say(asked: Asked) -> object:
        path = asked.line.split(b" ")[1].decode()
        kind = next(kind for kind, known in PATHS.items() if known == path)
        return answer(asked, case(int(asked.header(b"x-case")), kind, model=MODEL))

    async with listening(Target(say)) as target:  # type: ignore[arg-type]  # it gives steps
        settings = {MODEL: target.base_url}
        assert config(settings).targets[MODEL].model == f"{MODEL}-1"
        async with house(settings) as gateway:
            yield target, gateway


async def send(number: int, kind: str, target: Target, gateway: Gateway) -> Both:
    """Ask the target, then the gateway, the same."""
    made = case(number, kind, model=MODEL)
    data = request(PATHS[kind], made.body, made.headers)
    told = await tell(target.base_url, data)
    told_by_us = await tell(gateway.url, data)
    asked, asked_by_us = target.asked
    target.asked.clear()
    return Both(made, asked, told, asked_by_us, told_by_us)


# ---- what the target got ------------------------------------------------------------------------------------------


def bodies_agree(both: Both) -> None:
    """Compare members by their bytes; names by what they say, in their order."""
    direct, ours = _members(both.asked.body), _members(both.asked_by_us.body)
    assert json.loads(bytes(ours.pop("model"))) == f"{MODEL}-1"
    assert json.loads(bytes(direct.pop("model"))) == MODEL
    if both.case.stream and not both.case.wants_usage:
        added = _members(ours.pop("stream_options"))
        assert bytes(added.pop("include_usage")) == b"true"
        given = direct.pop("stream_options", msgspec.Raw(b"null"))
        options = {} if bytes(given) == b"null" else _members(given)
        options.pop("include_usage", None)
        assert {n: bytes(v) for n, v in added.items()} == {n: bytes(v) for n, v in options.items()}
    assert [(name, bytes(value)) for name, value in ours.items()] == [(n, bytes(v)) for n, v in direct.items()]


def headers_agree(both: Both) -> None:
    """Compare what goes on, in its order; what is added is only what an HTTP request must say."""
    hops = {v.strip().lower() for n, value in both.asked.headers if n == b"connection" for v in value.split(b",")}
    passed = [
        (name, value)
        for name, value in both.asked.headers
        if name not in STAYS_HERE | OURS_TO_SAY | hops and not name.startswith(STAYS_HERE_TOO)
    ]
    assert [header for header in both.asked_by_us.headers if header[0] not in OURS_TO_SAY] == passed
    names = [name for name, _ in both.asked_by_us.headers if name in OURS_TO_SAY]
    assert sorted(names) == sorted(OURS_TO_SAY)
    assert both.asked_by_us.line == both.asked.line


# ---- what the client got ------------------------------------------------------------------------------------------


def answers_agree(both: Both) -> None:
    """Compare status, body and headers."""
    told, ours = both.told, both.told_by_us
    assert ours.status == told.status
    assert told.whole
    assert ours.whole
    if both.case.stream and told.status == 200:
        streams_agree(events(told.body), events(ours.body), wants_usage=both.case.wants_usage)
        assert ours.body.endswith(b"data: [DONE]\n\n")
        assert ours.header(b"content-type").startswith(b"text/event-stream")
    else:
        assert ours.body == told.body
        assert ours.header(b"content-type") == b"application/json"
    added = list(OURS_IN_STREAMS) if both.case.stream and told.status == 200 else []
    passed = [h for h in told.headers if h[0] not in NOT_PASSED_ON and not h[0].startswith(b"x-trivet-")]
    if told.status == 401 and not told.header(b"www-authenticate"):
        added.append((b"www-authenticate", b"Bearer"))
    left = list(ours.headers)
    for header in [*added, *passed]:
        assert header in left, header
        left.remove(header)
    assert [
        h for h in left if h[0] not in OURS_TO_TELL | {b"server-timing"} and not h[0].startswith(b"x-trivet-")
    ] == []


def streams_agree(told: list[bytes], ours: list[bytes], *, wants_usage: bool) -> None:
    """Compare event by event: bytes, or members where usage was taken out of the document."""
    told = [event.replace(b"\n", b" ") for event in told]
    if wants_usage:
        assert ours == told
        return
    assert len(ours) == len(told)
    for mine, theirs in zip(ours, told, strict=True):
        if mine != theirs:
            assert members(mine) == members(theirs)


def members(document: bytes) -> list[tuple[str, bytes]]:
    return [(name, bytes(value)) for name, value in _members(document).items()]


async def compare(numbers: range, kind: str) -> None:
    differ = []
    async with both_ways() as (target, gateway):
        for number in numbers:
            both = await send(number, kind, target, gateway)
            for agree in (bodies_agree, headers_agree, answers_agree):
                try:
                    agree(both)
                except AssertionError as error:
                    differ.append((number, agree.__name__, str(error)[:500]))
        entries = gateway.store.entries
    assert differ == [], f"{len(differ)} of {len(numbers)} differ, first: {differ[0]}"
    assert len(entries) == len(numbers)
    assert {entry.outcome.status for entry in entries} == {"ok", "failed"}
    assert kind == "embeddings" or {entry.stream for entry in entries} == {True, False}


async def test_a_target_named_directly_is_asked_and_answers_as_if_we_were_not_there() -> None:
    """The first of each kind; the rest takes longer than a quick check may."""
    await compare(range(60), "chat")
    await compare(range(20), "completions")
    await compare(range(20), "embeddings")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("chat", 500), ("completions", 100), ("embeddings", 100)])
async def test_hundreds_of_requests_differ_in_nothing_but_what_is_written_down(kind: str, count: int) -> None:
    await compare(range(count), kind)
