"""`trivet cache` over a real file and a real ledger."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cache.semantic.test_file import LATE, Side
from tests.cache.semantic.test_shelf import answer, axis
from tests.cache.semantic.test_watch import broken, watching
from tests.cli.test_usage import entry
from trivet.build import kit
from trivet.cache.semantic.file import Row
from trivet.cache.semantic.gain import Space
from trivet.cache.semantic.tier import place
from trivet.cache.semantic.watch import NAME
from trivet.cli.main import cli
from trivet.config import Settings
from trivet.ledger.sqlite import build
from trivet.types import Nanos


def cache(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments], prog_name="trivet")


@pytest.fixture
def filled(home: Path) -> Path:
    """A home in which a policy `support` has been used: three answers kept, two hits, one audit."""

    async def main() -> None:
        store = build(Settings().ledger, kit(Settings(), {"TRIVET_HOME": str(home)}, tell=lambda _: None))
        for i, kind in enumerate(["miss", "miss", "exact", "semantic"]):
            store.settle(None, entry(f"req_{i}", cache=kind))
        store.settle(None, entry("req_3-audit", cache="refresh", audit_of="req_3", saved={"audit": Nanos(-151_200)}))
        for i in (1, 2):
            judged = entry(f"req_3-audit-judge-{i}", cache="off", judge_of="req_3-audit", saved={"judge": Nanos(-50)})
            store.settle(None, judged)
        store.settle(None, entry("req_9", cache="off", policy="none"))
        await store.aclose()
        side = Side(place(home))
        watch, _ = watching()
        broken(watch)
        watch.gains[Space("acme", "n")].off = "of 1,000 looks 0 were hits"
        side.file.learn("support", NAME, watch.save)
        side.file.save()
        for number, tenant in enumerate(["acme", "acme", "globex"]):
            one = answer(number, policy="support", tenant=tenant, tags=(f"t{number}",), expires_ns=LATE)
            side.file.put(Row.of(one, axis(number)))
        await side.close()

    asyncio.run(main())
    return home


def test_nothing_used_yet_is_said(home: Path) -> None:
    assert "No policy has a cache that was used yet." in cache("stats").output


def test_what_is_kept_and_what_it_answered_is_shown(filled: Path) -> None:
    result = cache("stats")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith("support")]
    assert rows[0][1:8] == ["4", "1", "(25.0%)", "1", "(25.0%)", "1", "2"]
    assert rows[1][1:3] == ["3", "3"]
    told = json.loads(cache("stats", "--json").output)
    assert (told["used"][0]["semantic"], told["used"][0]["saved_nanos"]) == (1, 2 * 248_800 - 151_200 - 100)
    assert [one["policy"] for one in told["kept"]] == ["support"]


def test_a_broken_promise_and_where_likeness_is_off_are_shown(filled: Path) -> None:
    result = cache("stats")
    rows = [line.split() for line in result.output.splitlines() if line.startswith("support")]
    assert (rows[2][1:3], rows[2][-1]) == (["2.00%", "200"], "BROKEN")
    assert 'set mode = "shadow"' in result.output
    assert rows[3] == ["support", "acme", "n", "of", "1,000", "looks", "0", "were", "hits"]
    told = json.loads(cache("stats", "--json").output)["watched"]["support"]
    assert (told["broken"], told["audits"], told["audits_wrong"], told["max_error"]) == (True, 200, 50, 0.02)
    assert told["error_low"] > 0.02
    assert told["off"] == [{"tenant": "acme", "namespace": "n", "why": "of 1,000 looks 0 were hits"}]


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--tag", "t1"], ["req_1"]), (["--tenant", "acme"], ["req_0", "req_1"]),
        (["--tag", "t1", "--tenant", "x"], []),
        (["--id", "req_2"], ["req_2"]), (["--policy", "support", "--tag", "t0", "--tag", "t2"], ["req_0", "req_2"]),
        (["--all"], ["req_0", "req_1", "req_2"]), (["--namespace", "n"], []),
    ],
    ids=str,
)  # fmt: skip
def test_what_all_the_words_apply_to_is_taken_off(filled: Path, words: list[str], gone: list[str]) -> None:
    dry = json.loads(cache("invalidate", *words, "--dry-run", "--json").output)
    assert (dry["dry_run"], [one["id"] for one in dry["answers"]]) == (True, gone)
    result = cache("invalidate", *words)
    assert f"{len(gone)} answers were taken off." in result.output
    assert json.loads(cache("invalidate", *words, "--json").output)["count"] == 0
    assert len(gone) + json.loads(cache("invalidate", "--all", "--json").output)["count"] == 3


def test_nothing_is_taken_off_by_saying_nothing(filled: Path) -> None:
    result = cache("invalidate")
    assert result.exit_code == 2
    assert "Say what to take off" in result.output
    assert cache("stats", "--since", "soon").exit_code == 2
