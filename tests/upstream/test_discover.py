"""What answers already, asked over real loopback sockets, and the settings that follow."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from trivet import seams
from trivet.config import parse
from trivet.upstream.discover import Found, engines, keys, settings_from

OLLAMA = {
    "/v1/models": {"object": "list", "data": [{"id": "qwen2.5:0.5b", "owned_by": "library"}]},
    "/api/tags": {
        "models": [
            {"name": "qwen2.5:0.5b", "details": {"family": "qwen2"}},
            {"name": "nomic-embed-text:latest", "details": {"family": "nomic-bert"}},
        ]
    },
}
VLLM = {
    "/v1/models": {"object": "list", "data": [{"id": "Qwen/Qwen2.5-7B", "owned_by": "vllm"}]},
    "/version": {"version": "0.11.0"},
}
LLAMACPP = {
    "/v1/models": {"models": [], "data": [{"id": "m.gguf", "owned_by": "llamacpp"}]},
    "/props": {"default_generation_settings": {}},
    "/api/tags": {"models": [{"name": "m.gguf"}]},
}
TRIVET = {"/v1/models": {"object": "list", "data": [{"id": "support", "owned_by": "trivet"}]}}


@asynccontextmanager
async def server(documents: Mapping[str, Any], *, keeps_open: bool = False) -> AsyncGenerator[int, None]:
    """Serve these documents on a loopback port; `keeps_open` ends answers by their length only."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        document = documents.get(head.split()[1].decode())
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status = "200 OK" if document is not None else "404 Not Found"
        length = f"content-length: {len(body)}\r\n" if keeps_open else ""
        writer.write(f"HTTP/1.1 {status}\r\n{length}content-type: application/json\r\n\r\n".encode() + body)
        await writer.drain()
        if keeps_open:
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def ask(documents: Mapping[str, Any], *, keeps_open: bool = False) -> list[Found]:
    async with server(documents, keeps_open=keeps_open) as port:
        found = await engines(ports=[port], timeout_s=10)
        assert all(one.base_url == f"http://127.0.0.1:{port}/v1" for one in found)
        return found


@pytest.mark.parametrize("keeps_open", [False, True])
@pytest.mark.parametrize(
    ("documents", "kind", "models"),
    [
        (OLLAMA, "ollama", ("qwen2.5:0.5b",)),
        (VLLM, "vllm", ("Qwen/Qwen2.5-7B",)),
        (LLAMACPP, "llamacpp", ("m.gguf",)),
    ],
)
def test_an_engine_is_known_by_its_answers(
    documents: Mapping[str, Any],
    kind: str,
    models: tuple[str, ...],
    keeps_open: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    (found,) = asyncio.run(ask(documents, keeps_open=keeps_open))
    assert (found.kind, found.models) == (kind, models)


@pytest.mark.parametrize(
    "documents",
    [
        TRIVET,
        {},
        {"/v1/models": b"<html>", "/api/tags": b"\xff"},
        {"/v1/models": [1, 2], "/props": 7, "/version": "x"},
        {"/v1/models": {"data": {"id": 3}}, "/api/tags": {"tags": []}},
    ],
)
def test_what_is_no_engine_is_not_taken_for_one(documents: Mapping[str, Any]) -> None:
    assert asyncio.run(ask(documents)) == []


def test_a_server_that_never_answers_is_given_up() -> None:
    async def main() -> list[Found]:
        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            gone.set()

        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with listening:
            found = await engines(ports=[listening.sockets[0].getsockname()[1]], timeout_s=0.05)
            await asyncio.wait_for(gone.wait(), 10)  # our side of the connection was closed
            return found

    assert asyncio.run(main()) == []


def test_nothing_is_found_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and stays ours
        started_s = time.monotonic()
        assert asyncio.run(engines(ports=[taken.getsockname()[1]] * 3, timeout_s=30)) == []
        assert time.monotonic() - started_s < 15  # refused, not waited for


def test_several_engines_are_found_in_the_order_of_their_ports() -> None:
    async def main() -> list[str]:
        async with server(VLLM) as one, server({}) as two, server(OLLAMA) as three:
            return [found.kind for found in await engines(ports=[one, two, three], timeout_s=10)]

    assert asyncio.run(main()) == ["vllm", "ollama"]


def test_keys_in_the_environment_are_providers_and_stay_where_they_are() -> None:
    env = {"ANTHROPIC_API_KEY": "sk-ant-x", "OPENAI_API_KEY": "sk-x", "GEMINI_API_KEY": " ", "OTHER_API_KEY": "y"}
    found = keys(env)
    assert [(one.kind, one.key) for one in found] == [
        ("openai", "env:OPENAI_API_KEY"),
        ("anthropic", "env:ANTHROPIC_API_KEY"),
    ]
    assert "sk-" not in repr(found)


def test_keys_become_targets_that_take_any_model() -> None:
    settings = settings_from(keys(dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "k")))
    assert {name: (t.provider, t.model, t.base_url, t.name) for name, t in settings.targets.items()} == {
        "openai": ("openai", "*", "https://api.openai.com/v1", "openai"),
        "anthropic": ("anthropic", "*", "https://api.anthropic.com/v1", "anthropic"),
        "gemini": ("gemini", "*", "https://generativelanguage.googleapis.com/v1beta", "gemini"),
    }


def test_each_model_of_an_engine_becomes_a_target_and_keeps_its_name() -> None:
    settings = settings_from([
        Found("vllm", "http://127.0.0.1:8000/v1", ("Qwen/Qwen2.5-7B", "m")),
        Found("ollama", "http://127.0.0.1:11434/v1", ("m", "qwen2.5:0.5b")),
    ])  # fmt: skip
    assert {name: (t.model, t.base_url[:21]) for name, t in settings.targets.items()} == {
        "Qwen-Qwen2.5-7B": ("Qwen/Qwen2.5-7B", "http://127.0.0.1:8000"),
        "m": ("m", "http://127.0.0.1:8000"),
        "m-2": ("m", "http://127.0.0.1:1143"),
        "qwen2.5:0.5b": ("qwen2.5:0.5b", "http://127.0.0.1:1143"),
    }
    assert settings.aliases == {"Qwen/Qwen2.5-7B": "Qwen-Qwen2.5-7B"}
    assert all(t.region == "local" for t in settings.targets.values())


@pytest.mark.parametrize("model", ["", "///", "模型", ".hidden", "a" * 500, "x y\nz"])
def test_any_name_of_a_model_makes_a_name_that_a_file_could_have(model: str) -> None:
    (name,) = settings_from([Found("vllm", "http://127.0.0.1:1/v1", (model,))]).targets
    parse(f'[targets."{name}"]\nprovider = "openai"\nmodel = "m"\n', source="t")


def test_with_nothing_found_the_embedded_models_are_the_pool() -> None:
    settings = settings_from([])
    assert {name: (t.provider, t.region) for name, t in settings.targets.items()} == {
        "small": ("llamacpp", "local"),
        "large": ("llamacpp", "local"),
        "embedded": ("embedder", "local"),
    }
    assert settings.aliases == {"text-embedding-3-small": "embedded"}
    assert settings.targets["embedded"].model in seams.names("trivet.embedder")
    auto = settings.policies["auto"]
    assert (auto.pool, auto.route, auto.baseline, auto.cache.mode) == (("small", "large"), "fixed", "large", "exact")
    for target in settings.targets.values():
        assert target.price is not None
        assert (target.price.hour, target.price.slots) == ("$0.08", target.engine.slots)
