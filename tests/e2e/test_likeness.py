"""Likeness as its user has it: `trivet serve`, OpenAI's client, the builtin embedder; through restarts and kills."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge_kit import Child, serving, until
from trivet.cache.semantic.contents import held
from trivet.cache.semantic.tier import place
from trivet.ledger.report import entries
from trivet.testing.upstream import Answer, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONFIG = """
[targets.a]
provider = "openai"
model = "a-1"
base_url = "{base_url}"
price = {{ input = "$1", output = "$2" }}

[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "static"
threshold = 0.75

[embedder]
kind = "builtin"
"""
ASKED = "How do I reset my password?"
LIKE = "how can I reset my password"
UNLIKE = "What is the capital of Portugal?"


def script(body: Any) -> Answer:
    return Answer(pieces=("About: ", str(body["messages"][-1]["content"])))


async def ask(child: Child, text: str, **more: Any) -> tuple[str, str]:
    """Give the answer, and what `x-trivet-cache` said of it."""
    async with openai.AsyncOpenAI(base_url=f"{child.url}/v1", api_key="any", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": text}]
        reply = await client.chat.completions.with_raw_response.create(model="p", messages=messages, **more)
        told = reply.headers["x-trivet-cache"]
        if not more.get("stream"):
            return reply.parse().choices[0].message.content or "", told
        pieces = [event.choices[0].delta.content or "" async for event in reply.parse() if event.choices]
        return "".join(pieces), told


async def kept(child: Child, answers: int) -> None:
    """Wait until so many answers are on the disk."""

    def there() -> bool:
        return place(child.home).exists() and sum(one.answers for one in held(place(child.home), now_ns=1)) >= answers

    await until(there)


async def heard(child: Child, text: str) -> None:
    """Wait until every worker has an answer to this: connections are spread over them."""
    in_a_row = 0
    async with asyncio.timeout(20):
        while in_a_row < 12:
            try:
                await ask(child, text, extra_headers={"x-trivet-cache": "only"})
            except openai.APIStatusError:
                in_a_row = 0
                await asyncio.sleep(0.05)
            else:
                in_a_row += 1


async def loaded(child: Child) -> None:
    """Wait until the embedder is there: a look before that is a miss."""
    async with asyncio.timeout(30):
        for i in range(10_000):
            await ask(child, f"Is it there yet? {i} {'x' * i}")
            if (await ask(child, f"is it there yet {i} {'x' * i}"))[1].startswith("hit; kind=semantic"):
                return


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_question_like_one_before_is_answered_whole_and_streamed_also_after_a_restart(
    tmp_path: Path, end: signal.Signals
) -> None:
    async with Upstream(script=script) as upstream:
        config = CONFIG.format(base_url=upstream.base_url)
        async with serving(tmp_path, config) as child:
            assert (await ask(child, UNLIKE))[1] == "miss"
            await loaded(child)
            assert await ask(child, ASKED) == (f"About: {ASKED}", "miss")
            for stream in (False, True):
                text, told = await ask(child, LIKE, stream=stream)
                assert (text, told.split("; age")[0]) == (f"About: {ASKED}", "hit; kind=semantic")
            await kept(child, 2)
            child.process.send_signal(end)
            await child.process.wait()
        async with serving(tmp_path, config) as child:
            async with asyncio.timeout(20):
                while not (await ask(child, LIKE))[1].startswith("hit"):  # noqa: ASYNC110  # another process does it
                    await asyncio.sleep(0.05)
            assert (await ask(child, ASKED))[1].startswith("hit; kind=exact")
    every = entries(tmp_path / "home" / "ledger", since_ns=0, until_ns=2**62, limit=100, tell=print)
    hit = next(entry for entry in every if entry.cache == "semantic")
    assert hit.embedder_digest
    assert hit.cosine is not None
    assert "prompt" not in json.dumps(sorted(hit.saved))


async def test_workers_answer_from_what_the_others_kept(tmp_path: Path) -> None:
    async with Upstream(script=script) as upstream:
        config = CONFIG.format(base_url=upstream.base_url) + "\n[server]\nworkers = 2\n"
        async with serving(tmp_path, config) as child:
            for _ in range(3):
                await loaded(child)
            before = len(upstream.requests)
            assert (await ask(child, ASKED))[1] == "miss"
            await heard(child, LIKE)
            told = [(await ask(child, f"{LIKE} {i}"))[1].split(";")[0] for i in range(12)]
    assert told == ["hit"] * 12
    assert len(upstream.requests) == before + 1


async def test_the_same_question_at_once_is_kept_once(tmp_path: Path) -> None:
    async with Upstream(script=script, first_delay_s=0.2) as upstream:
        config = CONFIG.format(base_url=upstream.base_url) + "\n[server]\nworkers = 2\n"
        async with serving(tmp_path, config) as child:
            for _ in range(3):
                await loaded(child)
            answers = await asyncio.gather(*(ask(child, ASKED) for _ in range(8)))
            await heard(child, LIKE)
            assert (await ask(child, LIKE))[0] == f"About: {ASKED}"
    assert {text for text, _ in answers} == {f"About: {ASKED}"}
