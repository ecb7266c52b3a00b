"""Another embedder under a gateway that has answers: served meanwhile, embedded anew, also through a kill -9."""

import asyncio
import json
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_likeness import ask, kept
from tests.edge_kit import Child, serving, until
from trivet.cache.semantic.behind import BATCH
from trivet.cache.semantic.tier import place
from trivet.testing.upstream import Answer, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONFIG = """
[targets.a]
provider = "openai"
model = "a-1"
base_url = "{url}"
price = {{ input = "$1", output = "$2" }}

[targets.v]
provider = "openai"
model = "v-1"
base_url = "{url}"
price = {{ input = "$1", output = "$0" }}

[policies.p]
pool = ["a"]
[policies.p.cache]
mode = "static"
threshold = 0.95

[embedder]
{embedder}
"""
BUILTIN, TARGET = 'kind = "builtin"', 'kind = "target"\ntarget = "v"\ntimeout = "10s"'
QUESTIONS = [
    f"{verb} the {noun}" for verb in ("open", "close", "paint", "sell", "lend", "find", "move", "burn", "wash", "hide")
    for noun in ("door", "boat", "hat", "piano", "tree")
]  # fmt: skip


def script(body: Any) -> Answer:
    if "messages" not in body:
        return Answer(delay_s=0.3)  # so that there is a middle of it
    return Answer(pieces=("About: ", str(body["messages"][-1]["content"])))


def made_by(child: Child) -> Counter[str]:
    with sqlite3.connect(place(child.home)) as db:
        return Counter(dict(db.execute("SELECT embedder, COUNT(*) FROM answers GROUP BY embedder")))


async def behind(child: Child) -> int:
    async with httpx2.AsyncClient() as client:
        text = (await client.get(f"{child.url}/metrics")).text
    return next(int(line.split()[-1]) for line in text.splitlines() if line.startswith("trivet_cache_behind{"))


async def test_kept_answers_outlive_their_embedder_and_a_kill_in_the_middle(tmp_path: Path) -> None:
    async with Upstream(script=script) as upstream:
        async with serving(tmp_path, CONFIG.format(url=upstream.base_url, embedder=BUILTIN)) as child:
            for text in QUESTIONS:
                await ask(child, text)
            await kept(child, len(QUESTIONS) - 5)  # some may have been alike
            child.process.send_signal(signal.SIGTERM)
            await child.process.wait()
        ((old, count),) = made_by(child).items()
        async with serving(tmp_path, CONFIG.format(url=upstream.base_url, embedder=TARGET)) as child:
            await until(lambda: len(made_by(child)) == 2)
            child.process.send_signal(signal.SIGKILL)
            await child.process.wait()
        left = made_by(child)[old]
        assert 0 < left < count
        asked = sum(len(request.body["input"]) for request in upstream.requests if request.path == "/v1/embeddings")
        async with serving(tmp_path, CONFIG.format(url=upstream.base_url, embedder=TARGET)) as child:
            async with asyncio.timeout(10):  # what is on the disk has been read once some of it waits, or none does
                while not await behind(child) and old in made_by(child):  # noqa: ASYNC110  # it is another process's
                    await asyncio.sleep(0.05)
            told = [(await ask(child, text))[1].split("; age")[0] for text in QUESTIONS]
            assert told.count("hit; kind=exact") == count  # whatever their vectors are
            await until(lambda: old not in made_by(child))
            async with asyncio.timeout(10):
                while await behind(child):  # noqa: ASYNC110  # it is another process's
                    await asyncio.sleep(0.05)
            assert (await ask(child, QUESTIONS[0]))[1].startswith("hit; kind=exact")
        again = sum(len(request.body["input"]) for request in upstream.requests if request.path == "/v1/embeddings")
        assert left <= again - asked <= left + BATCH + 2  # and the texts at the start
        assert sum(made_by(child).values()) >= count
        assert json.dumps(QUESTIONS[0]) in json.dumps([r.body for r in upstream.requests if "input" in r.body])
