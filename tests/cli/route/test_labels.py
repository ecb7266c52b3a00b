"""`trivet route labels`: what live traffic told, as a table, as data to train on, and gone."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.edge_kit import Child, post, raw, serving
from tests.labels.test_file import Side, asked, label
from trivet.build import SystemClock
from trivet.cli.main import cli
from trivet.labels.file import FILE
from trivet.testing.upstream import Answer, Upstream


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["route", *map(str, arguments)], prog_name="trivet")


@pytest.fixture
def path(home: Path) -> Path:
    """Fill the file: 60 prompts, of which the small target gets those right that are short."""
    home.mkdir(parents=True, exist_ok=True)
    asyncio.run(_fill(home / FILE))
    return home / FILE


async def _fill(file: Path) -> None:
    now_ns, side = SystemClock().now_ns(), Side(file)
    for n in range(60):
        prompt = f"add {n} and {n}" if n % 2 else f"prove theorem {n} of analysis and name its corollaries"
        side.file.put(asked(n, prompt=prompt, domain=f"d{n // 6}", at_ns=now_ns))
        side.file.put(label(n, score=float(n % 2)))
        side.file.put(label(n, target="large", reference=True, cost_nanos=900))
    await side.close()


def test_a_router_is_trained_on_what_was_exported(path: Path, tmp_path: Path) -> None:
    done = run("labels", "export", tmp_path / "outcomes")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "60 prompts and 120 outcomes written" in done.stderr
    trained = run("train", tmp_path / "outcomes", "--out", tmp_path / "r.trv", "--json")
    assert trained.exit_code == 0, trained.output
    told = json.loads(trained.stdout)
    assert (told["models"], told["domains"]) == ({"large": 60, "small": 60}, {f"p/d{n}": 6 for n in range(10)})
    with (tmp_path / "prompts.jsonl").open("w") as file:
        for pid, prompt in (("easy", "add 7 and 8"), ("hard", "prove theorem 8 of analysis and name its corollaries")):
            file.write(json.dumps({"pid": pid, "prompt": prompt}) + "\n")
    scored = run("score", tmp_path / "r.trv", tmp_path / "prompts.jsonl", "--small", "small", "--large", "large",
                 "--out", "-")  # fmt: skip
    easy, hard = (float(line.split(",")[1]) for line in scored.stdout.splitlines()[1:])
    assert easy > 0.5 > hard


def test_a_table_and_json_say_the_same(path: Path) -> None:
    told = json.loads(run("labels", "stats", "--json").stdout)
    assert (told["policies"][0]["kept"], told["policies"][0]["agreed"]) == (60, 0.5)
    table = run("labels", "stats").stdout
    assert table.splitlines()[1].split() == ["p", "60", "60", "50.0%", "37.7%", "to", "62.3%", "$0.00", "$0.00"]
    assert "p       large   shadow (reference)      60       1.000" in table
    assert json.loads(run("labels", "stats", "--tenant", "globex", "--json").stdout)["scores"] == []


def test_what_to_purge_has_to_be_said(path: Path) -> None:
    for words in ((), ("--all", "--policy", "p"), ("--older-than", "soon"), ("--older-than", "1w")):
        assert run("labels", "purge", *words).exit_code == 2, words
    assert "0 requests purged" in run("labels", "purge", "--older-than", "1h").stderr
    assert "1 requests purged" in run("labels", "purge", "--id", "req_7").stderr
    assert "59 requests purged" in run("labels", "purge", "--all").stderr
    assert run("labels", "export", path.parent / "out").exit_code == 4
    assert not (path.parent / "out").exists()


def test_without_labels_it_is_said_how_they_are_kept(home: Path) -> None:
    for words in (("stats",), ("export", "out"), ("purge", "--all")):
        done = run("labels", *words)
        assert (done.exit_code, "Write `labels.keep = true` in a policy" in done.stderr) == (2, True)


CONFIG = """
[targets.small]
provider = "openai"
model = "s"
base_url = "{small}"
price = {{ input = "$1", output = "$2" }}

[targets.large]
provider = "openai"
model = "l"
base_url = "{large}"
price = {{ input = "$10", output = "$20" }}

[policies.p]
pool = ["small", "large"]
cache = {{ judge = "equality" }}
labels = {{ keep = true }}
shadow = {{ share = 1.0, budget = "$0.002/day" }}
"""
ONE_NANOS = 9 * 10_000 + 1 * 20_000
"""What a shadow costs."""


async def _feedback(child: Child, id_: str) -> int:
    return (await raw(child.url, post({"id": id_, "label": "good"}, path="/trivet/v1/feedback"))).status


@pytest.mark.slow
@pytest.mark.anyio
async def test_from_the_traffic_of_several_workers_to_an_export_within_the_budget_also_after_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVET_HOME", str(tmp_path / "home"))
    asked_of_large = 0
    script = lambda body: Answer(pieces=("four" if "2" in body["messages"][-1]["content"] else "five",))  # noqa: E731
    async with Upstream("four") as small, Upstream(script=script) as large:
        config = CONFIG.format(small=small.base_url, large=large.base_url)
        for turn in range(3):
            async with serving(tmp_path, config, "--workers", "2") as child:

                async def ask(n: int, child: Child = child) -> str:
                    body = {"model": "p", "max_tokens": 10, "messages": [{"role": "user", "content": f"{n}?"}]}
                    reply = await raw(child.url, post(body))
                    assert reply.status == 200
                    return reply.headers["x-trivet-id"]

                ids = await asyncio.gather(*[ask(n) for n in range(30)])
                assert await asyncio.gather(*[_feedback(child, id_) for id_ in ids]) == [200] * 30
                if turn == 1:
                    child.process.kill()
            asked_of_large = len(large.requests)
        assert 0 < asked_of_large * ONE_NANOS <= 2_000_000
    told = json.loads(await asyncio.to_thread(_stats))
    (policy,) = told["policies"]
    assert policy["kept"] == 90
    assert asked_of_large * ONE_NANOS <= policy["spent_nanos"] <= 2_000_000  # a kill leaves what was held, spent
    feedback = next(row for row in told["scores"] if row["source"] == "feedback")
    assert (feedback["target"], feedback["labels"], feedback["mean"]) == ("small", 90, 1.0)


def _stats() -> str:
    assert os.environ["TRIVET_HOME"]
    return run("labels", "stats", "--json").stdout
