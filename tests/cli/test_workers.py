"""`trivet serve --workers`: real processes on one port; they are replaced when they die, and end with their parent."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge_kit import Child, get, raw, serving, toml, until
from trivet.ledger.report import entries
from trivet.testing.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ASK: Any = [{"role": "user", "content": "hi"}]
ENV = {"CANARY_KEY": "sk-canary-0123456789abcdef"}


def children(pid: int) -> set[int]:
    """List the processes that a process has started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split(" ")
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


async def ask(child: Child, count: int, **more: Any) -> None:
    """Ask so often, each time on a connection of its own."""
    for _ in range(count):
        async with openai.AsyncOpenAI(base_url=f"{child.url}/v1", api_key="x", max_retries=0) as client:
            await client.chat.completions.create(model="a", messages=ASK, **more)


async def counted(child: Child) -> int:
    text = (await raw(child.url, get("/metrics"))).body.decode()
    return sum(int(n) for n in re.findall(r'^trivet_requests_total\{.*status="ok".*\} (\d+)$', text, re.M))


async def test_workers_share_the_port_the_ledger_and_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    async with Upstream("x") as upstream, serving(
        tmp_path, toml({"a": upstream.base_url}), "--workers", "3", env={**ENV, "TMPDIR": str(tmp_path / "temporary")}
    ) as child:  # fmt: skip
        workers = children(child.process.pid)
        assert len(workers) == 3
        await ask(child, 30)
        await asyncio.sleep(1.5)  # what the others count is known to each within a second
        before = [await counted(child) for _ in range(20)]  # whichever is asked, and it never goes down
        assert before == [30] * 20
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(children(child.process.pid) - {victim}) == 3, within_s=20)
        assert "was killed by signal 9; another is started" in child.words()
        await asyncio.sleep(0.5)
        await ask(child, 10)
        await asyncio.sleep(1.5)
        assert await counted(child) == 40
        assert await child.stop() == 0
        assert not any(alive(pid) for pid in workers)
    kept = entries(child.home / "ledger", since_ns=0, until_ns=2**62, limit=1000, tell=print)
    assert len(list(kept)) == 40
    assert not list((tmp_path / "temporary").iterdir())


async def test_running_answers_end_before_the_workers_do(tmp_path: Path) -> None:
    async with Upstream("Hel", "lo", delay_s=0.5) as upstream, serving(
        tmp_path, toml({"a": upstream.base_url}), "--workers", "2", env=ENV
    ) as child:  # fmt: skip
        asking = [asyncio.ensure_future(ask(child, 1)) for _ in range(6)]
        await until(lambda: len(upstream.requests) == 6)
        stopping = asyncio.ensure_future(child.stop())
        await asyncio.gather(*asking)
        assert await stopping == 0


async def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    async with Upstream("x") as upstream, serving(
        tmp_path, toml({"a": upstream.base_url}), "--workers", "2", env=ENV
    ) as child:  # fmt: skip
        workers = children(child.process.pid)
        child.process.kill()
        await child.process.wait()
        await until(lambda: not any(alive(pid) for pid in workers), within_s=20)


async def test_a_changed_file_is_taken_by_all(tmp_path: Path) -> None:
    async with Upstream("x") as upstream, serving(
        tmp_path, toml({"a": upstream.base_url}), "--workers", "2", env=ENV
    ) as child:  # fmt: skip
        (tmp_path / "trivet.toml").write_text(toml({"b": upstream.base_url}))
        child.process.send_signal(signal.SIGHUP)
        await until(lambda: child.words().count("in force") >= 2)
        for _ in range(10):
            assert b'"b"' in (await raw(child.url, get("/v1/models"))).body


@pytest.mark.parametrize(
    ("config", "words"),
    [('[targets.a]\nprovider = "llamacpp"\nmodel = "smollm2-135m-instruct"\n', "would be loaded by each of 2 workers"),
     ("[targets.a]\noops = 1\n", "targets.a.oops")],
)  # fmt: skip
async def test_what_cannot_be_served_is_said_once_before_any_worker(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "trivet.toml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trivet", "serve", "--workers", "2", "--port", "0", cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TRIVET_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    _, said = await process.communicate()
    assert said.decode().count(words) == 1
    assert process.returncode not in (0, None)
