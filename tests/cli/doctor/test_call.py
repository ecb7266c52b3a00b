"""One real question to each target, through the provider that the gateway uses."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Upstream as Answering
from tests.upstream.engine_room import smollm
from trivet.cli.doctor.call import call_checks
from trivet.cli.doctor.check import Check
from trivet.config import parse
from trivet.testing.upstream import Answer, Upstream

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


async def asked(url: str, more: str = 'model = "m-1"\nprice = { input = "$1", output = "$2" }') -> Check:
    (check,) = await call_checks(
        parse(f'[targets.one]\nprovider = "openai"\nbase_url = "{url}"\n{more}\n', source="t"), os.environ
    )
    assert check.what == "call of one"
    return check


@pytest.mark.anyio
async def test_a_target_that_answers_is_told_with_its_model_its_time_and_its_price(home: Path) -> None:
    async with Upstream("Yes") as upstream:
        check = await asked(upstream.base_url)
        (request,) = upstream.requests
    assert (check.state, request.body["max_tokens"]) == ("ok", 1)
    assert check.words.startswith("m-1 answered 200 in ")
    assert check.words.endswith(" ms, $0.000011"), "9 tokens in, 1 out"


@pytest.mark.anyio
async def test_a_model_that_is_called_an_embedding_is_asked_for_a_vector(home: Path) -> None:
    async with Upstream() as upstream:
        check = await asked(
            upstream.base_url, 'model = "text-embedding-3-small"\nprice = { input = "$1", output = "$0" }'
        )
        (request,) = upstream.requests
    assert (check.state, request.path) == ("ok", "/v1/embeddings")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "whose", "fix"),
    [
        (400, "operator", "chat model"),
        (401, "operator", "good key"),
        (404, "operator", "Name a model"),
        (429, "operator", "billing"),
        (500, "upstream", "status page"),
    ],
)
async def test_a_refusal_is_told_with_its_status_and_who_can_put_it_right(
    home: Path, status: int, whose: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", KEY)
    answer = Answer(status=status, error={"message": f"No, {KEY}."})
    async with Upstream(script=lambda _: answer) as upstream:
        check = await asked(upstream.base_url, 'model = "m-1"\napi_key = "env:K"')
    assert (check.state, check.whose) == ("bad", whose)
    assert check.words.startswith(f"m-1: {status}, No, ")
    assert fix in check.fix
    assert KEY not in str(check)


@pytest.mark.anyio
async def test_a_model_that_knows_the_limit_by_its_newer_name_is_asked_by_that(home: Path) -> None:
    def script(body: Any) -> Answer:
        words = "Unsupported parameter: use 'max_completion_tokens' instead."
        return Answer(status=400, error={"message": words}) if "max_tokens" in body else Answer(pieces=("Yes",))

    async with Upstream(script=script) as upstream:
        check = await asked(upstream.base_url)
        assert [("max_tokens" in r.body, "max_completion_tokens" in r.body) for r in upstream.requests] == [
            (True, False),
            (False, True),
        ]
    assert check.state == "ok"


@pytest.mark.anyio
async def test_where_nobody_listens_it_says_to_start_it(home: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        check = await asked(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
    assert (check.state, check.whose) == ("bad", "operator")
    assert check.fix.startswith("Start what should answer")


@pytest.mark.anyio
async def test_what_cannot_be_asked_is_said_and_not_asked(home: Path) -> None:
    async with Upstream("Yes") as upstream:
        wild = await asked(upstream.base_url, "")
        keyless = await asked(upstream.base_url, 'model = "m-1"\napi_key = "env:NOT_SET"')
        assert upstream.requests == []
    assert (wild.state, wild.words.partition(":")[0]) == ("warn", "not asked")
    assert (keyless.state, keyless.whose) == ("bad", "operator")
    embedded = parse('[targets.e]\nprovider = "llamacpp"\nmodel = "smollm2-135m-instruct"\n', source="t")
    (check,) = await call_checks(embedded, os.environ)
    assert check.words.startswith("not asked: its file is not here yet")


@pytest.mark.anyio
async def test_an_embedder_is_asked_for_a_vector_once_its_file_is_here(home: Path) -> None:
    (check,) = await call_checks(
        parse('[targets.e]\nprovider = "embedder"\nmodel = "builtin"\n', source="t"), os.environ
    )
    assert (check.state, check.words.partition(" in ")[0]) == ("ok", "trivet-static-1 answered 200")
    (check,) = await call_checks(
        parse('[targets.e]\nprovider = "embedder"\nmodel = "minilm"\n', source="t"), os.environ
    )
    assert check.words.startswith("not asked: its file is not here yet")


@pytest.mark.anyio
async def test_the_target_that_makes_vectors_is_asked_for_one(home: Path, upstream: Answering) -> None:
    target = f'[targets.v]\nprovider = "openai"\nmodel = "v-1"\nbase_url = "{upstream.url}"\n'
    text = f'{target}[embedder]\nkind = "target"\ntarget = "v"\n'
    (check,) = await call_checks(parse(text, source="t"), os.environ)
    assert (check.state, check.words.partition(" in ")[0]) == ("ok", "v-1 answered 200")
    assert [path for path, _ in upstream.seen] == ["/v1/embeddings"]


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_model_of_ours_is_loaded_asked_and_let_go(home: Path) -> None:
    engine = "engine = { context = 512, slots = 1 }"
    text = f'[targets.e]\nprovider = "llamacpp"\nmodel = "{smollm()}"\nprice = {{ hour = "$0.08" }}\n{engine}\n'
    (check,) = await call_checks(parse(text, source="t"), os.environ)
    assert check.state == "ok", check
    assert " answered 200 in " in check.words
    assert "$" in check.words


@pytest.mark.anyio
async def test_an_engine_that_cannot_load_its_file_is_a_cross(home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    text = f'[targets.e]\nprovider = "llamacpp"\nmodel = "{tmp_path / "broken.gguf"}"\n'
    (check,) = await call_checks(parse(text, source="t"), os.environ)
    assert check.state == "bad", check
    assert check.fix == f"Its own words: cat {home / 'engines' / 'e.log'}"
    assert (home / "engines" / "e.log").exists()
