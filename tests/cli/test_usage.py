"""`trivet usage` over a real ledger."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trivet.build import kit
from trivet.cli.main import cli
from trivet.config import Settings
from trivet.ledger.sqlite import build
from trivet.types import Baseline, Entry, Labels, Nanos, Outcome, Timing, Usage

DAY_NS = 86_400_000_000_000


def usage(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["usage", *arguments], prog_name="trivet")
    assert result.exit_code == 0, result.output
    return result


def entry(id_: str, *, ago_ns: int = 1_000_000, cost: int | None = 151_200, **more: Any) -> Entry:
    return Entry(
        **{
            "id": id_,
            "at_ns": time.time_ns() - ago_ns,
            "tenant": "acme",
            "model": "support",
            "policy": "support",
            "decision": "call",
            "cache": "miss",
            "baseline": Baseline(target="large", cost_nanos=Nanos(400_000)),
            "saved": {} if cost is None else {"route": Nanos(400_000 - cost)},
            "outcome": Outcome(
                status="ok",
                http_status=200,
                target="small",
                usage=Usage(input_tokens=1200, output_tokens=34),
                cost_nanos=None if cost is None else Nanos(cost),
                cost_unknown="no price" if cost is None else "",
                timing=Timing(ttft_ns=12_345_678, total_ns=20_000_000),
            ),
            **more,
        }
    )


@pytest.fixture
def record(home: Path) -> Callable[..., None]:
    """Put entries into the ledger of this home, as a gateway would."""

    def record(*entries: Entry) -> None:
        async def main() -> None:
            made = kit(Settings(), {"TRIVET_HOME": str(home)}, tell=print)
            store = build(Settings().ledger, made._replace(random=random.Random(len(entries))))
            for one in entries:
                store.settle(None, one)
            await store.aclose()

        asyncio.run(main())

    return record


def test_an_empty_home_has_nothing_to_show_and_says_how_to_begin(home: Path) -> None:
    result = usage()
    assert "Nothing is recorded yet. Try: trivet run" in result.stderr
    assert not result.stdout, "a table of nothing says nothing"
    assert json.loads(usage("--json").stdout)["rows"] == []
    assert json.loads(usage("--json", "--entries").stdout)["entries"] == []
    assert not home.exists()


def test_money_is_exact_and_the_unknown_is_loud(record: Callable[..., None]) -> None:
    record(entry("a"), entry("b"), entry("c", cost=None))
    lines = usage("--by", "target").stdout.splitlines()
    assert lines[0].split()[:3] == ["TARGET", "REQUESTS", "OK"]
    assert lines[1].split()[:2] == ["small", "3"]
    assert "$0.0003024 + 1 unknown" in lines[1]
    assert lines[2].split()[0] == "total"
    assert "$0.0004976" in lines[2]


def test_the_range_is_written_with_its_zone(record: Callable[..., None]) -> None:
    record(entry("a"))
    assert usage().stdout.splitlines()[-1].endswith(" UTC")
    assert json.loads(usage("--json").stdout)["timezone"] == "UTC"


def test_json_has_whole_nanos_and_decimal_text(record: Callable[..., None]) -> None:
    record(entry("a"), entry("b", cost=1))
    told = json.loads(usage("--json", "--by", "tenant").stdout, parse_float=pytest.fail)
    (row,) = told["rows"]
    assert (row["name"], row["cost_nanos"], row["cost_usd"]) == ("acme", 151_201, "0.000151201")
    assert told["total"]["saved_nanos"] == 800_000 - 151_201
    (one, *_) = json.loads(usage("--json", "--entries").stdout, parse_float=pytest.fail)["entries"]
    assert {"id", "outcome", "cost_usd"} <= one.keys()


def test_since_takes_spans_and_dates(record: Callable[..., None]) -> None:
    record(entry("now"), entry("yesterday", ago_ns=DAY_NS), entry("old", ago_ns=30 * DAY_NS))
    counts = [
        json.loads(usage("--json", "--since", since).stdout)["total"]["requests"]
        for since in ("30m", "36h", "7d", "2020-01-01", "2020-01-01T00:00:00+02:00", "0001-01-02", "999999999d")
    ]
    assert counts == [1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("since", ["", "7", "soon", "7y", "2026-13-01"])
def test_a_since_that_is_no_time_is_a_usage_error(home: Path, since: str) -> None:
    result = CliRunner().invoke(cli, ["usage", "--since", since])
    assert result.exit_code == 2
    assert "7d, 24h or 30m" in result.output


def test_a_since_that_is_to_come_is_a_usage_error(home: Path) -> None:
    result = CliRunner().invoke(cli, ["usage", "--since", "9999-12-31"])
    assert result.exit_code == 2
    assert "in the future" in result.output


@pytest.mark.parametrize(
    "by", ["policy", "target", "model", "tenant", "key", "feature", "agent", "customer", "status", "cache"]
)
def test_rows_of_every_grouping_add_up_to_the_total(record: Callable[..., None], by: str) -> None:
    record(*(entry(f"{i}", tenant=f"t{i % 3}", labels=Labels(feature=f"f{i % 2}"), cost=i) for i in range(1, 8)))
    told = json.loads(usage("--json", "--by", by).stdout)
    assert sum(row["cost_nanos"] for row in told["rows"]) == told["total"]["cost_nanos"] == 28


def test_entries_are_the_newest_first_and_limited(record: Callable[..., None]) -> None:
    record(*(entry(f"id{i}", ago_ns=(10 - i) * 1_000_000_000) for i in range(5)))
    lines = usage("--entries", "--limit", "2").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == ["id4", "id3"]
    assert lines[3] == ""
    assert "$0.0001512" in lines[1]
    assert "12 ms" in lines[1]


def test_rows_beyond_the_limit_stay_in_the_total(record: Callable[..., None]) -> None:
    record(*(entry(f"{i}", tenant=f"t{i}") for i in range(3)))
    output = usage("--by", "tenant", "--limit", "1").stdout
    assert "(2 more in the total: --limit)" in output
    assert output.splitlines()[2].split()[:2] == ["total", "3"]


def test_names_from_clients_cannot_paint_the_terminal(record: Callable[..., None]) -> None:
    record(entry("a", tenant="\x1b[2J\x1b]0;x\x07[red]y"))
    for arguments in (("--by", "tenant"), ("--entries",)):
        output = usage(*arguments).output
        assert "\x1b" not in output
        assert "[red]y" in output
