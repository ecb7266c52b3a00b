"""The examples of docs/providers.md, asked: each goes to the path that its cloud has, with the key where it belongs."""

import json
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from tests.docs.pages import ROOT, blocks, table
from tests.upstream.gemini_kit import Asked, Reply, either, scripted
from trivet.config import Settings, parse
from trivet.ledger.prices import Prices
from trivet.seams import load
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.types import Usage
from trivet.wire.gemini_finish import BROKEN, FINISHES
from trivet.wire.gemini_request import _SILENT, _Asked

pytestmark = pytest.mark.anyio
PAGE = "docs/providers.md"
KEY = "canary-0123456789"
COMPLETION = {
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


def example(name: str) -> Settings:
    (found,) = [s for s in (parse(b.text, source=PAGE) for b in blocks("toml") if b.page == PAGE) if name in s.targets]
    return found


def answer(asked: Asked) -> Reply:
    return either("text")(asked) if ":generateContent" in asked.path else Reply([json.dumps(COMPLETION).encode()])


@pytest.mark.parametrize(
    ("name", "path", "header", "value"),
    [
        (
            "azure",
            "/openai/deployments/my-gpt-4o/chat/completions?api-version=2024-10-21",
            "api-key",
            KEY,
        ),
        ("bedrock", "/openai/v1/chat/completions", "authorization", f"Bearer {KEY}"),
        (
            "vertex",
            "/v1/projects/my-project/locations/us-central1/endpoints/openapi/chat/completions",
            "authorization",
            f"Bearer {KEY}",
        ),
        ("express", "/v1/publishers/google/models/gemini-2.5-flash:generateContent", "x-goog-api-key", KEY),
    ],
)
async def test_an_example_asks_its_cloud_in_the_way_that_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, header: str, value: str
) -> None:
    target = example(name).targets[name]
    if target.api_key.startswith("file:"):  # the page's place is not on this machine
        (tmp_path / "key").write_text(KEY)
        target = replace(target, api_key=f"file:{tmp_path / 'key'}")
    else:
        monkeypatch.setenv(target.api_key.removeprefix("env:"), KEY)
    async with scripted(answer) as server:
        place = urlsplit(target.base_url)
        here = target.base_url.replace(f"{place.scheme}://{place.netloc}", server.url)
        provider = load("trivet.provider", target.provider)(replace(target, base_url=here), kit(tmp_path))
        async with aclosing(provider.stream(ask())) as chunks:
            (chunk,) = [chunk async for chunk in chunks]
        await provider.aclose()
    (asked,) = server.requests
    assert (asked.method, asked.path, asked.headers[header]) == ("POST", path, value)
    assert {"api-key", "authorization", "x-goog-api-key"} & asked.headers.keys() == {header}
    assert chunk.finish == "stop"
    if name != "express":
        assert asked.body["model"] == target.model


@pytest.mark.parametrize("name", ["flash", "azure", "bedrock", "vertex", "express"])
def test_an_example_has_a_price(name: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000)
    cost = Prices(example(name).targets).cost(name, model="", usage=usage, took_ns=1, at_ns=1_767_312_000_000_000_000)
    assert cost.nanos, cost.why_unknown


def test_every_member_that_is_converted_or_left_out_is_described() -> None:
    text = (ROOT / PAGE).read_text().split("## Azure")[0]
    words = {"presence_penalty": "penalties", "frequency_penalty": "penalties", "stream": "streamGenerateContent"}
    words |= {"stream_options": "all of `usageMetadata`", "messages": "messages of"}
    for member in {*_Asked.__struct_fields__, *_SILENT}:
        shown = "prompt_cache_*" if member.startswith("prompt_cache_") else words.get(member, f"`{member}")
        assert shown in text, member


def test_the_reasons_that_are_described_are_those_that_exist() -> None:
    for left, right in table(PAGE, "### Answers"):
        for reason in left.replace("`", "").split(", "):
            if reason.isupper() and reason.replace("_", "").isalpha():
                assert reason in FINISHES or reason in BROKEN
                assert reason not in FINISHES or f"`{FINISHES[reason]}`" in right
