"""Targets that are asked for their lists of models, on real ports."""

import json
import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Upstream
from tests.upstream.gemini_kit import Reply, scripted
from trivet.cli.doctor.clock import witness_checks
from trivet.cli.doctor.targets import price_checks, reach, whose_place
from trivet.config import Settings, parse
from trivet.upstream.anthropic import VERSION

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


def settings(url: str, more: str = "") -> Settings:
    return parse(f'[targets.one]\nprovider = "openai"\nmodel = "m-1"\nbase_url = "{url}"\n{more}', source="t")


@pytest.mark.anyio
async def test_a_target_gets_its_key_and_its_headers_as_the_gateway_sends_them(upstream: Upstream) -> None:
    more = 'api_key = "env:K"\nheaders = { "x-team" = "search" }\n'
    answers = await reach(settings(upstream.url, more), {"K": KEY})
    assert answers["one"].check.words.endswith("answers and has m-1")
    ((path, headers),) = upstream.seen
    assert (path, headers["authorization"], headers["x-team"]) == ("/v1/models", f"Bearer {KEY}", "search")


@pytest.mark.anyio
@pytest.mark.parametrize(("end", "more", "version"), [("", "", VERSION), ("/v1", 'anthropic-version = "2"', "2")])
async def test_anthropic_is_asked_in_its_own_way(upstream: Upstream, end: str, more: str, version: str) -> None:
    url = upstream.url.removesuffix("/v1") + end
    text = f'[targets.one]\nprovider = "anthropic"\nmodel = "m-1"\nbase_url = "{url}"\napi_key = "env:K"\n'
    answers = await reach(parse(f"{text}headers = {{ {more} }}\n", source="t"), {"K": KEY})
    assert answers["one"].check.words.endswith("answers and has m-1")
    ((path, headers),) = upstream.seen
    assert (path, headers["x-api-key"], headers["anthropic-version"]) == ("/v1/models", KEY, version)
    assert "authorization" not in headers


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (400, "bad")])
async def test_gemini_is_asked_in_its_own_way(status: int, state: str) -> None:
    names = [{"name": "models/gemini-2.5-flash"}, {"name": "models/gemini-2.5-pro"}, {"name": 7}]
    async with scripted(lambda asked: Reply([json.dumps({"models": names}).encode()], status=status)) as server:
        section = f'[targets.g]\nprovider = "gemini"\nmodel = "gemini-2.5-flash"\nbase_url = "{server.url}/v1beta"\n'
        answers = await reach(parse(f'{section}api_key = "env:G"\n', source="t"), {"G": KEY})
    (asked,) = server.requests
    assert (asked.path, asked.headers["x-goog-api-key"]) == ("/v1beta/models?pageSize=1000", KEY)
    assert "authorization" not in asked.headers
    check = answers["g"].check
    assert check.state == state
    assert check.words.endswith("has gemini-2.5-flash" if status == 200 else "refuses the key")


@pytest.mark.anyio
async def test_its_clock_is_taken_along(upstream: Upstream) -> None:
    answers = await reach(settings(upstream.url), {})
    date = answers["one"].date
    assert date is not None
    assert list(witness_checks({"one": date})) == []
    assert [c.what for c in witness_checks({"one": (date[0], date[1] + 3600 * 10**9)})] == ["clock"]


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "state", "whose"), [(401, "bad", "operator"), (500, "warn", "upstream")])
async def test_a_status_says_whose_it_is_to_fix(upstream: Upstream, status: int, state: str, whose: str) -> None:
    upstream.status = status
    answers = await reach(settings(upstream.url), {})
    check = answers["one"].check
    assert (check.state, check.whose) == (state, whose)
    assert check.fix


@pytest.mark.anyio
async def test_where_nobody_answers_it_is_the_operators_if_it_is_a_machine_of_theirs() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound and not listening
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        answers = await reach(settings(url), {})
    check = answers["one"].check
    assert (check.state, check.whose) == ("bad", "operator")
    assert f"curl -sS {url}/models" in check.fix
    assert [whose_place(u) for u in ("https://api.openai.com/v1", "http://10.0.0.5:8000/v1", "http://gpu:8000")] == [
        "upstream",
        "operator",
        "operator",
    ]


@pytest.mark.anyio
async def test_without_its_key_a_target_is_not_asked(upstream: Upstream) -> None:
    answers = await reach(settings(upstream.url, 'api_key = "env:NOT_SET"\n'), {})
    assert answers["one"].check.state == "bad"
    assert "NOT_SET is not set" in answers["one"].check.words
    assert upstream.seen == []


def test_a_price_that_is_not_known_is_a_warning(tmp_path: Path) -> None:
    (unknown,) = price_checks(settings("http://127.0.0.1:9/v1"))
    assert (unknown.state, unknown.words.partition(":")[0]) == ("warn", "not known")
    (known,) = price_checks(settings("http://127.0.0.1:9/v1", 'price = { input = "$1", output = "$2" }\n'))
    assert known.words == "by trivet.toml"
