"""The clock and its witnesses."""

import os
import time
from email.utils import formatdate
from pathlib import Path

from trivet.cli.doctor.clock import clock_checks, witness_checks

SECOND = 1_000_000_000


def test_a_clock_of_1970_is_a_cross(tmp_path: Path) -> None:
    assert [c.state for c in clock_checks(0, tmp_path)] == ["bad"]
    assert [c.state for c in clock_checks(time.time_ns(), tmp_path)] == ["ok"]


def test_a_file_of_the_future_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    file = tmp_path / "ledger" / "ledger.db"
    file.write_text("")
    now_ns = time.time_ns()
    os.utime(file, ns=(now_ns + 3600 * SECOND, now_ns + 3600 * SECOND))
    (check,) = clock_checks(now_ns, tmp_path)
    assert (check.state, check.fix) == ("warn", "timedatectl")
    assert "3600 s in the future" in check.words


def test_a_target_whose_date_is_another_is_a_warning_with_the_way() -> None:
    now_s = 1_800_000_000
    dates = {
        "a": (formatdate(now_s, usegmt=True), now_s * SECOND),
        "b": (formatdate(now_s - 600, usegmt=True), now_s * SECOND),
        "c": (formatdate(now_s + 120, usegmt=True), now_s * SECOND),
        "d": ("", now_s * SECOND),
        "e": ("no date", now_s * SECOND),
    }
    assert [c.words.partition(":")[0] for c in witness_checks(dates)] == [
        "600 s ahead of that of b",
        "120 s behind that of c",
    ]
