"""What was labelled is counted, written out as training reads it, one tenant at a time, and gone when it is purged."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.labels.test_file import DAY, LATE, Side, asked, label, written
from trivet.errors import ConfigError
from trivet.labels.file import Hold
from trivet.labels.report import export, purge, stats, wilson

pytestmark = pytest.mark.anyio
NOW = DAY * 86_400_000_000_000 + 1


async def filled(path: Path) -> None:
    """Fill a file: 10 requests of acme with shadows, of which 8 agree, and feedback on two of them; one of globex."""
    side = Side(path)
    for n in range(10):
        side.file.put(asked(n, domain="sums" if n % 2 else ""))
        side.file.put(label(n, score=float(n < 8), propensity=0.02))
        side.file.put(label(n, target="large", reference=True, cost_nanos=1_500, propensity=0.02))
    for n, score in ((0, 0.25), (9, 1.0)):
        side.file.put(label(n, source="feedback", score=score, propensity=1.0, cost_nanos=None))
    side.file.put(asked(100, tenant="globex", policy="q", prompt="of globex"))
    side.file.put(label(100, source="judge"))
    side.file.put(asked(101, expires_ns=NOW))  # too old, though it is still there
    side.file.put(asked(102, prompt="without a label"))
    await side.file.ask(Hold("p", DAY, 700, 10**9))
    await side.file.ask(Hold("p", DAY - 1, 300, 10**9))
    await side.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    found = tmp_path / "labels.db"
    await filled(found)
    return found


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_counts_agreement_and_money(path: Path) -> None:
    found = stats(path, tenant=None, now_ns=NOW)
    p, q = found.policies
    assert (p.policy, p.kept, p.compared, p.agreed) == ("p", 11, 10, 0.8)
    assert (round(p.low, 3), round(p.high, 3)) == (0.49, 0.943)  # Wilson, 8 of 10
    assert (p.spent_today_nanos, p.spent_nanos) == (700, 1000)
    assert (q.kept, q.agreed, q.spent_nanos) == (1, 1.0, 0)
    assert [(s.target, s.source, s.reference, s.labels, s.mean) for s in found.scores if s.policy == "p"] == [
        ("small", "feedback", False, 2, 0.625),
        ("small", "shadow", False, 10, 0.8),
        ("large", "shadow", True, 10, 1.0),
    ]
    mine = stats(path, tenant="globex", now_ns=NOW)
    assert [(s.policy, s.source) for s in mine.scores] == [("q", "judge")]


@pytest.mark.parametrize(("total", "n", "low", "high"), [(0, 0, 0, 1), (0, 10, 0, 0.278), (5, 10, 0.237, 0.763)])
def test_intervals_are_wilson_s(total: float, n: int, low: float, high: float) -> None:
    assert [round(bound, 3) for bound in wilson(total, n)] == [low, high]


async def test_an_export_has_one_tenant_and_one_outcome_for_each_prompt_and_target(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 tenants: 'acme', 'globex'.*--tenant"):
        export(path, tmp_path / "out", tenant=None, policy=None, now_ns=NOW)
    assert not (tmp_path / "out").exists()
    done = export(path, tmp_path / "out", tenant="acme", policy=None, now_ns=NOW)
    assert done == (10, 20)
    prompts, outcomes = lines(tmp_path / "out" / "prompts.jsonl"), lines(tmp_path / "out" / "outcomes.jsonl")
    assert prompts[1] == {"pid": "req_1", "prompt": "prompt 1", "ds": "p", "domain": "sums"}
    small = {row["pid"]: (row["score"], row["source"]) for row in outcomes if row["model"] == "small"}
    assert small["req_0"] == (0.25, "feedback")  # which is believed before the shadow
    assert small["req_9"] == (1.0, "feedback")
    assert [score for score, source in small.values() if source == "shadow"] == [1.0] * 7 + [0.0]
    (large,) = {row["cost_usd"] for row in outcomes if row["model"] == "large"}
    assert large == 0.0000015
    assert "cost_usd" not in next(row for row in outcomes if row["source"] == "feedback")
    assert b"globex" not in written(tmp_path / "out" / "prompts.jsonl")
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "out").iterdir()} == {0o600}
    assert export(path, tmp_path / "none", tenant="acme", policy="q", now_ns=NOW) == (0, 0)


async def test_an_export_may_have_what_was_drawn_by_chance_alone(path: Path, tmp_path: Path) -> None:
    drawn = export(path, tmp_path / "drawn", tenant="acme", policy=None, sources=("shadow", "judge"), now_ns=NOW)
    assert drawn == (10, 20)
    small = [row for row in lines(tmp_path / "drawn" / "outcomes.jsonl") if row["model"] == "small"]
    assert [row["score"] for row in small] == [1.0] * 8 + [0.0] * 2
    assert {row["source"] for row in small} == {"shadow"}
    said = export(path, tmp_path / "said", tenant="acme", policy=None, sources=("feedback",), now_ns=NOW)
    assert said == (2, 2)


async def test_an_export_is_not_mixed_with_what_is_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.parquet").write_text("something")
    with pytest.raises(ConfigError, match="is there already, and would be mixed up"):
        export(path, tmp_path, tenant="acme", policy=None, now_ns=NOW)


@pytest.mark.parametrize(
    ("chosen", "gone", "left"),
    [
        ({}, 12, []),
        ({"tenant": "globex"}, 1, ["p"]),
        ({"policy": "p"}, 11, ["q"]),
        ({"id_": "req_1"}, 1, ["p", "q"]),
        ({"tenant": "acme", "before_ns": 5}, 5, ["p", "q"]),
        ({"tenant": "globex", "policy": "p"}, 0, ["p", "q"]),
    ],
    ids=str,
)
async def test_what_is_purged_is_gone_with_its_text(
    path: Path, chosen: dict[str, Any], gone: int, left: list[str]
) -> None:
    aside = path.with_suffix(".damaged")
    aside.write_text("prompts of before")
    every: dict[str, Any] = {"tenant": None, "policy": None, "id_": None, "before_ns": None}
    side = Side(path)  # of a gateway that runs
    await side.file.ask(Hold("p", DAY, 0, 10**9))
    assert purge(path, **every | chosen) == (gone, True)
    assert [row.policy for row in stats(path, tenant=None, now_ns=NOW).policies if row.kept] == left
    assert stats(path, tenant=None, now_ns=NOW).policies[0].spent_nanos == 1000
    assert (b"of globex" in written(path)) == ("q" in left)
    assert aside.exists() == bool(chosen)
    assert await side.file.ask(Hold("p", DAY, 0, 10**9))  # and it goes on
    side.file.put(asked(500, expires_ns=LATE))
    await side.close()
    assert stats(path, tenant=None, now_ns=NOW).policies[0].kept >= 1


def test_where_nothing_is_kept_that_is_said(tmp_path: Path) -> None:
    for look in (
        lambda: stats(tmp_path / "none", tenant=None, now_ns=NOW),
        lambda: purge(tmp_path / "none", tenant="a", policy=None, id_=None, before_ns=None),
    ):
        with pytest.raises(ConfigError, match="No labels are kept"):
            look()
    (tmp_path / "odd").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="cannot be read"):
        stats(tmp_path / "odd", tenant=None, now_ns=NOW)
