"""Is the clock right: entries land in the month that it says, and TLS believes it.

Three witnesses: the date of this version, the files of the home, and the targets that answer (`Date`).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from trivet.cli.doctor.check import Check, bad, ok, warn

_RELEASED = datetime(2026, 11, 1, tzinfo=UTC)  # a clock before this version was made is wrong
_APART_S = 60  # `Date` has whole seconds and the answer takes some; no certificate is off by this
_FIX = "timedatectl"
_FINE_S = 0.001  # of the monotonic clock: what is measured with it is told in tenths of milliseconds


def clock_checks(now_ns: int, folder: Path) -> Iterator[Check]:
    """Compare the clock with what is known without asking anybody; `folder` is the home."""
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, tz=UTC)
    newest = max(_times(folder), default=0)
    if now < _RELEASED:
        yield bad("clock", f"says {now:%Y-%m-%d %H:%M} UTC, before this version was made", _FIX)
    elif newest > now_ns + _APART_S * 1_000_000_000:
        ahead = (newest - now_ns) // 1_000_000_000
        yield warn("clock", f"a file in {folder} is {ahead} s in the future: the clock was or is wrong", _FIX)
    else:
        yield ok("clock", f"{now:%Y-%m-%d %H:%M} UTC")
    steady = time.get_clock_info("monotonic")
    if not steady.monotonic or steady.resolution > _FINE_S:
        yield warn("clock", f"durations are only known to {steady.resolution} s on this system", "None is known.", "")


def _times(folder: Path) -> Iterator[int]:
    """Give the times of change of the files in the home and its ledger."""
    for path in (*folder.glob("*"), *(folder / "ledger").glob("*")):
        with suppress(FileNotFoundError):  # SQLite's own come and go
            yield path.stat().st_mtime_ns


def witness_checks(dates: Mapping[str, tuple[str, int]]) -> Iterator[Check]:
    """Compare with what targets said (`Date`, and when it came by our clock), by the name of the target."""
    for name, (said, came_ns) in sorted(dates.items()):
        try:
            there = parsedate_to_datetime(said)
        except ValueError:
            continue
        apart_s = came_ns // 1_000_000_000 - int(there.timestamp())
        if abs(apart_s) > _APART_S:
            way = "ahead of" if apart_s > 0 else "behind"
            yield warn("clock", f"{abs(apart_s)} s {way} that of {name}: one of the two is wrong", _FIX)
