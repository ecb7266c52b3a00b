"""A router is put in force in one step, and what was in force before comes back."""

from pathlib import Path

import pytest

from tests.routing.triangle.world import file
from trivet.errors import ConfigError
from trivet.routing.learned import learned
from trivet.routing.learned.file import Section
from trivet.routing.learned.versions import MOST, rollback, use, versions


def another(folder: Path, number: int) -> Path:
    """Write a router of another digest."""
    made = learned.load(file(folder, name="base.trv"))
    made.others["number"] = Section({"number": number}, {})
    made.save(folder / f"{number}.trv")
    return folder / f"{number}.trv"


def test_what_was_in_force_comes_back_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "router.trv"
    digests = [use(another(tmp_path, i), path, at=f"t{i}") for i in range(3)]
    assert learned.load(path).digest == digests[2]
    assert [v.digest for v in versions(path)] == digests[::-1]
    assert rollback(path, at="t3") == digests[1]
    assert learned.load(path).digest == digests[1]
    assert rollback(path, at="t4") == digests[0]
    with pytest.raises(ConfigError, match="Nothing was in force"):
        rollback(path, at="t5")
    assert use(another(tmp_path, 3), path, at="t6") not in digests
    assert rollback(path, at="t7") == digests[0]
    shown = versions(path)
    assert [v.in_force for v in shown].count(True) == 1
    assert shown[0].in_force
    assert all(v.kept and v.prompts == 900 and v.models == 3 for v in shown)


def test_what_was_put_there_by_hand_is_kept_too(tmp_path: Path) -> None:
    path = file(tmp_path)
    by_hand = learned.load(path).digest
    assert [(v.digest, v.at, v.in_force) for v in versions(path)] == [(by_hand, "", True)]
    use(another(tmp_path, 1), path, at="t1")
    assert rollback(path, at="t2") == by_hand


def test_nothing_that_cannot_be_loaded_is_put_in_force(tmp_path: Path) -> None:
    path = file(tmp_path)
    before = path.read_bytes()
    bad = tmp_path / "bad.trv"
    bad.write_bytes(before[:-1])
    with pytest.raises(ConfigError, match=r"bad\.trv"):
        use(bad, path, at="t")
    assert path.read_bytes() == before
    assert not (tmp_path / "router.trv.versions").exists()
    with pytest.raises(ConfigError, match=r"Cannot put a router in force at .*No such file"):
        use(path, tmp_path / "nowhere" / "router.trv", at="t")


def test_half_a_line_of_history_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "router.trv"
    first = use(another(tmp_path, 1), path, at="t1")
    with (tmp_path / "router.trv.versions" / "history.jsonl").open("ab") as history:
        history.write(b'\n{"at": "t1", "dig')
    second = use(another(tmp_path, 2), path, at="t2")
    assert [v.digest for v in versions(path)] == [second, first]
    assert rollback(path, at="t3") == first


def test_no_more_are_kept_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "router.trv"
    for i in range(MOST + 3):
        use(another(tmp_path, i), path, at=f"t{i}")
    assert len(list((tmp_path / "router.trv.versions").glob("*.trv"))) == MOST
    kept = [v.kept for v in versions(path)]
    assert kept == [True] * MOST + [False] * 3
