"""The configuration read again under a running gateway: nothing is dropped, nothing that stayed the same is lost."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from tests.edge_kit import POLICY, Tape, chat, serving, until
from trivet.build import Builder
from trivet.config import load
from trivet.ledger.keys import FILE, KeyRing
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.server.reload import Reload
from trivet.testing.house import kit
from trivet.testing.upstream import Upstream

pytestmark = pytest.mark.anyio
ASK: Any = [{"role": "user", "content": "hi"}]


def toml(more: str = "", **targets: Upstream) -> str:
    sections = [
        f'[targets.{name}]\nprovider = "openai"\nmodel = "m"\nbase_url = "{upstream.base_url}"\n'
        for name, upstream in targets.items()
    ]
    return "\n".join(sections) + more


class Running(NamedTuple):
    app: App
    builder: Builder
    reload: Reload
    file: Path
    told: list[str]

    async def ask(self, model: str = "a", **more: Any) -> int:
        tape = Tape()
        await self.app(chat(tape, {"model": model, "messages": ASK, **more}))
        return tape.status()

    def providers(self) -> dict[str, Any]:
        return dict(self.app._rules.now.stages.providers)


@asynccontextmanager
async def running(folder: Path, text: str) -> AsyncGenerator[Running]:
    file, told = folder / "trivet.toml", list[str]()
    file.write_text(text)
    builder, settings = Builder(kit(folder)), load(file, {})
    app = App(await builder.build(settings), auth=Auth(KeyRing(folder / FILE)), random=random.Random(1),
              max_body_bytes=settings.server.max_body_bytes)  # fmt: skip
    try:
        yield Running(app, builder, Reload(settings, app, builder, env={}, tell=told.append), file, told)
    finally:
        await builder.aclose()


async def test_what_did_not_change_goes_on_and_what_did_is_new(tmp_path: Path) -> None:
    async with Upstream("x") as one, Upstream("y") as two, running(tmp_path, toml(POLICY, a=one, b=one)) as made:
        assert await made.ask("p") == 200
        before, stages = made.providers(), made.app._rules.now.stages
        made.file.write_text(toml(POLICY, a=one, b=two, c=two))
        assert await made.reload.now()
        after, now = made.providers(), made.app._rules.now.stages
        assert after["a"] is before["a"]
        assert after["b"] is not before["b"]
        assert (now.store, now.cache) == (stages.store, stages.cache)
        assert await made.ask("p") == 200  # a hit: the policy and its target are the same, and so is its answer
        assert [await made.ask(name) for name in "abc"] == [200, 200, 200]
        assert (len(one.requests), len(two.requests)) == (2, 2)
        assert one.connections == 1
    assert "in force" in made.told[-1]


async def test_a_request_ends_by_the_rules_it_began_with(tmp_path: Path) -> None:
    async with (
        Upstream("Hel", "lo", delay_s=0.1) as old,
        Upstream("x") as new,
        running(tmp_path, toml(a=old)) as made,
    ):
        asking = [asyncio.ensure_future(made.ask(stream=stream)) for stream in (True, False)]
        await until(lambda: len(old.requests) == 2)
        made.file.write_text(toml(b=new))
        assert await made.reload.now()
        assert await made.ask("a") == 404
        assert await made.ask("b") == 200
        assert old.open, "a connection in use was closed"
        assert await asyncio.gather(*asking) == [200, 200]
        await until(lambda: not old.open)  # nobody asks it any more


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[targets.a]\nmodle = 1\n", "trivet.toml:2: targets.a.modle"), ("[targets", "This is not TOML"),
        ("", "has no [targets]"), ('[targets.a]\nprovider = "nobody"\n', "is not installed"),
        ('[targets.a]\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "env:NONE"\n', "NONE"),
        ('{}[ledger]\npath = "/elsewhere"\n', "[ledger]` is another"),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(tmp_path: Path, text: str, words: str) -> None:
    async with Upstream("x") as upstream, running(tmp_path, toml(a=upstream)) as made:
        before = made.providers()
        made.file.write_text(text.replace("{}", toml(a=upstream)))
        assert not await made.reload.now()
        assert words in made.told[-1]
        assert "stays in force" in made.told[-1]
        assert made.providers() == before
        assert await made.ask() == 200
        made.file.write_text(toml(a=upstream))
        assert await made.reload.now()
        text = made.app.metrics.text({})
        assert 'trivet_reloads_total{result="ok"} 1' in text
        assert 'trivet_reloads_total{result="refused"} 1' in text


async def test_what_takes_a_restart_is_said_so(tmp_path: Path) -> None:
    async with Upstream("x") as upstream, running(tmp_path, toml(a=upstream)) as made:
        made.file.write_text(toml("[server]\nport = 9\nmax_body_bytes = 2000\n", a=upstream))
        assert await made.reload.now()
        assert "`server.port` take a restart" in made.told[-1]
        assert await made.ask(pad="x" * 3000) == 413


async def test_what_takes_a_restart_is_said_until_there_is_one(tmp_path: Path) -> None:
    async with Upstream("x") as upstream, running(tmp_path, toml(a=upstream)) as made:
        for extra in ("", "# and something else\n"):
            made.file.write_text(toml(f"{extra}[server]\nport = 9\n", a=upstream))
            assert await made.reload.now()
            assert "`server.port` take a restart" in made.told[-1]
        made.file.write_text(toml(a=upstream))
        assert await made.reload.now()
        assert "a restart" not in made.told[-1]


async def test_what_nobody_thought_of_is_no_end_of_the_watching(tmp_path: Path) -> None:
    """A plugin may raise anything; here it is the standard library, of a path that is none."""
    async with Upstream("x") as upstream, running(tmp_path, toml(a=upstream)) as made:
        before = made.providers()
        made.file.write_text(
            toml(a=upstream)
            + '[targets.b]\nprovider = "openai"\nbase_url = "https://127.0.0.1:9/v1"\ntls = { ca = "a\\u0000b" }\n'
        )
        assert not await made.reload.now()
        assert made.told[-1].endswith("stays in force.")
        assert "ValueError" in made.told[-1]
        assert made.providers() == before
        assert await made.ask() == 200


async def test_a_key_in_a_file_is_read_again(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-first")
    async with Upstream("x") as upstream:
        text = toml(f'api_key = "file:{key}"\n', a=upstream)
        async with running(tmp_path, text) as made:
            assert await made.ask() == 200
            key.write_text("sk-second")
            assert await made.reload.now()
            assert await made.ask() == 200
        assert [r.headers["authorization"] for r in upstream.requests] == ["Bearer sk-first", "Bearer sk-second"]


async def test_many_reloads_at_once_drop_nothing_and_leave_nothing_open(tmp_path: Path) -> None:
    async with Upstream("Hel", "lo", delay_s=0.01) as one, Upstream("x", delay_s=0.01) as two:
        async with running(tmp_path, toml(a=one)) as made:
            asking = []
            for i in range(30):
                asking.append(asyncio.ensure_future(made.ask(stream=bool(i % 2))))
                await asyncio.sleep(0.002)
                made.file.write_text(toml(a=one if i % 2 else two))
                assert await made.reload.now()
            assert await asyncio.gather(*asking) == [200] * 30
            await asyncio.sleep(0.05)
            assert not made.reload._ending
            assert not made.builder._old
        assert not one.open
        assert not two.open


@pytest.mark.parametrize("by", ["change", "signal"])
@pytest.mark.slow
async def test_a_gateway_takes_a_changed_file_while_it_serves(tmp_path: Path, by: str) -> None:
    async with (
        Upstream("Hel", "lo", delay_s=0.4) as old,
        Upstream("x") as new,
        serving(tmp_path, toml(a=old)) as child,
    ):
        client = openai.AsyncOpenAI(base_url=f"{child.url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(model="a", messages=ASK, stream=True)
        file = tmp_path / "trivet.toml"
        stat = file.stat()
        file.write_text(toml(a=new, b=new))
        if by == "signal":
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            child.process.send_signal(signal.SIGHUP)
        await until(lambda: "in force" in child.words())
        assert "a restart" not in child.words()  # `--port` of the command line is no change of the file
        assert {model.id async for model in client.models.list()} == {"a", "b"}
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        assert text == "Hello"
        answer = await client.chat.completions.create(model="a", messages=ASK)
        assert answer.choices[0].message.content == "x"
        file.write_text("[targets.a]\noops = 1\n")
        await until(lambda: "stays in force" in child.words())
        assert f"{file}:2: targets.a.oops" in child.words()
        assert json.loads((await client.models.with_raw_response.list()).text)["data"]
        await client.close()
        assert await child.stop() == 0
