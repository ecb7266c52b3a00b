"""Questions to the ledger: sums that are right to the nano-dollar, and honest about what is not known."""

from collections import defaultdict
from pathlib import Path
from typing import cast, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.ledger_kit import open_store
from trivet.errors import LedgerError
from trivet.ledger.report import By, Row, entries, usage
from trivet.types import Baseline, Entry, Labels, Nanos, Outcome, Status, Timing, Usage

ALL = {"since_ns": 0, "until_ns": 2**62}
COSTS = st.one_of(st.none(), st.integers(min_value=0, max_value=10**12))
few = st.sampled_from(["a", "b", ""])


@st.composite
def some_entry(draw: st.DrawFn) -> Entry:
    cost, base = draw(COSTS), draw(COSTS)
    status = draw(st.sampled_from(get_args(Status)))
    known = cost is not None and base is not None
    return Entry(
        id=draw(st.uuids()).hex,
        at_ns=draw(st.integers(min_value=0, max_value=100)),
        tenant=draw(few),
        key_id=draw(few),
        model=draw(few),
        policy=draw(few),
        labels=Labels(feature=draw(few), agent=draw(few), customer=draw(few)),
        decision=draw(st.sampled_from(["serve", "call", "refuse"])),
        cache=draw(st.sampled_from(["miss", "exact"])),
        outcome=Outcome(
            status=status,
            http_status=200,
            target=draw(few),
            usage=draw(st.one_of(st.none(), st.builds(_usage, st.integers(0, 999), st.integers(0, 999)))),
            cost_nanos=None if cost is None else Nanos(cost),
            cost_unknown="no price" if cost is None and status == "ok" else "",
            timing=Timing(ttft_ns=draw(st.integers(0, 50)), total_ns=draw(st.integers(1, 99))),
        ),
        baseline=Baseline(target="b", cost_nanos=None if base is None else Nanos(base)),
        saved={"route": Nanos(base - cost)} if known and base is not None and cost is not None else {},
    )


def _usage(input_tokens: int, output_tokens: int) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, cached_tokens=input_tokens // 2)


def keep(path: Path, every: list[Entry]) -> None:
    store = open_store(path)
    for entry in every:
        store.settle(None, entry)
    store.close()


def group_of(entry: Entry, by: By) -> str:
    if by in ("feature", "agent", "customer"):
        return str(getattr(entry.labels, by))
    if by in ("target", "status"):
        return str(getattr(entry.outcome, by))
    return str(getattr(entry, "key_id" if by == "key" else by))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_entry(), max_size=30, unique_by=lambda e: e.id), st.integers(0, 50), st.integers(51, 101))
def test_every_number_is_that_of_the_entries_themselves(
    tmp_path_factory: pytest.TempPathFactory, every: list[Entry], since_ns: int, until_ns: int
) -> None:
    """Against a model: dictionaries and exact integers."""
    path = tmp_path_factory.mktemp("ledger")
    keep(path, every)
    asked = [e for e in every if since_ns <= e.at_ns < until_ns]
    for by in get_args(By):
        report = usage(path, since_ns=since_ns, until_ns=until_ns, by=by, tell=print)
        groups = defaultdict(list)
        for entry in asked:
            groups[group_of(entry, by)].append(entry)
        assert {row.name: row for row in report.rows} == {name: model_row(name, g) for name, g in groups.items()}
        assert report.total == model_row("", asked)
        for field in ("requests", "unknown_costs", "cost_nanos", "baseline_nanos", "saved_nanos", "input_tokens"):
            assert sum(getattr(r, field) or 0 for r in report.rows) == (getattr(report.total, field) or 0)


def model_row(name: str, group: list[Entry]) -> Row:
    outs = [e.outcome for e in group]
    usages = [o.usage for o in outs if o.usage]
    costs = [o.cost_nanos for o in outs if o.cost_nanos is not None]
    bases = [e.baseline.cost_nanos for e in group if e.baseline and e.baseline.cost_nanos is not None]
    saved = [sum(e.saved.values()) for e in group if e.saved]
    unknown = sum(bool(o.cost_unknown) for o in outs)
    ttfts = [o.timing.ttft_ns for o in outs if o.timing.ttft_ns]
    return Row(
        name=name,
        requests=len(group),
        ok=sum(o.status == "ok" for o in outs),
        refused=sum(o.status == "refused" for o in outs),
        failed=sum(o.status == "failed" for o in outs),
        cancelled=sum(o.status == "cancelled" for o in outs),
        hits=sum(e.decision == "serve" for e in group),
        input_tokens=sum(u.input_tokens for u in usages),
        output_tokens=sum(u.output_tokens for u in usages),
        cached_tokens=sum(u.cached_tokens for u in usages),
        cost_nanos=Nanos(sum(costs)) if costs or not unknown else None,
        unknown_costs=unknown,
        baseline_nanos=Nanos(sum(bases)) if bases else None,
        saved_nanos=Nanos(sum(saved)) if saved else None,
        ttft_p50_ns=rank(ttfts, 50),
        ttft_p95_ns=rank(ttfts, 95),
        total_p50_ns=rank([o.timing.total_ns for o in outs if o.status == "ok"], 50),
    )


def rank(values: list[int], percent: int) -> int | None:
    """Nearest rank, by its definition."""
    return sorted(values)[-(-len(values) * percent // 100) - 1] if values else None


def priced(id_: str, cost: int | None, *, policy: str = "p", at_ns: int = 1) -> Entry:
    return Entry(
        id=id_,
        at_ns=at_ns,
        tenant="t",
        policy=policy,
        outcome=Outcome(
            status="ok",
            http_status=200,
            cost_nanos=None if cost is None else Nanos(cost),
            cost_unknown="" if cost is not None else "no price",
        ),
    )


def test_an_unknown_cost_is_counted_and_never_added_as_nothing(tmp_path: Path) -> None:
    keep(tmp_path, [priced("a", 5), priced("b", None), priced("c", None, policy="q")])
    report = usage(tmp_path, by="policy", tell=print, **ALL)
    assert [(r.name, r.cost_nanos, r.unknown_costs) for r in report.rows] == [("p", 5, 1), ("q", None, 1)]
    assert (report.total.cost_nanos, report.total.unknown_costs) == (5, 2)


def test_a_time_without_requests_is_a_total_of_nothing(tmp_path: Path) -> None:
    keep(tmp_path, [priced("a", 5)])
    assert usage(tmp_path, since_ns=2, until_ns=9, by="model", tell=print) == ([], Row(name=""))


def test_entries_come_newest_first_and_whole(tmp_path: Path) -> None:
    every = [priced(f"e{i}", i, at_ns=i // 2) for i in range(10)]
    keep(tmp_path, every)
    assert entries(tmp_path, limit=3, tell=print, **ALL) == every[:-4:-1]
    assert entries(tmp_path, since_ns=1, until_ns=2, limit=9, tell=print) == [every[3], every[2]]


def test_a_group_is_chosen_by_a_word_and_nothing_else_gets_into_sql(tmp_path: Path) -> None:
    keep(tmp_path, [priced("a", 5)])
    odd = cast("By", "policy; DROP TABLE entries")
    assert [row.name for row in usage(tmp_path, by=odd, tell=print, **ALL).rows] == [""]
    assert usage(tmp_path, by="policy", tell=print, **ALL).total.requests == 1


def test_where_nothing_was_recorded_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing has been recorded there"):
        usage(tmp_path / "nowhere", by="policy", tell=print, **ALL)
    assert not (tmp_path / "nowhere").exists()
