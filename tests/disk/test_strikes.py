"""A kill, or a fault of the disk, at every call in turn that changes the ledger: none lost, none doubled, it goes on.

Each strike is followed by what a restart finds, compared exactly with what had been promised.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.disk.disk import SAID, Disk
from tests.ledger.ledger_kit import journals

NAMED_POINTS = {
    "write journal",  # before the append, in the middle of it, and between it and the last byte to the client
    "write wal",  # during a commit
    "write db",  # during a checkpoint
    "open journal",  # during rotation: the next one is begun
    "unlink journal",  # and the old one goes
}
FULL = "TRIVET_TORTURE" in os.environ
"""Strike every call; else, where each strike takes a while, some (`make torture`)."""


@pytest.fixture
def disk() -> Generator[Disk]:
    """In memory where there is such a folder."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield Disk(folder)
    finally:
        shutil.rmtree(folder)


def strikes(disk: Disk, *arguments: object) -> list[dict[str, Any]]:
    """Run `strikes.py`, and give what each strike came to; those after the last call struck nothing."""
    lines = disk.run("tests.disk.strikes", *arguments).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert [strike["times"] for strike in found[-2:]] == [0, 0]
    return found[:-2]


def told(what: str, found: list[dict[str, Any]]) -> Counter[str]:
    """Print how many strikes there were, by the call that was struck; only those that struck."""
    by_call = Counter(strike["struck"] for strike in found if strike["times"])
    print(f"{what}: {by_call.total()} strikes: {dict(by_call)}")
    return by_call


def check_kill(strike: dict[str, Any], before: list[str]) -> None:
    """Compare exactly: all that was promised, and what was in the middle only if its append was whole."""
    assert strike["code"] == (-9 if strike["times"] else 0), strike
    settled = strike["kept"]
    doubtful = [id_ for id_ in strike["try"] if id_ not in settled]
    assert len(doubtful) <= 1, strike
    if strike["struck"] == "write journal" and doubtful:
        settled = settled + doubtful if strike["how"] == "after" else settled
        assert sorted(strike["ids"]) == sorted([*before, *settled]), strike
    else:  # the thread that writes to SQLite was struck, while the other settled
        assert sorted(strike["ids"]) in (sorted([*before, *settled]), sorted([*before, *settled, *doubtful])), strike
    assert (strike["journals"], strike["told"], strike["sound"]) == ([], [], True), strike


def check_fault(strike: dict[str, Any]) -> None:
    """What was promised, or said to be in the journal, is there once; what was refused is not."""
    assert strike["code"] == 0, strike
    assert "healed" in strike["ids"], strike
    assert sorted(strike["ids"]) == sorted(strike["kept"] + strike["journal"]), strike
    assert not set(strike["refused"]) & set(strike["ids"]), strike
    assert (strike["journals"], strike["told"], strike["sound"]) == ([], [], True), strike


def left_by_the_dead(disk: Disk) -> tuple[Path, list[str]]:
    """Make a ledger with the journals of two processes that died, and a database that has part of what is in them."""
    ids = list[str]()
    for name in "ab":
        said = disk.root / f"{SAID}-{name}"
        options = ("--durability", "process", "--name", name, "--count", 8, "--die")
        disk.run("tests.disk.promise", disk.root / name / "ledger", said, *options)
        ids += said.read_text().split()
    for journal in (disk.root / "b" / "ledger" / "journal").iterdir():
        shutil.copy(journal, disk.root / "a" / "ledger" / "journal")
    assert len(journals(disk.root / "a" / "ledger")) == 2
    return disk.root / "a", ids


def test_a_kill_at_some_calls_loses_and_doubles_nothing(disk: Disk) -> None:
    found = strikes(disk, "kill", disk.root, "--how", "after", "--step", 9)
    for strike in found:
        check_kill(strike, [])
    assert told("kills", found).total() >= 6


def test_a_fault_at_some_calls_that_lasts_until_it_is_mended_loses_and_doubles_nothing(disk: Disk) -> None:
    found = strikes(disk, "fault", disk.root, "--how", "EIO", "--calls", 0, "--step", 13)
    for strike in found:
        check_fault(strike)
    assert told("faults", found).total() >= 3


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("how", ["before", "mid", "after"])
def test_a_kill_at_every_call_loses_and_doubles_nothing(disk: Disk, how: str, durability: str) -> None:
    step = 3 if durability == "power" and not FULL else 1
    found = strikes(disk, "kill", disk.root, "--how", how, "--durability", durability, "--step", step)
    for strike in found:
        check_kill(strike, [])
    by_call = told(f"kills {how}, {durability}", found)
    if step == 1:
        assert by_call.keys() >= {name for name in NAMED_POINTS if how != "mid" or name.startswith("write")}
    assert by_call.total() > 30 / step


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_kill_at_every_call_of_catching_up_loses_and_doubles_nothing(disk: Disk, how: str) -> None:
    leftover, before = left_by_the_dead(disk)
    found = strikes(disk, "kill", disk.root, "--how", how, "--leftover", leftover)
    for strike in found:
        check_kill(strike, before)
    by_call = told(f"kills {how}, catching up", found)
    assert by_call["unlink journal"] >= 4
    assert any(strike["struck"] == "unlink journal" and not strike["try"] for strike in found), "not in catching up"


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize(
    ("error", "calls"), [("EIO", 1), ("EIO", 4), ("EIO", 0), ("ENOSPC", 1), ("ENOSPC", 0), ("EROFS", 0)]
)
def test_a_fault_at_every_call_loses_and_doubles_nothing(disk: Disk, error: str, calls: int, durability: str) -> None:
    """Once, four times in a row, or until somebody mends the disk: refused in our words, and it goes on by itself."""
    step = 1 if FULL else 9 if durability == "power" else 4
    first = 1 if FULL else ("EIO", "ENOSPC", "EROFS").index(error) * 3 % step + 1
    found = strikes(
        disk, "fault", disk.root, "--how", error, "--calls", calls, "--durability", durability,
        "--step", step, "--first", first,
    )  # fmt: skip
    for strike in found:
        check_fault(strike)
    assert told(f"{error} {calls or 'until mended'}, {durability}", found).total() > 9
