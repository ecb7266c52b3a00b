"""The numbers of several processes, added up."""

from pathlib import Path

import pytest

from trivet.server.metrics import Metrics
from trivet.server.sharing import Shared
from trivet.types import Attempt, Entry, Nanos, Outcome, Timing, Usage

OK = Attempt(target="a", status="ok", started_ns=0, took_ns=5_000_000)
FAILED = Attempt(target="b", status="failed", started_ns=0, took_ns=1_000_000)


def entry(*attempts: Attempt, status: str = "ok", saved: int = -7) -> Entry:
    outcome = Outcome(
        status=status,  # type: ignore[arg-type]
        http_status=200, target="a", usage=Usage(input_tokens=3, output_tokens=2), cost_nanos=Nanos(11),
        timing=Timing(ttft_ns=4_000_000, total_ns=9_000_000), attempts=attempts,
    )  # fmt: skip
    return Entry(id="e", at_ns=1, tenant="t", policy="p", decision="call", outcome=outcome,
                 saved={"route": Nanos(saved)})  # fmt: skip


def counted(*entries: Entry) -> Metrics:
    metrics = Metrics()
    for one in entries:
        metrics.count(one)
    metrics.reloads["ok"] += 1
    return metrics


def test_what_was_written_down_is_read_as_it_was() -> None:
    metrics = counted(entry(OK), entry(FAILED, OK), entry(FAILED, status="failed"))
    assert Metrics.load(metrics.dump()).text({}) == metrics.text({})
    assert Metrics.load(Metrics().dump()).text({}) == Metrics().text({})


def test_workers_add_up_to_what_one_would_have_counted(tmp_path: Path) -> None:
    ours, theirs = [entry(OK), entry(FAILED, OK)], [entry(OK, saved=3), entry(FAILED, status="failed")]
    other = counted(*theirs)
    (tmp_path / "1.metrics").write_bytes(other.dump())
    (tmp_path / "2.metrics").write_bytes(b"of another version")
    both = counted(*ours, *theirs)
    both.reloads["ok"] = 2
    shared = Shared(tmp_path, "9")
    for _ in range(2):  # what it wrote itself is not added to what it knows
        assert shared.together(counted(*ours)).text({}) == both.text({})


def test_a_full_disk_costs_the_latest_numbers_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    shared = Shared(folder, "9")
    shared.write(counted(entry(OK)))
    assert shared.together(counted(entry(OK))).text({}) == counted(entry(OK)).text({})
    assert not folder.exists()


@pytest.mark.parametrize("dumped", [b"", b"\x00", b"\x93\x01\x02\x03", b"\x92\x80\x91\x92\x91\xa1a\x90"])
def test_something_else_is_no_set_of_numbers(tmp_path: Path, dumped: bytes) -> None:
    (tmp_path / "1.metrics").write_bytes(dumped)
    assert Shared(tmp_path, "9").together(counted()).text({}) == counted().text({})
