"""The file of kept answers is counted without being changed, and what is taken off is off for who runs on it."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cache.semantic.test_file import LATE, Side, until
from tests.cache.semantic.test_shelf import answer, axis
from tests.cache.semantic.test_watch import broken, watching
from trivet.cache.semantic.contents import CacheFileError, forget, held, watched
from trivet.cache.semantic.file import Row
from trivet.cache.semantic.watch import NAME

pytestmark = pytest.mark.anyio


async def filled(path: Path) -> Side:
    side = Side(path)
    for number in range(6):
        more: dict[str, Any] = {"policy": "p" if number < 4 else "q", "kept_ns": number, "tags": (f"t{number}",)}
        one = answer(number, expires_ns=LATE if number else 5, **more)
        one.kept.group, one.kept.right, one.kept.wrong = number // 2, 2, 1
        side.file.put(Row.of(one, axis(number)))
    await until(lambda: bool(count(path) == 6))
    return side


def count(path: Path) -> int:
    if not path.exists():
        return 0
    with sqlite3.connect(path) as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


async def test_what_is_fresh_is_counted_by_policy(tmp_path: Path) -> None:
    side = await filled(tmp_path / "c.sqlite3")
    p, q = held(tmp_path / "c.sqlite3", now_ns=10)
    assert (p.policy, p.answers, p.groups, p.right, p.wrong, p.oldest_ns) == ("p", 3, 2, 6, 3, 1)
    assert (q.policy, q.answers, q.groups) == ("q", 2, 1)
    assert p.bytes > 3 * 100
    await side.close()


async def test_what_is_taken_off_is_off_for_a_running_gateway_and_a_dry_run_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    side = await filled(path)
    side.answers = {number: answer(number) for number in range(6)}
    shown = forget(path, wanted=lambda a: "t3" in a.tags, dry_run=True)
    assert [a.number for a in shown] == [3]
    assert count(path) == 6
    assert [a.number for a in forget(path, wanted=lambda a: "t3" in a.tags, dry_run=False)] == [3]
    await until(lambda: 3 not in side.answers)
    assert count(path) == 5
    assert forget(path, wanted=lambda a: "t3" in a.tags, dry_run=False) == []
    await side.close()


async def test_what_gateways_saw_is_read_and_what_another_version_wrote_is_passed_over(tmp_path: Path) -> None:
    side = await filled(tmp_path / "c.sqlite3")
    watch, _ = watching()
    broken(watch)
    side.file.learn("p", NAME, watch.save)
    side.file.learn("q", NAME, lambda: b"{}")
    side.file.learn("p", "verified", lambda: b"{}")
    side.file.save()
    await side.close()
    found = watched(tmp_path / "c.sqlite3")
    assert list(found) == ["p"]
    assert (found["p"].audits, found["p"].alarm.broken) == (200, True)


def test_a_file_that_is_none_of_ours_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite3").write_bytes(b"something else" * 500)
    with pytest.raises(CacheFileError, match="cannot be read"):
        held(tmp_path / "c.sqlite3", now_ns=1)
    with sqlite3.connect(tmp_path / "d.sqlite3") as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(CacheFileError, match="of version 9, and this Trivet reads 1"):
        forget(tmp_path / "d.sqlite3", wanted=lambda _: True, dry_run=False)
